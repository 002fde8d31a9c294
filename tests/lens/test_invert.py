"""Inversion on tiny linear generators whose optimum is known in closed form."""

from __future__ import annotations

import numpy as np
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
        generate, start, target_images=target.reshape(1, 3, 2, 2), alpha=0.1, schedule=invert.Schedule(400)
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
        objective="product",
        schedule=invert.Schedule(400),
    )
    expected = (target[:, [2, 0, 1]] - mean_b[:, None, None]) / std_a[:, None, None]
    torch.testing.assert_close(found.latents.reshape(1, 3, 2, 2), expected, atol=5e-3, rtol=0)
    assert found.objectives[-1] < found.objectives[0]


def test_similarity_by_hand_at_two_sizes():
    maps_a = {"layer": torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])}
    maps_b = {"layer": torch.tensor([[[[3.0]]]])}
    pair = [unit_pairs("layer", [0], [0], std_b=torch.tensor([3.0]))]
    assert invert.activation_similarity(maps_a, maps_b, pair).item() == 0
    assert invert.activation_similarity(maps_a, maps_a, pair).item() == pytest.approx(1 / 3)
    dead = [unit_pairs("layer", [0], [0], std_a=torch.zeros(1))]
    assert invert.activation_similarity(maps_a, maps_a, dead).item() == 0


def test_distance_by_hand_and_its_optimum():
    """The mean squared difference over pairs and positions; reached exactly, whatever the start."""
    maps_a = {"layer": torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])}
    maps_b = {"layer": torch.tensor([[[[3.0]]]])}
    pair = [unit_pairs("layer", [0], [0], std_b=torch.tensor([3.0]))]
    assert invert.map_distance(maps_a, maps_b, pair).tolist() == [2.0]  # (0 + 4 + 0 + 4) / 4
    assert invert.Asked(maps_a, maps_a, pair).objective(maps_a, "cosine").item() == pytest.approx(0, abs=1e-6)
    assert invert.Asked(maps_a, maps_b, pair).objective(maps_a, "cosine").item() == pytest.approx(1)
    draw = torch.Generator().manual_seed(3)
    target = torch.randn(1, 3, 2, 2, generator=draw)
    own = [
        unit_pairs(
            "layer", [0, 1, 2], [0, 1, 2], std_a=torch.tensor([1.0, 2, 3]), std_b=torch.tensor([1.0, 2, 3])
        )
    ]
    for objective in ("distance", "cosine", "correlation"):
        found = invert.invert(
            reshaping_generator,
            torch.randn(1, 12, generator=draw),
            target_maps={"layer": target},
            pairs=own,
            alpha=0.0,
            objective=objective,
            schedule=invert.Schedule(500),
        )
        assert found.objectives[-1] < 1e-4, objective
        if objective == "distance":
            torch.testing.assert_close(found.latents.reshape(1, 3, 2, 2), target, atol=1e-2, rtol=0)


def test_distance_is_bounded_where_the_product_of_the_thesis_is_not():
    maps = {"layer": torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(4))}
    larger = {"layer": 10 * maps["layer"]}
    pair = [unit_pairs("layer", [0], [0])]
    asked = invert.Asked(maps, maps, pair)
    assert asked.objective(larger, "product") < asked.objective(maps, "product")
    assert asked.objective(larger, "distance") > asked.objective(maps, "distance")
    assert asked.objective(maps, "distance").item() == 0


def test_correlation_asks_for_a_pattern_at_any_height_and_level():
    maps = {"layer": torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])}
    asked = invert.Asked(maps, maps, [unit_pairs("layer", [0], [0])])
    for factor, level, found in ((1, 0, 0), (4, -7, 0), (-1, 5, 2)):
        other = {"layer": factor * maps["layer"] + level}
        assert asked.objective(other, "correlation").item() == pytest.approx(found, abs=1e-6)
    swapped = {"layer": torch.tensor([[[[2.0, 1.0], [3.0, 6.0]]]])}
    # deviations -2 -1 0 3 and -1 -2 0 3: r = 13 / 14
    assert asked.objective(swapped, "correlation").item() == pytest.approx(1 / 14, abs=1e-6)


