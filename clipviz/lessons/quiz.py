"""A blind quiz drawn from a session: what does this head write about, which gallery is a unit's, whose map is this?

What is asked for is measured on one half of the images, and the pictures that are shown come from the other half. Wrong
options are as difficult as the right one: texts that TextSpan gives to other heads, what it finds in a random rotation
of the same head, the reverse of the map. A network that has learnt nothing is therefore meant to give chance; the tests
ask random networks 72 questions of a kind, answered by a rule from what is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipviz.lens.rotations import random_rotations
from clipviz.lens.textspan import textspan_from_covariance
from clipviz.lessons import scoring
from clipviz.lessons.scoring import Score, score
from clipviz.values import Ablation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session import Session

SHOWN = 6
"""Pictures of a gallery."""

N_TURNS = 4
"""Random rotations of a head, of which that one is shown whose pictures are the least those of the head's own text."""


@dataclass(frozen=True)
class Option:
    """One answer that can be chosen: words, pictures (indices of images), or a map [rows, cols] over a picture."""

    words: str = ""
    pictures: tuple[int, ...] = ()
    heatmap: np.ndarray | None = None


@dataclass(frozen=True)
class Question:
    """A question, the pictures that are shown with it, its options, the place of the right one, and what was measured.

    because: said once the answer has been given. unit: what the question is about, such as "head L4·H6".
    """

    words: str
    pictures: tuple[int, ...]
    options: tuple[Option, ...]
    right: int
    because: str
    unit: str


class Quiz:
    """`n` questions of one kind about a session's model and images.

    kind: "head" asks which of four texts describes what a head writes, shown by pictures on which it writes most;
    "gallery" asks which of two galleries belongs to a head and which to a random rotation of it; "map"
    asks which of two maps over a picture is that of a text. The same session, kind and seed give the same quiz.

    Args:
        session: the session whose model and images are asked about; its selection stays as it is.
        kind: "head", "gallery" or "map".
        n: how many questions.
        seed: which questions, of those that can be asked.

    Raises:
        ValueError: for an unknown kind, or where the session has too few images or heads to ask about.
    """

    def __init__(self, session: Session, kind: str = "head", n: int = 12, seed: int = 0) -> None:
        if kind not in KINDS:
            raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {kind!r}; choose one of them")
        if n < 1:
            raise ValueError(f"expected at least one question, got n={n}; 12 take about ten minutes")
        n_images = len(session.images)
        if n_images < 4 * SHOWN:
            raise ValueError(
                f"expected at least {4 * SHOWN} images, got {n_images}; open the session with more of them"
            )
        session.wait(None, background=True)  # the questions rest on all of the images
        self.session, self.kind, self.seed = session, kind, seed
        self.questions: tuple[Question, ...] = tuple(_some(KINDS[kind](session, seed), n))
        if len(self.questions) < n:
            raise ValueError(
                f"expected {n} questions, but this session has {len(self.questions)} of the kind {kind!r}; "
                "ask for fewer, or open the session with more images or texts"
            )
        self.given: list[int] = [scoring.SKIPPED] * n

    def __repr__(self) -> str:
        n_given = sum(answer != scoring.SKIPPED for answer in self.given)
        return (
            f"Quiz {self.code}: {len(self.questions)} questions of the kind {self.kind!r}, {n_given} answered"
        )

    @property
    def n_options(self) -> int:
        return len(self.questions[0].options)

    @property
    def code(self) -> str:
        """What this quiz is known by: the same questions have the same code."""
        told = [
            (q.words, q.pictures, [(o.words, o.pictures) for o in q.options], q.right) for q in self.questions
        ]
        return f"{self.kind}-{hashlib.sha256(repr(told).encode()).hexdigest()[:6]}"

    def answer(self, question: int, option: int) -> str:
        """Commit the answer to a question (both counted from 0), and return what is true.

        Raises ValueError for a question or an option that is not there, and for one that has been answered before.
        """
        if not 0 <= question < len(self.questions):
            raise ValueError(f"expected a question within 0..{len(self.questions) - 1}, got {question}")
        if not 0 <= option < self.n_options:
            raise ValueError(f"expected an option within 0..{self.n_options - 1}, got {option}")
        if self.given[question] != scoring.SKIPPED:
            raise ValueError(
                f"question {question} was answered with {self.given[question]}; an answer stays as it was given"
            )
        self.given[question] = option
        asked = self.questions[question]
        return f"{'Right' if option == asked.right else 'Wrong'}. {asked.because}"

    def score(self, *codes: str) -> Score:
        """Return the score of the answers given here, or of those that codes stand for (`answers_code`), taken
        together.
        """
        everyone = [scoring.decode(code, self.code) for code in codes] or [self._answered()]
        right = [
            answer == question.right
            for answers in everyone
            for answer, question in zip(answers, self.questions, strict=False)
        ]
        return score(right, self.n_options)

    def _answered(self) -> list[int]:
        """Return the answers up to the last that was given; what was skipped before it counts as wrong."""
        last = max((at for at, answer in enumerate(self.given) if answer != scoring.SKIPPED), default=-1)
        return self.given[: last + 1]

    @property
    def answers_code(self) -> str:
        """The answers given so far as a code to paste, for `score` of a class."""
        return scoring.encode(self.given, self.code)

    def sheet(self, answers: bool = False) -> Sequence[Figure]:
        """Return the quiz on paper, one figure per page; answers: with a last page that gives them."""
        from clipviz.figures import lessons

        pictures = {i: self.session.images.picture(i) for q in self.questions for i in _shown(q)}
        asked = [
            lessons.Asked(
                q.words,
                [pictures[i] for i in q.pictures],
                [lessons.Choice(o.words, [pictures[i] for i in o.pictures], o.heatmap) for o in q.options],
            )
            for q in self.questions
        ]
        key = [f"{chr(65 + q.right)}. {q.because}" for q in self.questions] if answers else []
        return lessons.sheet(asked, f"Quiz {self.code}", key)

    def save_sheet(self, path: str | Path, answers: bool = False) -> Path:
        """Write the paper version as one PDF; returns its path."""
        from matplotlib.backends.backend_pdf import PdfPages

        path = Path(path)
        with PdfPages(path) as pdf:
            for page in self.sheet(answers):
                pdf.savefig(page)
        return path


