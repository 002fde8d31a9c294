"""Arrays and files in parts, named by their content and below the size limits of web hosts, with a manifest."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipviz.files import write_whole

PART = 20_000_000
"""Bytes of a part before compression; common hosts accept files below 25 MB."""
ALIGN = 8


def halves(array: np.ndarray) -> np.ndarray | None:
    """Return the array in half precision if that is lossless, else None."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(array.dtype), array) else None


def packed(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, Any]]:
    """Pack arrays into one buffer, with their offsets; float32 is stored in half precision if that is lossless."""
    places, content = {}, bytearray()
    for name, array in arrays.items():
        kept = np.ascontiguousarray(array)
        half = halves(kept) if kept.dtype == np.float32 else None
        kept = kept if half is None else half
        content += bytes(-len(content) % ALIGN)
        places[name] = {"dtype": kept.dtype.name, "shape": list(kept.shape), "offset": len(content)}
        content += kept.tobytes()
    return bytes(content), places


class Folder:
    """A folder of parts. `add` writes a file's content in parts and returns its entry in the manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: list[str] = []

    def add(self, content: bytes) -> dict[str, Any]:
        """Return a content's entry. bytes: its size; sent: compressed; parts: names, halves of their SHA-256."""
        names, sent = [], 0
        for start in range(0, max(1, len(content)), PART):
            squeezed = gzip.compress(content[start : start + PART], 6, mtime=0)
            name = f"{hashlib.sha256(squeezed).hexdigest()[:32]}.bin"
            write_whole(self.path / name, squeezed)
            names.append(name)
            sent += len(squeezed)
        self.parts += names
        return {"bytes": len(content), "sent": sent, "parts": names}

    def add_arrays(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Add arrays as one content, with their offsets."""
        content, places = packed(arrays)
        return {**self.add(content), "arrays": places}

    def keep_only_these(self) -> None:
        """Remove parts of an earlier page that this one does not use."""
        for found in self.path.glob("*.bin"):
            if found.name not in self.parts:
                found.unlink()


def manifest(path: Path, said: Mapping[str, Any]) -> None:
    """Write the manifest last, so that an incomplete page has none."""
    write_whole(path, json.dumps(said, allow_nan=False, ensure_ascii=False).encode())
