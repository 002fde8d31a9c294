"""Questions drawn from a session about heads, neurons and maps.

A question is based on measurements on one half of the images, and the pictures that are shown come from the other
half. Wrong options are as difficult as the right one: texts that TextSpan gives to other heads, the galleries of
such texts, the texts of other neurons, the reverse of the map. An untrained network should therefore give chance
level; `tools/quiz_null.py` measures random networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.lessons.questions import Option, Question
from clipviz.session import Board
from clipviz.values import Ablation

if TYPE_CHECKING:
    from clipviz.session import Session

SHOWN = 6
"""Pictures of a head's gallery."""

SHOWN_OF_NEURON = 12
"""Pictures of a neuron."""

N_CANDIDATES = 96
"""Number of a layer's strongest neurons from which those of questions are drawn."""

LEAST_IMAGES = 4 * SHOWN
"""Least number of images for a quiz."""


def halves(n_images: int, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the images in two random halves: one to measure on, one to show."""
    order = np.random.default_rng([seed, 1]).permutation(n_images)
    return tuple(sorted(order[: n_images // 2].tolist())), tuple(sorted(order[n_images // 2 :].tolist()))


def _true_of(session: Session, text: str, pictures: Sequence[int]) -> str:
    """State for how many of the pictures a text is true according to the world; return "" if that is unknown."""
    bundle = session.model.bundle
    if bundle is None or bundle.truths is None:
        return ""
    told = [bundle.truths([text], session.images.opened, image) for image in pictures]
    known = [answer[0] for answer in told if answer is not None and answer[0] is not None]
    if not known:
        return ""
    if len(pictures) == 1:
        return f"In this world, “{text}” is {'true' if known[0] else 'not true'} of the picture."
    n_unknown = len(pictures) - len(known)
    rest = f", and it is not known for {n_unknown} of them" if n_unknown else ""
    return f"In this world, “{text}” is true of {sum(known)} of the {len(pictures)} pictures{rest}."


def _shuffled(
    rng: np.random.Generator, right: Option, wrong: Sequence[Option]
) -> tuple[tuple[Option, ...], int]:
    options = [right, *wrong]
    order = rng.permutation(len(options)).tolist()
    return tuple(options[i] for i in order), order.index(0)


@dataclass(frozen=True)
class _Written:
    """A head's first text on the measured half, and whether it explains more than chance."""

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
            f"{self.by_chance:.1%} that the same texts explain for random rotations of it."
        )


def _written(session: Session, measured: Sequence[int]) -> list[_Written]:
    """Return every head that varies."""
    found = []
    for layer, head in session.heads.kept:
        if session.heads.varies(layer, head, measured):
            told = session.heads.textspan(layer, head, 1, measured)
            by_chance = float(np.quantile(told.null_gains[:, 0], 0.95))
            found.append(
                _Written(layer, head, told.texts[0], told.families[0], float(told.gains[0]), by_chance)
            )
    return found


def _in_turn(written: list[_Written], rng: np.random.Generator) -> list[_Written]:
    """Return heads in random order, with heads whose first text exceeds chance first."""
    order = [written[i] for i in rng.permutation(len(written)).tolist()]
    return sorted(order, key=lambda one: one.gain <= one.by_chance)


def _gallery(session: Session, at: _Written, shown: Sequence[int]) -> tuple[int, ...]:
    """Return the shown half's images on which the head writes its text most."""
    ranked = session.images.top(session.texts.direction(at.text), at.layer, at.head, len(session.images))
    allowed = set(shown)
    return tuple([image for image, _ in ranked if image in allowed][:SHOWN])


def _heads(session: Session, seed: int) -> Iterator[Question]:
    """Ask which of four texts describes what this head writes."""
    rng = np.random.default_rng([seed, 2])
    measured, shown = halves(len(session.images), seed)
    written = _in_turn(_written(session, measured), rng)
    for one in written:
        others = list({w.text: w for w in written if w.text != one.text}.values())
        if len(others) < 3:
            return
        wrong = [Option(others[i].text) for i in rng.permutation(len(others))[:3].tolist()]
        options, right = _shuffled(rng, Option(one.text), wrong)
        pictures = _gallery(session, one, shown)
        yield Question(
            "On these pictures one head writes most. Which text did TextSpan give it?",
            pictures,
            options,
            right,
            one.measured,
            one.unit,
            _true_of(session, one.text, pictures),
        )


