"""Scores of a person or a class compared with chance, and answers as a code that can be pasted."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from clipviz.lens import intervals
from clipviz.lens.intervals import Estimate

SKIPPED = -1
"""Stands for an unanswered question, which counts as wrong."""

MOST_OPTIONS = 254
"""The largest number of options of a question, so that an answer fits in one byte of a code."""

_CHECK = 2  # bytes


@dataclass(frozen=True)
class Score:
    """The share of right answers with its 95% interval, the share expected from guessing, and the probability of
    guessing as well.

    p_value: the probability that guesses alone are right at least as often (exact, one-sided).
    """

    right: Estimate
    chance: float
    p_value: float

    @property
    def above_chance(self) -> bool:
        """Whether the 95% interval lies above the share expected from guessing."""
        return self.right.low > self.chance

    def __str__(self) -> str:
        right = self.right
        if not right.n:
            return "No question has been answered."
        judged = "which is less" if self.above_chance else "which may explain it"
        return (
            f"{round(right.value * right.n)} of {right.n} right: {right.value:.0%} "
            f"({right.low:.0%} to {right.high:.0%}). Guessing gives {self.chance:.0%}, {judged}."
        )


def score(right: Sequence[bool], chance: float | Sequence[float]) -> Score:
    """Score answers, given the probability `chance` of guessing right, one for each answer or for all.

    The answers of several people are pooled by joining their lists. Those of one class to the same question are not
    independent of each other, so that the interval of a class holds for these questions and not for others.
    Raises ValueError for a chance that is not between 0 and 1, or not one for each answer.
    """
    n, n_right = len(right), sum(map(bool, right))
    chances = [float(chance)] * n if isinstance(chance, int | float) else list(chance)
    outside = [one for one in ([chance] if isinstance(chance, int | float) else chances) if not 0 < one < 1]
    if outside or len(chances) != n:
        raise ValueError(
            f"expected a chance between 0 and 1 for each of {n} answers, got {outside or len(chances)}; a question "
            "needs a wrong answer"
        )
    guessed = [1.0]  # the probability of each number of right guesses
    for one in chances:
        guessed = [
            (guessed[k] if k < len(guessed) else 0.0) * (1 - one) + (guessed[k - 1] * one if k else 0.0)
            for k in range(len(guessed) + 1)
        ]
    by_chance = math.fsum(chances) / n if n else math.nan
    return Score(
        intervals.share(n_right, n), by_chance, min(1.0, math.fsum(guessed[n_right:])) if n else math.nan
    )


def encode(answers: Sequence[int], quiz: str) -> str:
    """Write answers as a short code that can be pasted into a chat; `quiz` is the quiz's own code (`Quiz.code`).

    SKIPPED stands for no answer. The code identifies the quiz and detects mistyped letters; it does not hide the
    answers. Raises ValueError for answers outside SKIPPED to 254.
    """
    if any(not SKIPPED <= answer <= MOST_OPTIONS for answer in answers):
        raise ValueError(
            f"expected answers within {SKIPPED}..{MOST_OPTIONS}, got {list(answers)}; count options from 0"
        )
    content = bytes(answer + 1 for answer in answers)
    text = base64.b32encode(_check(content, quiz) + content).decode().rstrip("=").lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def decode(code: str, quiz: str) -> list[int]:
    """Read the answers from a code. Raises ValueError for one that is empty, mistyped, or belongs to another quiz."""
    text = "".join(letter for letter in code.upper() if letter.isalnum())
    if not text:
        raise ValueError(
            f"expected a code of the quiz {quiz}, got none; answer the questions, and copy the code that "
            "the panel shows"
        )
    wrong = ValueError(
        f"expected a code of the quiz {quiz}, got {code!r}, which is mistyped or answers another quiz; copy it again"
    )
    try:
        content = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        raise wrong from None
    check, answers = content[:_CHECK], content[_CHECK:]
    if len(content) < _CHECK or check != _check(answers, quiz):
        raise wrong
    return [answer - 1 for answer in answers]


def _check(content: bytes, quiz: str) -> bytes:
    return hashlib.sha256(quiz.encode() + b"\0" + content).digest()[:_CHECK]
