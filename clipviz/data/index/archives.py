"""Images inside archives: WebDataset tars by a small tar reader, and image columns of parquet files.

Only headers are read when an archive is opened; a picture is read from its place when it is asked for, so any
worker may read any of them.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.index.collection import Found
from clipviz.data.sources import SUFFIXES, _Plain

_BLOCK = 512
_CAPTION_COLUMNS = ("caption", "text", "captions")


class Member(NamedTuple):
    """One file of a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


def tar_members(path: Path) -> Iterator[Member]:
    """The regular files of an uncompressed tar (ustar, GNU long names, pax paths), in order.

    ValueError when it is not a tar or ends too early; what came before has been given by then.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        offset, renamed = 0, ""
        while offset + _BLOCK <= size:
            stream.seek(offset)
            head = stream.read(_BLOCK)
            if not any(head):
                return
            length = _length(path, head)
            start = offset + _BLOCK
            if start + length > size:
                raise ValueError(f"the tar {path.name!r} ends within {_text(head[:100])!r}; copy it again")
            kind = head[156:157]
            if kind == b"L":
                renamed = _text(stream.read(length))
            elif kind == b"x":
                renamed = _pax_path(stream.read(length)) or renamed
            elif kind in (b"0", b"\0", b"7"):
                prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
                yield Member(renamed or (f"{prefix}/" if prefix else "") + _text(head[:100]), start, length)
                renamed = ""
            else:
                renamed = ""
            offset = start + -(-length // _BLOCK) * _BLOCK
    if offset < size or not size:
        raise ValueError(f"the tar {path.name!r} ends too early; copy it again")


def read_tar(path: Path, found: Found) -> None:
    """Add the samples of a WebDataset tar: files of one key (up to the first dot of the file name) belong together.

    KEY.jpg (or another image), KEY.txt its caption, KEY.cls its label, KEY.json more words. A damaged tar gives
    what comes before the damage and is listed.
    """
    samples: dict[str, dict[str, Member]] = {}
    stamp = _stamp(path)
    try:
        for member in tar_members(path):
            folder, _, file = member.name.rpartition("/")
            stem, _, extension = file.partition(".")
            samples.setdefault(f"{folder}/{stem}" if folder else stem, {})[extension.lower()] = member
    except (OSError, ValueError) as error:
        found.skipped.append((str(path), str(error)))
    for key, members in samples.items():
        picture = next((m for e, m in members.items() if f".{e.rpartition('.')[2]}" in SUFFIXES), None)
        if picture is None:
            found.skipped.append((f"{path.name}/{key}", "the sample has no image"))
            continue
        caption, words = _sidecars(path, members)
        name = f"{path.name}/{picture.name}"
        found.add(TarSource(path, picture.offset, picture.size, name, stamp), caption, words)


@dataclass(frozen=True)
class TarSource(_Plain):
    """A picture in a tar."""

    archive: Path
    offset: int
    size: int
    name: str
    stamp: str

    def load(self, near: int | None = None) -> Image.Image:
        return read_image(_read(self.archive, self.offset, self.size), near)

    def key(self) -> str:
        return f"{self.name}|{self.offset}|{self.size}|{self.stamp}"


def read_parquet(path: Path, found: Found) -> None:
    """Add the rows of a parquet file with an image column: bytes, or Hugging Face's {bytes, path}."""
    parquet = _pyarrow()
    file = parquet.ParquetFile(path)
    image = _image_column(file.schema_arrow)
    if image is None:
        raise ValueError(
            f"expected an image column (binary, or a struct with bytes) in {str(path)!r}, got columns "
            f"{', '.join(file.schema_arrow.names)}; choose a file with images"
        )
    others = [name for name in file.schema_arrow.names if name != image]
    words, stamp = _class_names(file.schema_arrow.metadata), _stamp(path)
    for group in range(file.num_row_groups):
        rows = file.read_row_group(group, columns=others).to_pylist()
        n_rows = file.metadata.row_group(group).num_rows
        for row in range(n_rows):
            known = rows[row] if others else {}
            caption = next((known[c] for c in _CAPTION_COLUMNS if isinstance(known.get(c), str)), "")
            kept = {k: _word(v, words.get(k)) for k, v in known.items() if k not in _CAPTION_COLUMNS}
            name = f"{path.name}/{group}/{row}"
            found.add(ParquetSource(path, image, group, row, name, stamp), caption, kept)


