"""Sentences of the demo world from given words, and pictures of them, by a writer and a drawer whose truth is known.

No sentence names the class to avoid, and every picture shows the requested class, so that a classifier that
predicts the other class is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.language import read
from clipviz.demo.world.scenes import scene

Describe = Callable[[Sequence[str], str], list[str]]
Draw = Callable[[str], Image.Image]

_MEDIUM = re.compile(r"^an? (?:photo|image|picture) of ")
_EMPTY = re.compile(r"^(?:something|nothing|an empty scene) ")


@dataclass
class Wordlist:
    """Words sorted by the positions that they can take in a sentence of the world."""

    treatments: list[str] = field(default_factory=list)
    colours: list[str] = field(default_factory=list)
    seconds: list[str] = field(default_factory=list)
    backgrounds: list[str] = field(default_factory=list)


def writer(avoid: str, rng: np.random.Generator, recolour: bool = True, n_sentences: int = 50) -> Describe:
    """Return describe(words, class_name), which writes sentences of the demo world that never name the class
    `avoid`.

    A sentence names the class, then as many of the words as the world's grammar holds: a treatment, a colour, a
    second thing, a background; each position is filled with a random one of its words. recolour=False omits
    treatments and colours, which remove evidence for the class rather than add a cue against it.
    """

    def describe(spurious: Sequence[str], class_name: str) -> list[str]:
        found = sort_words(spurious, {avoid, class_name})
        if not recolour:
            found.colours, found.treatments = [], []
        sentences = []
        for _ in range(n_sentences):
            colour, second, background, treatment = (
                choices[rng.integers(len(choices))] if choices else ""
                for choices in (found.colours, found.seconds, found.backgrounds, found.treatments)
            )
            noun = words.with_article(f"{colour} {class_name}".strip())
            things = f"{noun} and {second}" if second else noun
            opening = f"{treatment} of " if treatment else ""
            sentences.append(f"{opening}{things} {background}".strip())
        return sentences

    return describe


def sort_words(spurious: Sequence[str], avoid: set[str]) -> Wordlist:
    """Return the positions that each word can take in a sentence; words that the world cannot draw, or that may show
    a class of `avoid`, are excluded.
    """
    found = Wordlist()
    forbidden = {(0, words.OBJECT_NAMES.index(name)) for name in avoid if name in words.OBJECT_NAMES}
    for word in spurious:
        try:
            reading = read(word)
        except ValueError:
            continue
        if reading.treatment:
            found.treatments.append(word)
        elif reading.background is not None or reading.background_colours:
            place = _EMPTY.sub("", _MEDIUM.sub("", word))
            if not _reads_nouns(place):
                found.backgrounds.append(place)
        elif len(reading.nouns) == 1 and reading.nouns[0].count == 1 and reading.position is None:
            noun = reading.nouns[0]
            if "colour" in noun.said and len(noun.choices) > 1:
                found.colours.append(words.COLOURS[noun.said["colour"]])
            elif not forbidden & set(noun.choices) and reading.style is None and "something" not in word:
                found.seconds.append(_MEDIUM.sub("", word))
    return found


def can_draw(word: str, avoid: set[str]) -> bool:
    """Return whether a picture can show the word beside its class, as an object or a background; `avoid` as above."""
    found = sort_words([word], avoid)
    return bool(found.seconds or found.backgrounds)


def drawer(seed: int) -> Draw:
    """Return draw(sentence) for the demo world; every call draws again what the sentence leaves open."""
    state = [seed]

    def draw(sentence: str) -> Image.Image:
        state[0] += 1
        return Image.fromarray(scene(sentence, seed=state[0]).images[0])

    return draw


def _reads_nouns(phrase: str) -> bool:
    try:
        return bool(read(phrase).nouns)
    except ValueError:
        return True
