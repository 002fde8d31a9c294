"""Questions that are answered by choosing one of their options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Option:
    """One answer that can be chosen: words, pictures (indices of images), or a map [rows, cols] over a picture."""

    words: str = ""
    pictures: tuple[int, ...] = ()
    heatmap: np.ndarray | None = None


@dataclass(frozen=True)
class Question:
    """A question, the pictures that are shown with it, its options, the place of the right one, and what was measured.

    because: said once the answer has been given. unit: what the question is about, such as "head L4·H6". truth: what
    the world itself says, "" where that is not known. on_scale: the options are the steps of a slider, and those that
    are at most `slack` steps from the right one count as right too.
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

    def is_right(self, option: int) -> bool:
        """Return whether an option counts as right; one that was not chosen (-1) does not."""
        return option >= 0 and abs(option - self.right) <= self.slack

    @property
    def chance(self) -> float:
        """The share of the options that a guess may be: one, or on a scale those around it.

        It is the same for every answer, and so a little too high for one at an end of the scale: what is shown before
        the answer must not depend on it.
        """
        return (2 * self.slack + 1) / len(self.options)
