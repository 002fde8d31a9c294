"""What bounds the report card's numbers: probes, the scenes they are judged on, and rows counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clipviz.demo.world.scene import OWN_COLOUR, UNSEEN_STYLE
from clipviz.demo.world.scenes import compose
from clipviz.lens import intervals
from clipviz.reproduce.world import bounds, held_out


def test_probes_read_what_embeddings_hold_and_nothing_else():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    holding = np.eye(3)[truth] @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(400, 8))
    parts = [bounds.Seen(holding[rows], truth[rows]) for rows in (slice(0, 300), slice(300, 400))]
    assert np.mean(bounds.probe(*parts)) > 0.95
    noise = [bounds.Seen(rng.normal(size=one.units.shape), one.truth) for one in parts]
    assert np.mean(bounds.probe(*noise)) < 0.5


def test_scenes_of_probes_have_what_is_asked_for(model):
    """Two to six copies without a treatment; lone objects in their own colours, in a style known or not."""
    encoder = held_out.encoder_of(model)
    seen = {}

    def drawn(scenes, *given, **options):
        seen["scenes"] = scenes
        return compose(scenes, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "compose", drawn)
        counted = bounds.copies(encoder, 12, 5)
        assert counted.truth.tolist() == [one.count - 1 for one in seen["scenes"]]
        assert all(one.treatment == 0 and 2 <= one.count <= 6 for one in seen["scenes"])
        for unseen in (False, True):
            found = bounds.lone_objects(encoder, 12, 5, unseen)
            assert found.truth.tolist() == [one.subject.word for one in seen["scenes"]]
            for one in seen["scenes"]:
                assert (one.single, one.treatment, one.subject.colour) == (True, 0, OWN_COLOUR)
                assert (one.subject.style == UNSEEN_STYLE) is unseen


def test_the_rows_of_recognition_are_counted_by_hand():
    answers = {
        "count": [0, 0, 1, -1, 2],
        "count, probe": [1, 0, 0, 0, 0],
        "style": [1, 0],
        "style, probe of known styles": [0, 0],
        "style, probe": [1, 1],
    }
    rows = bounds.recognition_bounds(answers)
    assert [row.found for row in rows] == [intervals.share(*one) for one in ((4, 5), (1, 5), (0, 2), (2, 2))]
    assert [row.that for row in rows] == [intervals.share(*one) for one in ((2, 5), (2, 5), (1, 2), (1, 2))]
