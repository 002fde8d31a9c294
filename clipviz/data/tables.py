"""Tables beside pictures that describe them: class, group and other words, one row per picture.

The metadata.csv of Waterbirds (Sagawa et al. 2020), that of Hugging Face's image folders, and any CSV or parquet file
with a column of file names are read when their folder is opened (thesis Table 2.3 needs groups of class and place).
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipviz.data.paths import printable

FILES = ("img_filename", "file_name", "filename", "image_path", "filepath", "path", "file", "image")
CLASSES = ("label", "class", "class_name", "y", "target", "category")
PLACES = ("place", "background", "environment", "context")

WATERBIRDS = frozenset({"img_filename", "y", "split", "place"})
CODED = {"y": ("landbird", "waterbird"), "place": ("land", "water"), "split": ("train", "val", "test")}
"""The meaning of the numeric columns of Waterbirds."""

_LISTED = 20  # rows without a picture that are listed individually


class NoTable(ValueError):
    """Raised with the reason why a file is not a table of pictures."""


@dataclass(frozen=True)
class Row:
    """One row: its number as in a spreadsheet, the picture's file as written, and the words of every column."""

    number: int
    file: str
    words: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table of pictures. name: for messages; columns: all except the file column; rows: in order."""

    path: Path
    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    waterbirds: bool

    def describe(
        self, pictures: Iterable[Path]
    ) -> tuple[dict[Path, dict[str, str | None]], list[tuple[str, str]]]:
        """Return picture -> its words, with "label" and "group"; and (row, reason) of rows whose picture does not
        exist.

        A row's file is searched relative to the table's folder; if this finds no file of any row, by its base
        name alone. Raises ValueError for an invalid row of an existing picture.
        """
        found, missing = self._matched([*pictures])
        if not found:
            return {}, missing
        at: dict[Path, int] = {}
        for row, picture in found:
            if picture in at:
                raise ValueError(
                    f"expected one row per picture in {self.name!r}, got rows {at[picture]} and {row.number} for "
                    f"{printable(row.file)!r}; remove one of them"
                )
            at[picture] = row.number
        return {picture: self.words(row) for row, picture in found}, missing

    def _matched(self, pictures: list[Path]) -> tuple[list[tuple[Row, Path]], list[tuple[str, str]]]:
        whole = {os.path.normpath(path): path for path in pictures}
        found = self._looked_up(whole, lambda file: os.path.normpath(self.path.parent / file))
        if not found:
            often = Counter(path.name for path in pictures)
            alone = {path.name: path for path in pictures if often[path.name] == 1}
            found = self._looked_up(alone, os.path.basename)
        matched = {row.number for row, _ in found}
        lost = [row for row in self.rows if row.number not in matched]
        missing = [
            (f"{self.name}, row {row.number}", f"the picture {printable(row.file)!r} does not exist")
            for row in lost[:_LISTED]
        ]
        if len(lost) > _LISTED:
            missing.append((self.name, f"{len(lost) - _LISTED:,} more rows name pictures that do not exist"))
        return found, missing

    def _looked_up(self, known: Mapping[str, Path], key: Callable[[str], str]) -> list[tuple[Row, Path]]:
        places = [(row, known.get(key(row.file.replace("\\", "/")))) for row in self.rows]
        return [(row, picture) for row, picture in places if picture is not None]

    def words(self, row: Row) -> dict[str, str | None]:
        """Return the words of one row, with "label" and "group"."""
        return self._coded(row) if self.waterbirds else self._plain(row)

    def _coded(self, row: Row) -> dict[str, str | None]:
        """Return a row of Waterbirds with its numbers replaced by names; words are kept."""
        said: dict[str, str | None] = {c: row.words[c] or None for c in self.columns if c not in CODED}
        for column, names in CODED.items():
            word = row.words[column]
            if word.lstrip("+-").isdecimal() and word not in map(str, range(len(names))):
                known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
                raise ValueError(
                    f"expected {column} to be {known} in row {row.number} of {self.name!r}, got {word!r}; correct it, "
                    "or write names instead of numbers"
                )
            said[column] = names[int(word)] if word.isdecimal() else word or None
        label, place = said.pop("y"), said["place"]
        return {"label": label, "group": f"{label} on {place}" if label and place else None, **said}

    def _plain(self, row: Row) -> dict[str, str | None]:
        """Return class and group from their columns' usual names; a place column makes groups of class and place."""
        said: dict[str, str | None] = {column: row.words[column] or None for column in self.columns}
        by_name = {column.lower(): column for column in self.columns}
        label = next((said.pop(by_name[name]) for name in CLASSES if name in by_name), None)
        if any(name in by_name for name in CLASSES):
            said["label"] = label
        place = next((said[by_name[name]] for name in PLACES if name in by_name), None)
        if "group" in by_name:
            said["group"] = said.pop(by_name["group"])
        elif any(name in by_name for name in PLACES):
            said["group"] = f"{label}, {place}" if label and place else None
        return said


