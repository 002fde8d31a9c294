"""A quiz on paper: pages with questions, pictures and boxes to tick."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np

from clipviz.figures import style

WIDTH, HEIGHT = 8.27, 11.69
"""A4, in inches."""

MARGIN, SIZE, GAP = 0.7, 0.98, 0.08
"""Inches of the margin, of a picture, and between two pictures."""

BODY, TITLE = 10.0, 15.0
"""Font sizes in points, for a sheet read at arm's length."""

MOST = 8
"""Pictures in one row."""

PLATE = 2.4
"""Inches of a picture to draw on."""

SMALL, LETTER = 0.75, 0.24
"""Inches of a picture to sort, and of the box for a letter below it."""

SORTED = SMALL + LETTER + 2 * GAP
"""Inches of a row of pictures to sort."""

LINE = 0.19
"""Line spacing in inches."""


@dataclass(frozen=True)
class Choice:
    """An option: words, pictures [rows, cols, 3], or a map [rows, cols] to lay over the question's picture."""

    words: str = ""
    pictures: Sequence[np.ndarray] = ()
    heatmap: np.ndarray | None = None


@dataclass(frozen=True)
class Asked:
    """A question, its pictures, and the options to tick, the ends of a scale on which to write a number, a picture to
    draw on, or the names of two piles into which the pictures are sorted.
    """

    words: str
    pictures: Sequence[np.ndarray]
    choices: Sequence[Choice] = field(default_factory=tuple)
    ends: tuple[str, str] | None = None
    plate: np.ndarray | None = None
    piles: tuple[str, str] | None = None


def sheet(questions: Sequence[Asked], title: str, answers: Sequence[str] = ()) -> list[style.Print]:
    """Return A4 pages with the questions, and a last page with the answers if they are given."""
    with mpl.rc_context({"text.parse_math": False}):
        return _sheet(questions, title, answers)


def _sheet(questions: Sequence[Asked], title: str, answers: Sequence[str]) -> list[style.Print]:
    pages: list[_Page] = []
    for number, asked in enumerate(questions, 1):
        if not pages or pages[-1].left < _height(asked):
            pages.append(_Page(title, len(pages) + 1, blank=not pages))
        pages[-1].ask(number, asked)
    if answers:
        pages.append(_Page(f"{title}: answers", len(pages) + 1))
        for number, answer in enumerate(answers, 1):
            pages[-1].write(f"{number}. {answer}", hang=0.3)
            pages[-1].down(0.08)
    return [page.figure for page in pages]


def _lines(words: str, width: float = WIDTH - 2 * MARGIN) -> list[str]:
    """Return words wrapped to a width in inches, at body size."""
    return textwrap.wrap(words, int(width * 13.2)) or [""]


def _height(asked: Asked) -> float:
    """Return the height of a question in inches."""
    height = len(_lines(asked.words)) * LINE + 0.27
    if asked.piles:
        height += len(_lines(_sorting(asked.piles))) * LINE + 0.1
        height += _n_rows(len(asked.pictures)) * SORTED
    elif asked.pictures and not any(c.heatmap is not None for c in asked.choices):
        height += _rows_height(len(asked.pictures))
    if asked.ends:
        height += LINE + 0.1
    if asked.plate is not None:
        height += LINE + 0.07 + PLATE + GAP
    return height + sum(map(_choice_height, _stacked(asked)))


def _stacked(asked: Asked) -> list[Choice]:
    """Return the options that are stacked vertically: all except maps, which stand in one row."""
    return (
        list(asked.choices[:1]) if any(c.heatmap is not None for c in asked.choices) else list(asked.choices)
    )


def _choice_height(choice: Choice) -> float:
    if choice.heatmap is not None:
        return 1.9
    return _rows_height(len(choice.pictures)) if choice.pictures else LINE + 0.04


def _rows_height(n_pictures: int) -> float:
    """Return the height of rows of pictures in inches."""
    return _n_rows(n_pictures) * (SIZE + GAP)


