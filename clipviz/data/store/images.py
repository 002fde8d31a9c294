"""The rows of an index as `Images`: a picture comes from its file if that still exists, else from its thumbnail."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.images import Images
from clipviz.data.marks import number, stamp_of
from clipviz.data.sources import FileSource, Plain
from clipviz.data.store.store import Store

MOST_LOOKED_FOR = 5000  # files of an index whose existence is checked once


@dataclass(frozen=True, eq=False)
class IndexedSource(Plain):
    """A row of an index: its file if that still exists, else its thumbnail."""

    store: Store
    row: int

    @property
    def name(self) -> str:
        return self.store.texts("name", [self.row])[0]

    @property
    def path(self) -> Path | None:
        text = self.store.texts("path", [self.row])[0]
        return Path(text) if text else None

    def load(self, near: int | None = None) -> Image.Image:
        path = self.path
        if path is not None and self.there(path):
            return read_image(path, near)
        content = self.store.thumbnail_jpeg(self.row)
        if not content:
            gone = "has been replaced since" if path is not None and path.exists() else "is missing"
            raise BrokenImage(f"its file {gone} and the index has no thumbnail of it")
        return read_image(content)

    def there(self, path: Path, at_a_glance: bool = False) -> bool:
        """Return whether the indexed file still exists; a file with the same modification time counts as the same."""
        stamp = stamp_of(path)
        known = None if self.store.marks is None else self.store.marks[self.row].tolist()
        if not stamp or known is None or not known[0]:
            return bool(stamp)
        if at_a_glance and number(stamp) == known[1]:
            return True
        file = FileSource(path, "")
        found: bool = number(file.essence(file.key())) == known[0]
        return found

    def key(self) -> str:
        return f"{self.store.fingerprint}|{self.row}"

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        # the loaded picture is the indexed file or its thumbnail
        path = self.path if picture is None else None
        return path is not None and path.exists() and not self.there(path, at_a_glance=True)

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return ""  # the index may show a thumbnail


class IndexedImages(Images):
    """The rows of an index, with its captions and attributes."""

    def __init__(self, store: Store) -> None:
        sources = [IndexedSource(store, row) for row in range(len(store))]
        captions = store.captions if any(store.captions) else None
        super().__init__(sources, captions, store.attributes or None, names=store.names)
        self._read = store

    @functools.cached_property
    def stand_ins(self) -> tuple[int, int]:
        """How many files are missing or replaced, and how many were checked: all, or an even sample of many."""
        rows = range(0, len(self), -(-len(self) // MOST_LOOKED_FOR) or 1)
        paths = zip(rows, self._read.texts("path", list(rows)), strict=True)
        gone = [not path or not IndexedSource(self._read, row).there(Path(path), True) for row, path in paths]
        return sum(gone), len(gone)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The fingerprint stored in the index."""
        return self._read.fingerprint
