"""The truth behind the embedded generator: what a latent says, and the teacher's picture of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clipviz.demo.generator import scenes as S
from clipviz.demo.generator.teacher import draw_latents
from clipviz.demo.world import drawing, sprites
from clipviz.demo.world import vocabulary as words


@pytest.fixture(scope="module")
def drawn():
    return draw_latents(4000, seed=11)


@pytest.fixture(scope="module")
def many(drawn):
    return S.true_scenes(*drawn)


def test_the_kinds_are_objects_of_the_world():
    assert len(set(S.KINDS)) >= 16
    assert set(S.KINDS) <= set(words.OBJECT_NAMES)
    assert set(S.GROUNDS) <= set(words.BACKGROUNDS)


def test_the_rotation_is_one_and_always_the_same():
    turn = S.rotation()
    torch.testing.assert_close(turn @ turn.T, torch.eye(S.N_LATENT, dtype=torch.float64), atol=1e-12, rtol=0)
    S.rotation.cache_clear()
    assert torch.equal(turn, S.rotation())


def test_factors_follow_their_formulas_one_latent_at_a_time(drawn, many):
    z, label = drawn
    turn = S.rotation().tolist()
    for i in range(20):
        f = [sum(a * b for a, b in zip(row, z[i].tolist(), strict=True)) for row in turn]
        size = min(0.85, max(0.18, 0.42 * math.exp(0.22 * f[2])))
        x, y = (0.5 + 0.38 * math.tanh(0.6 * f[k]) for k in (0, 1))
        assert many.size[i] == pytest.approx(size, rel=1e-6)
        assert many.centre[i, 0] == pytest.approx([x, y], rel=1e-6)
        raw = [0.5 + 0.38 * math.tanh(0.6 * f[k]) for k in (4, 5)]
        apart = math.dist(raw, (x, y))
        longer = math.sqrt(1 + (0.9 * size / apart) ** 2)
        second = [min(0.92, max(0.08, c + (r - c) * longer)) for c, r in zip((x, y), raw, strict=True)]
        assert many.centre[i, 1] == pytest.approx(second, rel=1e-5)
        for which, (steep, threshold) in enumerate(((3, S.NONE_BELOW), (8, S.TWO_ABOVE))):
            slow, quick = (1 / (1 + math.exp(-k * (f[3] - threshold))) for k in (1.2, steep))
            assert many.opacity[i, which] == pytest.approx(0.94 * quick + 0.06 * slow, rel=1e-5)
        assert many.ground[i] == max(range(len(S.GROUNDS)), key=lambda k: f[9 + k])
        assert many.label[i] == label[i]
        if f[8] > 0:
            turn_of = math.atan2(f[7], f[6]) / (2 * math.pi) % 1 * 8
            near = round(turn_of) % 8
            if abs(turn_of - round(turn_of)) < 0.4:
                assert S.COLOURS[many.colour[i]] == S.COLOURS[near]
        else:
            assert many.colour[i] == -1


def test_the_prior_shows_two_in_a_quarter_and_every_kind_ground_and_colour(many):
    n = len(many)
    three_sigma = 3 * math.sqrt(0.25 * 0.75 / n)
    assert np.mean(many.count == 2) == pytest.approx(0.25, abs=three_sigma)
    assert np.mean(many.count == 0) == pytest.approx(0.02, abs=3 * math.sqrt(0.02 * 0.98 / n))
    for values, n_values in ((many.label, len(S.KINDS)), (many.ground, len(S.GROUNDS))):
        shares = np.bincount(values, minlength=n_values) / n
        assert abs(shares - 1 / n_values).max() < 4 * math.sqrt(1 / n_values / n)
    painted = many.colour[many.colour >= 0]
    assert len(painted) / n == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(n))
    assert (np.bincount(painted, minlength=8) / len(painted) > 0.09).all()
    assert many.centre.min() > 0.07
    assert many.centre.max() < 0.93
    for axis in range(2):
        assert (np.histogram(many.centre[:, 0, axis], [0, 1 / 3, 2 / 3, 1])[0] / n > 0.15).all()


def test_the_teacher_draws_the_worlds_sprite_on_the_worlds_ground():
    z = torch.zeros(1, S.N_LATENT, dtype=torch.float64)
    factors = torch.zeros(S.N_LATENT, dtype=torch.float64)
    # own colours, on water; one object in the middle, and the trace of the second exactly beneath it
    factors[8], factors[9 + S.GROUNDS.index("water")] = -4, 4
    z[0] = S.rotation().T @ factors
    truth = S.true_scenes(z, torch.tensor([S.KINDS.index("owl")]))
    picture, layers = S.paint(truth, 0)
    longest = round(0.42 * drawing.SIDE)
    sprite = sprites.resized(sprites.originals(sprites.object_atlas(0))["owl"][0], longest).astype(np.float64)
    height, width = sprite.shape[:2]
    left, top = round(48 - width / 2), round(48 - height / 2)
    tile = sprites.background_tiles("water")[0]
    start = (tile.shape[0] - 96) // 2
    wanted = tile[start : start + 96, start : start + 96] * 1.0
    inside = wanted[top : top + height, left : left + width]
    for opacity in truth.opacity[0, ::-1]:
        alpha = sprite[..., 3:] / 255 * opacity
        inside[:] = inside * (1 - alpha) + sprite[..., :3] * opacity
    assert abs(picture - wanted).max() < 0.5
    assert abs(layers[0, top : top + height, left : left + width] - alpha[..., 0]).max() < 1e-5
    assert layers[1].max() < 0.03


def test_areas_and_centroids_are_those_of_the_outlines(many, drawn):
    few = S.true_scenes(drawn[0][:12], drawn[1][:12])
    seen = S.shown(few)
    for index in range(12):
        layers = S.paint(few, index)[1]
        both = [
            (float(v), (x + 0.5) / 96, (y + 0.5) / 96)
            for y, row in enumerate(layers.sum(0))
            for x, v in enumerate(row)
        ]
        total = sum(v for v, _, _ in both)
        assert seen.area[index].sum() == pytest.approx(total / 96**2, rel=1e-4)


def test_the_same_latents_are_the_same_scenes_in_any_company(drawn):
    z, label = drawn
    whole, part = S.true_scenes(z[:8], label[:8]), S.true_scenes(z[5:6], label[5:6])
    picture, layers = S.paint(whole, 5)
    again, layers_again = S.paint(part, 0)
    np.testing.assert_array_equal(picture, again)
    np.testing.assert_array_equal(layers, layers_again)
