"""Answers as tables: the same columns in every kind of frame, named axes, and HTML in which every text is escaped."""

from __future__ import annotations

import pickle
import re
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from clipviz.values import tables
from clipviz.values.tables import Listing, Lookup, Maps, Table, named

HOSTILE = "<script>alert('x')</script> & \"two\" <img src=x onerror=alert(1)>"


class Found(NamedTuple):
    """An answer of two parts."""

    text: str
    score: float


@dataclass(frozen=True, repr=False)
class Numbers(Table):
    """An answer of one row."""

    cosine: float
    rank: int | None
    known: bool
    texts: tuple[str, ...]


LISTED = [Found("a dog", 0.5), Found("a cat", -0.25), Found("a dog", 1.0)]


class Tags(HTMLParser):
    """The tags of a page and its attributes, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words.append(data)


def columns_of(frame):
    """A frame of any kind as lists by name."""
    if hasattr(frame, "to_pydict"):
        return frame.to_pydict()
    return {name: list(frame[name]) for name in frame}


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "dict"])
def test_every_kind_of_frame_has_the_same_columns(kind):
    if kind != "dict":
        pytest.importorskip(tables.KINDS[kind][0])
    frame = Listing(LISTED, "found").to_frame(kind)
    read = columns_of({name: frame[name] for name in frame.columns} if kind == "polars" else frame)
    assert read == {"text": ["a dog", "a cat", "a dog"], "score": [0.5, -0.25, 1.0]}


def test_a_frame_of_a_library_that_is_not_there_says_which(monkeypatch):
    for package, what in (("polars", "polars"), ("pyarrow", "arrow")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            ImportError, match=rf"to_frame\('{what}'\) needs {package}.*pip install {package}"
        ):
            Listing(LISTED).to_frame(what)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"to_xarray\(\) needs xarray.*pip install xarray"):
        named(np.zeros((2, 3)), ("layer", "head")).to_xarray()


def test_another_kind_of_frame_is_refused():
    with pytest.raises(ValueError, match="one of pandas, polars, arrow or dict, got 'csv'"):
        Listing(LISTED).to_frame("csv")


def test_a_listing_is_the_list_that_it_holds():
    made = Listing(LISTED, "found")
    assert made == LISTED
    assert isinstance(made, list)
    assert pickle.loads(pickle.dumps(made)) == LISTED
    assert repr(made).splitlines()[:3] == ["found (3 rows)", "text   score", "a dog  0.5"]


def test_tuples_and_plain_values_are_called_what_the_listing_says():
    assert columns_of(Listing([(3, 0.5)], names=("image", "cosine")).to_frame("dict")) == {
        "image": [3],
        "cosine": [0.5],
    }
    assert columns_of(Listing(["a", "b"], names=("name",)).to_frame("dict")) == {"name": ["a", "b"]}
    assert list(Listing([], names=("image", "cosine")).to_frame("dict")) == ["image", "cosine"]


def test_a_lookup_has_a_row_for_each_key():
    made = Lookup({(5, 3): Found("a dog", 0.5)}, "heads", ("layer", "head"))
    assert made == {(5, 3): Found("a dog", 0.5)}
    assert columns_of(made.to_frame("dict")) == {"layer": [5], "head": [3], "text": ["a dog"], "score": [0.5]}


def test_fields_are_one_row_and_nothing_is_lost_in_it():
    made = Numbers(0.25, None, True, ("a dog", "a cat"))
    assert columns_of(made.to_frame("dict")) == {
        "cosine": [0.25],
        "rank": [None],
        "known": [True],
        "texts": ["a dog, a cat"],
    }
    assert "cosine  rank  known  texts" in repr(made)


def test_an_array_with_named_axes_is_an_array_and_a_row_for_each_number():
    plain = np.arange(6.0).reshape(2, 3)
    made = named(plain, ("layer", "head"), "effect")
    frame = made.to_frame("dict")
    assert [*zip(*(frame[name].tolist() for name in ("layer", "head", "value")), strict=True)][4] == (
        1,
        1,
        4.0,
    )
    assert np.array_equal(made, plain)
    assert made.base is plain or np.shares_memory(made, plain)
    for computed in (made + 1, made[0], made.T @ made, np.exp(made)):
        assert type(computed) is np.ndarray or not computed.axes
    assert isinstance(made.sum(), float)
    assert pickle.loads(pickle.dumps(made)).axes == ("layer", "head")
    with pytest.raises(ValueError, match="a name for each of 2 axes, got layer"):
        named(plain, ("layer",))


def test_named_axes_are_those_of_xarray():
    pytest.importorskip("xarray")
    made = named(np.arange(6.0).reshape(2, 3), ("layer", "head"), "effect").to_xarray()
    assert made.dims == ("layer", "head")
    assert float(made.sel(layer=1, head=2)) == 5.0
    both = Maps({"LRP": named(np.ones((2, 2)), ("rows", "cols"), "LRP")}, keys=("method",)).to_xarray()
    assert both["LRP"].dims == ("rows", "cols")


def test_maps_are_a_row_for_each_number_and_pictures_in_a_notebook():
    made = Maps({"LRP": named(np.arange(4.0).reshape(2, 2), ("rows", "cols"), "LRP")}, keys=("method",))
    frame = columns_of(made.to_frame("dict"))
    assert frame == {
        "method": ["LRP"] * 4,
        "rows": [0, 0, 1, 1],
        "cols": [0, 1, 0, 1],
        "value": [0.0, 1.0, 2.0, 3.0],
    }
    assert Tags(made._repr_html_()).tags.count("img") == 1


@pytest.mark.parametrize(
    "made",
    [
        Listing([Found(HOSTILE, 0.5)], HOSTILE),
        Listing([(HOSTILE, 1)], HOSTILE, (HOSTILE, "n")),
        Lookup({HOSTILE: Found(HOSTILE, 0.5)}, HOSTILE, (HOSTILE,)),
        Numbers(0.5, 1, True, (HOSTILE,)),
        named(np.ones((2, 2)), ("rows", "cols"), HOSTILE),
        Maps({HOSTILE: named(np.ones((2, 2)), ("rows", "cols"), HOSTILE)}, HOSTILE),
    ],
)
def test_every_text_is_escaped_in_a_notebook(made):
    page = Tags(made._repr_html_())
    assert set(page.tags) <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "img"}
    assert page.names <= {"class", "style", "alt", "src", "width", "height"}
    assert any("<script>" in words for words in page.words)


def test_a_table_takes_the_colours_of_its_page():
    page = Listing(LISTED, "found")._repr_html_()
    colours = re.findall(r"(?:color|background|border[a-z-]*):([^;\"]*)", page)
    assert colours
    for colour in colours:
        assert colour in ("inherit", "none", "collapse") or "rgba(128,128,128" in colour, colour


def test_rows_have_their_pictures_and_the_rest_is_counted():
    pictures = [Image.new("RGB", (200, 100), (i, 0, 0)) for i in range(30)]
    made = Listing(
        [(i, 0.5) for i in range(30)], "images", ("image", "cosine"), lambda pair: pictures[pair[0]]
    )
    page = made._repr_html_()
    assert Tags(page).tags.count("img") == tables.SHOWN_ROWS
    assert "and 10 rows more" in page
    assert f'width="{tables.SIDE}" height="{tables.SIDE // 2}"' in page
    assert "and 22 rows more" in repr(made)


def test_a_map_is_transparent_at_zero_and_has_a_colour_for_each_sign():
    coloured = tables._coloured(np.array([[0.0, 2.0], [-1.0, float("nan")]]))
    assert coloured[..., 3].tolist() == [[0, 255], [128, 0]]
    assert coloured[0, 1, 0] > coloured[0, 1, 2]
    assert coloured[1, 0, 2] > coloured[1, 0, 0]
