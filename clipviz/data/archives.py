"""Images inside archives: members of uncompressed tars (WebDataset) and image columns of parquet files.

Only headers are read when an archive is opened. A picture is read from its position on demand, so that any worker
can read any picture.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.marks import mark_of_file, mark_of_picture, stamp_of
from clipviz.data.sources import SUFFIXES, Found, Plain
from clipviz.data.tars import Member, read_range, tar_members

_CAPTION_COLUMNS = ("caption", "text", "captions")
_NOTE_BYTES = 1 << 24  # bytes of a caption or a table of words; larger files are ignored


def read_tar(path: Path, name: str, found: Found) -> None:
    """Add the samples of a tar: an image and the KEY.txt, KEY.cls and KEY.json (caption, label, words) beside it.

    As in WebDataset a key ends at the first dot of the file name. If several pictures would share a key, each is
    a separate sample and its key ends at its last dot. Unusable files are listed, and a damaged tar yields
    everything before the damage.
    """
    skipped: list[tuple[str, str]] = []
    members: list[Member] = []
    try:
        members.extend(tar_members(path, skipped))
    except (OSError, ValueError) as error:
        found.skip(name, error)
    found.skipped += [(f"{name}/{member}", reason) for member, reason in skipped]
    stamp = stamp_of(path)
    for sample in _samples(members):
        _add_sample(path, name, stamp, sample, found)


def _samples(members: list[Member]) -> list[dict[str, Member]]:
    """Yield extension -> member for each key up to the first dot; a repeated name starts a new sample."""
    samples: list[dict[str, Member]] = []
    latest: dict[str, dict[str, Member]] = {}
    for member in members:
        folder, _, file = member.name.rpartition("/")
        stem, _, extension = file.partition(".")
        sample = latest.get(f"{folder}/{stem}")
        if sample is None or extension.lower() in sample:
            sample = latest[f"{folder}/{stem}"] = {}
            samples.append(sample)
        sample[extension.lower()] = member
    return samples


def _add_sample(path: Path, name: str, stamp: str, members: dict[str, Member], found: Found) -> None:
    pictures = [extension for extension in members if f".{extension.rpartition('.')[2]}" in SUFFIXES]
    if not pictures:
        for member in members.values():
            found.skip(f"{name}/{member.name}", "the sample has no image")
        return
    plain = [extension for extension in pictures if "." not in extension]
    for extension in pictures:
        member = members[extension]
        if plain and extension != plain[0]:
            found.skip(f"{name}/{member.name}", f"the image of this sample is {members[plain[0]].name}")
            continue
        beside = extension.rpartition(".")[0]
        caption, words = _sidecars(path, members, f"{beside}." if beside else "")
        picture = TarSource(path, member.offset, member.size, f"{name}/{member.name}", stamp, member.pieces)
        found.add(picture, caption, words)


@dataclass(frozen=True)
class TarSource(Plain):
    """A picture in a tar; pieces: see tars.Member."""

    archive: Path
    offset: int
    size: int
    name: str
    stamp: str
    pieces: tuple[tuple[int, int], ...] = ()

    def load(self, near: int | None = None) -> Image.Image:
        try:
            content = read_range(self.archive, self.offset, self.size, self.pieces)
        except (OSError, ValueError) as error:
            raise BrokenImage(f"it cannot be read from its tar: {error}") from error
        return read_image(content, near)

    def key(self) -> str:
        """Return the member's name, position and content; also the tar's size and time if that is only sampled."""
        try:
            mark = mark_of_file(self.archive, self.offset, self.size)
        except OSError:
            return f"{self.name}|{self.offset}|missing|"
        return f"{self.name}|{self.offset}|{mark}|{self.stamp if mark.startswith('?') else ''}"

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return "|".join(key.split("|")[-3:-1])

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        return self.key() != key


def read_parquet(path: Path, name: str, found: Found) -> None:
    """Add the rows of a parquet file with an image column: bytes, or Hugging Face's {bytes, path}.

    Unreadable row groups are listed. Raises ValueError for a file that cannot be read at all.
    """
    parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(path)
        schema, n_groups = file.schema_arrow, file.num_row_groups
    except Exception as error:  # damaged files make pyarrow raise almost any error
        raise ValueError(
            f"the parquet file {name!r} is damaged ({_short(error)}); copy or download it again"
        ) from error
    image = _image_column(schema)
    if image is None:
        raise ValueError(
            f"expected an image column (binary, or a struct with bytes) in {name!r}, got columns "
            f"{', '.join(schema.names)}; choose a file with images"
        )
    others = [column for column in schema.names if column != image]
    words = _class_names(schema.metadata)
    stamp = f"{stamp_of(path)}#{mark_of_file(path, whole=1 << 20, n_blocks=64)}"
    for group in range(n_groups):
        try:
            rows = file.read_row_group(group, columns=others).to_pylist()
            n_rows = file.metadata.row_group(group).num_rows
        except Exception as error:
            found.skip(f"{name}/{group}", f"these rows are damaged: {_short(error)}")
            continue
        for row in range(n_rows):
            known = rows[row] if others else {}
            caption = next((known[c] for c in _CAPTION_COLUMNS if isinstance(known.get(c), str)), "")
            kept = {k: _word(v, words.get(k)) for k, v in known.items() if k not in _CAPTION_COLUMNS}
            found.add(ParquetSource(path, image, group, row, f"{name}/{group}/{row}", stamp), caption, kept)


def holds_pictures(path: Path) -> bool:
    """Return whether a parquet file has an image column, or cannot be read, so that the reason is reported."""
    try:
        return _image_column(_pyarrow().ParquetFile(path).schema_arrow) is not None
    except Exception:  # damaged files make pyarrow raise almost any error
        return True


@dataclass(frozen=True)
class ParquetSource(Plain):
    """A picture in a row of a parquet file."""

    archive: Path
    column: str
    group: int
    row: int
    name: str
    stamp: str

    def load(self, near: int | None = None) -> Image.Image:
        try:
            content = _row_group(self.archive, self.column, self.group, self.stamp)[self.row].as_py()
        except Exception as error:
            raise BrokenImage(f"its parquet file is damaged: {_short(error)}") from error
        content = content.get("bytes") if isinstance(content, dict) else content
        if not content:
            raise BrokenImage("the row holds no image bytes")
        return read_image(content, near)

    def key(self) -> str:
        """Return name, row and content of the file; also its size and time if the content is only sampled."""
        mark = self.stamp.partition("#")[2]
        return f"{self.name}|{self.stamp if mark.startswith('?') else mark}"

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return "" if picture is None else mark_of_picture(picture)

    def changed(self, key: str, picture: Image.Image | None = None) -> bool:
        return stamp_of(self.archive) != self.stamp.partition("#")[0]


@functools.lru_cache(maxsize=2)  # rows are read in order: the current group and the previous one
def _row_group(path: Path, column: str, group: int, stamp: str) -> Any:
    return _pyarrow().ParquetFile(path).read_row_group(group, columns=[column])[column]


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            "parquet files need pyarrow, which is not installed; `pip install 'clipviz[index]'`, or convert the "
            "images to files or tars"
        ) from error
    return pyarrow.parquet


def _image_column(schema: Any) -> str | None:
    """Return the column named image if it holds bytes, else the first column that does."""
    import pyarrow

    def holds_bytes(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        found: bool = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)
        return found

    columns = [field.name for field in schema if holds_bytes(field.type)]
    return next(
        (name for name in columns if name in ("image", "jpg", "img")), columns[0] if columns else None
    )


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return column -> names of its classes, from the metadata that Hugging Face's datasets store in the file."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(word) for word in kind["names"]]
            for name, kind in features.items()
            if isinstance(kind, dict) and isinstance(kind.get("names"), list)
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _word(value: Any, names: list[str] | None) -> str | None:
    if value is None:
        return None
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _sidecars(path: Path, members: dict[str, Member], beside: str) -> tuple[str, dict[str, str | None]]:
    """Return the caption and the words from a sample's other files: its own first, else those of its key."""
    words: dict[str, str | None] = {}
    caption = ""
    known = {kind: members.get(beside + kind) or members.get(kind) for kind in ("json", "txt", "cls")}
    notes = {kind: member for kind, member in known.items() if member and member.size <= _NOTE_BYTES}
    if "json" in notes:
        try:
            table = json.loads(read_range(path, *notes["json"][1:]))
        except (OSError, ValueError, RecursionError):
            table = None
        table = table if isinstance(table, dict) else {}
        caption = next((table.pop(c) for c in _CAPTION_COLUMNS if isinstance(table.get(c), str)), "")
        words = {str(k): _word(v, None) for k, v in table.items() if isinstance(v, (str, int, float, bool))}
    if "txt" in notes:
        caption = _text(read_range(path, *notes["txt"][1:]))
    if "cls" in notes:
        words["label"] = _text(read_range(path, *notes["cls"][1:]))
    return caption, words


def _text(content: bytes) -> str:
    return content.split(b"\0", 1)[0].decode("utf-8", "backslashreplace").strip()


def _short(error: Exception) -> str:
    return f"{str(error).strip() or type(error).__name__}"[:200]