def test_objectives_against_a_literal_reference_in_float64():
    draw = torch.Generator().manual_seed(5)
    maps_a = {"x": torch.randn(2, 4, 6, 6, generator=draw, dtype=torch.float64)}
    maps_b = {"y": torch.randn(2, 5, 6, 6, generator=draw, dtype=torch.float64)}
    numbers = [torch.rand(3, generator=draw, dtype=torch.float64) + 0.5 for _ in range(4)]
    units = (torch.tensor([0, 2, 3]), torch.tensor([4, 1, 1]))
    pairs = [invert.UnitPairs("x", "y", *units, *numbers)]
    mean_a, std_a, mean_b, std_b = numbers
    for image in range(2):
        products, distances, unlike = [], [], []
        for k in range(3):
            a = (maps_a["x"][image, units[0][k]] - mean_a[k]) / std_a[k]
            b = (maps_b["y"][image, units[1][k]] - mean_b[k]) / std_b[k]
            products.append(sum(a[i, j] * b[i, j] for i in range(6) for j in range(6)) / 36)
            distances.append(sum((a[i, j] - b[i, j]) ** 2 for i in range(6) for j in range(6)) / 36)
            unlike.append(1 - np.corrcoef(a.flatten(), b.flatten())[0, 1])
        found = invert.activation_similarity(maps_a, maps_b, pairs)[image]
        assert float(found) == pytest.approx(float(sum(products) / 3), abs=1e-12)
        found = invert.map_distance(maps_a, maps_b, pairs)[image]
        assert float(found) == pytest.approx(float(sum(distances) / 3), abs=1e-12)
        found = invert.Asked(maps_a, maps_b, pairs).objective(maps_a, "correlation")[image]
        assert float(found) == pytest.approx(sum(unlike) / 3, abs=1e-12)


def test_schedule_is_that_of_the_thesis():
    rates = [invert.Schedule(400, 0.1).at(step) for step in range(400)]
    assert rates[:20] == pytest.approx([0.1 * (step + 1) / 20 for step in range(20)])
    assert rates[20:301] == pytest.approx([0.1] * 281)
    assert rates[350] == pytest.approx(0.05)
    assert 0 < rates[399] < 1e-4
    for wrong in ({"n_steps": 0}, {"rate": 0.0}, {"rate": float("nan")}):
        with pytest.raises(ValueError, match="expected"):
            invert.Schedule(**wrong)


def test_a_search_can_be_stopped_and_shows_where_it_is():
    target = torch.ones(1, 3, 2, 2)
    seen = []

    def progress(step):
        seen.append(step.number)
        return step.number < 3

    found = invert.invert(
        reshaping_generator, torch.zeros(1, 12), target_images=target, alpha=0.0, progress=progress
    )
    assert seen == [0, 1, 2, 3]
    assert len(found.losses) == 4
    steps = list(
        invert.search(
            reshaping_generator, torch.zeros(1, 12), target_images=target, schedule=invert.Schedule(5, 0.1)
        )
    )
    assert [step.number for step in steps] == [0, 1, 2, 3, 4, 5]
    assert (steps[0].latents == 0).all()
    assert (steps[-1].latents > 0).all()


def test_images_searched_together_are_found_as_if_alone():
    draw = torch.Generator().manual_seed(6)
    target, start = torch.randn(3, 3, 2, 2, generator=draw), torch.randn(3, 12, generator=draw)
    short = invert.Schedule(30)
    own = [unit_pairs("layer", [0, 1], [0, 1])]
    together = invert.invert(
        reshaping_generator, start, target_maps={"layer": target}, pairs=own, schedule=short
    ).latents
    for i in range(3):
        alone = invert.invert(
            reshaping_generator,
            start[i : i + 1],
            target_maps={"layer": target[i : i + 1]},
            pairs=own,
            schedule=short,
        ).latents
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_l1_shrinks_small_numbers_to_nothing():
    start = torch.tensor([[0.01, 2.0] * 6])
    found = {}
    for regulariser in ("l1", "l2"):
        found[regulariser] = invert.invert(
            reshaping_generator,
            start,
            target_images=start.reshape(1, 3, 2, 2),
            alpha=0.2,
            regulariser=regulariser,
            schedule=invert.Schedule(300, 0.02),
        ).latents[0]
    assert found["l1"][0].abs() < 2e-3 < found["l2"][0]
    assert found["l1"][1] == pytest.approx(1.9, abs=0.01)  # soft threshold alpha / 2
    assert found["l2"][1] == pytest.approx(2 / 1.2, abs=0.01)


