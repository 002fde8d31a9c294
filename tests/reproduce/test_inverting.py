"""What inversions are judged by: the perceptual distance, pairs shared by all, foreign pictures and their masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipviz.analysis.generation import Guides, each_once
from clipviz.demo.generator import scenes
from clipviz.lens.invert import UnitPairs
from clipviz.models.zoo import Partner
from clipviz.reproduce import inverting


def test_the_perceptual_distance_equals_a_loop_over_positions():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, 2), nn.ReLU())
    distance = inverting.Perceptual(Partner("tiny", network, lambda images: images, ("1", "3")))
    one, other = torch.rand(2, 2, 3, 9, 9).unbind(0)
    wanted = torch.zeros(2)
    for layers in (network[:2], network):
        a, b = layers(one), layers(other)
        for i in range(2):
            parts = [
                (
                    a[i, :, y, x] / a[i, :, y, x].norm().clamp_min(1e-6)
                    - b[i, :, y, x] / b[i, :, y, x].norm().clamp_min(1e-6)
                )
                .square()
                .sum()
                for y in range(a.shape[2])
                for x in range(a.shape[3])
            ]
            wanted[i] += torch.stack(parts).mean() / 2
    torch.testing.assert_close(distance(one, other), wanted)
    assert distance(one, one).abs().max() == 0
    (slope,) = torch.autograd.grad(distance(one.requires_grad_(), other).sum(), [one])
    assert slope.abs().max() > 0


def _pairs(layer_a, layer_b, units):
    index, numbers = torch.tensor(units), torch.arange(len(units)) + 1.0
    return UnitPairs(layer_a, layer_b, index, index, numbers, numbers, numbers, numbers)


def test_r_over_all_keeps_units_that_every_reader_shares():
    pairs = {
        "one": (_pairs("low", "one/a", [0, 2, 3]), _pairs("high", "one/a", [1])),
        "two": (_pairs("low", "two/b", [3, 5]), _pairs("low", "two/c", [2])),
    }
    found = inverting.shared_by_all(
        Guides(pairs, tuple(each_once([g for one in pairs.values() for g in one])))
    )
    assert {(g.layer_a, u) for g in found.own for u in g.units_a.tolist()} == {("low", 2), ("low", 3)}
    assert found.pairs["one"][0].mean_a.tolist() == [2, 3]
    assert [g.layer_b for g in found.pairs["two"]] == ["two/b", "two/c"]
    few = inverting.thinned(Guides({"one": (_pairs("low", "one/a", list(range(10))),)}, ()), 5)
    assert few.pairs["one"][0].units_a.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("kind", inverting.FOREIGN)
def test_foreign_pictures_show_one_known_object(kind):
    latents, images, alpha = inverting.foreign(kind, 3)
    assert images.shape == (3, 3, scenes.SIDE, scenes.SIDE)
    assert (scenes.true_scenes(latents.z, latents.label).count == 1).all()
    assert (alpha.mean((1, 2)) > 0.01).all()
    plain, _ = inverting.painted(latents)
    assert (images - plain).abs().mean() > 0.01
    if kind == "unseen style":
        assert set(latents.label.tolist()) <= set(scenes.kinds_in(scenes.UNSEEN))
    else:
        assert torch.equal(images[:, 0], images[:, 2])
    with pytest.raises(ValueError, match="expected a kind among unseen style"):
        inverting.foreign("sketches", 1)


def test_overlap_and_centres_of_the_teachers_pictures():
    latents = inverting.plain(6, 5)
    images, alpha = inverting.painted(latents)
    assert inverting.overlap(images, alpha).min() > 0.5
    assert inverting.overlap(images, alpha.roll(1, 0)).mean() < inverting.overlap(images, alpha).mean()
    block = torch.zeros(1, 8, 8)
    block[0, 2:4, 4:8] = 1
    assert inverting.centroids(block).tolist() == [[0.75, 0.375]]