def _n_rows(n_pictures: int) -> int:
    return -(-n_pictures // MOST)


def _sorting(piles: tuple[str, str]) -> str:
    """Return what is asked on paper of pictures to sort."""
    return f"Write a letter into the box below each picture: A for “{piles[0]}”, B for “{piles[1]}”."


class _Page:
    """One page, filled from the top."""

    def __init__(self, title: str, number: int, blank: bool = False) -> None:
        self.figure = style.new(WIDTH, HEIGHT)
        self.y = HEIGHT - MARGIN
        self._text(title, MARGIN, self.y, TITLE, weight="bold")
        if blank:
            self._text("Name ________________________", WIDTH - MARGIN, self.y, BODY, ha="right")
        self._text(str(number), WIDTH / 2, 0.4, BODY, ha="center", color=style.FAINT)
        self.down(0.45)

    @property
    def left(self) -> float:
        """Inches left above the lower margin."""
        return self.y - MARGIN

    def down(self, inches: float) -> None:
        self.y -= inches

    def write(self, words: str, left: float = 0.0, hang: float = 0.0) -> None:
        """Write words at body size, wrapped to the page; `hang`: indentation of later lines in inches."""
        for place, line in enumerate(_lines(words, WIDTH - 2 * MARGIN - left - hang)):
            self._text(line, MARGIN + left + (hang if place else 0.0), self.y, BODY)
            self.down(LINE)

    def ask(self, number: int, asked: Asked) -> None:
        self.write(f"{number}. {asked.words}", hang=0.25)
        self.down(0.07)
        maps = [choice.heatmap for choice in asked.choices if choice.heatmap is not None]
        if maps:
            for place, heatmap in enumerate(maps):
                self._box(place, MARGIN + place * 2.4)
                self._tile(MARGIN + place * 2.4 + 0.45, 1.75).laid(asked.pictures[0], heatmap)
            self.down(1.9)
        else:
            if asked.piles:
                self.write(_sorting(asked.piles), left=0.25)
                self.down(0.1)
                self._to_sort(asked.pictures)
            elif asked.pictures:
                self._row(asked.pictures, MARGIN + 0.25)
            if asked.ends:
                self.down(0.06)
                low, high = asked.ends
                line = f"Your prediction, from {low} to {high}: ______________"
                self._text(line, MARGIN + 0.25, self.y, BODY)
                self.down(LINE + 0.04)
            if asked.plate is not None:
                self._text("Draw a box around the place.", MARGIN + 0.25, self.y, BODY)
                self.down(LINE + 0.07)
                self._tile(MARGIN + 0.25, PLATE).picture(asked.plate)
                self.down(PLATE + GAP)
            for place, choice in enumerate(asked.choices):
                self._box(place, MARGIN + 0.25)
                if choice.pictures:
                    self._row(choice.pictures, MARGIN + 0.75)
                else:
                    self._text(choice.words, MARGIN + 0.75, self.y, BODY)
                    self.down(LINE + 0.04)
        self.down(0.2)

    def _row(self, pictures: Sequence[np.ndarray], left: float) -> None:
        size = min(SIZE, (WIDTH - MARGIN - left) / min(MOST, max(1, len(pictures))) - GAP)
        for start in range(0, len(pictures), MOST):
            for place, pixels in enumerate(pictures[start : start + MOST]):
                self._tile(left + place * (size + GAP), size).picture(pixels)
            self.down(SIZE + GAP)

    def _to_sort(self, pictures: Sequence[np.ndarray]) -> None:
        """Draw pictures, each with its number and a box for a letter below it."""
        for start in range(0, len(pictures), MOST):
            for place, pixels in enumerate(pictures[start : start + MOST]):
                left = MARGIN + 0.25 + place * (SMALL + GAP)
                self._tile(left, SMALL).picture(pixels)
                middle, bottom = left + SMALL / 2, self.y + 0.12 - SMALL - GAP / 2 - LETTER
                self._text(str(start + place + 1), middle - 0.06, bottom + LETTER / 2, BODY, ha="right")
                box = (middle / WIDTH, bottom / HEIGHT, LETTER / WIDTH, LETTER / HEIGHT)
                style.Tile(self.figure, box).frame(style.INK, 0.8)
            self.down(SORTED)

    def _tile(self, left: float, size: float) -> style.Tile:
        """Return a square below the current line."""
        bottom = self.y + 0.12 - size
        return style.Tile(self.figure, (left / WIDTH, bottom / HEIGHT, size / WIDTH, size / HEIGHT))

    def _box(self, place: int, left: float) -> None:
        self._text(f"☐ {chr(65 + place)}", left, self.y, BODY)

    def _text(self, words: str, x: float, y: float, size: float, **how: Any) -> None:
        options: dict[str, Any] = {"color": style.INK, "va": "center", **how}
        self.figure.text(x / WIDTH, y / HEIGHT, words, fontsize=size, **options)