def read_table(path: Path, name: str) -> Table:
    """Return a CSV or parquet file with a column of file names. Raises NoTable, with the reason, if it is not such a
    file, and ValueError for a row that does not fit its columns.
    """
    return _read_parquet(path, name) if path.suffix.lower() == ".parquet" else _read_csv(path, name)


def _read_csv(path: Path, name: str) -> Table:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(",;\t", key=first.count))
            columns = [printable(column.strip()) for column in next(reader, [])]
            file = _file_column(columns)
            rows = []
            for number, values in enumerate(reader, 2):
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(columns):
                    raise ValueError(
                        f"expected {len(columns)} values in row {number} of {name!r}, one per column, got "
                        f"{len(values)}; put quotes around values that hold a comma"
                    )
                words = {
                    c: printable(value.strip()) for c, value in zip(columns, values, strict=True) if c != file
                }
                rows.append(Row(number, values[columns.index(file)].strip(), words))
    except (OSError, csv.Error) as error:
        raise NoTable(f"it cannot be read as a table: {error}") from error
    return _table(path, name, columns, file, rows)


def _read_parquet(path: Path, name: str) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise NoTable(
            "parquet files need pyarrow, which is not installed; `pip install 'clipviz[index]'`"
        ) from error
    try:
        columns = list(parquet.ParquetFile(path).schema_arrow.names)
        file = _file_column(columns)
        listed = parquet.read_table(path).to_pylist()
    except NoTable:
        raise
    except Exception as error:  # damaged files make pyarrow raise almost any error
        raise NoTable(f"it cannot be read as a table: {str(error)[:200]}") from error
    rows = [
        Row(
            number,
            str(row[file] or ""),
            {c: "" if row[c] is None else str(row[c]) for c in columns if c != file},
        )
        for number, row in enumerate(listed, 1)
    ]
    return _table(path, name, columns, file, rows)


def _file_column(columns: Sequence[str]) -> str:
    lowered = {column.lower(): column for column in reversed(columns)}
    found = next((lowered[name] for name in FILES if name in lowered), None)
    if found is None:
        got = ", ".join(columns)[:200] or "none"
        raise NoTable(f"expected a column of file names ({', '.join(FILES[:4])}, …), got columns {got}")
    return found


def _table(path: Path, name: str, columns: Sequence[str], file: str, rows: Sequence[Row]) -> Table:
    twice = [column for column, n in Counter(columns).items() if n > 1]
    if twice:
        raise NoTable(f"expected every column once, got {', '.join(twice)} more than once")
    others = tuple(column for column in columns if column != file)
    waterbirds = set(columns) >= WATERBIRDS
    return Table(path, name, others, tuple(map(_whole, rows) if waterbirds else rows), waterbirds)


def _whole(row: Row) -> Row:
    """Return a row of Waterbirds with whole numbers, since a re-saved table may contain 1.0."""
    words = {
        column: re.sub(r"^([+-]?\d+)\.0*$", r"\1", word) if column in CODED else word
        for column, word in row.words.items()
    }
    return replace(row, words=words)
