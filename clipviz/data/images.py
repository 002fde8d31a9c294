"""Collections of images: a folder, files, pictures, arrays, a data set or an upload.

An `Images` is an immutable sequence. Pictures are decoded on demand; thumbnails are cached. A broken image never
stops a collection: it is excluded, counted, and listed in `.skipped` with its reason.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import operator
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image, ImageOps

from clipviz.data.decode import BrokenImage
from clipviz.data.marks import digest
from clipviz.data.openers import gather
from clipviz.data.recent import Recent
from clipviz.data.sources import Source

__all__ = ["BrokenImage", "Images", "open_images"]

_THUMBNAIL_BYTES = 128_000_000
_JPEG_SIDE = 65_500
CHANGED = "it has been replaced since the collection was opened"

Skipped = list[tuple[str, str]]


class Images(Sequence[Image.Image]):
    """An immutable sequence of RGB pictures, each with a name and perhaps a caption, attributes and a mask.

    names: [image] display names; captions: [image] or None; attributes: column -> [image] words (None where a
    column does not apply), or None; skipped: (name, reason) of every excluded item; fingerprint: the collection's
    hash.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        captions: list[str] | None = None,
        attributes: dict[str, list[str | None]] | None = None,
        skipped: Skipped | None = None,
        names: list[str] | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self.names: list[str] = names if names is not None else [source.name for source in self._sources]
        self.captions = captions
        self.attributes = attributes
        self._skipped = list(skipped or ())
        self._keys: dict[int, str] = {}
        self._thumbnails: Recent[tuple[int, int], Image.Image] = Recent(
            _THUMBNAIL_BYTES, lambda picture: 3 * picture.width * picture.height
        )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sources)

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"Images({len(self):,}{skipped}, fingerprint={self.fingerprint!r})"

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Images: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Images:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        return self._load(self._index(index))

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (self._load(i) for i in range(len(self)))

    @property
    def paths(self) -> list[Path] | None:
        """The files, or None if some images are not files."""
        paths = [source.path for source in self._sources if source.path is not None]
        return paths if len(paths) == len(self) else None

    @property
    def skipped(self) -> Skipped:
        """(name, reason) of every image that could not be used, including those found to be broken later."""
        return list(self._skipped)

    @functools.cached_property
    def stand_ins(self) -> tuple[int, int]:
        """How many images are shown by a thumbnail because their files are missing, and how many were checked."""
        return 0, len(self)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash that changes with the content, name or position of any image; see data.marks for its cost."""
        return digest("\n".join(self.keys).encode("utf-8", "backslashreplace"))[:12]

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """What identifies each image: its content, and the name of a file. Keys are computed once and kept."""
        return tuple(self._key(i) for i in range(len(self)))

    def content(self, i: int, picture: Image.Image | None = None) -> str:
        """Return what identifies the content of image i independent of its name, or "" if unknown.

        picture: the image itself, if it is available; for an item of a large data set it provides what the key
        does not contain.
        """
        return self._sources[i].essence(self._key(i), picture)

    def changed(self, indices: Iterable[int] | None = None) -> list[int]:
        """Return images, among all or some, whose files have changed since they were first read."""
        asked = range(len(self)) if indices is None else [self._index(i) for i in indices]
        return [i for i in asked if self._sources[i].changed(self._key(i))]

    def masks(self, i: int) -> np.ndarray | None:
        """Return the true objects of image i: uint8 [rows, cols], 0 = background, k = the k-th object; or None."""
        return self._sources[self._index(i)].mask()

    def thumbnail(self, i: int, size: int) -> Image.Image:
        """Return the centre square of image i at size x size pixels."""
        key = (self._index(i), int(size))

        def make() -> Image.Image:
            return ImageOps.fit(self._load(key[0], near=key[1]), (key[1], key[1]), Image.Resampling.BICUBIC)

        return self._thumbnails.get(key, make).copy()

    def sprite(self, indices: Iterable[int], size: int, columns: int | None = None) -> tuple[bytes, int]:
        """Return a JPEG of square thumbnails, row by row, and its number of columns; (b"", 0) for no indices.

        An image that turns out to be broken is drawn grey, so that one file cannot empty a gallery.
        """
        chosen = [self._index(i) for i in indices]
        if not chosen:
            return b"", 0
        columns = min(columns or math.ceil(math.sqrt(len(chosen))), len(chosen))
        rows = math.ceil(len(chosen) / columns)
        if max(rows, columns) * size > _JPEG_SIDE:
            raise ValueError(
                f"expected a sprite of at most {_JPEG_SIDE} pixels per side, got {columns} x {rows} thumbnails of"
                f" {size} pixels; ask for fewer or smaller ones"
            )
        sheet = Image.new("RGB", (columns * size, rows * size), "white")
        for place, i in enumerate(chosen):
            sheet.paste(self._tile(i, size), (place % columns * size, place // columns * size))
        stream = io.BytesIO()
        sheet.save(stream, "JPEG", quality=88)
        return stream.getvalue(), columns

    def where(self, column: str, value: str | None) -> list[int]:
        """Return indices of the images whose attribute `column` is `value`, such as where("colour", "red")."""
        words = (self.attributes or {}).get(column)
        if words is None:
            known = ", ".join(self.attributes) if self.attributes else "none"
            raise ValueError(
                f"expected an attribute of these images, got {column!r}; attributes are: {known}"
            )
        found = [i for i, word in enumerate(words) if word == value]
        if not found and value is not None:
            known = ", ".join(sorted({word for word in words if word is not None})[:30])
            raise ValueError(f"no image has {column} = {value!r}; values are: {known}")
        return found

    def with_image(self, image: Any, name: str) -> Images:
        """Return a collection with one more image (a picture, an array, a path or bytes), captioned by its name."""
        extra = open_images([image] if isinstance(image, (str, Path)) else image)
        source = dataclasses.replace(extra._sources[0], name=str(name))  # type: ignore[type-var]
        captions = None if self.captions is None else [*self.captions, str(name)]
        attributes = self.attributes and {column: [*words, None] for column, words in self.attributes.items()}
        names = [*self.names, str(name)]
        made = Images([*self._sources, source], captions, attributes, self._skipped, names)
        made._keys = dict(self._keys)
        made.stand_ins = self.stand_ins
        return made

    def subset(self, indices: Iterable[int]) -> Images:
        """Return a collection of the images at `indices`, in that order."""
        chosen = [self._index(i) for i in indices]
        captions = None if self.captions is None else [self.captions[i] for i in chosen]
        attributes = self.attributes and {
            column: [words[i] for i in chosen] for column, words in self.attributes.items()
        }
        made = Images([self._sources[i] for i in chosen], captions, attributes)
        made._keys = {place: self._keys[i] for place, i in enumerate(chosen) if i in self._keys}
        return made

    def _index(self, i: int) -> int:
        i = operator.index(i)
        if not -len(self) <= i < len(self):
            raise IndexError(f"expected an image index in 0..{len(self) - 1}, got {i}")
        return i % len(self)

    def _key(self, i: int) -> str:
        found = self._keys.get(i)
        return self._keys.setdefault(i, self._sources[i].key()) if found is None else found

    def _load(self, i: int, near: int | None = None) -> Image.Image:
        try:
            return self._unchanged(i, self._sources[i].load(near))
        except BrokenImage as error:
            with self._lock:
                if (self.names[i], str(error)) not in self._skipped:
                    self._skipped.append((self.names[i], str(error)))
            raise BrokenImage(
                f"expected a readable image, got {self.names[i]!r}: {error}; remove it and open the images again"
            ) from error

    def _unchanged(self, i: int, picture: Image.Image) -> Image.Image:
        """Return a picture that was just loaded, if it is still the one with which the collection was opened."""
        if self._sources[i].changed(self._key(i), picture):
            raise BrokenImage(CHANGED)
        return picture

    def _tile(self, i: int, size: int) -> Image.Image:
        try:
            return self.thumbnail(i, size)
        except BrokenImage:
            return Image.new("RGB", (size, size), (128, 128, 128))


def open_images(source: Any) -> Images:
    """Open images from folders, files, tars, parquet files, lists, pictures, arrays, a data set or an upload's
    bytes.

    A folder is read recursively, without hidden files. If all its pictures are in subfolders, the name of the
    subfolder is the attribute "label". Files from several folders, opened together or in a list, have the
    attribute "folder", unless it equals the label. A table beside the pictures (CSV or parquet with a column of
    file names, such as the metadata.csv of Waterbirds) gives their attributes: its class column is "label", its
    group column, or class and place, is "group". Paths may hold wildcards and {000..099} ranges. A list file
    (.txt, .lst, .tsv) has a line per image, relative to the file: path, or path TAB label, or path TAB label TAB
    caption. A tar may follow WebDataset (KEY.jpg with KEY.txt, KEY.cls, KEY.json); a parquet file has an image
    column. Lists may mix all of these with PIL pictures, arrays, tensors and bytes. A data set has __len__ and
    __getitem__, and its items are a picture or (picture, label, ...); labels become the attribute "label". For a
    datasets.Dataset (one split) the column of type Image is used, and classes have their names. Its captions and
    other columns become captions and attributes; the same holds for a data frame (pandas, polars, pyarrow), whose
    images are a column of paths or of images. Addresses (hf://, s3://) are read if fsspec is installed. Up to
    2,000 images are decoded once to find the broken ones; beyond that they are found on first use. Everything
    that cannot be used is listed in `.skipped` with its reason. Raises ValueError if nothing is usable, or if a
    row of a table contradicts itself.
    """
    source = getattr(source, "opened", source)  # the images of a session
    if isinstance(source, Images):
        return source
    found = gather(source)
    captions = found.captions if any(found.captions) else None
    return Images(found.sources, captions, found.attributes or None, found.skipped)
