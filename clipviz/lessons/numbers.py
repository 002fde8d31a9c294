"""Questions that are answered by a number on a slider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from clipviz.lessons.questions import Answer, Asked
from clipviz.lessons.scoring import MOST_OPTIONS
from clipviz.panels.quiz.sent import Kind, QuizArrays, QuizAsked, QuizTold

if TYPE_CHECKING:
    from clipviz.figures import lessons
    from clipviz.session import Session

ROUNDING = 1e-6
"""The share of a step by which a position may miss the tolerance, since 0.1 + 0.2 is not 0.3."""


@dataclass(frozen=True)
class Number(Asked):
    """A question that is answered by a number on a slider from `low` to `high` in steps of `step`.

    An answer is a position of the slider, counted from 0. It is right if its number differs from `measured` by at most
    `tolerance`, and the chance of a guess is the share of positions that are right. form: how a number is written with
    its unit, as for str.format: "{:.0%}" or "{:.1f} s". The other fields are those of Question.
    """

    words: str
    low: float
    high: float
    step: float
    measured: float
    tolerance: float
    because: str = ""
    form: str = "{:g}"
    pictures: tuple[int, ...] = ()
    unit: str = ""
    truth: str = ""

    kind: ClassVar[Kind] = "number"
    _named: ClassVar[str] = "a position of the slider"

    def __post_init__(self) -> None:
        low, high, step = self.low, self.high, self.step
        n_steps = round((high - low) / step) + 1 if step > 0 else 0
        if not 2 <= n_steps <= MOST_OPTIONS:
            raise ValueError(
                f"expected a slider of 2 to {MOST_OPTIONS} steps from low to high, got {(low, high, step)}; the third "
                "number is the step"
            )
        if not low - step / 2 <= self.measured <= high + step / 2:
            raise ValueError(
                f"expected a slider that holds what was measured, got {low:g} to {high:g} for {self.measured:g}; "
                "widen it"
            )
        n_right = sum(map(self.is_right, range(n_steps)))
        if not 0 < n_right < n_steps:
            raise ValueError(
                f"expected right and wrong positions on the slider, got {n_right} right ones of {n_steps} with "
                f"tolerance={self.tolerance:g}; choose a tolerance from half a step to a part of the slider"
            )

    @property
    def parts(self) -> tuple[int, ...]:
        return (round((self.high - self.low) / self.step) + 1,)

    @property
    def best(self) -> Answer:
        return (min(self.parts[0] - 1, max(0, round((self.measured - self.low) / self.step))),)

    @property
    def chance(self) -> float:
        return sum(map(self.is_right, range(self.parts[0]))) / self.parts[0]

    @property
    def rule(self) -> str:
        return f"A prediction counts as right if it is at most {self.form.format(self.tolerance)} away on the slider."

    @property
    def code_part(self) -> object:
        return self.words, self.pictures, self.steps, self.rule

    @property
    def told(self) -> str:
        return f"Measured: {self.form.format(self.measured)}. {self.because}".strip()

    @property
    def steps(self) -> list[str]:
        """The numbers of the slider as they are written."""
        return [self.form.format(self.low + i * self.step) for i in range(self.parts[0])]

    def is_right(self, answer: int | Sequence[int]) -> bool:
        position = answer if isinstance(answer, int) else (*answer, -1)[0]
        missed = abs(self.low + position * self.step - self.measured)
        return position >= 0 and missed <= self.tolerance + ROUNDING * self.step

    def verdict(self, answer: Answer) -> str:
        return "Right." if self.is_right(answer) else f"The answer is {self.form.format(self.measured)}."

    def before(self, session: Session) -> tuple[QuizAsked, QuizArrays]:
        return {"steps": self.steps}, {}

    def after(self, answer: Answer, session: Session) -> tuple[QuizTold, QuizArrays]:
        ends = (self.measured - self.tolerance, self.measured, self.measured + self.tolerance)
        first, exact, last = (min(1.0, max(0.0, (x - self.low) / (self.high - self.low))) for x in ends)
        return {"measured": self.form.format(self.measured), "exact": exact, "band": [first, last]}, {}

    def on_paper(self, picture: Callable[[int], np.ndarray]) -> lessons.Asked:
        from clipviz.figures import lessons

        steps = self.steps
        return lessons.Asked(self.words, [*map(picture, self.pictures)], ends=(steps[0], steps[-1]))
