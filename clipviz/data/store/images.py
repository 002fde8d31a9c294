"""The rows of an index as `Images`: a picture is its file where that still exists, its thumbnail where not."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.images import Images
from clipviz.data.sources import Plain
from clipviz.data.store.store import Store

MOST_LOOKED_FOR = 5000  # files of an index whose presence is checked once


@dataclass(frozen=True, eq=False)
class IndexedSource(Plain):
    """A row of an index: its file where it still exists, its thumbnail where not."""

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
        if path is not None and path.exists():
            return read_image(path, near)
        content = self.store.thumbnail_jpeg(self.row)
        if not content:
            raise BrokenImage("its file is not there and the index keeps no thumbnail of it")
        return read_image(content)

    def key(self) -> str:
        return f"{self.store.fingerprint}|{self.row}"


class IndexedImages(Images):
    """The rows of an index, with its captions and attributes."""

    def __init__(self, store: Store) -> None:
        sources = [IndexedSource(store, row) for row in range(len(store))]
        captions = store.captions if any(store.captions) else None
        super().__init__(sources, captions, store.attributes or None, names=store.names)
        self._read = store

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
