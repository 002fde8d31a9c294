"""Any collection that an index can be built from, as `Images`: what open_images opens, and the large forms.

Folders (an ImageFolder tree gives labels), list files, WebDataset tars and parquet image columns; a list of those.
"""

from __future__ import annotations

import functools
import glob
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.images import Images, open_images
from clipviz.data.sources import SUFFIXES, FileSource, Source, _Plain

if TYPE_CHECKING:
    from clipviz.data.index.reader import Index

LISTS = (".txt", ".lst", ".tsv")
MOST_LOOKED_FOR = 5000  # files of an index whose presence is checked once


@dataclass
class Found:
    """Sources with what is known of each; columns are filled up with None."""

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

    def images(self, what: object) -> Images:
        """The collection; ValueError when nothing was found in `what`."""
        if not self.sources:
            told = "; ".join(f"{name}: {reason}" for name, reason in self.skipped[:3])
            raise ValueError(f"expected at least one image, got none in {str(what)!r}{told and f' ({told})'}")
        captions = self.captions if any(self.captions) else None
        return Images(self.sources, captions, self.attributes or None, self.skipped)


def open_collection(source: Any) -> Images:
    """`source` as Images: Images, a folder, a list file, tars, parquet files, or whatever open_images takes.

    Paths may hold wildcards and {000..099} ranges. A folder whose images all lie in subfolders gives each image
    the label of its first subfolder. A list file (.txt, .lst, .tsv) has a line an image, relative to the file:
    path, or path TAB label, or path TAB label TAB caption.
    """
    if isinstance(source, Images):
        return source
    if isinstance(source, (list, tuple)) and len(source) == 1:
        source = source[0]
    if isinstance(source, (list, tuple)) and all(isinstance(item, (str, os.PathLike)) for item in source):
        return _joined(source)
    if not isinstance(source, (str, os.PathLike)):
        return open_images(source)
    paths = expand(os.path.expanduser(os.fspath(source)))
    if len(paths) > 1 or paths[0].suffix in (".tar", ".parquet"):
        return _archives(paths, source)
    path = paths[0]
    if path.is_dir():
        for pattern in ("*.tar", "*.parquet"):
            if archives := sorted(path.rglob(pattern)):
                return _archives(archives, source)
        return _labelled(open_images(path))
    if path.suffix in LISTS and path.is_file():
        return _listed(path)
    return open_images(path)


def expand(pattern: str) -> list[Path]:
    """The paths that a pattern with {000..099} ranges and wildcards stands for, sorted; itself if it has none."""
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    ranges = [
        [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
        for low, high in zip(parts[1::3], parts[2::3], strict=True)
    ]
    names = [
        parts[0] + "".join(a + b for a, b in zip(choice, parts[3::3], strict=True))
        for choice in itertools.product(*ranges)
    ]
    found = [
        match for name in names for match in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])
    ]
    if not found:
        raise ValueError(f"expected paths that match {pattern!r}, got none; check the pattern")
    return [Path(name) for name in found]


def _archives(paths: Sequence[Path], source: object) -> Images:
    from clipviz.data.index.archives import read_parquet, read_tar

    readers: dict[str, Callable[[Path, Found], None]] = {".tar": read_tar, ".parquet": read_parquet}
    found = Found()
    for path in paths:
        if path.suffix in readers:
            readers[path.suffix](path, found)
        else:
            found.add(FileSource(path, path.name))
    return found.images(source)


def _joined(paths: Sequence[Any]) -> Images:
    """Several folders, lists and archives as one collection; plain files as open_images takes them."""
    if all(Path(path).suffix.lower() in SUFFIXES for path in paths):
        return open_images(list(paths))
    found = Found()
    for path in paths:
        images = open_collection(path)
        found.skipped += images.skipped
        for i, source in enumerate(images._sources):
            words = {column: values[i] for column, values in (images.attributes or {}).items()}
            found.add(source, images.captions[i] if images.captions else "", words)
    return found.images(paths)


def _labelled(images: Images) -> Images:
    """With the first subfolder as label, when every image lies in one."""
    parts = [name.split("/") for name in images.names]
    if any(len(part) < 2 for part in parts) or (images.attributes or {}).get("label"):
        return images
    labels: list[str | None] = [part[0] for part in parts]
    return Images(images._sources, images.captions, {"label": labels}, images.skipped)


def _listed(path: Path) -> Images:
    found = Found()
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, label, caption = (*line.split("\t"), "", "")[:3]
        source = FileSource(path.parent / os.path.expanduser(name.strip()), name.strip())
        found.add(source, caption.strip(), {"label": label.strip()} if label.strip() else None)
    return found.images(path)


@dataclass(frozen=True, eq=False)
class IndexedSource(_Plain):
    """A row of an index: its file where it still exists, its thumbnail where not."""

    index: Index
    row: int

    @property
    def name(self) -> str:
        return self.index.texts("name", [self.row])[0]

    @property
    def path(self) -> Path | None:
        text = self.index.texts("path", [self.row])[0]
        return Path(text) if text else None

    def load(self, near: int | None = None) -> Image.Image:
        path = self.path
        if path is not None and path.exists():
            return read_image(path, near)
        content = self.index.thumbnail_jpeg(self.row)
        if not content:
            raise BrokenImage("its file is not there and the index keeps no thumbnail of it")
        return read_image(content)

    def key(self) -> str:
        return f"{self.index.fingerprint}|{self.row}"


class IndexedImages(Images):
    """The rows of an index: a picture is its file where it still exists, its thumbnail where not."""

    def __init__(self, index: Index) -> None:
        sources = [IndexedSource(index, row) for row in range(len(index))]
        captions = index.captions if any(index.captions) else None
        super().__init__(sources, captions, index.attributes or None, names=index.names)
        self._read = index

    @functools.cached_property
    def stand_ins(self) -> tuple[int, int]:
        """How many files are gone, of how many looked for: all of them, or an even sample of a large index."""
        rows = range(0, len(self), -(-len(self) // MOST_LOOKED_FOR) or 1)
        gone = [not path or not os.path.exists(path) for path in self._read.texts("path", list(rows))]
        return sum(gone), len(gone)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The index's own."""
        return self._read.fingerprint


def indexed_images(index: Index) -> Images:
    """The rows of an index as Images, with its captions and attributes."""
    return IndexedImages(index)
