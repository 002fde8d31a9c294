"""Edits judged by true scenes: every part of what was asked, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import clipviz
from clipviz.demo.generator import judging
from clipviz.demo.generator.scenes import GROUNDS, KINDS, TrueScenes


def scene(centre=((0.3, 0.5), (0.7, 0.5)), size=0.4, opacity=(1.0, 0.0), ground=0):
    """One scene; everything as given."""
    return TrueScenes(
        label=np.array([1]),
        centre=np.array([centre], float),
        size=np.array([size]),
        number=np.array([0.0]),
        opacity=np.array([opacity], float),
        rgb=np.array([[1.0, 0.0, 0.0]]),
        painted=np.array([0.0]),
        ground=np.array([ground]),
        ground_rgb=np.zeros((1, 2, 3)),
        light=np.ones(1),
    )


SHIFTED = scene(((0.55, 0.5), (0.1, 0.9)))


@pytest.mark.parametrize(
    ("after", "wrong"),
    [
        (SHIFTED, set()),
        (scene(((0.51, 0.54), (0.1, 0.9)), size=0.36), set()),  # within a fifth of the move
        (scene(), {"place"}),
        (scene(((0.55, 0.58), (0.1, 0.9))), {"place"}),
        (scene(((0.55, 0.5), (0.1, 0.9)), size=0.52), {"size"}),
        (scene(((0.55, 0.5), (0.1, 0.9)), ground=3), {"ground"}),
        (scene(((0.55, 0.5), (0.1, 0.9)), opacity=(1.0, 0.15)), {"number"}),
        (scene(((0.55, 0.5), (0.1, 0.9)), opacity=(0.8, 0.0)), {"number"}),
    ],
)
def test_a_shift_is_right_when_all_of_it_is(after, wrong):
    found = judging.judged(scene(), after, "shift", 0.25)
    assert {part for part, right in found.items() if not right[0]} == wrong
    assert judging.everything(found)[0] == (not wrong)


def test_every_image_may_have_its_own_move():
    both = TrueScenes(
        **{name: np.concatenate([getattr(scene(), name)] * 2) for name in TrueScenes.__dataclass_fields__}
    )
    after = replace(both, centre=both.centre + np.array([[[0.25, 0]], [[-0.15, 0]]]))
    found = judging.judged(both, after, "shift", np.array([0.25, 0.25]))
    assert found["place"].tolist() == [True, False]
    assert judging.judged(both, after, "shift", np.array([0.25, -0.15]))["place"].all()


def test_a_zoom_moves_away_from_the_middle_as_far_as_can_be_painted():
    after = scene(((0.2, 0.5), (0.9, 0.5)), size=0.6)
    assert judging.everything(judging.judged(scene(), after, "zoom", factor=1.5))[0]
    assert not judging.judged(scene(), scene(size=0.6), "zoom", factor=1.5)["place"][0]
    assert not judging.judged(scene(), scene(((0.2, 0.5), (0.9, 0.5))), "zoom", factor=1.5)["size"][0]
    large = scene(((0.12, 0.5), (0.9, 0.5)), size=0.85)
    assert judging.everything(judging.judged(scene(), large, "zoom", factor=4.0))[0]


def test_a_copy_is_two_in_place_whichever_is_the_new_one():
    for centre in (((0.3, 0.5), (0.76, 0.5)), ((0.76, 0.5), (0.3, 0.5))):
        assert judging.everything(judging.judged(scene(), scene(centre, opacity=(1, 0.95)), "copy"))[0]
    faint = judging.judged(scene(), scene(((0.3, 0.5), (0.76, 0.5)), opacity=(1, 0.6)), "copy")
    assert not faint["number"][0]
    elsewhere = judging.judged(scene(), scene(((0.3, 0.5), (0.6, 0.5)), opacity=(1, 1)), "copy")
    assert not elsewhere["place"][0]


def test_a_removal_leaves_no_trace():
    for opacity, right in (((0.02, 0.0), True), ((0.3, 0.0), False), ((0.0, 0.2), False)):
        found = judging.judged(scene(), scene(((0.9, 0.9), (0, 0)), opacity=opacity, size=0.8), "remove")
        assert judging.everything(found)[0] == right
    with pytest.raises(ValueError, match="among none, shift, zoom, copy, remove, got 'amplify'"):
        judging.judged(scene(), scene(), "amplify")


def test_scenes_in_words():
    assert judging.described(scene(), 0) == {"kind": KINDS[1], "colour": "its own", "background": GROUNDS[0]}
    assert judging.described(scene(opacity=(1, 1)), 0)["kind"] == f"{KINDS[1]}, two of them"
    assert judging.described(scene(opacity=(0, 0)), 0) == {
        "kind": "nothing",
        "colour": "",
        "background": GROUNDS[0],
    }
    assert judging.described(scene(opacity=(0.3, 0)), 0)["kind"] == f"nothing, a trace of {KINDS[1]}"


def test_the_generator_judges_the_latents_it_painted():
    generator = clipviz.load_generator("demo")
    latents = generator.sample(40, seed=1)
    same = generator.judged(latents, latents, "none", 0.0, 0.0, 1.0)
    assert judging.everything(same).all()
    assert generator.judged(latents, latents, "amplify", 0.0, 0.0, 1.6) is None
    assert generator.judged(latents, latents, "copy", 0.0, 0.0, 1.0) is None  # some show two already
    moved = generator.judged(latents, latents, "shift", 0.2, 0.0, 1.0)
    # those at the side, which can move no further, and empty ones
    assert judging.everything(moved).mean() < 0.2
