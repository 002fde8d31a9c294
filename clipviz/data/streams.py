"""Streams of items, such as the IterableDatasets of the packages datasets and torch, split into collections."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clipviz.data.datasets import image_column, parts_of, picture_of, words_of
from clipviz.data.decode import BrokenImage
from clipviz.data.images import Images
from clipviz.data.sources import BytesSource, Found, PictureSource


def is_stream(source: Any) -> bool:
    """Return whether this is a stream: it can be iterated repeatedly from the beginning, and has no length."""
    if isinstance(source, (str, bytes)) or not isinstance(source, Iterable) or hasattr(source, "__len__"):
        return False
    return not isinstance(source, Iterator)


def parts(stream: Any, size: int) -> Iterator[Images]:
    """Yield collections of `size` items in order; items without an image are listed in `.skipped`.

    Compressed images stay compressed, so that a part needs about as much memory as its files.
    """
    features = getattr(stream, "features", None)
    column = None
    if isinstance(features, Mapping):
        column = image_column(features, type(stream).__name__)
        stream = _undecoded(stream, column, features)
    numbered = enumerate(stream)
    classes = getattr(stream, "classes", None)
    while items := list(itertools.islice(numbered, size)):
        found = Found()
        for number, item in items:
            _add(found, f"item {number}", item, column, features, classes)
        captions = found.captions if any(found.captions) else None
        if found.sources:
            yield Images(found.sources, captions, found.attributes or None, found.skipped)


def _add(found: Found, name: str, item: Any, column: str | None, features: Any, classes: Any) -> None:
    if column is None:
        value, words, caption = parts_of(item, classes)
    else:
        value = item.get(column)
        words, caption = words_of({key: v for key, v in item.items() if key != column}, features)
    content = value.get("bytes") if isinstance(value, Mapping) else value
    try:
        if isinstance(content, (bytes, bytearray)):
            found.add(BytesSource(bytes(content), name), caption, words)
        else:
            found.add(PictureSource(picture_of(value), name), caption, words)
    except BrokenImage as error:
        found.skip(name, error)


def _undecoded(stream: Any, column: str, features: Mapping[str, Any]) -> Any:
    """Return the stream with images as undecoded bytes, if the type of its image column supports this."""
    kind = features[column]
    if not hasattr(stream, "cast_column") or not getattr(kind, "decode", False):
        return stream
    return stream.cast_column(column, type(kind)(decode=False))