def _shown(question: Question) -> Iterator[int]:
    yield from question.pictures
    for option in question.options:
        yield from option.pictures


def _some(questions: Iterator[Question], n: int) -> Iterator[Question]:
    for _, question in zip(range(n), questions, strict=False):
        yield question


def halves(n_images: int, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the images in two halves at random: one to measure on, one to show."""
    order = np.random.default_rng([seed, 1]).permutation(n_images)
    return tuple(sorted(order[: n_images // 2].tolist())), tuple(sorted(order[n_images // 2 :].tolist()))


def _shuffled(
    rng: np.random.Generator, right: Option, wrong: Sequence[Option]
) -> tuple[tuple[Option, ...], int]:
    options = [right, *wrong]
    order = rng.permutation(len(options)).tolist()
    return tuple(options[i] for i in order), order.index(0)


@dataclass(frozen=True)
class _Written:
    """What a head's first text is on the measured half, and whether it is more than chance gives."""

    layer: int
    head: int
    text: str
    family: str | None
    gain: float
    by_chance: float

    @property
    def unit(self) -> str:
        return f"head L{self.layer}·H{self.head}"

    @property
    def measured(self) -> str:
        verdict = "more than" if self.gain > self.by_chance else "no more than"
        return (
            f"“{self.text}” explains {self.gain:.1%} of the variance of {self.unit}, {verdict} the "
            f"{self.by_chance:.1%} that the same texts explain of random rotations of it."
        )


def _written(session: Session, measured: Sequence[int], rng: np.random.Generator) -> list[_Written]:
    """Return every head that varies, in random order, those whose first text beats chance first."""
    found = []
    for layer, head in session.heads.kept:
        if session.heads.varies(layer, head, measured):
            told = session.heads.textspan(layer, head, 1, measured)
            by_chance = float(np.quantile(told.null_gains[:, 0], 0.95))
            found.append(
                _Written(layer, head, told.texts[0], told.families[0], float(told.gains[0]), by_chance)
            )
    order = [found[i] for i in rng.permutation(len(found)).tolist()]
    return sorted(order, key=lambda one: one.gain <= one.by_chance)


def _gallery(
    session: Session, direction: torch.Tensor, at: _Written, shown: Sequence[int]
) -> tuple[int, ...]:
    """Return the shown half's images on which the head writes most along a direction."""
    ranked = session.images.top(direction, at.layer, at.head, len(session.images))
    allowed = set(shown)
    return tuple([image for image, _ in ranked if image in allowed][:SHOWN])


def _heads(session: Session, seed: int) -> Iterator[Question]:
    """Yield which of four texts describes what this head writes?"""
    rng = np.random.default_rng([seed, 2])
    measured, shown = halves(len(session.images), seed)
    written = _written(session, measured, rng)
    for one in written:
        others = list({w.text: w for w in written if w.text != one.text}.values())
        if len(others) < 3:
            return
        wrong = [Option(others[i].text) for i in rng.permutation(len(others))[:3].tolist()]
        options, right = _shuffled(rng, Option(one.text), wrong)
        pictures = _gallery(session, session.texts.direction(one.text), one, shown)
        yield Question(
            "On these pictures one head writes most. Which text did TextSpan give it?",
            pictures,
            options,
            right,
            one.measured,
            one.unit,
        )


def _galleries(session: Session, seed: int) -> Iterator[Question]:
    """Which of two galleries is of a head's first text, which of the first text of a random rotation of the head?"""
    rng = np.random.default_rng([seed, 3])
    draw = torch.Generator().manual_seed(seed)
    measured, shown = halves(len(session.images), seed)
    kept = session.heads.kept
    covariances, spans = session.heads.spans(measured)
    pool = session.texts.pool().double().cpu()
    for one in _written(session, measured, rng):
        place = kept.index((one.layer, one.head))
        covariance, span = covariances[place].double().cpu(), spans[place].double().cpu()
        directions = [session.texts.direction(one.text).double().cpu()]
        for turn in random_rotations(N_TURNS, span.shape[1], draw).double():
            first = textspan_from_covariance((turn @ covariance @ turn.T)[None], span[None], pool, 1).order[
                0, 0
            ]
            directions.append(span @ (turn.T @ (span.T @ pool[first])))
        galleries = [
            _gallery(session, direction.to(session.texts.pool()), one, shown) for direction in directions
        ]
        other = min(galleries[1:], key=lambda pictures: len(set(pictures) & set(galleries[0])))
        options, right = _shuffled(rng, Option(pictures=galleries[0]), [Option(pictures=other)])
        yield Question(
            "One of these galleries shows where a head writes its first text most, the other where it writes the first "
            "text of a random rotation of it, which has nothing to do with the pictures. Which one is the head's own?",
            (),
            options,
            right,
            one.measured,
            one.unit,
        )


def _maps(session: Session, seed: int) -> Iterator[Question]:
    """Which of two maps over this picture is that of the text?"""
    rng = np.random.default_rng([seed, 4])
    pool = list(session.texts)
    for image in rng.permutation(len(session.images)).tolist():
        nearest = [text for text, _ in session.texts.nearest(image, 1)]
        other = [text for text, _ in session.texts.nearest(int(rng.integers(len(session.images))), 1)]
        if not nearest or nearest == other or pool.count(nearest[0]) != 1:
            continue
        first, second = nearest[0], other[0]
        asked, told = (first, second) if rng.random() < 0.5 else (second, first)
        right, wrong = (
            Option(heatmap=_late_map(session, text, image, against))
            for text, against in ((asked, told), (told, asked))
        )
        options, place = _shuffled(rng, right, [wrong])
        yield Question(
            f"Which of these maps of the late heads is that of “{asked}” minus “{told}”, and not the reverse?",
            (image,),
            options,
            place,
            "Orange places write towards the first text of the map and away from the second.",
            f"image {image}",
        )


def _late_map(session: Session, text: str, image: int, text_b: str) -> np.ndarray:
    """Effect of each token through the late heads on a text minus another, [rows, cols]."""
    tokens = session.maps.tokens(text, image, text_b, Ablation())
    return tokens.map("late")


KINDS: dict[str, Callable[[Any, int], Iterator[Question]]] = {
    "head": _heads,
    "gallery": _galleries,
    "map": _maps,
}
"""Kinds of questions, and who draws them."""
