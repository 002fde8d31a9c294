"""Ask networks that have learnt nothing: does somebody who answers quizzes by what is shown get more than chance?

    python tools/quiz_null.py                     200 students on 10 random networks, every kind of question
    python tools/quiz_null.py --students 20 --networks 2 --trained

A student answers twelve questions by a rule: they see what a trained network, the demo's, sees in the pictures, and
know nothing of the network that is asked about. Of texts they take the one that fits the pictures better than it fits
others, of galleries the one whose pictures are most alike, of maps the one that is most like their own. On a random
network that is no help, and the share of right answers has to be chance. --trained asks about the demo's own network
instead, where it should help. The students of a network share its forward passes and what was measured on its images;
the interval is over networks, since students of one network are asked about the same heads and neurons.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch.nn.functional import interpolate

import clipviz
from clipviz.lessons import KINDS, Question, Quiz, drawn
from clipviz.models.clip import ClipModel
from clipviz.models.untrained import untrained_module

N_IMAGES, N_QUESTIONS, N_FEATURES = 120, 12, 80


class Student:
    """Somebody who sees pictures as the session's network does; `answer` gives the option that they would choose."""

    def __init__(self, sees: Any) -> None:
        sees.wait(None, background=True)
        self.sees = sees
        texts = list(sees.texts)[:: max(1, len(sees.texts) // N_FEATURES)]
        seen = np.stack([self._fit(text) for text in texts], 1)
        self.alike = np.corrcoef(seen)

    def _fit(self, text: str) -> np.ndarray:
        """How much better a text fits each image than it fits the others."""
        cosines = np.asarray(self.sees.images.cosines(text))
        return (cosines - cosines.mean()) / cosines.std()

    def answer(self, question: Question) -> int:
        first = question.options[0]
        if first.heatmap is not None:
            return int(np.argmax([self._like(question, option.heatmap) for option in question.options]))
        if first.pictures:
            return int(np.argmax([self._together(option.pictures) for option in question.options]))
        return int(
            np.argmax(
                [self._fit(option.words)[list(question.pictures)].mean() for option in question.options]
            )
        )

    def _together(self, pictures: Sequence[int]) -> float:
        among = self.alike[np.ix_(pictures, pictures)]
        return float(among[~np.eye(len(pictures), dtype=bool)].mean())

    def _like(self, question: Question, heatmap: Any) -> float:
        asked, told = question.words.split("“")[1].split("”")[0], question.words.split("“")[2].split("”")[0]
        own = self.sees.maps.tokens(asked, question.pictures[0], told, clipviz.Ablation()).map("late")
        fitted = interpolate(torch.as_tensor(own)[None, None].float(), heatmap.shape, mode="area")
        return float(np.corrcoef(fitted.numpy().ravel(), heatmap.ravel())[0, 1])


def network(seed: int | None) -> ClipModel:
    """Return the demo's network, or its architecture with random weights, text tower included."""
    demo = clipviz.load("demo", device="cpu")
    if seed is None:
        return demo
    return ClipModel(
        untrained_module(demo.network, seed), demo.tokenizer, demo.preprocess, name=f"random {seed}"
    )


def opened(model: ClipModel, n_images: int = N_IMAGES) -> Any:
    return clipviz.Session(
        model, clipviz.demo.images().subset(range(n_images)), clipviz.demo.texts(), background=False
    )


def shares(
    kind: str, student: Student, sessions: Iterator[Any], n_students: int, n_questions: int = N_QUESTIONS
) -> list[list[bool]]:
    """For every network, the answers of its students, right or wrong."""
    found = []
    for session in sessions:
        right = []
        for seed in range(n_students):
            try:
                quiz = Quiz(session, kind, n_questions, seed)
            except ValueError:  # too few heads with a text of their own
                continue
            right += [question.is_right(student.answer(question)) for question in quiz.questions]
        found.append(right)
    return found


def interval(found: Sequence[Sequence[bool]]) -> tuple[float, float, float]:
    """Return the share of right answers with its 95% interval over networks (Student's t)."""
    each = np.array([np.mean(one) for one in found if one])
    if len(each) < 2:
        return float(each.mean()), math.nan, math.nan
    half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / math.sqrt(len(each))
    return float(each.mean()), float(each.mean() - half), float(each.mean() + half)


def sharing() -> None:
    """One division of the images for all students of a network, so that what is measured on it is measured once."""
    halves = drawn.halves
    drawn.halves = lambda n_images, seed: halves(n_images, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--students", type=int, default=200)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--trained", action="store_true")
    options = parser.parse_args()
    sharing()
    student = Student(opened(network(None)))
    seeds = [None] if options.trained else list(range(options.networks))
    found: dict[str, list[list[bool]]] = {kind: [] for kind in options.kinds}
    for seed in seeds:
        session = opened(network(seed))
        for kind in options.kinds:
            found[kind] += shares(kind, student, iter([session]), options.students // len(seeds))
            mean, low, high = interval(found[kind])
            n = sum(map(len, found[kind]))
            print(
                f"{kind}: {mean:.3f} ({low:.3f} to {high:.3f}), {n} answers, network {seed} "
                f"{np.mean(found[kind][-1]):.3f}",
                flush=True,
            )
        session.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
