"""Questions that are answered by sorting pictures into two piles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from clipviz.lessons.questions import Answer, Asked
from clipviz.panels.quiz.sent import Kind, QuizArrays, QuizAsked, QuizTold

if TYPE_CHECKING:
    from clipviz.figures import lessons
    from clipviz.session import Session

LEAST, MOST = 2, 24
"""Numbers of pictures that can be sorted."""

RARE = 0.05
"""The chance of a guess that is low enough by default."""


def chance_of_sorting(sizes: tuple[int, int], at_least: int) -> float:
    """Return the highest probability of sorting enough pictures rightly without looking at them.

    A guess puts m pictures, drawn at random, into the second pile. The number of those that belong there is
    hypergeometric, and the highest probability over all m is returned. It includes the guesses that put every picture
    into the same pile.

    Args:
        sizes: how many pictures belong to each pile.
        at_least: the least number of pictures in their pile that is enough.
    """
    first, second = sizes
    n = first + second
    return max(
        sum(
            comb(second, both) * comb(first, put - both)
            for both in range(max(0, put - first), min(second, put) + 1)
            if first - put + 2 * both >= at_least
        )
        / comb(n, put)
        for put in range(n + 1)
    )


def enough(n_pictures: int) -> int:
    """Return how many pictures have to lie in their pile by default.

    This is the least number at which the chance of a guess (`chance_of_sorting`) is at most 5% however the pictures
    are divided, provided that each pile has at least a third of them; or all pictures if there is no such number.
    """
    divided = [(n_pictures - k, k) for k in range(1, n_pictures) if 3 * min(k, n_pictures - k) >= n_pictures]
    for at_least in range(1, n_pictures):
        if divided and max(chance_of_sorting(sizes, at_least) for sizes in divided) <= RARE:
            return at_least
    return n_pictures


@dataclass(frozen=True)
class Piles(Asked):
    """A question that is answered by sorting pictures into two piles.

    An answer has one number for each picture: 0 for the first pile, 1 for the second. It is right if at least
    `at_least` pictures lie in their pile. By default this number depends only on how many pictures there are: it is the
    least number at which the chance of a guess is at most 5% however the pictures are divided, provided that each pile
    has at least a third of them (`enough`). The chance is the highest probability of being right without looking at the
    pictures, by putting any number of them, drawn at random, into the second pile (`chance_of_sorting`).

    pictures: the images to sort, 2 to 24 indices. right: the pile of each picture, 0 or 1, as measured. piles: the
    names of the two piles. The other fields are those of Question.
    """

    words: str
    pictures: tuple[int, ...]
    right: tuple[int, ...]
    piles: tuple[str, str] = ("read rightly", "read wrongly")
    because: str = ""
    at_least: int | None = None
    unit: str = ""
    truth: str = ""

    kind: ClassVar[Kind] = "piles"
    _named: ClassVar[str] = "a pile"

    def __post_init__(self) -> None:
        n = len(self.pictures)
        if not LEAST <= n <= MOST or len(set(self.pictures)) < n:
            raise ValueError(
                f"expected {LEAST} to {MOST} different pictures, got {n}, of which {len(set(self.pictures))} differ; "
                "give each image once"
            )
        if isinstance(self.piles, str) or len(self.piles) != 2 or len({*self.piles, ""}) < 3:
            raise ValueError(
                f"expected two different names of piles, got {self.piles!r}; give them as (first, second)"
            )
        if len(self.right) != n or any(pile not in (0, 1) for pile in self.right):
            raise ValueError(
                f"expected the pile of each of {n} pictures as 0 or 1, got {len(self.right)} numbers: "
                f"{tuple(self.right)}; give one for each picture in their order"
            )
        if not all(self._sizes):
            raise ValueError(
                f"expected pictures of both piles, got {self._sizes[0]} and {self._sizes[1]} of them; choose other "
                "pictures"
            )
        if not 0 < self.chance < 1:
            raise ValueError(
                f"expected an answer that can be right and can be wrong, got a chance of {self.chance:g} for "
                f"at_least={self._enough} of {n} pictures in piles of {self._sizes[0]} and {self._sizes[1]}; choose "
                f"at_least from {max(self._sizes) + 1} to {n}"
            )

    @property
    def parts(self) -> tuple[int, ...]:
        return (2,) * len(self.pictures)

    @property
    def best(self) -> Answer:
        return tuple(map(int, self.right))

    @property
    def chance(self) -> float:
        return chance_of_sorting(self._sizes, self._enough)

    @property
    def rule(self) -> str:
        n = len(self.pictures)
        needed = f"all {n}" if self._enough == n else f"at least {self._enough} of the {n}"
        return f"An answer counts as right if {needed} pictures lie in their pile."

    @property
    def guess(self) -> str:
        return (
            "A guess that does not look at the pictures is right with a probability of at most "
            f"{self.chance:.1%}."
        )

    @property
    def code_part(self) -> object:
        return self.words, tuple(self.pictures), tuple(self.piles), self.rule

    @property
    def key(self) -> str:
        numbers = [[str(at) for at, own in enumerate(self.best, 1) if own == pile] for pile in (0, 1)]
        said = [
            f"Pile {letter}, {name}: {', '.join(those)}."
            for letter, name, those in zip("AB", self.piles, numbers, strict=True)
        ]
        return " ".join([*said, self.because]).strip()

    @property
    def _sizes(self) -> tuple[int, int]:
        second = sum(self.best)
        return len(self.right) - second, second

    @property
    def _enough(self) -> int:
        return enough(len(self.pictures)) if self.at_least is None else self.at_least

    def is_right(self, answer: int | Sequence[int]) -> bool:
        return (
            not isinstance(answer, int)
            and len(answer) == len(self.right)
            and self._n_right(answer) >= self._enough
        )

    def _n_right(self, answer: Sequence[int]) -> int:
        return sum(put == own for put, own in zip(answer, self.best, strict=True))

    def verdict(self, answer: Answer) -> str:
        found = self._n_right(answer)
        lie = f"{found} of {len(self.right)} pictures {'lies' if found == 1 else 'lie'} in their pile"
        if self.is_right(answer):
            return f"Right: {lie}."
        return f"Not enough: {lie}, and {self._enough} are needed."

    def before(self, session: Session) -> tuple[QuizAsked, QuizArrays]:
        return {"piles": list(self.piles)}, {}

    def after(self, answer: Answer, session: Session) -> tuple[QuizTold, QuizArrays]:
        return {}, {}

    def on_paper(self, picture: Callable[[int], np.ndarray]) -> lessons.Asked:
        from clipviz.figures import lessons

        first, second = self.piles
        return lessons.Asked(self.words, [*map(picture, self.pictures)], piles=(first, second))

    def tally(self, answers: Sequence[Answer]) -> list[int]:
        """Count the answers of a class: how many have 0, 1, 2, … pictures in their pile."""
        found = [self._n_right(answer) for answer in answers if answer]
        return [found.count(number) for number in range(len(self.right) + 1)]
