"""Answers as tables: data frames, named axes, and their display in notebooks.

All answers use one mechanism. A class derived from `Table` defines its columns in `_columns`; by default its
fields are the columns of a single row. `Listing`, `Lookup` and `NamedArray` are a list, a dict and an array that
are also tables.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np

Kind = Literal["pandas", "polars", "arrow", "dict"]
Columns = Mapping[str, Sequence[Any] | np.ndarray]
Item = TypeVar("Item")
Key = TypeVar("Key")

KINDS: dict[str, tuple[str, Callable[[Any, dict[str, Any]], Any]]] = {
    "pandas": ("pandas", lambda library, columns: library.DataFrame(columns)),
    "polars": ("polars", lambda library, columns: library.DataFrame(columns)),
    "arrow": ("pyarrow", lambda library, columns: library.table(columns)),
}
SHOWN_ROWS, PRINTED_ROWS = 20, 8
SIDE = 56
"""Pixels along the longer side of a thumbnail."""
TABLE = "border-collapse:collapse;color:inherit;background:none;font-size:inherit"
CELL = "padding:2px 9px;border-bottom:1px solid rgba(128,128,128,.35);text-align:{};vertical-align:middle"


class Table:
    """An answer that is also a table, for code and for display."""

    def to_frame(self, kind: Kind = "pandas") -> Any:
        """Return the answer as a data frame, with one row per item.

        Args:
            kind: "pandas", "polars" or "arrow" for a frame of that library, "dict" for a dict from the names of the
                columns to NumPy arrays, which needs none of them.

        Returns:
            The frame. Every kind has the same columns.

        Raises:
            ValueError: for any other kind.
            ImportError: if the library is not installed.
        """
        if kind != "dict" and kind not in KINDS:
            raise ValueError(f"expected kind to be one of {', '.join(KINDS)} or dict, got {kind!r}")
        columns = {name: np.asarray(column) for name, column in self._columns().items()}
        if kind == "dict":
            return columns
        package, make = KINDS[kind]
        library = _library(package, f"to_frame({kind!r})")
        return make(
            library,
            {name: one if one.dtype.kind in "biuf" else one.tolist() for name, one in columns.items()},
        )

    def _columns(self) -> Columns:
        """Return the columns by name, all of one length."""
        return {name: [plain(value)] for name, value in self._row().items()}

    def _row(self) -> dict[str, Any]:
        """Return a summary of the answer for one row of a longer table."""
        shown = [one for one in dataclasses.fields(cast(Any, self)) if one.repr and one.name[:1] != "_"]
        return {one.name: getattr(self, one.name) for one in shown}

    def _order(self, columns: Columns) -> Sequence[int]:
        """Return the order of rows for display; a data frame keeps the original order."""
        return range(_length(columns))

    def _title(self) -> str:
        """Return the line above the table."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(self).__name__).capitalize()

    def _pictures(self) -> Sequence[Any]:
        """Return a picture for each row, as a PIL image or a map [rows, cols], or nothing if rows have no pictures."""
        return ()

    def __repr__(self) -> str:
        columns = self._columns()
        names, n_rows = list(columns), _length(columns)
        shown = self._order(columns)[:PRINTED_ROWS]
        rows = [[_short(columns[name][i], 40) for name in names] for i in shown]
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        pairs = [zip(row, widths, strict=True) for row in (names, *rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in pair).rstrip() for pair in pairs]
        return "\n".join([f"{self._title()} ({_counted(n_rows)})", *lines, *_more(n_rows, PRINTED_ROWS)])

    def _repr_html_(self) -> str:
        columns = self._columns()
        n_rows, pictures = _length(columns), self._pictures()
        shown = self._order(columns)[:SHOWN_ROWS]
        numbers = {name for name, column in columns.items() if all(_is_number(column[i]) for i in shown)}
        align = {name: "right" if name in numbers else "left" for name in columns}
        head = "".join(f'<th style="{CELL.format(align[name])}">{html.escape(name)}</th>' for name in columns)
        body = []
        for i in shown:
            cells = "".join(
                f'<td style="{CELL.format(align[name])}">{html.escape(_short(column[i], 160))}</td>'
                for name, column in columns.items()
            )
            picture = f'<td style="{CELL.format("left")}">{_drawn(pictures[i])}</td>' if len(pictures) else ""
            body.append(f"<tr>{picture}{cells}</tr>")
        corner = f'<th style="{CELL.format("left")}"></th>' if len(pictures) else ""
        more = "".join(f"<div>{html.escape(line)}</div>" for line in _more(n_rows, SHOWN_ROWS))
        return (
            f'<div class="clipviz-table" style="color:inherit"><div><b>{html.escape(self._title())}</b></div>'
            f'<table style="{TABLE}"><thead><tr>{corner}{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
            f"{more}</div>"
        )


