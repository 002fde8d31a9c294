"""Ask networks that have learnt nothing: does somebody who answers quizzes by what is shown get more than chance?

    python tools/quiz_null.py                     200 students on 10 random networks, every kind of question
    python tools/quiz_null.py --students 20 --networks 2 --trained
    python tools/quiz_null.py --architecture ViT-B-32 --photographs FOLDER

A student answers twelve questions by a rule: they see what a trained network, the demo's, sees in the pictures, and
know nothing of the network that is asked about. Of texts they take the one that fits the pictures better than it fits
others, of galleries the one that the text of the question fits better, of maps the one that is most like their own.
On a random network that is no help, and the share of right answers has to be chance. Two other rules choose a gallery
by its looks alone: "alike" the one whose pictures are most alike, "brightness" the one whose pictures are most alike
in brightness, which is what the heads of a random network follow. --trained asks about the demo's own network instead,
where the first rule should help. The students of a network share its forward passes and what was measured on its
images; the interval is over networks, since students of one network are asked about the same heads and neurons.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import open_clip
import torch
from scipy import stats
from torch.nn.functional import interpolate

import clipviz
from clipviz.lessons import KINDS, Question, Quiz, drawn
from clipviz.models.clip import ClipModel
from clipviz.models.untrained import untrained_module

N_IMAGES, N_QUESTIONS, N_FEATURES = 120, 12, 80
RULES = {"gallery": ("text", "alike", "brightness")}
"""Kinds of questions that are answered by more than one rule."""


class Student:
    """Somebody who sees pictures as the session's network does; `answer` gives the option that they would choose."""

    rule = "text"

    def __init__(self, sees: Any) -> None:
        sees.wait(None, background=True)
        self.sees = sees
        texts = list(sees.texts)[:: max(1, len(sees.texts) // N_FEATURES)]
        seen = np.stack([self._fit(text) for text in texts], 1)
        self.alike = np.corrcoef(seen)
        self.brightness = np.array([np.mean(sees.images.picture(image)) for image in range(len(seen))])

    def _fit(self, text: str) -> np.ndarray:
        """How much better a text fits each image than it fits the others."""
        cosines = np.asarray(self.sees.images.cosines(text))
        return (cosines - cosines.mean()) / cosines.std()

    def answer(self, question: Question) -> int:
        first = question.options[0]
        if first.heatmap is not None:
            return int(np.argmax([self._like(question, option.heatmap) for option in question.options]))
        if first.pictures:
            return int(np.argmax([self._looks(question, option.pictures) for option in question.options]))
        return int(
            np.argmax(
                [self._fit(option.words)[list(question.pictures)].mean() for option in question.options]
            )
        )

    def _looks(self, question: Question, pictures: Sequence[int]) -> float:
        """How well a gallery answers a question, by the student's rule."""
        if self.rule == "alike":
            return self._together(pictures)
        if self.rule == "brightness":
            return -float(self.brightness[list(pictures)].std())
        return float(self._fit(question.words.split("“")[1].split("”")[0])[list(pictures)].mean())

    def _together(self, pictures: Sequence[int]) -> float:
        among = self.alike[np.ix_(pictures, pictures)]
        return float(among[~np.eye(len(pictures), dtype=bool)].mean())

    def _like(self, question: Question, heatmap: Any) -> float:
        asked, told = question.words.split("“")[1].split("”")[0], question.words.split("“")[2].split("”")[0]
        own = self.sees.maps.tokens(asked, question.pictures[0], told, clipviz.Ablation()).map("late")
        fitted = interpolate(torch.as_tensor(own)[None, None].float(), heatmap.shape, mode="area")
        return float(np.corrcoef(fitted.numpy().ravel(), heatmap.ravel())[0, 1])


def network(seed: int | None, architecture: str = "") -> ClipModel:
    """Return the demo's network, or its architecture or another one with random weights, text tower included."""
    demo = clipviz.load("demo", device="cpu")
    if seed is None:
        return demo
    if not architecture:
        return ClipModel(
            untrained_module(demo.network, seed), demo.tokenizer, demo.preprocess, name=f"random {seed}"
        )
    torch.manual_seed(seed)
    made, _, preprocess = open_clip.create_model_and_transforms(architecture)
    return ClipModel(made, open_clip.get_tokenizer(architecture), preprocess, name=f"{architecture} {seed}")


def opened(model: ClipModel, n_images: int = N_IMAGES, photographs: str = "", every: int = 1) -> Any:
    """Open a session on the demo's first images or on a folder of photographs, with every so manieth demo text."""
    images = photographs or clipviz.demo.images().subset(range(n_images))
    return clipviz.Session(model, images, clipviz.demo.texts()[::every], background=False)


def shares(
    kind: str,
    student: Student,
    sessions: Iterator[Any],
    n_students: int,
    n_questions: int = N_QUESTIONS,
    first: int = 0,
) -> list[list[bool]]:
    """For every network, the answers of its students, right or wrong.

    first: the seed of the first student's quiz. Networks need quizzes of their own: equal seeds toss equal coins for
    the same pairs of heads, and early heads are alike in every random network.
    """
    found = []
    for session in sessions:
        right = []
        for seed in range(first, first + n_students):
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
    drawn._written = lru_cache(1)(drawn._written)
    drawn._gallery = lru_cache(100)(drawn._gallery)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--students", type=int, default=200)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--architecture", default="", help="one of open_clip's, in place of the demo's")
    parser.add_argument("--photographs", default="", help="a folder of images, in place of the demo's")
    parser.add_argument("--every", type=int, default=1, help="use every n-th text of the demo")
    parser.add_argument("--trained", action="store_true")
    options = parser.parse_args()
    sharing()
    shown = {"photographs": options.photographs, "every": options.every}
    student = Student(opened(network(None), **shown))
    seeds = [None] if options.trained else list(range(options.networks))
    asked = [(kind, rule) for kind in options.kinds for rule in RULES.get(kind, ("text",))]
    found: dict[tuple[str, str], list[list[bool]]] = {one: [] for one in asked}
    for seed in seeds:
        session = opened(network(seed, options.architecture), **shown)
        for kind, student.rule in asked:
            answers = found[kind, student.rule]
            first = 1000 * (seed or 0)
            answers += shares(kind, student, iter([session]), options.students // len(seeds), first=first)
            mean, low, high = interval(answers)
            name = kind if student.rule == "text" else f"{kind}, by {student.rule}"
            print(
                f"{name}: {mean:.3f} ({low:.3f} to {high:.3f}), {sum(map(len, answers))} answers, network {seed} "
                f"{np.mean(answers[-1]):.3f}",
                flush=True,
            )
        session.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
