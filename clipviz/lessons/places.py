"""Questions that are answered by a box drawn on a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from clipviz.lessons.questions import Answer, Asked
from clipviz.panels.core import pictures
from clipviz.panels.quiz.sent import Kind, QuizArrays, QuizAsked, QuizTold
from clipviz.session import Board

if TYPE_CHECKING:
    from clipviz.figures import lessons
    from clipviz.session import Session

GRID = 100
"""Boxes are drawn in whole percents of the picture's sides."""

Box = Sequence[float]
"""(left, top, width, height)."""


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, in any common unit."""
    across, down = (
        max(0.0, min(one[side] + one[side + 2], other[side] + other[side + 2]) - max(one[side], other[side]))
        for side in (0, 1)
    )
    shared = across * down
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def chance_of_overlap(box: Box, at_least: float) -> float:
    """Return the share of boxes of a box's size, put at random into the picture, that overlap it enough.

    All places in whole percents at which the box lies within the picture are equally probable, and its sides are
    rounded to whole percents, at least one.

    Args:
        box: (left, top, width, height) in percent of the picture's sides.
        at_least: the least intersection over union that is enough.
    """
    width, height = (max(1, round(side)) for side in box[2:])
    across, down = (
        np.clip(np.minimum(places + size, start + own) - np.maximum(places, start), 0, None)
        for places, size, start, own in (
            (np.arange(GRID - width + 1), width, box[0], box[2]),
            (np.arange(GRID - height + 1), height, box[1], box[3]),
        )
    )
    shared = across[:, None] * down
    return float((shared / (width * height + box[2] * box[3] - shared) >= at_least).mean())


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return the smallest box around what is true in a mask, as (left, top, width, height) in shares of the sides.

    Args:
        mask: [rows, cols], true where the object is.

    Raises:
        ValueError: for a mask without anything in it.
    """
    rows, cols = (np.flatnonzero(np.asarray(mask, bool).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("expected a mask that is true somewhere, got one that is false everywhere")
    n_rows, n_cols = mask.shape
    return (
        float(cols[0] / n_cols),
        float(rows[0] / n_rows),
        float((cols[-1] + 1 - cols[0]) / n_cols),
        float((rows[-1] + 1 - rows[0]) / n_rows),
    )


@dataclass(frozen=True, eq=False)
class Place(Asked):
    """A question that is answered by a box drawn on a picture.

    An answer is (left, top, width, height) in whole percents of the picture's sides. It is right if its intersection
    over union with the true box is at least `at_least`. The chance of a guess is measured: it is the share of boxes of
    the true size, put at random into the picture, that would be right (`chance_of_overlap`).

    on: the picture to draw on, an image's index or pixels uint8 [rows, cols, 3]. box: the true box, (left, top, width,
    height) in shares of the sides. result: the picture on which both boxes are shown after the answer, by default the
    same. name: what the picture shows, for those who cannot see it. The other fields are those of Question.
    """

    words: str
    on: int | np.ndarray
    box: tuple[float, float, float, float]
    because: str = ""
    result: int | np.ndarray | None = None
    at_least: float = 0.5
    name: str = ""
    pictures: tuple[int, ...] = ()
    unit: str = ""
    truth: str = ""

    kind: ClassVar[Kind] = "place"
    _named: ClassVar[str] = "a side of the box, in percent,"

    def __post_init__(self) -> None:
        for one in (self.on, self.result):
            if isinstance(one, np.ndarray) and (one.dtype != np.uint8 or one.ndim != 3 or one.shape[2] != 3):
                raise ValueError(
                    f"expected pixels as uint8 [rows, cols, 3], got {one.dtype} {list(one.shape)}; convert the picture "
                    "to RGB"
                )
        left, top, width, height = self.box
        inside = min(left, top) >= 0 and max(left + width, top + height) <= 1 + 1e-9
        if not (inside and width > 0 and height > 0):
            raise ValueError(
                f"expected a box within the picture, got {self.box}; give left, top, width and height in shares of "
                "its sides"
            )
        if not 0 < self.chance < 1:
            raise ValueError(
                f"expected right and wrong places for the box, got a chance of {self.chance:g} for "
                f"at_least={self.at_least:g} and {self.box}; choose another overlap between 0 and 1"
            )

    @property
    def parts(self) -> tuple[int, ...]:
        return (GRID + 1,) * 4

    @property
    def best(self) -> Answer:
        left, top, width, height = (round(side) for side in self._true)
        width, height = max(1, width), max(1, height)
        return min(left, GRID - width), min(top, GRID - height), width, height

    @property
    def chance(self) -> float:
        return chance_of_overlap(self._true, self.at_least)

    @property
    def rule(self) -> str:
        return (
            "A box counts as right if its overlap with the true box (intersection over union) is at least "
            f"{self.at_least:.0%}."
        )

    @property
    def guess(self) -> str:
        return f"A box of the true size at a random place is right with a probability of {self.chance:.1%}."

    @property
    def code_part(self) -> object:
        on = self.on if isinstance(self.on, int) else hashlib.sha256(self.on.tobytes()).hexdigest()
        return self.words, self.pictures, on, self.rule

    @property
    def key(self) -> str:
        left, top, width, height = self.best
        where = f"{left}% from the left and {top}% from the top, {width}% wide and {height}% high"
        return f"The true box: {where}. {self.because}".strip()

    @property
    def _true(self) -> tuple[float, ...]:
        return tuple(GRID * side for side in self.box)

    def read(self, given: int | Sequence[int]) -> Answer:
        answer = super().read(given)
        left, top, width, height = answer
        if not (width and height and left + width <= GRID and top + height <= GRID):
            raise ValueError(
                f"expected a box within the picture, got {answer}; give left, top, width and height in percent of its "
                "sides"
            )
        return answer

    def is_right(self, answer: int | Sequence[int]) -> bool:
        return not isinstance(answer, int) and len(answer) == 4 and self._overlap(answer) >= self.at_least

    def _overlap(self, answer: Sequence[int]) -> float:
        return overlap(answer, self._true)

    def verdict(self, answer: Answer) -> str:
        said = "Right" if self.is_right(answer) else "Not there"
        return f"{said}: the two boxes overlap by {self._overlap(answer):.0%}."

    def before(self, session: Session) -> tuple[QuizAsked, QuizArrays]:
        name = self.name
        if not name and isinstance(self.on, int):
            name = pictures.title(Board.of(session).images, self.on)
        return {"name": name or "the picture"}, {"picture": _file(session, self.on)}

    def after(self, answer: Answer, session: Session) -> tuple[QuizTold, QuizArrays]:
        drawn: QuizArrays = {} if self.result is None else {"result": _file(session, self.result)}
        return {"box": list(self._true)}, drawn

    def on_paper(self, picture: Callable[[int], np.ndarray]) -> lessons.Asked:
        from clipviz.figures import lessons

        plate = picture(self.on) if isinstance(self.on, int) else self.on
        return lessons.Asked(self.words, [*map(picture, self.pictures)], plate=plate)

    def tally(self, answers: Sequence[Answer]) -> list[int]:
        """Count the answers of a class: how many boxes are wrong, and how many are right."""
        right = [self.is_right(answer) for answer in answers if answer]
        return [right.count(False), right.count(True)]


def _file(session: Session, picture: int | np.ndarray) -> bytes:
    if isinstance(picture, int):
        return pictures.picture(session.images, picture)
    return pictures.file_of(picture)