class Listing(Table, list[Item]):
    """A list of answers of one kind, which is also a table with one row per item.

    Args:
        items: named tuples, dataclasses, tuples or plain values.
        title: the line above the table.
        names: names of an item's parts, if the item has none.
        pictures: the picture of an item, if it has one.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        title: str = "",
        names: Sequence[str] = (),
        pictures: Callable[[Item], Any] | None = None,
    ) -> None:
        super().__init__(items)
        self._names, self._said, self._picture = tuple(names), title, pictures

    __repr__ = Table.__repr__

    def _title(self) -> str:
        return self._said

    def _columns(self) -> Columns:
        return _stacked([fields_of(item, self._names) for item in self], self._names)

    def _pictures(self) -> Sequence[Any]:
        return [] if self._picture is None else [self._picture(item) for item in self[:SHOWN_ROWS]]


class Lookup(Table, dict[Key, Item]):
    """A dict of answers of one kind, which is also a table with one row per key.

    Args:
        items: the answers by key.
        title: the line above the table.
        keys: names of a key's parts.
        names: names of an answer's parts, if the answer has none.
    """

    def __init__(
        self,
        items: Mapping[Key, Item],
        title: str = "",
        keys: Sequence[str] = ("name",),
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(items)
        self._keys, self._names, self._said = tuple(keys), tuple(names), title

    __repr__ = Table.__repr__

    def _title(self) -> str:
        return self._said

    def _columns(self) -> Columns:
        rows = [fields_of(key, self._keys) | fields_of(item, self._names) for key, item in self.items()]
        return _stacked(rows, (*self._keys, *self._names))


class NamedArray(Table, np.ndarray):
    """A NumPy array whose axes have names, which is also a table with one row per number.

    Arrays computed from it, including its parts, are plain arrays.
    """

    axes: tuple[str, ...] = ()
    about: str = ""

    def __repr__(self) -> str:
        return self._title() if self._is_picture else super().__repr__()

    __str__ = np.ndarray.__str__

    @property
    def _is_picture(self) -> bool:
        return self.axes[:2] == ("rows", "cols")

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        array = np.asarray(array)
        return array[()] if array.ndim == 0 else array

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __reduce__(self) -> Any:
        return named, (np.asarray(self), self.axes, self.about)

    def _title(self) -> str:
        words = [axis if axis.endswith("s") else f"{axis}s" for axis in self.axes]
        sizes = " x ".join(f"{n:,} {word}" for n, word in zip(self.shape, words, strict=True))
        return f"{self.about}: {sizes}" if self.about else sizes

    def _columns(self) -> Columns:
        places = np.indices(self.shape).reshape(self.ndim, -1)
        return dict(zip(self.axes, places, strict=True)) | {"value": np.asarray(self).ravel()}

    def _row(self) -> dict[str, Any]:
        return {"value": f"[{' x '.join(map(str, self.shape))}]"}

    def _order(self, columns: Columns) -> Sequence[int]:
        order: list[int] = np.argsort(-np.abs(np.asarray(self, np.float64)).ravel(), kind="stable").tolist()
        return order

    def _repr_html_(self) -> str:
        if self._is_picture:
            return f"<div><div><b>{html.escape(self._title())}</b></div>{_drawn(np.asarray(self), 4 * SIDE)}</div>"
        return super()._repr_html_()

    def to_xarray(self) -> Any:
        """Return the array as an xarray.DataArray with the names of its axes.

        Raises:
            ImportError: if xarray is not installed.
        """
        return _library("xarray", "to_xarray()").DataArray(
            np.asarray(self), dims=self.axes, name=self.about or None
        )


class Maps(Lookup[str, NamedArray]):
    """Arrays [rows, cols] by name, which are also a table with one row per number."""

    def _columns(self) -> Columns:
        columns = [dict(one._columns()) | {self._keys[0]: [name] * one.size} for name, one in self.items()]
        names = (self._keys[0], "rows", "cols", "value")
        return {name: [value for one in columns for value in one[name]] for name in names}

    def _repr_html_(self) -> str:
        return "".join(
            f'<div style="display:inline-block;margin-right:12px">{one._repr_html_()}</div>'
            for one in self.values()
        )

    def to_xarray(self) -> Any:
        """Return the arrays as an xarray.Dataset, by their names.

        Raises:
            ImportError: if xarray is not installed.
        """
        return _library("xarray", "to_xarray()").Dataset(
            {key: item.to_xarray() for key, item in self.items()}
        )


def named(array: np.ndarray, axes: Sequence[str], about: str = "") -> NamedArray:
    """Return an array with named axes that shares its memory with the given one."""
    found = np.asarray(array).view(NamedArray)
    found.axes, found.about = tuple(axes), about
    if len(found.axes) != found.ndim:
        raise ValueError(f"expected a name for each of {found.ndim} axes, got {', '.join(axes)}")
    return found


def fields_of(item: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return an item's content by name: its fields, or its parts in the order of `names`."""
    if isinstance(item, Table):
        return item._row()
    if hasattr(item, "_asdict"):
        return dict(item._asdict())
    parts = item if isinstance(item, tuple) and len(names) == len(item) else (item,)
    return dict(zip(names or ("value",), parts, strict=True))


