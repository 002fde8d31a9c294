"""What is true of a picture: every kind of sentence by hand, and the sentences that scenes are described with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clipviz.demo import world
from clipviz.demo.model import evaluate
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS, caption, facts
from clipviz.demo.world.sampling import sample_scene
from clipviz.demo.world.scene import FOREST, GLYPH, OBJECT, SHAPE, WATER, Scene, Thing, attributes
from clipviz.demo.world.truth import FALSE, TRUE, UNKNOWN, classes_named, known_of, true_texts, truths

DUCK, CAT = words.OBJECT_NAMES.index("duck"), words.OBJECT_NAMES.index("cat")
RED, BLUE = words.COLOURS.index("red"), words.COLOURS.index("blue")
PLAIN = words.BACKGROUNDS.index("plain")
ONE_DUCK = Scene(WATER, (0, 1), Thing(OBJECT, DUCK, 0), 1, sprite_size=5, column=1, row=1)
RED_STAR = Scene(
    PLAIN, (BLUE, 0), Thing(SHAPE, words.SHAPES.index("star"), 0, RED), 1, sprite_size=0, column=0, row=2
)


def truth(scene, text):
    return truths([text], np.array([attributes(scene)], np.int16))[0, 0]


@pytest.mark.parametrize(
    ("scene", "true", "false", "unknown"),
    [
        (
            ONE_DUCK,
            "a duck; a waterbird; one duck; in the sea; a duck on the water; a large duck; a photo; something; "
            "a 3d render of a bird; something in the center; an object",
            "a cat; ducks; two ducks; in a forest; a duck in a forest; a small duck; a circle; several birds; "
            "a cartoon of a bird; a duck on the left; an empty scene; a blurry photo; a duck and a cat; "
            "nothing on the water; a letter",
            "",
        ),
        (
            RED_STAR,
            "a red star; something red; a shape on a blue background; a tiny star; a solid shape; "
            "a star on the left; a shape at the bottom; a star in the bottom left corner",
            "a blue star; a striped star; a star on a red background; a star in the top left corner; "
            "something on the right; a star in the center",
            "an object",
        ),
        (
            replace(RED_STAR, treatment=words.TREATMENTS.index("sepia")),
            "a sepia photo; a vintage picture of a star; a star",
            "a grainy photo; a red circle",
            "a red star; a shape on a blue background; something blue",
        ),
        (
            replace(ONE_DUCK, count=4, sprite_size=-1, column=-1, row=-1),
            "four ducks; ducks; a duck; several birds; a group of things; four things",
            "three ducks; one duck; four cats; a large cat",
            "a small duck; a duck on the left",
        ),
        (
            Scene(FOREST, (0, 1), Thing(OBJECT, DUCK), 1, second=Thing(OBJECT, CAT, 2, RED), relation=1),
            "a duck and a cat; a cat and a duck; a duck above a cat; a cat below a duck; a red cat; two things; "
            "two objects; a bird above something red; a cartoon of a mammal",
            "a cat above a duck; a duck to the left of a cat; a red duck; two birds; a cartoon of a bird; "
            "a duck and a dog",
            "several things; a duck at the top",
        ),
        (
            replace(ONE_DUCK, thing=None, count=0, sprite_size=-1, column=-1, row=-1),
            "an empty scene; nothing on the water; on the water; at the lake",
            "something; a duck; something on the water; one object",
            "",
        ),
        (
            Scene(words.BACKGROUNDS.index("striped"), (RED, BLUE), Thing(GLYPH, 0, 0, BLUE), 1),
            "the letter a; a letter; on a striped background; a letter on a red and blue striped background",
            "the letter b; a number; on a green background; on a dotted background",
            "on a red background",
        ),
    ],
)
def test_by_hand(scene, true, false, unknown):
    for listed, expected in ((true, TRUE), (false, FALSE), (unknown, UNKNOWN)):
        texts = [text for text in listed.split("; ") if text]
        assert {text: truth(scene, text) for text in texts} == dict.fromkeys(texts, expected)


def test_colours_of_sprites_are_said_where_they_prevail():
    flamingo = replace(ONE_DUCK, thing=Thing(OBJECT, words.OBJECT_NAMES.index("flamingo"), 0))
    assert truth(flamingo, "something pink") == TRUE
    assert truth(flamingo, "something green") == FALSE


def test_every_caption_is_true_of_its_scene():
    """Nothing that a caption says is false, and little is unknown: vague numbers, colours of an old photo, and the
    fill of a second shape, which the attribute table does not hold.
    """
    rng = np.random.default_rng(21)
    scenes = [sample_scene(rng) for _ in range(400)]
    table = np.array([attributes(scene) for scene in scenes], np.int16)
    told = [truths([caption(scene, rng)], row[None])[0, 0] for scene, row in zip(scenes, table, strict=True)]
    assert FALSE not in told
    vague = [scene for scene, one in zip(scenes, told, strict=True) if one == UNKNOWN]
    filled = [scene for scene in vague if scene.second is not None and scene.second.fill]
    assert all(scene.count == 2 or not scene.shows_colour or scene in filled for scene in vague)
    assert len(vague) < 40


def test_facts_are_true_and_their_rivals_are_not():
    """The facts that a scene makes true, by another route; where a fact is known, no other value of it holds."""
    rng = np.random.default_rng(22)
    scenes = [sample_scene(rng) for _ in range(150)]
    table = np.array([attributes(scene) for scene in scenes], np.int16)
    for family in ("object", "shape", "glyph", "background", "category"):
        sentences = [choices[0] for choices in FACTS[family]]
        found = truths(sentences, table) == TRUE
        for row, scene in zip(found, scenes, strict=True):
            assert set(np.flatnonzero(row)) == {value for name, value in facts(scene) if name == family}


def test_true_texts_of_rendered_scenes():
    scenes = world.scene("two red apples on a striped background")
    texts = ["two apples", "a fruit", "an apple on the water", "something red"]
    assert true_texts(texts, scenes.attributes) == [["two apples", "a fruit", "something red"]]
    assert true_texts([], scenes.attributes) == [[]]


def test_one_picture_in_words_says_what_its_numbers_say():
    scenes = world.render(12, seed=5)
    texts = ["an object", "something red", "a small shape", "on the water", "two things", "a sepia photo"]
    said = {FALSE: False, UNKNOWN: None, TRUE: True}
    for image, row in enumerate(truths(texts, scenes.attributes)):
        named = {column: scenes.words(column)[image] for column in scenes.columns}
        assert known_of(texts, named) == [said[int(value)] for value in row]
    assert known_of(["a unicorn", "an object"], named)[0] is None


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match="unicorn"):
        truths(["a unicorn"], world.render(1, seed=0).attributes)


def test_nearest_texts_are_counted_by_hand():
    """Two scenes, four texts: the first picture's nearest text is true of it, the second's is not."""
    scenes = world.scenes.compose([ONE_DUCK, RED_STAR], seed=0)
    texts = ["a duck", "a star", "a bird", "something red", "on the water", "a cat"]
    units = torch.eye(2)
    text_units = torch.tensor([[0.9, 0.1], [0.0, 0.5], [0.8, 0.2], [0.1, 0.4], [0.7, 0.6], [0.2, 0.3]])
    found = evaluate.nearest_texts(units, text_units, texts, scenes)
    assert found == {
        "class": [2, 2],  # the duck and the star are both among the five
        "class, untreated": [2, 2],
        "class, of texts with a class": [2, 2],
        "first": [1, 2],  # a duck; on the water, where the star is not
        "five": [0, 0, 1, 1, 0, 0],
        "first, of another picture": [1, 2],
        "five, of another picture": [0, 1, 1, 0, 0, 0],
    }
    blurred = replace(RED_STAR, treatment=words.TREATMENTS.index("blurry"))
    scenes = world.scenes.compose([ONE_DUCK, blurred], seed=0)
    text_units[5, 1] = 0.6  # a cat comes before the star, which stays among the five
    found = evaluate.nearest_texts(units, text_units, texts, scenes)
    assert found["class"] == [2, 2]
    assert found["class, untreated"] == [1, 1]
    assert found["class, of texts with a class"] == [1, 2]
    assert classes_named(["a duck", "a bird", "two cats", "on the water"]) == [
        {DUCK},
        frozenset(),
        {CAT},
        frozenset(),
    ]
