"""The data from which the words of an image are drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Scored, UnitsShown


class TextColumn(TypedDict):
    """A list of texts; most: the score whose bar fills its track."""

    title: str
    unit: str
    rows: list[Scored]
    most: float


class WordsView(UnitsShown, total=False):
    columns: list[TextColumn]
    complete: bool


class WordsArrays(TypedDict):
    pass
