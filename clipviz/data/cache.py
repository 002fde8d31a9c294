"""An on-disk cache of results between sessions: encoded text pools and the codes of collections.

A file is found by a hash of everything that its content depends on, and used only if its checksum matches. The
folder is bounded: the least recently used files are deleted first. Several users can share a folder; each reads,
counts and deletes only their own files. CLIPVIZ_CACHE names another folder, or "off"; CLIPVIZ_CACHE_GB sets
another bound, "inf" for none. If a file cannot be written, the result is not cached and nothing else happens.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipviz.files import TEMPORARY, write_whole

GIGABYTES = 4.0
SUFFIX = ".safetensors"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """A cached result: a description, its size in bytes, and when it was last used (seconds since 1970)."""

    path: Path
    about: str
    n_bytes: int
    used: float


class Cache:
    """A bounded folder of arrays.

    folder: created when the first result is stored; None disables the cache. limit: total bytes.
    """

    def __init__(self, folder: Path | None, limit: float = GIGABYTES * 1e9) -> None:
        self.folder = folder
        self.limit = limit

    def read(self, *key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays and notes stored under a key, or None if there are none or they are damaged."""
        from safetensors.numpy import load

        path = self._path(key)
        if path is None or not path.is_file() or not _own(path):
            return None
        try:
            arrays, noted = load(path.read_bytes()), _noted(path)
            if noted["checksum"] != _checksum(arrays):
                raise ValueError("its checksum does not match")
            if noted["key"] != path.stem:
                raise ValueError("it was stored under another key")
            notes = json.loads(noted["notes"])
        except Exception as error:  # whatever is wrong with the file, the result can be recomputed
            logging.getLogger("clipviz").warning("ignoring %s in the cache: %s", path, error)
            _remove(path)
            return None
        with suppress(OSError):  # the time of use only affects the order of deletion
            os.utime(path)
        return arrays, notes

    def write(self, *key: str, arrays: Arrays, about: str, notes: Mapping[str, Any] | None = None) -> bool:
        """Store arrays under a key; return False if they are too large or cannot be written."""
        from safetensors.numpy import save

        path = self._path(key)
        if path is None or sum(array.nbytes for array in arrays.values()) > self.limit / 2:
            return False
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        noted = {"about": about, "notes": json.dumps(dict(notes or {})), "checksum": _checksum(arrays)}
        noted["key"] = path.stem
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, save(arrays, noted))
            self._shrink()
        except OSError as error:
            logging.getLogger("clipviz").warning("could not write to the cache: %s", error)
            return False
        return True

    def entries(self) -> list[Entry]:
        """Return this user's cached results, most recently used first."""
        found = []
        for path in self._files():
            try:
                state = path.stat()
                found.append(Entry(path, _noted(path)["about"], state.st_size, state.st_mtime))
            except (
                Exception
            ):  # the file is being written, was just deleted or is damaged: its size still counts
                with suppress(OSError):
                    found.append(Entry(path, "damaged", path.stat().st_size, 0.0))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Delete all of this user's cached results; return how many bytes were freed."""
        freed = sum(entry.n_bytes for entry in self.entries() if _remove(entry.path))
        for path in filter(_own, self.folder.glob(TEMPORARY) if self.folder else ()):
            _remove(path)
        return freed

    def _files(self) -> list[Path]:
        return [] if self.folder is None else [path for path in self.folder.glob(f"*{SUFFIX}") if _own(path)]

    def _path(self, key: tuple[str, ...]) -> Path | None:
        hashed = hashlib.blake2b(
            "\0".join((*key, str(_user()))).encode("utf-8", "backslashreplace"), digest_size=16
        ).hexdigest()
        return None if self.folder is None else self.folder / f"{hashed}{SUFFIX}"

    def _shrink(self) -> None:
        kept = 0
        for entry in self.entries():
            kept += entry.n_bytes
            if kept > self.limit:
                _remove(entry.path)


def default() -> Cache:
    """Return the user's cache, as configured by environment variables."""
    asked = os.environ.get("CLIPVIZ_CACHE", "")
    if asked.lower() == "off":
        return Cache(None)
    if asked:
        folder = Path(asked).expanduser()
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("clipviz", appauthor=False)
    asked = os.environ.get("CLIPVIZ_CACHE_GB", "")
    try:
        limit = float(asked or GIGABYTES)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(
            f"expected CLIPVIZ_CACHE_GB to be a number of gigabytes, got {asked!r}; use 0 or more, "
            'or "inf" for no bound'
        )
    return Cache(folder, limit * 1e9)


def _user() -> int:
    """Return the id of the current user, or 0 if the system has no ids."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _own(path: Path) -> bool:
    """Return whether this user wrote a file; other users' files in a shared folder are neither read nor deleted."""
    try:
        return not hasattr(os, "geteuid") or path.lstat().st_uid == _user()
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Delete a file; return False if that is not permitted."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _noted(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return dict(file.metadata())


def _checksum(arrays: Arrays) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        if array.size:
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
