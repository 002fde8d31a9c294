"""Settings and tensors of a file, read without running anything in it.

Tensors are read with weights_only, settings as JSON. A pickled object is refused, and the message says how to convert
it. A setting whose name is one letter away from a known one is refused too, since the file is then damaged.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

CONVERT = (
    "in an environment where you trust the file, save its parts as plain data: "
    "torch.save({'cfg': dict_of_plain_values, 'state_dict': sae.state_dict()}, 'plain.pt')"
)
State = dict[str, Tensor]

_LISTED = (
    "cfg state_dict trainer metadata activation params cls activation_fn_kwargs hook_point_layer layer_subtype "
    "hook_point hook_name hook_layer block_layer module_name layer submodule_name activation_fn activation_fn_str "
    "architecture k top_k topk normalize_activations cls_token_only apply_b_dec_to_input"
)
KNOWN_SETTINGS = frozenset(_LISTED.split())
"""Names of settings that determine how a dictionary is read."""


def header(path: Path) -> tuple[Mapping[str, Any], int] | None:
    """Return saev's first line and where the state dict begins, or None for other files."""
    with path.open("rb") as stream:
        line = stream.readline(1 << 20)
    if not line.startswith(b"{") or not line.endswith(b"\n"):
        return None
    config = _parsed(line.decode("utf-8", "replace"), path)
    return config, len(line)


def settings_in(path: Path) -> Mapping[str, Any]:
    """Return the settings in a file of JSON."""
    if path.stat().st_size > 1 << 24:
        raise ValueError(f"expected a configuration, got {path.stat().st_size / 1e6:,.0f} MB at {path}")
    return _parsed(path.read_text(encoding="utf-8", errors="replace"), path)


def _parsed(text: str, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, got {error}; download the file again") from error
    if not isinstance(found, Mapping):
        raise ValueError(
            f"expected a configuration of names and values in {path}, got {type(found).__name__}"
        )
    check_names(found, path)
    return found


def check_names(settings: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError for a name that differs by one letter from a known one that is missing: the file is damaged."""
    for name, value in settings.items():
        if name not in KNOWN_SETTINGS:
            meant = next(
                (one for one in KNOWN_SETTINGS if one not in settings and _one_letter_apart(name, one)), None
            )
            if meant is not None:
                raise ValueError(
                    f"expected the setting {meant!r} in {path}, got {name!r}; download the file again"
                )
        if isinstance(value, Mapping):
            check_names(value, path)


def _one_letter_apart(name: Any, other: str) -> bool:
    if not isinstance(name, str) or len(name) != len(other) or len(other) < 3:
        return False
    return sum(a != b for a, b in zip(name.lower(), other, strict=True)) <= 1


def mapping(holder: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """Return the settings under a name, or an empty mapping."""
    found = holder.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"expected settings under {name} in {where}, got {type(found).__name__}")
    return found


def flag(settings: Mapping[str, Any], name: str, where: str) -> bool:
    """Return a boolean setting, False if it is missing."""
    found = settings.get(name, False)
    if not isinstance(found, bool):
        raise ValueError(f"expected {name} to be true or false in {where}, got {found!r}")
    return found


def word(settings: Mapping[str, Any], name: str, usual: str, where: str, needed: bool = True) -> str:
    """Return a setting that is a name; if `needed`, it may not be empty."""
    found = settings.get(name, usual)
    if not isinstance(found, str) or (needed and not found):
        raise ValueError(f"expected a name as {name} in {where}, got {found!r}")
    return found


def state_dict(path: Path) -> State:
    """Return the tensors in a file of torch, which may stand under "state_dict"."""
    stored = unpickled(path)
    if isinstance(stored, Mapping) and isinstance(stored.get("state_dict"), Mapping):
        stored = stored["state_dict"]
    return tensors(stored, path)


def tensors(stored: Any, path: Path) -> State:
    """Return the tensors among what was read, by name."""
    if not isinstance(stored, Mapping):
        _refuse(path, f"got {type(stored).__name__}")
    found = {str(name): value.detach() for name, value in stored.items() if isinstance(value, Tensor)}
    if any(value.is_meta or value.layout != torch.strided or value.is_quantized for value in found.values()):
        raise ValueError(f"expected plain tensors in {path}; {CONVERT}")
    return found


def unpickled(path: Path, start: int = 0) -> Any:
    """Return what torch reads from a file without running any code in it."""
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles that it refuses
            stream.seek(start)
            source: Any = io.BytesIO(stream.read()) if start else stream
            _check_sums(source)
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        _refuse(path, f"got {named[1]}" if named else "got a file that torch cannot read safely", error)
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(
            f"expected a file of torch at {path}, got one that cannot be read ({reason})"
        ) from error


def _check_sums(source: Any) -> None:
    """Raise ValueError if an archive of torch does not match the checksums in it, which torch does not verify.

    A checksum of 0 means that none was stored. Files older than torch 1.6 are not archives.
    """
    if not zipfile.is_zipfile(source):
        source.seek(0)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if member.CRC:
                    with archive.open(member) as stream:
                        while stream.read(1 << 20):
                            pass
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error) as error:
        raise ValueError(f"a damaged archive: {error}") from error
    source.seek(0)


def _refuse(path: Path, found: str, error: Exception | None = None) -> NoReturn:
    raise ValueError(
        f"expected tensors and plain values in {path}, {found}, a pickled object, which clipviz does "
        f"not load; {CONVERT}"
    ) from error


def some(names: Any) -> str:
    """Return the first six names as text, and how many there are."""
    listed = sorted(map(str, names))
    return (", ".join(listed[:6]) or "nothing") + (f" ... ({len(listed)} in all)" if len(listed) > 6 else "")
