"""Find the usable images in whatever a user passes as images, and report what was excluded and why.

Supported are folders, list files, tars, parquet files, image files, pictures, arrays, bytes, data sets, and lists
that mix them.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipviz.data.addresses import add_address, is_address
from clipviz.data.archives import holds_pictures, read_parquet, read_tar
from clipviz.data.datasets import EAGER, ItemSource, add_dataset, is_table
from clipviz.data.decode import BrokenImage, as_numpy
from clipviz.data.frames import add_frame, is_frame
from clipviz.data.paths import path_of, printable, shown
from clipviz.data.sources import SUFFIXES, BytesSource, FileSource, Found, PictureSource, Source
from clipviz.data.tables import NoTable, Table, read_table
from clipviz.data.walking import walk

ARCHIVES = {".tar": read_tar, ".parquet": read_parquet}
LISTS = (".txt", ".lst", ".tsv")
TABLES = (".csv", ".parquet")
_PROBE = 32  # decoding to this size suffices to read the whole file
_SHOWN = 5
_MOST_NAMES = 1_000_000  # names that {000..099} ranges may expand to
_EXPECTED = "a folder, files, pictures, arrays, a data set, a data frame or the bytes of an image"


def gather(source: Any) -> Found:
    """Return the checked sources in `source`. Raises ValueError for unsupported types and if nothing is usable."""
    found = Found()
    if isinstance(source, (str, os.PathLike)):
        _add_path(found, source)
    elif is_frame(source):
        add_frame(found, source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        found.add(BytesSource(bytes(source)))
    elif isinstance(source, Image.Image) or _is_array(source):
        _add_pictures(found, _batch(source))
    elif isinstance(source, (list, tuple)):
        _add_list(found, source)
    elif _is_dataset(source) and not isinstance(source, range):
        add_dataset(found, source)
    elif isinstance(source, dict) and source and all(map(is_table, source.values())):
        raise ValueError(
            f"expected one split of a data set, got a {type(source).__name__} with {', '.join(map(str, source))}; pass "
            f"one of them: data[{next(iter(source))!r}]"
        )
    elif isinstance(source, Iterable) and not isinstance(source, (dict, set, frozenset, Iterator)):
        raise ValueError(
            f"expected {_EXPECTED}, got {type(source).__name__}, which can only be iterated and has "
            "no length; read it into an index with clipviz.Index.build(model, stream, path), or "
            "pass a list of its first items"
        )
    else:
        raise ValueError(f"expected {_EXPECTED}, got {type(source).__name__}; wrap a generator in list(...)")
    _name_folders(found)
    found = _checked(found)
    if not found.sources:
        raise ValueError(_nothing_usable(source, found.skipped))
    return found


def expand(pattern: str) -> list[str]:
    """Return the sorted paths that a pattern with {000..099} ranges and wildcards stands for, or a plain path."""
    parts = re.split(r"\{(\d{1,18})\.\.(\d{1,18})\}", pattern)
    ranges = [
        (range(int(low), int(high) + 1), len(low)) for low, high in zip(parts[1::3], parts[2::3], strict=True)
    ]
    lengths = [max(len(numbers), 1) for numbers, _ in ranges]  # an empty range must not hide a long one
    if math.prod(lengths) > _MOST_NAMES:
        raise ValueError(
            f"expected at most {_MOST_NAMES:,} paths, got more from {pattern[:80]!r}; shorten it"
        )
    choices = itertools.product(*([str(n).zfill(width) for n in numbers] for numbers, width in ranges))
    names = [
        parts[0] + "".join(a + b for a, b in zip(choice, parts[3::3], strict=True)) for choice in choices
    ]
    found = [
        match for name in names for match in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])
    ]
    if not found:
        raise ValueError(f"expected paths that match {pattern!r}, got none; check the pattern")
    return found


def _add_path(found: Found, source: str | os.PathLike[str]) -> None:
    """Add one path or pattern. Raises ValueError if nothing matches."""
    text = os.fsdecode(source)
    if is_address(text):
        add_address(found, text)
        return
    path = path_of(text, "a folder or a file")
    names = [text] if path.exists() else expand(os.path.expanduser(text))
    if names == [text] or len(names) == 1:
        _add_existing(found, names[0])
        return
    for name in names:  # among many files a missing one is listed and the others are used
        try:
            _add_existing(found, name)
        except ValueError as error:
            found.skip(shown(name), error)


def _add_existing(found: Found, name: str) -> None:
    path = path_of(name, "a folder or a file")
    if not path.exists() and not path.is_symlink():
        raise ValueError(
            f"expected a folder or an image file, got {name!r}, which does not exist; check the path"
        )
    if path.is_dir():
        _add_folder(found, path)
    else:
        _add_file(found, path, shown(path.name))


def _add_file(found: Found, path: Path, name: str) -> None:
    """Add a picture, an archive or a list of files. Raises ValueError for an unreadable archive or list."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in ARCHIVES:
        ARCHIVES[suffix](path, name, found)
    elif path.is_file() and suffix in LISTS:
        _add_listed(found, path)
    else:
        found.add(FileSource(path, name))


