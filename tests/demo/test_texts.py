"""The sentences that the demo is trained with: a person would say them, and they are true of some pictures only."""

from __future__ import annotations

import numpy as np

from clipviz.data.texts import BROAD
from clipviz.demo.world.sampling import sample_scene
from clipviz.demo.world.scene import attributes
from clipviz.demo.world.truth import TRUE, truths
from tools.demo.texts import families, pool


def test_each_sentence_is_true_of_some_pictures_and_of_less_than_a_third():
    rng = np.random.default_rng(17)
    table = np.array([attributes(sample_scene(rng)) for _ in range(8000)], np.int16)
    texts = list(pool())
    share = dict(zip(texts, (truths(texts, table) == TRUE).mean(0), strict=True))
    assert [text for text, found in share.items() if found == 0] == []
    assert [text for text, found in share.items() if found > 1 / 3] == []


def test_families_are_those_that_heads_are_named_by():
    found = dict(families())
    assert set(found) <= set(BROAD)
    assert all(len(texts) == len(set(texts)) >= 40 for texts in found.values())


def test_no_sentence_contradicts_itself_or_says_a_noun_twice():
    for text in pool():
        assert "nothing" not in text
        assert not text.startswith(("a photo of an empty", "an image of an empty"))
