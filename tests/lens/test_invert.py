"""Inversion and edits on tiny linear generators whose optimum is known in closed form."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens import invert


def unit_pairs(layer, units_a, units_b, mean_a=None, std_a=None, mean_b=None, std_b=None):
    n = len(units_a)
    zeros, ones = torch.zeros(n), torch.ones(n)
    parts = [zeros if mean_a is None else mean_a, ones if std_a is None else std_a]
    parts += [zeros if mean_b is None else mean_b, ones if std_b is None else std_b]
    return invert.UnitPairs(layer, layer, torch.tensor(units_a), torch.tensor(units_b), *parts)


def reshaping_generator(latents):
    """Three units of 2 x 2 numbers: the latent itself."""
    maps = latents.reshape(-1, 3, 2, 2)
    return maps, {"layer": maps}


def test_reconstruction_reaches_the_ridge_solution():
    draw = torch.Generator().manual_seed(0)
    weight, target = torch.randn(12, 5, generator=draw), torch.randn(1, 12, generator=draw)

    def generate(latents):
        return (latents @ weight.T).reshape(-1, 3, 2, 2), {}

    start = torch.zeros(1, 5)
    found = invert.invert(
        generate, start, target_images=target.reshape(1, 3, 2, 2), alpha=0.1, n_steps=400, rate=0.1
    )
    ridge = torch.linalg.solve(weight.T @ weight / 12 + 0.1 / 5 * torch.eye(5), weight.T @ target[0] / 12)
    torch.testing.assert_close(found.latents[0], ridge, atol=2e-3, rtol=0)
    assert found.losses[-1] < found.losses[0]
    assert (start == 0).all(), "the start is not changed"
    assert found.images.shape == (1, 3, 2, 2)


def test_maps_alone_reach_the_normalised_target():
    """Eq. 4.5 with maps = latents: the optimum is (D - mean) / (2 alpha std_a std_b), the pairs' share each."""
    draw = torch.Generator().manual_seed(1)
    target = torch.randn(1, 3, 2, 2, generator=draw)
    std_a, mean_b = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.3, 0.0, -0.2])
    pairs = [unit_pairs("layer", [0, 1, 2], [2, 0, 1], std_a=std_a, mean_b=mean_b)]
    found = invert.invert(
        reshaping_generator,
        torch.zeros(1, 12),
        target_maps={"layer": target},
        pairs=pairs,
        alpha=0.5,
        n_steps=400,
        rate=0.1,
    )
    expected = (target[:, [2, 0, 1]] - mean_b[:, None, None]) / std_a[:, None, None]
    torch.testing.assert_close(found.latents.reshape(1, 3, 2, 2), expected, atol=5e-3, rtol=0)
    assert found.similarities[-1] > found.similarities[0]


def test_similarity_by_hand_at_two_sizes():
    maps_a = {"layer": torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])}
    maps_b = {"layer": torch.tensor([[[[3.0]]]])}
    pair = [unit_pairs("layer", [0], [0], std_b=torch.tensor([3.0]))]
    assert invert.activation_similarity(maps_a, maps_b, pair).item() == 0
    assert invert.activation_similarity(maps_a, maps_a, pair).item() == pytest.approx(1 / 3)
    dead = [unit_pairs("layer", [0], [0], std_a=torch.zeros(1))]
    assert invert.activation_similarity(maps_a, maps_a, dead).item() == 0


def test_a_single_unit_edit_moves_that_unit_and_keeps_another():
    latents = torch.tensor([[0.0, 1, 0, 0, 2, 0, 2, 0, 1, 1, 0, 0]])
    changed, kept = unit_pairs("layer", [0], [0]), unit_pairs("layer", [1], [1])
    found = invert.edit(
        reshaping_generator,
        latents,
        [changed],
        lambda maps: invert.shifted(maps, right=-0.5),
        keep=[kept],
        n_steps=50,
    )
    before, after = latents.reshape(3, 2, 2), found.latents.reshape(3, 2, 2)
    assert after[0, 0, 0] > before[0, 0, 0] + 0.3, "the concept arrived one column to the left"
    torch.testing.assert_close(after[2], before[2])
    assert (after[1] - before[1])[0, 0] > 0, "the kept unit is pulled to what it was"


def test_changes_by_hand():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert (invert.removed(maps) == 0).all()
    assert invert.scaled(maps + 1, 2.0)[0, 0, 0].tolist() == [1, 3, 5, 7]
    assert invert.shifted(maps, down=0.25)[0, 0, :, 0].tolist() == [0, 0, 4, 8]
    assert invert.shifted(maps, right=-0.5)[0, 0, 0].tolist() == [2, 3, 0, 0]
    assert invert.shifted(maps, right=2.0).abs().sum() == 0
    assert invert.copy_pasted(maps)[0, 0, 0].tolist() == [1, 2, 1, 2]
    zoomed = invert.zoomed(maps)
    assert zoomed.shape == maps.shape
    torch.testing.assert_close(zoomed.mean(), maps.mean())
    assert zoomed.std() < maps.std()


def test_moments_are_over_images_and_positions():
    maps = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    mean, std = invert.moments(maps)
    torch.testing.assert_close(mean, maps.transpose(0, 1).flatten(1).mean(1))
    torch.testing.assert_close(std, maps.transpose(0, 1).flatten(1).std(1))


def test_wrong_requests_say_what_to_do():
    with pytest.raises(ValueError, match="target_images or target_maps"):
        invert.invert(reshaping_generator, torch.zeros(1, 12))
    with pytest.raises(ValueError, match="n_steps >= 1, got 0"):
        invert.invert(
            reshaping_generator, torch.zeros(1, 12), target_images=torch.zeros(1, 3, 2, 2), n_steps=0
        )
    with pytest.raises(ValueError, match="at least one pair"):
        invert.activation_similarity({}, {}, [])
    with pytest.raises(ValueError, match="layer 'other' was not recorded; the maps hold layer"):
        invert.activation_similarity({"layer": torch.zeros(1, 1, 1, 1)}, {}, [unit_pairs("other", [0], [0])])
    with pytest.raises(ValueError, match=r"at least 1, got 0\.5"):
        invert.zoomed(torch.zeros(1, 1, 2, 2), 0.5)