@dataclass(frozen=True)
class ParquetSource(_Plain):
    """A picture in a row of a parquet file."""

    archive: Path
    column: str
    group: int
    row: int
    name: str
    stamp: str

    def load(self, near: int | None = None) -> Image.Image:
        content = _row_group(self.archive, self.column, self.group, self.stamp)[self.row].as_py()
        content = content.get("bytes") if isinstance(content, dict) else content
        if not content:
            raise BrokenImage("the row holds no image bytes")
        return read_image(content, near)

    def key(self) -> str:
        return f"{self.name}|{self.stamp}"


@functools.lru_cache(maxsize=2)  # rows are read in order: the group at hand and the one before
def _row_group(path: Path, column: str, group: int, stamp: str) -> Any:
    return _pyarrow().ParquetFile(path).read_row_group(group, columns=[column])[column]


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            "parquet files need pyarrow, which is not installed; `pip install pyarrow`, or convert the images to "
            "files or tars"
        ) from error
    return pyarrow.parquet


def _image_column(schema: Any) -> str | None:
    """The column called image that holds bytes, else the first that does."""
    import pyarrow

    def holds_bytes(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    columns = [field.name for field in schema if holds_bytes(field.type)]
    return next(
        (name for name in columns if name in ("image", "jpg", "img")), columns[0] if columns else None
    )


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """column -> names of its classes, from the notes that Hugging Face's datasets leave in the file."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {
        name: kind["names"] for name, kind in features.items() if isinstance(kind, dict) and kind.get("names")
    }


def _word(value: Any, names: list[str] | None) -> str | None:
    if value is None:
        return None
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _sidecars(path: Path, members: dict[str, Member]) -> tuple[str, dict[str, str | None]]:
    """The caption and the words that a sample's other files give."""
    words: dict[str, str | None] = {}
    caption = ""
    if "json" in members:
        try:
            table = json.loads(_read(path, *members["json"][1:]))
        except (OSError, ValueError):
            table = None
        table = table if isinstance(table, dict) else {}
        caption = next((table.pop(c) for c in _CAPTION_COLUMNS if isinstance(table.get(c), str)), "")
        words = {str(k): _word(v, None) for k, v in table.items() if isinstance(v, (str, int, float, bool))}
    if "txt" in members:
        caption = _text(_read(path, *members["txt"][1:])).strip()
    if "cls" in members:
        words["label"] = _text(_read(path, *members["cls"][1:])).strip()
    return caption, words


def _read(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _stamp(path: Path) -> str:
    status = os.stat(path)
    return f"{status.st_size}|{status.st_mtime_ns}"


def _length(path: Path, head: bytes) -> int:
    """The size field, octal or base 256, after checking the header's checksum."""
    try:
        expected = int(head[148:156].strip(b"\0 ") or b"0", 8)
        field = head[124:136]
        length = int.from_bytes(field[1:], "big") if field[0] & 0x80 else int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        expected, length = -1, 0
    if sum(head[:148]) + 8 * ord(" ") + sum(head[156:]) != expected:
        raise ValueError(
            f"{path.name!r} is not a plain tar or is damaged; a compressed one has to be unpacked to .tar first"
        )
    return length


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _pax_path(content: bytes) -> str:
    """The path= record of a pax header: records are `LENGTH key=value\\n`."""
    while content:
        length, _, rest = content.partition(b" ")
        size = int(length)
        key, _, value = rest[: size - len(length) - 2].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
        content = content[size:]
    return ""
