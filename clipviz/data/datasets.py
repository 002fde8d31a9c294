"""Data sets with access by index: those in the style of torch, and those of the package datasets.

An item is identified by its content. If there are at most EAGER items, they are decoded once when the data set is
opened, and each item's key is computed from its pixels. Of a larger data set SAMPLED items are decoded, and
together with the data set's description (its type, length, indices, transforms, own fingerprint) they form the
key of all items.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.marks import digest, mark_of_picture
from clipviz.data.sources import Found, PictureSource, Plain

EAGER = 2_000  # up to this many images are decoded once when a collection is opened
SAMPLED = 64
CAPTIONS = ("caption", "text", "captions", "sentences", "txt")
IMAGES = ("image", "img", "jpg", "png", "picture", "pixel_values")
_LABELS = ("label", "labels", "fine_label", "class", "target", "category", "cls")
_DEPTH = 8  # levels of nested data sets that are inspected
_WORD = 300  # characters of a description's attribute


class Items:
    """A data set as numbered items, read by one thread at a time, since most data sets keep one file handle."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.lock = Lock()

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, index: int) -> tuple[Any, dict[str, str | None], str]:
        """Return the picture as the data set provides it, its words and its caption."""
        return parts_of(self._get(index), getattr(self.dataset, "classes", None))

    def _get(self, index: int) -> Any:
        try:
            with self.lock:
                return self.dataset[index]
        except Exception as error:
            raise BrokenImage(f"the data set raised {type(error).__name__}: {error}") from error

    @functools.cached_property
    def mark(self) -> str:
        """Identifies the data set: its own description and a sample of its pictures."""
        n = len(self)
        places = sorted({k * (n - 1) // max(SAMPLED - 1, 1) for k in range(SAMPLED)}) if n else []
        parts = [str(n), *described(self.dataset)]
        for place in places:
            try:
                parts.append(mark_of_picture(picture_of(self.item(place)[0])))
            except BrokenImage as error:
                parts.append(str(error))
        return digest("\n".join(parts).encode("utf-8", "backslashreplace"))


class Table(Items):
    """A Dataset of the package datasets: pictures from the image column, words from the names of its classes."""

    def __init__(self, dataset: Any) -> None:
        plain = (getattr(dataset, "format", None) or {}).get("type") in (None, "custom")
        super().__init__(dataset if plain else dataset.with_format(None))
        self.column = image_column(dataset.features, type(dataset).__name__)
        self.features = dataset.features

    def item(self, index: int) -> tuple[Any, dict[str, str | None], str]:
        item = self._get(index)
        words, caption = words_of({c: v for c, v in item.items() if c != self.column}, self.features)
        return item.get(self.column), words, caption

    def words(self) -> list[tuple[dict[str, str | None], str]]:
        """Return words and caption of every item without decoding pictures."""
        others = [name for name in self.features if name != self.column]
        rows = self.dataset.with_format(None).select_columns(others)[:] if others else {}
        return [
            words_of({name: rows[name][i] for name in others}, self.features)
            for i in range(len(self.dataset))
        ]


class ItemSource(Plain):
    """One item of a data set. known: identifies its pixels, if it has been decoded."""

    def __init__(self, items: Items, index: int, name: str, known: str = "") -> None:
        self.items, self.index, self.name, self.known = items, index, name, known

    def load(self, near: int | None = None) -> Image.Image:
        return picture_of(self.items.item(self.index)[0], near, self.name)

    def key(self) -> str:
        return self.known or f"{self.items.mark}|{self.index}"

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return self.known or ("" if picture is None else mark_of_picture(picture))

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        return bool(self.known) and picture is not None and mark_of_picture(picture) != self.known


def add_dataset(found: Found, dataset: Any) -> None:
    """Add the items of a data set. Raises ValueError if its pictures differ between two reads."""
    items = Table(dataset) if is_table(dataset) else Items(dataset)
    sources = [ItemSource(items, i, f"item {i}") for i in range(len(items))]
    first = len(found.sources)
    if len(items) > EAGER:
        said = items.words() if isinstance(items, Table) else [({}, "")] * len(items)
        for source, (words, caption) in zip(sources, said, strict=True):
            found.add(source, caption, words)
    for source in sources if len(items) <= EAGER else ():
        try:
            value, words, caption = items.item(source.index)
            source.known = mark_of_picture(picture_of(value))
        except BrokenImage as error:
            found.skip(source.name, error)
        else:
            found.add(source, caption, words)
    _check_steady([s for s in found.sources[first:] if isinstance(s, ItemSource)], dataset)


def _check_steady(sources: Sequence[ItemSource], dataset: Any) -> None:
    """Raise ValueError if an item's picture differs between two reads, since it then cannot be identified."""
    chosen = [*sources[:1], *sources[len(sources) // 2 :][:1], *sources[-1:]]
    for source in {source.index: source for source in chosen}.values():
        try:
            marks = {source.known or mark_of_picture(source.load()), mark_of_picture(source.load())}
        except BrokenImage:
            continue
        if len(marks) > 1:
            raise ValueError(
                "expected a data set that gives the same picture of an item each time, got "
                f"{type(dataset).__name__}, whose {source.name} differs between two reads; remove "
                "random transforms"
            )


def is_table(dataset: Any) -> bool:
    """Return whether this is a Dataset of the package datasets."""
    return isinstance(getattr(dataset, "features", None), Mapping) and hasattr(dataset, "column_names")


def image_column(features: Mapping[str, Any], what: str) -> str:
    """Return the column of type Image, or else of a usual name; ValueError lists the columns if there is none."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    typed = [name for name, kind in kinds.items() if kind == "Image"]
    named = [name for name in IMAGES if name in (typed or kinds)]
    if named or typed:
        return (named or typed)[0]
    told = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
    raise ValueError(
        f"expected a column of the type Image in {what}, got columns {told}; cast one: "
        "dataset.cast_column('image', datasets.Image())"
    )


def words_of(
    values: Mapping[str, Any], features: Mapping[str, Any] | None = None
) -> tuple[dict[str, str | None], str]:
    """Return one item's words by column, and its caption. The first class column with a usual name becomes "label"."""
    words: dict[str, str | None] = {}
    caption = ""
    label = next((name for name in _LABELS if name in values), None)
    for name, value in values.items():
        if name.startswith("__"):  # bookkeeping of tar readers
            continue
        value = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        text = value[0] if isinstance(value, (list, tuple)) and value else value
        if name in CAPTIONS and isinstance(text, str):
            caption = caption or _clean(text)
            continue
        names = getattr((features or {}).get(name), "names", None)
        word = word_of(value, names)
        if word is not None or value is None:
            words["label" if name == label else name] = word
    return words, caption


def word_of(value: Any, names: Sequence[str] | None = None) -> str | None:
    """Return a value as a word (a class by its name), or None for a missing value or one that is not a word."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1 and not isinstance(value, str):
        value = value.item()
    if isinstance(value, bool) or value is None or value != value:  # NaN marks a missing value
        return str(value) if isinstance(value, bool) else None
    if isinstance(value, int) and names is not None:
        return str(names[value]) if 0 <= value < len(names) else None  # -1 marks a missing label
    if isinstance(value, str):
        return _clean(value)[:_WORD]
    if isinstance(value, (int, float)):  # an integer column with missing values holds floats
        return str(int(value) if float(value).is_integer() else value)
    if isinstance(value, (list, tuple, dict)):
        said = json.dumps(value, default=lambda _: "…", ensure_ascii=False)
        return said if len(said) <= _WORD else None
    return str(value) if hasattr(value, "isoformat") else None


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def parts_of(item: Any, classes: Any = None) -> tuple[Any, dict[str, str | None], str]:
    """Return picture, words and caption of an item: a picture, (picture, label, ...) or {"image": ..., ...}."""
    if isinstance(item, Mapping):
        column = next((name for name in IMAGES if name in item), None)
        words, caption = words_of({name: value for name, value in item.items() if name != column})
        return (None if column is None else item[column]), _named(words, item.get("label"), classes), caption
    if isinstance(item, (tuple, list)):
        return (item[0] if item else None), _named({}, item[1] if len(item) > 1 else None, classes), ""
    return item, {}, ""


def _named(words: dict[str, str | None], label: Any, classes: Any) -> dict[str, str | None]:
    """Return the words, with the label replaced by the data set's class name."""
    if label is None:
        return words
    try:
        word = (
            label if isinstance(label, str) else str(int(label) if classes is None else classes[int(label)])
        )
    except (TypeError, ValueError, IndexError, KeyError):
        return words
    return {**words, "label": word}


def picture_of(value: Any, near: int | None = None, name: str = "item") -> Image.Image:
    """Return an item's image as RGB; the item is a picture, an array, a path, or bytes alone or in a dict."""
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (str, Path)):
        return read_image(Path(value), near)
    if isinstance(value, (bytes, bytearray)):
        return read_image(bytes(value), near)
    if value is None:
        raise BrokenImage("the item holds no image")
    return PictureSource.of(value, name).picture


def described(dataset: Any, depth: int = 0) -> list[str]:
    """Return a description of a data set and the data sets inside it, without memory addresses."""
    said = [type(dataset).__name__]
    for name in ("_fingerprint", "root", "split", "transform", "transforms", "target_transform"):
        value = getattr(dataset, name, None)
        if value is not None and not callable(getattr(value, "read", None)):
            said.append(f"{name}={re.sub(r' at 0x[0-9a-f]+', '', repr(value))[:2000]}")
    for name in ("indices", "samples", "targets"):
        value = getattr(dataset, name, None)
        if isinstance(value, (list, tuple, range, np.ndarray)) or hasattr(value, "numpy"):
            said.append(f"{name}={hashlib.blake2b(_bytes_of(value), digest_size=8).hexdigest()}")
    inner = [getattr(dataset, "dataset", None), *(getattr(dataset, "datasets", None) or ())]
    for one in inner if depth < _DEPTH else ():
        said += described(one, depth + 1) if one is not None and one is not dataset else []
    return said


def _bytes_of(values: Any) -> bytes:
    array = values if isinstance(values, np.ndarray) else None
    if array is None and hasattr(values, "numpy"):
        array = values.detach().cpu().numpy()
    if array is not None and array.dtype != object:
        return f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
    return "\n".join(map(str, values)).encode("utf-8", "backslashreplace")
