"""Answers kept on disk between sessions: encoded text pools and the codes of collections.

A file is found by a hash of everything that its answer depends on, and read only if its checksum holds. The folder is
bounded: the files used least recently go first. Users may share a folder: each reads, counts and removes what is
his own. CLIPVIZ_CACHE names another folder, or "off"; CLIPVIZ_CACHE_GB
another bound, "inf" none. What cannot be written is not kept, and nothing else happens.
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
    """One kept answer: what it is in words, its bytes, and when it was last used (seconds since 1970)."""

    path: Path
    about: str
    n_bytes: int
    used: float


class Cache:
    """A bounded folder of arrays.

    folder: made when the first answer is kept; None keeps nothing. limit: bytes in all.
    """

    def __init__(self, folder: Path | None, limit: float = GIGABYTES * 1e9) -> None:
        self.folder = folder
        self.limit = limit

    def read(self, *key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays kept under a key and what was noted beside them; None when there are none, or damaged
        ones.
        """
        from safetensors.numpy import load

        path = self._path(key)
        if path is None or not path.is_file() or not _own(path):
            return None
        try:
            arrays, noted = load(path.read_bytes()), _noted(path)
            if noted["checksum"] != _checksum(arrays):
                raise ValueError("its checksum does not hold")
            if noted["key"] != path.stem:
                raise ValueError("it was kept under another name")
            notes = json.loads(noted["notes"])
        except Exception as error:  # whatever is wrong with the file, the answer can be computed again
            logging.getLogger("clipviz").warning("%s is left out of the cache: %s", path, error)
            _remove(path)
            return None
        with suppress(OSError):  # when it was used is a help to what goes first, no more
            os.utime(path)
        return arrays, notes

    def write(self, *key: str, arrays: Arrays, about: str, notes: Mapping[str, Any] | None = None) -> bool:
        """Keep arrays under a key; False when they are too large or cannot be written."""
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
            logging.getLogger("clipviz").warning("nothing was kept in the cache: %s", error)
            return False
        return True

    def entries(self) -> list[Entry]:
        """Return what this user has kept, the answer used last first."""
        found = []
        for path in self._files():
            try:
                state = path.stat()
                found.append(Entry(path, _noted(path)["about"], state.st_size, state.st_mtime))
            except Exception:  # being written, just removed, or damaged: its size still counts
                with suppress(OSError):
                    found.append(Entry(path, "damaged", path.stat().st_size, 0.0))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Remove all that this user has kept; returns how many bytes that were."""
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
    """Return the user's cache, as the environment asks."""
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
            f'expected CLIPVIZ_CACHE_GB to be a number of gigabytes, got {asked!r}; give 0 or more, "inf" for no bound'
        )
    return Cache(folder, limit * 1e9)


def _user() -> int:
    """Return the user who asks, 0 for all where the system does not tell."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _own(path: Path) -> bool:
    """Return whether this user has written a file: what others put into a shared folder is neither read nor removed."""
    try:
        return not hasattr(os, "geteuid") or path.lstat().st_uid == _user()
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Remove a file; False where that may not be."""
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