def _add_folder(found: Found, folder: Path) -> None:
    """Add every picture and archive below a folder, with the words of tables beside them.

    If all pictures are in subfolders, these are their labels, or "folder" if a table provides labels.
    """
    files, problems = walk(folder)
    if problems and not files and problems[0][0] == shown(folder):
        raise ValueError(
            f"expected a folder that can be read, got {str(folder)!r}: {problems[0][1]}; check its permissions"
        )
    inside = Found(skipped=problems)
    tables: list[Table] = []
    for file in files:
        name, suffix = shown(file.relative_to(folder).as_posix()), file.suffix.lower()
        if suffix in ARCHIVES and not _is_table(file):
            try:
                _add_file(inside, file, name)
            except ValueError as error:
                inside.skip(name, error)
        elif suffix in SUFFIXES:
            inside.add(FileSource(file, name))
        elif suffix in TABLES:
            try:
                tables.append(read_table(file, name))
            except NoTable as error:
                inside.skip(name, error)
        else:
            kind = f"a {file.suffix} file" if file.suffix else "a file without an extension"
            inside.skip(name, f"{kind} is not a supported image type; convert it to JPEG, PNG or WebP")
    _add_words(inside, tables)
    loose = [i for i, source in enumerate(inside.sources) if isinstance(source, FileSource)]
    labels = {i: inside.sources[i].name.split("/")[-2:-1] for i in loose}
    if loose and all(labels.values()):
        column = "folder" if "label" in inside.attributes else "label"
        words = inside.attributes.setdefault(column, [None] * len(inside.sources))
        for i, (label,) in labels.items():
            words[i] = label
    found.join(inside)


def _name_folders(found: Found) -> None:
    """Set the attribute "folder" of files from several folders: each one's path below their common parent.

    It is omitted if it equals the labels, or if an attribute of that name exists.
    """
    folders = [os.path.dirname(s.file) if isinstance(s, FileSource) else None for s in found.sources]
    known = {folder: os.path.abspath(folder) for folder in folders if folder is not None}
    if len({*known.values()}) < 2 or "folder" in found.attributes:
        return
    try:
        root = os.path.commonpath([*known.values()])
    except ValueError:  # the folders are on different drives
        return
    names = {
        folder: shown(
            Path(os.path.relpath(place, root) if place != root else os.path.basename(root)).as_posix()
        )
        for folder, place in known.items()
    }
    words = [None if folder is None else names[folder] for folder in folders]
    if words != found.attributes.get("label"):
        found.attributes["folder"] = words


def _is_table(file: Path) -> bool:
    """Return whether a parquet file names pictures but does not contain any."""
    return file.suffix.lower() == ".parquet" and not holds_pictures(file)


