"""Data frames of pandas and polars, and tables of pyarrow: each row has an image or its path, and words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipviz.data.addresses import is_address, source_of
from clipviz.data.datasets import CAPTIONS, IMAGES, picture_of, word_of
from clipviz.data.decode import BrokenImage
from clipviz.data.paths import path_of, printable
from clipviz.data.sources import SUFFIXES, BytesSource, FileSource, Found, PictureSource, Source
from clipviz.data.tables import FILES, WATERBIRDS, Row, Table

_KINDS = ("pandas", "polars", "pyarrow")
_LOOKED_AT = 20  # values of a column


def is_frame(source: Any) -> bool:
    """Return whether this is a data frame or a pyarrow table."""
    named = type(source).__name__ in ("DataFrame", "LazyFrame", "Table")
    return named and type(source).__module__.partition(".")[0] in _KINDS


def add_frame(found: Found, frame: Any) -> None:
    """Add the rows of a data frame; its columns are read like those of a table beside pictures (data.tables).

    Raises ValueError if no column holds images or their paths.
    """
    columns = _columns(frame)
    kind = type(frame).__module__.partition(".")[0]
    image = _image_column(columns, f"the data frame of {kind}")
    others = [name for name in columns if name != image]
    captions = next((name for name in others if name.lower() in CAPTIONS), None)
    told = tuple(name for name in others if name != captions)
    table = Table(Path(), "the data frame", told, (), set(columns) >= WATERBIRDS)
    for number, value in enumerate(columns[image]):
        words = {name: word_of(columns[name][number]) or "" for name in told}
        caption = None if captions is None else word_of(columns[captions][number])
        name = _name(os.fsdecode(value)) if isinstance(value, (str, os.PathLike)) else f"row {number}"
        try:
            source = _source(value, name)
        except (BrokenImage, ValueError) as error:
            found.skip(name, error)
        else:
            found.add(source, caption or "", table.words(Row(number, name, words)))


def _name(text: str) -> str:
    """Return the displayed form of a path: as written, or only the last part of an absolute one."""
    return printable(os.path.basename(text) if os.path.isabs(text) else text)


def _columns(frame: Any) -> dict[str, list[Any]]:
    """Return every column's values by its name."""
    if type(frame).__name__ == "LazyFrame":
        raise ValueError("expected a data frame, got a LazyFrame of polars; pass frame.collect()")
    names = [str(name) for name in getattr(frame, "column_names", None) or frame.columns]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected every column once, got {twice!r} more than once; rename one")
    if hasattr(frame, "to_pydict"):  # pyarrow
        return {str(name): values for name, values in frame.to_pydict().items()}
    if hasattr(frame, "iloc"):  # pandas
        return {name: frame.iloc[:, place].tolist() for place, name in enumerate(names)}
    return {name: frame[name].to_list() for name in names}


def _image_column(columns: Mapping[str, Sequence[Any]], what: str) -> str:
    """Return the column that holds images, or else the one that holds their paths; usual names are preferred."""
    kinds = {
        name: _kind([v for v in values if v is not None][:_LOOKED_AT]) for name, values in columns.items()
    }
    usual = [name for wanted in (*IMAGES, *FILES) for name in columns if name.lower() == wanted]
    for kind in ("image", "path", "text"):
        fitting = [name for name in [*usual, *columns] if kinds[name] == kind]
        fitting = [name for name in fitting if name in usual] if kind == "text" else fitting
        if fitting:
            return fitting[0]
    raise ValueError(
        f"expected a column of images or of their paths in {what}, got columns "
        f"{', '.join(columns) or 'none'}; rename the column of paths to 'path'"
    )


def _kind(values: Sequence[Any]) -> str:
    """Return what a column holds: images, image paths, other text, or none of these."""
    if not values:
        return ""
    if all(_is_image(value) for value in values):
        return "image"
    if all(isinstance(value, (str, os.PathLike)) for value in values):
        ends = [os.path.splitext(os.fsdecode(value))[1].lower() in SUFFIXES for value in values]
        return "path" if all(ends) else "text"
    return ""


def _is_image(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "bytes" in value or "path" in value
    return isinstance(value, (Image.Image, bytes, bytearray)) or (
        isinstance(value, np.ndarray) and value.ndim in (2, 3)
    )


def _source(value: Any, name: str) -> Source:
    if isinstance(value, (str, os.PathLike)):
        text = os.fsdecode(value)
        return (
            source_of(text) if is_address(text) else FileSource(path_of(text, "the path of an image"), name)
        )
    if isinstance(value, (bytes, bytearray)):
        return BytesSource(bytes(value), name)
    if value is None or (isinstance(value, float) and value != value):
        raise BrokenImage("the row names no image")
    return PictureSource(picture_of(value), name)
