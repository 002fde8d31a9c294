"""Words to scenes: the world reads its own sentences and refuses others by name."""

from __future__ import annotations

import numpy as np
import pytest

from clipviz.demo import world
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS
from clipviz.demo.world.language import read


def only(column: str, scenes: world.Scenes):
    return scenes.words(column)[0]


def test_the_sentence_of_the_readme():
    scenes = world.scene("two red apples on a striped background")
    assert only("class", scenes) == "apple"
    assert only("colour", scenes) == "red"
    assert only("count", scenes) == 2
    assert only("background", scenes) == "striped"
    assert scenes.captions[0][0] == "two red apples on a striped background"
    assert scenes.masks.max() == 2


def test_two_things_and_how_they_stand():
    scenes = world.scene("a blurry photo of a duck to the right of a yellow circle at night", seed=4)
    assert (only("class", scenes), only("second class", scenes)) == ("circle", "duck")
    assert (only("relation", scenes), only("treatment", scenes)) == ("left of", "blurry")
    left, right = (np.nonzero(scenes.masks[0] == label)[1].mean() for label in (1, 2))
    assert left < right


def test_places_sizes_and_fills():
    scenes = world.scene("a large striped green heart in the top left corner on a blue background", seed=2)
    assert (only("column", scenes), only("row", scenes), only("size", scenes)) == ("left", "top", "large")
    assert (only("fill", scenes), only("background colour", scenes)) == ("striped", "blue")


def test_general_words_leave_the_choice_open():
    scenes = world.scene("a bird in a forest", seed=0, n=20)
    assert set(scenes.words("class")) <= words.BIRDS
    assert len(set(scenes.words("class"))) > 3
    assert set(scenes.words("background")) == {"forest"}


def test_empty_scenes():
    scenes = world.scene("nothing in the desert")
    assert only("kind", scenes) == "empty"
    assert scenes.masks.max() == 0


def test_every_caption_can_be_read_back():
    scenes = world.render(400, 11)
    for sentences, scene in zip(scenes.captions, scenes.scenes, strict=True):
        for sentence in sentences:
            reading = read(sentence)
            assert reading.background in (None, scene.background)
            assert reading.treatment in (0, scene.treatment)
            things = {(thing.kind, thing.word) for thing in (scene.thing, scene.second) if thing is not None}
            assert len(reading.nouns) == (0 if scene.thing is None else 1 + (scene.second is not None))
            for noun in reading.nouns:
                assert things & set(noun.choices), sentence


def test_every_prompt_can_be_read():
    for values in FACTS.values():
        for sentences in values:
            for sentence in sentences:
                read(sentence)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a zorse on the water", "got 'zorse'; did you mean 'horse'"),
        ("", "expected a sentence, got ''"),
        ("three striped dogs", "expected a fill with a shape only"),
        ("a dog and a cat and a cow", "expected at most two things, got 3"),
        ("two dogs to the left of a cat", "expected one of each of two things"),
        ("two dogs on the left", "expected a position with one thing only"),
    ],
)
def test_other_words_are_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        world.scene(text)