def _add_words(found: Found, tables: Sequence[Table]) -> None:
    """Add the words that tables provide for the files; each file is described by one table."""
    places = {source.file: i for i, source in enumerate(found.sources) if isinstance(source, FileSource)}
    described: dict[Path, str] = {}
    for table in tables:
        words, missing = table.describe(places)
        if not words:
            found.skip(table.name, "none of its rows names a picture of this folder")
            continue
        again = next((described[picture] for picture in words if picture in described), None)
        if again is not None:
            found.skip(table.name, f"{again} already describes its pictures")
            continue
        found.skipped += missing
        for picture, said in words.items():
            described[picture] = table.name
            for column, word in said.items():
                values = found.attributes.setdefault(column, [None] * len(found.sources))
                values[places[picture]] = word


def _add_listed(found: Found, path: Path) -> None:
    """Add a list file: an image per line, relative to the file: path, or path TAB label [TAB caption]."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ValueError(
            f"expected a list that can be read, got {str(path)!r} ({error.strerror}); check it"
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        name, label, caption = (*line.split("\t"), "", "")[:3]
        name, label, caption = name.strip(), printable(label.strip()), printable(caption.strip())
        try:
            file = path_of(name, "the path of an image")
        except ValueError as error:
            found.skip(printable(name), error)
            continue
        found.add(
            FileSource(path.parent / file, printable(name)), caption, {"label": label} if label else None
        )


def _add_list(found: Found, items: Sequence[Any]) -> None:
    """Add the items of a list one by one; an unusable item is listed and the others are used."""
    for i, item in enumerate(items):
        if isinstance(item, (str, os.PathLike)):
            try:
                _add_path(found, item)
            except ValueError as error:
                found.skip(shown(item), _bare(error))
        elif isinstance(item, (bytes, bytearray)):
            found.attempt(f"image {i}", partial(BytesSource, bytes(item), f"image {i}"))
        else:
            name = _name_of(item, i)
            found.attempt(name, partial(PictureSource.of, item, name))


def _bare(error: ValueError) -> str:
    return "the file does not exist" if "which does not exist" in str(error) else str(error)


def _add_pictures(found: Found, pictures: Iterable[Any]) -> None:
    for i, picture in enumerate(pictures):
        name = _name_of(picture, i)
        found.attempt(name, partial(PictureSource.of, picture, name))


def _checked(found: Found) -> Found:
    """Exclude files that cannot be decoded, if there are few enough to decode them all now."""
    if len(found.sources) <= EAGER:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            reasons = list(pool.map(_reason, found.sources))
        found = found.without({i: reason for i, reason in enumerate(reasons) if reason is not None})
        found.skipped.sort()
    return found


def _reason(source: Source) -> str | None:
    if isinstance(source, (PictureSource, ItemSource)):  # they were already decoded when they were found
        return None
    try:
        source.load(near=_PROBE)
    except BrokenImage as error:
        return str(error)
    return None


def _nothing_usable(source: Any, skipped: list[tuple[str, str]]) -> str:
    what = repr(shown(source)) if isinstance(source, (str, os.PathLike)) else type(source).__name__
    if not skipped:
        return f"expected at least one image, got none in {what}; choose another folder or list"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped[:_SHOWN])
    more = f"; and {len(skipped) - _SHOWN:,} more" if len(skipped) > _SHOWN else ""
    return f"expected at least one usable image, got {len(skipped):,} unusable in {what}: {reasons}{more}"


def _name_of(picture: Any, i: int) -> str:
    filename = getattr(picture, "filename", "")
    return shown(os.path.basename(filename)) if isinstance(filename, str) and filename else f"image {i}"


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) or hasattr(source, "__array__")


def _batch(source: Any) -> Sequence[Any]:
    """Return the pictures of a four-axis array or tensor, or its single picture."""
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