def test_wrong_requests_say_what_to_do():
    with pytest.raises(ValueError, match="target_images or target_maps"):
        invert.invert(reshaping_generator, torch.zeros(1, 12))
    with pytest.raises(ValueError, match="n_steps >= 1, got 0"):
        invert.Schedule(0)
    target = {"layer": torch.zeros(1, 3, 2, 2)}
    own = [unit_pairs("layer", [0], [0])]
    with pytest.raises(ValueError, match="NaN or infinity in layer 'layer'"):
        invert.invert(
            reshaping_generator, torch.zeros(1, 12), target_maps={"layer": target["layer"] / 0}, pairs=own
        )
    with pytest.raises(ValueError, match="among distance, cosine, correlation, product, got 'sum'"):
        invert.invert(reshaping_generator, torch.zeros(1, 12), target_maps=target, pairs=own, objective="sum")
    with pytest.raises(ValueError, match="'l2' or 'l1', got 'l3'"):
        invert.invert(
            reshaping_generator, torch.zeros(1, 12), target_maps=target, pairs=own, regulariser="l3"
        )

    def frozen(latents):
        images, maps = reshaping_generator(latents.detach())
        return images, maps

    with pytest.raises(ValueError, match="with gradients, got none"):
        invert.invert(frozen, torch.zeros(1, 12), target_maps=target, pairs=own, alpha=0.0)
    with pytest.raises(ValueError, match="at least one pair"):
        invert.activation_similarity({}, {}, [])
    with pytest.raises(ValueError, match="layer 'other' was not recorded; the maps hold layer"):
        invert.activation_similarity({"layer": torch.zeros(1, 1, 1, 1)}, {}, [unit_pairs("other", [0], [0])])


def test_a_unit_beneath_the_rounding_of_its_layer_contributes_nothing():
    """A deviation of 1e-9 beside units of 1 made the product of normalised maps 5e8."""
    maps = {"layer": torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))}
    faint = [unit_pairs("layer", [0, 1], [0, 1], std_a=torch.tensor([1.0, 1e-9]))]
    alone = [unit_pairs("layer", [0, 1], [0, 1], std_a=torch.tensor([1.0, float("inf")]))]
    found = invert.activation_similarity(maps, maps, faint)
    torch.testing.assert_close(found, invert.activation_similarity(maps, maps, alone))
    assert float(found.abs().max()) < 10


def test_a_running_search_follows_targets_that_are_replaced():
    """Whoever drags a map puts another tensor in its place; the search goes there from where it is."""
    targets = {"layer": torch.zeros(1, 3, 2, 2)}
    steps = invert.search(
        reshaping_generator,
        torch.ones(1, 12),
        target_maps=targets,
        pairs=[unit_pairs("layer", [0, 1, 2], [0, 1, 2])],
        alpha=0.0,
        schedule=invert.Schedule(100, 0.1),
    )
    for step in steps:
        if step.number == 10:
            targets["layer"] = torch.full((1, 3, 2, 2), 3.0)
    torch.testing.assert_close(step.latents, torch.full((1, 12), 3.0), atol=0.05, rtol=0)


def test_images_whose_maps_are_there_stay_while_others_move():
    """still: an objective down to which an image is left as it is, though Adam would take steps of full length."""
    wanted = torch.randn(2, 12, generator=torch.Generator().manual_seed(3))
    nearly = wanted + torch.tensor([[1e-6], [0.5]])

    def generate(latents):
        maps = latents.reshape(-1, 3, 2, 2)
        return maps, {"layer": maps}

    units, zeros, ones = torch.arange(3), torch.zeros(3), torch.ones(3)
    pairs = [invert.UnitPairs("layer", "layer", units, units, zeros, ones, zeros, ones)]
    how = {"target_maps": generate(wanted)[1], "pairs": pairs, "alpha": 0.0, "schedule": invert.Schedule(3)}
    left = invert.invert(generate, nearly, **how).latents
    assert (left[0] - nearly[0]).abs().max() > 1e-2
    kept = invert.invert(generate, nearly, **how, still=1e-6).latents
    assert torch.equal(kept[0], nearly[0])
    torch.testing.assert_close(kept[1], left[1])


def test_a_layer_that_is_silent_everywhere_contributes_nothing():
    maps = {"layer": torch.zeros(2, 2, 4, 4)}
    silent = [unit_pairs("layer", [0, 1], [0, 1], std_a=torch.zeros(2), std_b=torch.zeros(2))]
    for objective, value in (("distance", 0.0), ("product", 0.0), ("correlation", 1.0)):
        assert invert.Asked(maps, maps, silent).objective(maps, objective).tolist() == [value] * 2


def test_a_loss_of_one_number_is_taken_of_each_image_by_itself():
    draw = torch.Generator().manual_seed(7)
    target, start = torch.rand(3, 3, 2, 2, generator=draw), torch.rand(3, 12, generator=draw)
    step = next(
        invert.search(
            reshaping_generator,
            start,
            target_images=target,
            alpha=0.0,
            reconstruction=lambda images, targets: (images - targets).abs().max(),
        )
    )
    apart = (start.reshape(3, 3, 2, 2) - target).abs().flatten(1)
    assert step.losses.tolist() == pytest.approx([float(max(one)) for one in apart])