def _galleries(session: Session, seed: int) -> Iterator[Question]:
    """Ask which of two galleries is that of a text, given by TextSpan to one of two heads, each of which has a gallery.

    Both galleries are made in the same way, and a coin decides which head's text is asked for. So nothing about the
    galleries themselves can say which is right, in particular not how alike their pictures are; only what the text
    means can. No head appears twice in a quiz.
    """
    rng = np.random.default_rng([seed, 3])
    measured, shown = halves(len(session.images), seed)
    left = _in_turn(_written(session, measured), rng)
    galleries = {one: _gallery(session, one, shown) for one in left}
    while left:
        one = left.pop(0)
        for other in left:
            if other.text != one.text and not set(galleries[one]) & set(galleries[other]):
                break
        else:
            continue
        left.remove(other)
        asked, told = (one, other) if rng.random() < 0.5 else (other, one)
        options, right = _shuffled(rng, Option(pictures=galleries[asked]), [Option(pictures=galleries[told])])
        yield Question(
            f"TextSpan gave the text “{asked.text}” to one head and another text to another head. Each gallery "
            f"shows the images on which one of these heads writes its own text most. Which is that of “{asked.text}”?",
            (),
            options,
            right,
            f"{asked.measured} The other gallery is that of {told.unit} and its text “{told.text}”.",
            asked.unit,
            _true_of(session, asked.text, galleries[asked]),
        )


def _maps(session: Session, seed: int) -> Iterator[Question]:
    """Ask which of two maps over a picture is that of a text."""
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
            f"Which of these maps of the late heads shows “{asked}” minus “{told}”, rather than the reverse?",
            (image,),
            options,
            place,
            "Orange places write towards the first text of the map and away from the second.",
            f"image {image}",
            _true_of(session, asked, [image]),
        )


def _late_map(session: Session, text: str, image: int, text_b: str) -> np.ndarray:
    """Return the effect of each token through the late heads on a text minus another, [rows, cols]."""
    tokens = session.maps.tokens(text, image, text_b, Ablation())
    return tokens.map("late")


def _neurons(session: Session, seed: int) -> Iterator[Question]:
    """Ask which of four texts describes the neuron that writes most on twelve pictures."""
    layer = session.neurons.readable()
    if not isinstance(layer, int):
        return
    rng = np.random.default_rng([seed, 5])
    measured, shown = halves(len(session.images), seed)
    known, other = _layers(session, layer, measured, shown)
    candidates = [neuron for neuron, _ in known.strongest(N_CANDIDATES)]
    codes = known.codes(candidates, 1)
    told = {
        neuron: (code.words[0], code) for neuron, code in zip(candidates, codes, strict=True) if code.words
    }
    order = [candidates[i] for i in rng.permutation(len(candidates)).tolist() if candidates[i] in told]
    for neuron in sorted(order, key=lambda one: not told[one][1].differs):
        word, code = told[neuron]
        others = _nearest_by_weight(told, neuron)
        pictures = _strongest(known, other, neuron, word.weight, shown)
        if len(others) < 3 or len(pictures) < SHOWN_OF_NEURON:
            continue
        options, right = _shuffled(rng, Option(word.text), [Option(text) for text in others[:3]])
        verdict = "more than" if code.differs else "no more than"
        yield Question(
            "On these pictures one neuron has its largest effect. Which text is nearest to what it writes?",
            pictures,
            options,
            right,
            f"“{word.text}” reconstructs {code.share:.1%} of the direction of neuron {neuron} in "
            f"layer {layer}, {verdict} the {code.most_by_chance:.1%} that the nearest text "
            "reconstructs at most of a random direction.",
            f"neuron {neuron} of layer {layer}",
            _true_of(session, word.text, pictures),
        )


def _layers(session: Session, layer: int, *divided: Sequence[int]) -> list[Any]:
    """Return a layer's neurons as measured on each half of the images separately."""

    def measured(images: Sequence[int]) -> Any:
        part = session.images.opened.subset(images)
        texts = session.texts.opened
        with closing(type(session)(session.model, part, texts, background=False)) as opened:
            return opened.neurons.layer(layer)

    remember = Board.of(session).remember
    return [
        remember(("neurons of a part", layer, images), partial(measured, images))
        for images in map(tuple, divided)
    ]


def _nearest_by_weight(told: dict[int, tuple[Any, Any]], neuron: int) -> list[str]:
    """Return the texts of other neurons; those that fit their neuron about as well as this one's text come first."""
    own = told[neuron][0]
    order = sorted(
        (abs(abs(word.weight) - abs(own.weight)), other)
        for other, (word, _) in told.items()
        if other != neuron
    )
    texts = dict.fromkeys(told[other][0].text for _, other in order)
    return [text for text in texts if text != own.text]


def _strongest(known: Any, other: Any, neuron: int, weight: float, shown: Sequence[int]) -> tuple[int, ...]:
    """Return the shown half's images of largest effect among those on which the neuron moves the embedding towards
    its text.

    Each half has its own direction for the neuron, whose sign is arbitrary; that of the shown half is flipped to
    agree.
    """
    agree = float(known.line.directions[neuron] @ other.line.directions[neuron])
    found = other.top(neuron)
    towards = found.along * weight * agree > 0
    return tuple(shown[place] for place, fits in zip(found.ids, towards, strict=True) if fits)[
        :SHOWN_OF_NEURON
    ]


KINDS: dict[str, Callable[[Any, int], Iterator[Question]]] = {
    "head": _heads,
    "gallery": _galleries,
    "map": _maps,
    "neuron": _neurons,
}
"""Maps kinds of questions to the functions that draw them."""
