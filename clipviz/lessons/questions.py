"""Questions that are answered by choosing one of their options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Option:
    """One option of a question: words, pictures (indices of images), or a map [rows, cols] over a picture."""

    words: str = ""
    pictures: tuple[int, ...] = ()
    heatmap: np.ndarray | None = None


@dataclass(frozen=True)
class Question:
    """A question, the pictures shown with it, its options, the index of the right one, and what was measured.

    because: the explanation shown after the answer. unit: the unit in question, such as "head L4·H6". truth: the
    truth in the world, "" if unknown. on_scale: the options are the steps of a slider, and those at most `slack`
    steps from the right one also count as right; measured: the exact value on a scale, "" if it is a step.
    """

    words: str
    pictures: tuple[int, ...]
    options: tuple[Option, ...]
    right: int
    because: str
    unit: str = ""
    truth: str = ""
    on_scale: bool = False
    slack: int = 0
    measured: str = ""

    def is_right(self, option: int) -> bool:
        """Return whether an option counts as right; -1, for no choice, does not."""
        return option >= 0 and abs(option - self.right) <= self.slack

    @property
    def chance(self) -> float:
        """The share of options that count as right for a guess: one, or on a scale also its neighbours.

        It is the same for every answer, and slightly too high for an answer at an end of the scale, since nothing
        shown before the answer may depend on it.
        """
        return (2 * self.slack + 1) / len(self.options)
