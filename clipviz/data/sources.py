"""The origin of one image: a file, bytes, a picture in memory or a zip's member.

A source has a name, loads its picture on demand, and has a key that depends on its content, from which its
collection's fingerprint is computed. No file is kept open, so any thread can load any source.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from clipviz.data.decode import BrokenImage, from_array, read_image, to_rgb
from clipviz.data.marks import digest, mark_of_file, stamp_of

_JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
_WEB = (".png", ".apng", ".gif", ".webp", ".avif")
_OTHERS = (".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga", ".ico")
SUFFIXES = frozenset([*_JPEGS, *_WEB, *_OTHERS])


class Source(Protocol):
    """One image of a collection."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path | None: ...

    def load(self, near: int | None = None) -> Image.Image:
        """Return the RGB picture, which may be a smaller one with sides of at least `near`. Raises BrokenImage."""
        ...

    def mask(self) -> np.ndarray | None: ...

    def key(self) -> str:
        """Return what identifies this image: its content; for a file, its current content."""
        ...

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        """Return the part of a key that depends on the content alone, without name and time.

        picture: the picture just loaded, for a source whose key contains less than its content.
        """
        ...

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        """Return whether this image has changed since it had this key; picture: the picture just loaded."""
        ...


@dataclass
class Found:
    """Sources with their metadata, and (name, reason) of everything excluded.

    captions: [source], "" where there is none; attributes: column -> [source] words, None where there is none.
    """

    sources: list[Source] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    attributes: dict[str, list[str | None]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, source: Source, caption: str = "", words: dict[str, str | None] | None = None) -> None:
        words = words or {}
        for column in words:
            self.attributes.setdefault(column, [None] * len(self.sources))
        self.sources.append(source)
        self.captions.append(caption)
        for column, values in self.attributes.items():
            values.append(words.get(column))

    def skip(self, name: str, reason: object) -> None:
        self.skipped.append((name, str(reason)))

    def attempt(
        self, name: str, make: Callable[[], Source], words: Callable[[], dict[str, str | None]] = dict
    ) -> None:
        """Add a source and its words, or record why it cannot be created or read."""
        try:
            self.add(make(), "", words())
        except BrokenImage as error:
            self.skip(name, error)

    def join(self, other: Found) -> None:
        """Add everything of another Found."""
        self.skipped += other.skipped
        for i, source in enumerate(other.sources):
            words = {column: values[i] for column, values in other.attributes.items()}
            self.add(source, other.captions[i], words)

    def without(self, broken: dict[int, str]) -> Found:
        """Return the sources except those at some positions, which are listed with their reasons."""
        found = Found(skipped=[*self.skipped, *((self.sources[i].name, why) for i, why in broken.items())])
        kept = [i for i in range(len(self.sources)) if i not in broken]
        found.sources, found.captions = [self.sources[i] for i in kept], [self.captions[i] for i in kept]
        found.attributes = {column: [values[i] for i in kept] for column, values in self.attributes.items()}
        return found


class Plain:
    """Defaults for sources without these features."""

    @property
    def path(self) -> Path | None:
        return None

    def mask(self) -> np.ndarray | None:
        return None

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return key

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        return False  # the bytes are in memory


@dataclass(frozen=True)
class FileSource(Plain):
    file: Path
    name: str

    @property
    def path(self) -> Path | None:
        return self.file

    def load(self, near: int | None = None) -> Image.Image:
        return read_image(self.file, near)

    def key(self) -> str:
        """Return name, size and content; also the time of change if the content is only sampled or unreadable."""
        stamp = stamp_of(self.file)
        try:
            mark = mark_of_file(self.file)
        except OSError:
            return f"{self.name}|{stamp or 'missing'}|"
        return f"{self.name}|{mark}|{stamp if mark.startswith('?') else ''}"

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return "|".join(key[len(self.name) + 1 :].split("|")[:2])

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        return self.key() != key


@dataclass(frozen=True)
class BytesSource(Plain):
    content: bytes = field(repr=False)
    name: str = "upload"

    def load(self, near: int | None = None) -> Image.Image:
        return read_image(self.content, near)

    def key(self) -> str:
        return digest(self.content)


@dataclass(frozen=True, eq=False)
class PictureSource(Plain):
    """A picture in memory, as an upright RGB copy of the caller's."""

    picture: Image.Image = field(repr=False)
    name: str

    @classmethod
    def of(cls, value: Any, name: str) -> PictureSource:
        if isinstance(value, Image.Image):
            try:
                return cls(to_rgb(value.copy()), name)
            except BrokenImage:
                raise
            except Exception as error:  # a lazily opened file may since be damaged, closed or deleted
                raise BrokenImage(f"it cannot be decoded: {error}") from error
        return cls(from_array(value), name)

    def load(self, near: int | None = None) -> Image.Image:
        return self.picture.copy()

    def key(self) -> str:
        return f"{self.picture.size}|{digest(self.picture.tobytes())}"


@dataclass(frozen=True, eq=False)
class MemberSource(Plain):
    """A member of a zip in memory, and the member with its mask."""

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
