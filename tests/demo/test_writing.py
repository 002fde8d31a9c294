"""The demo world as writer and drawer: fair sentences, words in their places, pictures that show the class."""

from __future__ import annotations

import numpy as np
import pytest

from clipviz.demo.world import writing
from clipviz.demo.world.language import read
from clipviz.demo.world.scenes import scene
from clipviz.lens.cues import is_fair

WORDS = [
    "a panda",
    "an image of a banana",
    "a zebra",
    "two apples",
    "something red",
    "a sepia photo",
    "in the sea",
    "something in the desert",
    "a photo of something on a striped background",
    "dragonfruit",
    "something on the left",
    "a horse on the street",
]


def test_words_go_where_a_sentence_can_hold_them():
    found = writing.sort_words(WORDS, {"zebra", "horse"})
    assert found.seconds == ["a panda", "a banana"]
    assert found.backgrounds == ["in the sea", "in the desert", "on a striped background"]
    assert found.colours == ["red"]
    assert found.treatments == ["a sepia photo"]


def test_a_class_to_avoid_is_never_drawn_under_another_word():
    """A category stands for any of its members, so it may show the class: it is left out."""
    assert writing.sort_words(["a mammal", "a vehicle"], {"zebra"}).seconds == ["a vehicle"]


@pytest.mark.parametrize("recolour", [True, False])
def test_sentences_are_fair_and_can_be_drawn(recolour):
    write = writer(recolour)
    sentences = write(WORDS, "horse")
    assert len(sentences) == 50
    for sentence in set(sentences):
        assert is_fair(sentence, "horse", ["zebra"])
        nouns = [noun.said for noun in read(sentence).nouns]
        assert len(nouns) == 2
        assert scene(sentence, seed=1).words("class") == ["horse"]
    text = " ".join(sentences)
    assert ("sepia" in text) == recolour
    assert ("red horse" in text) == recolour


def test_the_same_seed_writes_the_same():
    assert writer()(WORDS, "horse") == writer()(WORDS, "horse")


def test_without_words_the_class_stands_alone():
    assert set(writer()([], "apple")) == {"an apple"}
    assert set(writer()(["dragonfruit"], "apple")) == {"an apple"}


def test_every_drawing_is_another_and_repeatable():
    draw = writing.drawer(7)
    first, second = draw("a horse in the sea"), draw("a horse in the sea")
    assert first.size == (96, 96)
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    assert np.array_equal(np.asarray(first), np.asarray(writing.drawer(7)("a horse in the sea")))


def writer(recolour=True):
    return writing.writer("zebra", np.random.default_rng(0), recolour)
