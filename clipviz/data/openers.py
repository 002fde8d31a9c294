"""Whatever a user calls images -> the sources that can be used, and what was left out and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from clipviz.data.decode import BrokenImage, as_numpy
from clipviz.data.sources import SUFFIXES, BytesSource, FileSource, ItemSource, PictureSource, Source, walk

EAGER = 2_000  # up to this many images are decoded once when a collection is opened
_PROBE = 32  # pixels a side that are enough to have read a whole file
_SHOWN = 5
_EXPECTED = "a folder, files, pictures, arrays, a data set or the bytes of an image"


@dataclass
class Gathered:
    """Usable sources, what was skipped as (name, reason), and the labels of a data set."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    labels: list[str | None] | None = None

    def attempt(self, name: str, make: Callable[[], Source]) -> None:
        try:
            self.sources.append(make())
        except BrokenImage as error:
            self.skipped.append((name, str(error)))


def gather(source: Any) -> Gathered:
    """The sources in `source`, checked; ValueError when it is nothing of the kind or nothing is usable."""
    if isinstance(source, (str, os.PathLike)):
        found = _from_path(_path(source))
    elif isinstance(source, (bytes, bytearray, memoryview)):
        found = _checked(Gathered([BytesSource(bytes(source))]))
    elif isinstance(source, Image.Image) or _is_array(source):
        found = _from_pictures(_batch(source))
    elif isinstance(source, (list, tuple)):
        found = _from_list(source)
    elif _is_dataset(source):
        found = _from_dataset(source)
    else:
        raise ValueError(
            f"expected {_EXPECTED}, got {type(source).__name__}; a generator needs list(...) around it"
        )
    if not found.sources:
        raise ValueError(_nothing_usable(source, found.skipped))
    return found


def _path(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source)
    if "://" in text:
        raise ValueError(
            f"expected a folder or a file on this machine, got the address {text!r}; download it first"
        )
    if not text.strip():
        raise ValueError("expected a folder or a file, got an empty path; name one")
    try:
        path = Path(text).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"expected a folder or a file, got {text[:80]!r} ({error}); check the path"
        ) from error
    if not exists:
        raise ValueError(
            f"expected a folder or an image file, got {text!r}, which does not exist; check the path"
        )
    return path


def _from_path(path: Path) -> Gathered:
    if not path.is_dir():
        return _checked(Gathered([FileSource(path, path.name)]))
    if not os.access(path, os.R_OK | os.X_OK):
        raise ValueError(f"expected a folder that can be read, got {str(path)!r}; check its permissions")
    found = Gathered()
    for file in walk(path):
        name = file.relative_to(path).as_posix()
        if file.suffix.lower() in SUFFIXES:
            found.sources.append(FileSource(file, name))
        else:
            kind = f"a {file.suffix} file" if file.suffix else "a file without an extension"
            found.skipped.append((name, f"{kind} is not read as an image; convert it to JPEG, PNG or WebP"))
    return _checked(found)


def _from_list(items: Sequence[Any]) -> Gathered:
    found = Gathered()
    for i, item in enumerate(items):
        if isinstance(item, (str, os.PathLike)):
            path = Path(item).expanduser()
            found.attempt(str(item), partial(FileSource, path, path.name))
        elif isinstance(item, (bytes, bytearray)):
            found.attempt(f"image {i}", partial(BytesSource, bytes(item), f"image {i}"))
        else:
            name = _name_of(item, i)
            found.attempt(name, partial(PictureSource.of, item, name))
    return _checked(found)


def _from_pictures(pictures: Iterable[Any]) -> Gathered:
    found = Gathered()
    for i, picture in enumerate(pictures):
        name = _name_of(picture, i)
        found.attempt(name, partial(PictureSource.of, picture, name))
    return found


def _from_dataset(dataset: Any) -> Gathered:
    lock = Lock()
    items = [ItemSource(dataset, lock, i, f"item {i}") for i in range(len(dataset))]
    if len(items) > EAGER:
        return Gathered(list(items))
    found = Gathered(labels=[])
    for item in items:
        try:
            _, label = item.load_labelled()
        except BrokenImage as error:
            found.skipped.append((item.name, str(error)))
            continue
        found.sources.append(item)
        found.labels.append(_label(dataset, label))  # type: ignore[union-attr]
    if not any(label is not None for label in found.labels or ()):
        found.labels = None
    return found


def _label(dataset: Any, label: Any) -> str | None:
    """A label in words: the data set's class name where it has one."""
    if label is None or isinstance(label, str):
        return label
    classes = getattr(dataset, "classes", None)
    try:
        number = int(label)
        return str(classes[number]) if classes is not None else str(number)
    except (TypeError, ValueError, IndexError, KeyError):
        return None


def _checked(found: Gathered) -> Gathered:
    """Without the files that cannot be decoded, if there are few enough to decode them all now."""
    if len(found.sources) > EAGER:
        return found
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        reasons = list(pool.map(_reason, found.sources))
    usable = [source for source, reason in zip(found.sources, reasons, strict=True) if reason is None]
    broken = [
        (source.name, reason)
        for source, reason in zip(found.sources, reasons, strict=True)
        if reason is not None
    ]
    return Gathered(usable, sorted([*found.skipped, *broken]))


def _reason(source: Source) -> str | None:
    if isinstance(source, PictureSource):
        return None
    try:
        source.load(near=_PROBE)
    except BrokenImage as error:
        return str(error)
    return None


def _nothing_usable(source: Any, skipped: list[tuple[str, str]]) -> str:
    what = repr(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else type(source).__name__
    if not skipped:
        return f"expected at least one image, got none in {what}; choose another folder or list"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:_SHOWN])
    more = f"; and {len(skipped) - _SHOWN:,} more" if len(skipped) > _SHOWN else ""
    return f"expected at least one usable image, got {len(skipped):,} unusable in {what}: {reasons}{more}"


def _name_of(picture: Any, i: int) -> str:
    filename = getattr(picture, "filename", "")
    return os.path.basename(filename) if isinstance(filename, str) and filename else f"image {i}"


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) or hasattr(source, "__array__")


def _batch(source: Any) -> Sequence[Any]:
    """The pictures of a four-axis array or tensor, or the one picture."""
    if isinstance(source, Image.Image):
        return [source]
    if isinstance(source, np.ndarray) and source.dtype.kind in "UO" and source.ndim == 1:
        raise ValueError(f"expected {_EXPECTED}, got an array of {source.dtype}; pass list(array)")
    try:
        return source if as_numpy(source).ndim == 4 else [source]
    except BrokenImage as error:
        raise ValueError(f"expected {_EXPECTED}, got {type(source).__name__}: {error}") from error


def _is_dataset(source: Any) -> bool:
    if isinstance(source, (dict, set, frozenset)):
        return False
    return hasattr(source, "__len__") and hasattr(source, "__getitem__")