def plain(value: Any) -> Any:
    """Return a value in a form that a table can hold: numbers and texts unchanged, others in words."""
    if value is None or isinstance(value, str | bool | int | float | np.number | np.bool_):
        return value
    if dataclasses.is_dataclass(value) and hasattr(value, "value"):  # an estimate
        return value.value
    if isinstance(value, Table):
        return ", ".join(f"{name}: {_short(plain(one), 60)}" for name, one in value._row().items())
    if hasattr(value, "_asdict"):
        places = [part for part in value if isinstance(part, int)]
        rest = [_short(part, 60) for part in value if isinstance(part, str | float)]
        return " ".join(([str(tuple(places))] if places else []) + rest[:2])
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_short(plain(one), 60)}" for key, one in value.items())
    if isinstance(value, tuple | list | frozenset):
        parts = sorted(value) if isinstance(value, frozenset) else value
        heads = all(isinstance(part, tuple) and not hasattr(part, "_asdict") for part in parts)
        return ", ".join(str(part) if heads else _short(plain(part), 60) for part in parts)
    shape = getattr(value, "shape", None)
    return f"[{' x '.join(map(str, shape))}]" if shape is not None else repr(value)


def _stacked(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Columns:
    """Return the columns of rows that all have the same names; without rows, only the names."""
    return {name: [plain(row[name]) for row in rows] for name in (rows[0] if rows else names)}


def _library(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{what} needs {package}, which is not installed; pip install {package}") from error


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values()))) if columns else 0


def _counted(n_rows: int) -> str:
    return "1 row" if n_rows == 1 else f"{n_rows:,} rows"


def _more(n_rows: int, shown: int) -> list[str]:
    return [f"and {_counted(n_rows - shown)} more"] if n_rows > shown else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def _short(value: Any, most: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _drawn(picture: Any, side: int = SIDE) -> str:
    """Return a small picture as HTML with its pixels in the address; a map is orange above 0 and blue below."""
    from PIL import Image

    if isinstance(picture, np.ndarray) and picture.ndim == 2:
        rows, cols = picture.shape
        size = max(1, side * cols // max(rows, cols)), max(1, side * rows // max(rows, cols))
        picture = Image.fromarray(_coloured(picture)).resize(size, Image.Resampling.NEAREST)
    elif isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    else:
        picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    content = io.BytesIO()
    picture.save(content, "PNG")
    address = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="" width="{picture.width}" height="{picture.height}" src="data:image/png;base64,{address}">'


def _coloured(scores: np.ndarray) -> np.ndarray:
    """Return a map as uint8 [rows, cols, 4]: 0 is transparent, so that it is readable on light and dark backgrounds."""
    scores = np.nan_to_num(scores.astype(np.float64))
    share = scores / max(float(np.abs(scores).max()), 1e-30)
    colours = np.where(share[..., None] >= 0, np.array([222, 108, 20]), np.array([42, 112, 200]))
    found: np.ndarray = np.concatenate([colours, 255 * np.abs(share)[..., None]], -1).round().astype(np.uint8)
    return found
