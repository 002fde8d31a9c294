"""Where one image comes from: a file, bytes, a picture in memory, a zip's member or a data set's item.

A source has a name, loads its picture whenever asked, and has a key: what its collection's fingerprint is
made of. Nothing here is kept open, so any thread may load any source.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from clipviz.data.decode import BrokenImage, from_array, read_image, to_rgb

SUFFIXES = frozenset(
    [
        *(
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".mpo",
            ".png",
            ".apng",
            ".gif",
            ".webp",
            ".avif",
            ".bmp",
            ".dib",
        ),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga", ".ico"),
    ]
)


class Source(Protocol):
    """One image of a collection."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path | None: ...

    def load(self, near: int | None = None) -> Image.Image:
        """The RGB picture; with `near` perhaps a smaller one, its sides still >= near. BrokenImage."""
        ...

    def mask(self) -> np.ndarray | None: ...

    def key(self) -> str: ...


class _Plain:
    """What most sources lack."""

    @property
    def path(self) -> Path | None:
        return None

    def mask(self) -> np.ndarray | None:
        return None


@dataclass(frozen=True)
class FileSource(_Plain):
    file: Path
    name: str

    @property
    def path(self) -> Path | None:
        return self.file

    def load(self, near: int | None = None) -> Image.Image:
        return read_image(self.file, near)

    def key(self) -> str:
        try:
            status = self.file.stat()
        except OSError:
            return f"{self.name}|missing"
        return f"{self.name}|{status.st_size}|{status.st_mtime_ns}"


@dataclass(frozen=True)
class BytesSource(_Plain):
    content: bytes = field(repr=False)
    name: str = "upload"

    def load(self, near: int | None = None) -> Image.Image:
        return read_image(self.content, near)

    def key(self) -> str:
        return digest(self.content)


@dataclass(frozen=True, eq=False)
class PictureSource(_Plain):
    """A picture in memory: RGB and upright, copied from what the caller owns."""

    picture: Image.Image = field(repr=False)
    name: str

    @classmethod
    def of(cls, value: Any, name: str) -> PictureSource:
        if isinstance(value, Image.Image):
            try:
                return cls(to_rgb(value.copy()), name)
            except BrokenImage:
                raise
            except Exception as error:  # a lazily opened file may be damaged, closed or gone by now
                raise BrokenImage(f"it cannot be decoded: {error}") from error
        return cls(from_array(value), name)

    def load(self, near: int | None = None) -> Image.Image:
        return self.picture.copy()

    def key(self) -> str:
        return f"{self.picture.size}|{digest(self.picture.tobytes())}"


@dataclass(frozen=True, eq=False)
class MemberSource(_Plain):
    """A member of a zip that is held in memory, and the member with its mask."""

    archive: zipfile.ZipFile = field(repr=False)
    lock: threading.Lock = field(repr=False)
    member: str
    mask_member: str | None
    name: str
    checksum: int

    def _read(self, member: str) -> bytes:
        with self.lock:
            return self.archive.read(member)

    def load(self, near: int | None = None) -> Image.Image:
        return read_image(self._read(self.member), near)

    def mask(self) -> np.ndarray | None:
        if self.mask_member is None:
            return None
        with Image.open(io.BytesIO(self._read(self.mask_member))) as image:
            return np.array(image.convert("L") if image.mode not in ("L", "P") else image, dtype=np.uint8)

    def key(self) -> str:
        return f"{self.member}|{self.checksum:08x}"


@dataclass(frozen=True, eq=False)
class ItemSource(_Plain):
    """An item of a torch-style data set: a picture, (picture, label, ...) or {"image": ..., "label": ...}."""

    dataset: Any = field(repr=False)
    lock: threading.Lock = field(repr=False)
    index: int
    name: str

    def item(self) -> tuple[Any, Any]:
        """The picture as the data set gives it, and its label or None."""
        try:
            with self.lock:  # most data sets keep one file handle
                item = self.dataset[self.index]
        except Exception as error:
            raise BrokenImage(f"the data set raised {type(error).__name__}: {error}") from error
        if isinstance(item, dict):
            return item.get("image"), item.get("label")
        if isinstance(item, (tuple, list)):
            return (item[0] if item else None), (item[1] if len(item) > 1 else None)
        return item, None

    def load(self, near: int | None = None) -> Image.Image:
        return self.load_labelled(near)[0]

    def load_labelled(self, near: int | None = None) -> tuple[Image.Image, Any]:
        """The RGB picture and its label or None."""
        picture, label = self.item()
        if isinstance(picture, (str, Path)):
            return read_image(Path(picture), near), label
        if isinstance(picture, bytes):
            return read_image(picture, near), label
        return PictureSource.of(picture, self.name).picture, label

    def key(self) -> str:
        return f"{type(self.dataset).__name__}|{self.index}"


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder except hidden ones, sorted by path; a folder linked twice is read once."""
    seen: set[str] = set()
    found: list[Path] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    yield from sorted(found)
