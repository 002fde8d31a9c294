"""One question of every kind, and answers to them."""

from __future__ import annotations

import itertools

import numpy as np

from clipviz.lessons import Number, Option, Piles, Place, Question

PIXELS = np.random.default_rng(3).integers(0, 255, (2, 40, 60, 3), dtype=np.uint8)


def questions():
    """Name -> a question, the right answers of which are known."""
    return {
        "choice": Question("Which?", (1,), (Option("a"), Option("b"), Option("c")), 1, "It is b.", truth="b"),
        "number": Number("How much?", 0, 1, 0.1, 0.42, 0.1, "It is less than half.", "{:.0%}"),
        "place": Place("Where?", PIXELS[0], (0.2, 0.3, 0.4, 0.5), "It is there.", PIXELS[1]),
        "piles": Piles("Which is which?", (0, 1, 2, 3), (0, 1, 1, 0), ("pale", "dark"), "Two are dark."),
    }


KINDS = tuple(questions())


def answers(question):
    """An answer that is right and one that is wrong."""
    if len(question.parts) == 1 or question.is_right(question.best):
        some = itertools.product(*(range(0, n, max(1, n // 5)) for n in question.parts))
        for answer in some:
            try:
                read = question.read(answer)
            except ValueError:
                continue
            if not question.is_right(read):
                return question.best, read
    raise AssertionError(f"expected a right and a wrong answer to {question.words!r}")
