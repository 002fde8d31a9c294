"""Rosetta matching against brute force: upsample everything in float64, then correlate and intersect sets."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from clipviz.lens import rosetta
from clipviz.lens.best_buddies import Neighbours
from clipviz.lens.upsample import adjoint, axis_matrix

SIZES = [
    ((7, 7), (7, 7)),
    ((14, 14), (4, 4)),
    ((4, 4), (14, 14)),
    ((6, 10), (9, 5)),
    ((5, 12), (5, 3)),
    ((1, 1), (3, 4)),
]


def random_maps(n_images, n_units, size, seed):
    draw = torch.Generator().manual_seed(seed)
    maps = torch.randn(n_images, n_units, *size, generator=draw)
    return (
        maps * torch.linspace(0.1, 3, n_units)[:, None, None] + torch.linspace(-2, 5, n_units)[:, None, None]
    )


def brute_force(maps_a, maps_b):
    """Eq. 4.1 and 4.2 as written: bilinear upsampling to the larger size, then Pearson over images and positions."""
    size = tuple(max(a, b) for a, b in zip(maps_a.shape[2:], maps_b.shape[2:], strict=True))
    flat = []
    for maps in (maps_a, maps_b):
        up = F.interpolate(maps.double(), size=size, mode="bilinear", align_corners=False)
        up = up.transpose(0, 1).flatten(1)
        flat.append(up - up.mean(1, keepdim=True))
    norms = [f.norm(dim=1) for f in flat]
    return flat[0] @ flat[1].T / (norms[0][:, None] * norms[1]).clamp_min(1e-12)


@pytest.mark.parametrize(("size_a", "size_b"), SIZES)
def test_correlation_equals_upsample_then_correlate(size_a, size_b):
    maps_a, maps_b = random_maps(9, 5, size_a, 0), random_maps(9, 8, size_b, 1)
    sums = rosetta.CorrelationSums(5, 8)
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        sums.update(maps_a[part], maps_b[part])
    torch.testing.assert_close(sums.correlation().double(), brute_force(maps_a, maps_b), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size_a", "size_b"), SIZES)
def test_adjoint_moves_inner_products(size_a, size_b):
    x, y = random_maps(1, 1, size_a, 2).double(), random_maps(1, 1, size_b, 3).double()
    size = tuple(map(max, size_a, size_b))
    up = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in (x, y)]
    expected = (up[0] * up[1]).sum()
    torch.testing.assert_close((adjoint(x, size_b) * adjoint(y, size_a)).sum(), expected)


def test_axis_matrix_by_hand():
    matrix = axis_matrix(2, 4, torch.zeros(1))
    torch.testing.assert_close(matrix, torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1.0]]))
    with pytest.raises(ValueError, match="4 -> 2 samples"):
        axis_matrix(4, 2, torch.zeros(1))


def test_merge_in_any_order_is_one_pass():
    maps_a, maps_b = random_maps(12, 4, (6, 6), 4), random_maps(12, 5, (3, 3), 5)
    whole = rosetta.CorrelationSums(4, 5).update(maps_a, maps_b).correlation()
    bounds = [(0, 5), (5, 6), (6, 12)]
    shards = [rosetta.CorrelationSums(4, 5).update(maps_a[i:j], maps_b[i:j]) for i, j in bounds]
    for order in itertools.permutations(shards):
        merged = rosetta.CorrelationSums(4, 5)
        for shard in order:
            merged = merged.merge(shard)
        assert merged.n_positions == 12 * 36
        torch.testing.assert_close(merged.correlation(), whole, atol=1e-6, rtol=0)
    assert shards[0].n_positions == 5 * 36, "merge leaves its inputs alone"


def test_a_large_mean_costs_no_digits():
    maps_a, maps_b = random_maps(6, 3, (8, 8), 6) + 3000, random_maps(6, 3, (4, 4), 7) - 2000
    found = rosetta.CorrelationSums(3, 3).update(maps_a, maps_b).correlation()
    torch.testing.assert_close(found.double(), brute_force(maps_a, maps_b), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "dtypes", list(itertools.permutations((torch.float64, torch.float32, torch.bfloat16), 2))
)
@pytest.mark.parametrize("paired", [False, True])
def test_maps_of_two_precisions_are_compared(dtypes, paired):
    maps_a, maps_b = (random_maps(6, 3, (8, 8), 6 + i).to(dtype) for i, dtype in enumerate(dtypes))
    found = rosetta.CorrelationSums(3, 3, paired=paired).update(maps_a, maps_b).correlation().double()
    expected = brute_force(maps_a.double(), maps_b.double())
    torch.testing.assert_close(found, expected.diagonal() if paired else expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e4])
def test_a_dead_unit_never_matches(constant):
    maps_a, maps_b = random_maps(8, 4, (12, 12), 8), random_maps(8, 4, (5, 5), 9)
    maps_a[:, 1], maps_b[:, 2] = constant, constant
    sums = rosetta.CorrelationSums(4, 4)
    for i in range(0, 8, 2):
        sums.update(maps_a[i : i + 2], maps_b[i : i + 2])
    dead_a, dead_b = sums.dead()
    assert dead_a.tolist() == [False, True, False, False]
    assert dead_b.tolist() == [False, False, True, False]
    correlation = sums.correlation()
    assert torch.isfinite(correlation).all()
    assert (correlation[1] == 0).all()
    assert (correlation[:, 2] == 0).all()
    pairs = rosetta.best_buddies(correlation, k=4)
    assert 1 not in pairs[:, 0]
    assert 2 not in pairs[:, 1]


def test_bad_maps_are_refused_by_name():
    sums = rosetta.CorrelationSums(3, 2)
    good = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"model b as \[image, 2, rows, cols\], got \[2, 3, 4, 4\]"):
        sums.update(good, good)
    with pytest.raises(ValueError, match="same images for both models, got 2 and 1"):
        sums.update(good, good[:1, :2])
    with pytest.raises(ValueError, match="at least one image"):
        sums.correlation()
    with pytest.raises(ValueError, match="NaN or infinity"):
        sums.update(good * float("nan"), good[:, :2]).correlation()
    with pytest.raises(ValueError, match="same two models"):
        sums.merge(rosetta.CorrelationSums(2, 2))
    with pytest.raises(ValueError, match="k >= 1"):
        rosetta.best_buddies(torch.rand(2, 2), k=0)
    with pytest.raises(ValueError, match="square table"):
        rosetta.self_best_buddies(torch.rand(2, 3))
    with pytest.raises(ValueError, match="at least one model"):
        rosetta.rosetta_units([])


@st.composite
def tables(draw, square=False):
    n_a = draw(st.integers(1, 9))
    n_b = n_a if square else draw(st.integers(1, 9))
    order = torch.randperm(n_a * n_b, generator=torch.Generator().manual_seed(draw(st.integers(0, 10**6))))
    return order.reshape(n_a, n_b) / (n_a * n_b) * 2 - draw(st.sampled_from([0.1, 1.0]))


def buddies_by_sets(table, k):
    n_a, n_b = table.shape
    nearest_a = [set(sorted(range(n_b), key=lambda c: -table[j, c])[:k]) for j in range(n_a)]
    nearest_b = [set(sorted(range(n_a), key=lambda j: -table[j, c])[:k]) for c in range(n_b)]
    both = itertools.product(range(n_a), range(n_b))
    return {(j, c) for j, c in both if c in nearest_a[j] and j in nearest_b[c] and table[j, c] > 0}


@settings(max_examples=60)
@given(tables(), st.integers(1, 6))
def test_best_buddies_equal_the_set_definition(table, k):
    pairs = rosetta.best_buddies(table, k)
    assert {tuple(pair) for pair in pairs.tolist()} == buddies_by_sets(table, k)
    strength = table[pairs[:, 0], pairs[:, 1]]
    assert (strength[:-1] >= strength[1:]).all()


@settings(max_examples=30)
@given(tables(), st.integers(1, 6), st.integers(1, 4))
def test_neighbours_by_blocks_equal_the_whole_table(table, k, step):
    found = Neighbours.empty(*table.shape, k=k)
    for i, j in itertools.product(range(0, table.shape[0], step), range(0, table.shape[1], step)):
        found = found.include(table[i : i + step, j : j + step], i, j)
    pairs, strength = found.pairs()
    assert pairs.tolist() == rosetta.best_buddies(table, k).tolist()
    assert strength.tolist() == table[pairs[:, 0], pairs[:, 1]].tolist()


@settings(max_examples=40)
@given(st.lists(tables(square=True).filter(lambda t: len(t) >= 2), min_size=1, max_size=3), st.integers(1, 4))
def test_rosetta_units_and_clusters_equal_the_set_definition(square_tables, k):
    n_pivots = min(map(len, square_tables))
    sets = [buddies_by_sets(table[:n_pivots], k) for table in square_tables]
    pairs = [rosetta.best_buddies(table[:n_pivots], k) for table in square_tables]
    units = rosetta.rosetta_units(pairs)
    everything = itertools.product(range(n_pivots), *(range(table.shape[1]) for table in square_tables))
    expected = {(j, *cs) for j, *cs in everything if all((j, c) in s for c, s in zip(cs, sets, strict=True))}
    assert {tuple(row) for row in units.tolist()} == expected

    strongest = rosetta.rosetta_units(pairs, strongest=True)
    assert sorted(strongest[:, 0].tolist()) == sorted({row[0] for row in expected})
    assert {tuple(row) for row in strongest.tolist()} <= expected

    self_table = square_tables[0][:n_pivots, :n_pivots]
    links = rosetta.self_best_buddies(self_table, k)
    concepts = rosetta.clusters(units, links).tolist()
    groups = [{j} for j in {row[0] for row in expected}]
    for one, other in links.tolist():
        joined = [group for group in groups if one in group or other in group]
        if any(one in g for g in groups) and any(other in g for g in groups):
            groups = [g for g in groups if g not in joined] + [set().union(*joined)]
    by_concept: dict[int, set] = {}
    for row, concept in zip(units.tolist(), concepts, strict=True):
        by_concept.setdefault(concept, set()).add(row[0])
    assert sorted(map(sorted, by_concept.values())) == sorted(map(sorted, groups))


def test_best_buddies_by_hand():
    table = torch.tensor([[0.9, 0.8, -0.1], [0.7, 0.1, -0.2]])
    assert rosetta.best_buddies(table, k=1).tolist() == [[0, 0]]
    assert rosetta.best_buddies(table, k=2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert rosetta.best_buddies(table, k=2, above=0.75).tolist() == [[0, 0], [0, 1]]
    links = rosetta.self_best_buddies(torch.tensor([[1, 0.5, 0], [0.5, 1, 0.1], [0, 0.1, 1]]), k=1)
    assert links.tolist() == [[0, 1]]


def planted_networks(seed):
    """Two random networks whose first maps share five planted concepts, in shuffled places and at two sizes."""
    draw = torch.Generator().manual_seed(seed)
    concepts = F.interpolate(torch.randn(40, 5, 6, 6, generator=draw), size=(12, 12), mode="bilinear")
    own_a, own_b = torch.randn(40, 20, 12, 12, generator=draw), torch.randn(40, 30, 6, 6, generator=draw)
    place_a, place_b = torch.randperm(20, generator=draw)[:5], torch.randperm(30, generator=draw)[:5]
    own_a[:, place_a] = 3 * concepts + 0.3 * own_a[:, place_a] + 1
    own_b[:, place_b] = F.avg_pool2d(concepts, 2) + 0.1 * own_b[:, place_b]
    return own_a, own_b, set(zip(place_a.tolist(), place_b.tolist(), strict=True))


def test_planted_common_units_are_recovered_exactly():
    maps_a, maps_b, planted = planted_networks(11)
    null = rosetta.permutation_baseline(maps_a, maps_b, n_permutations=3)
    pairs = rosetta.best_buddies(
        rosetta.correlate([(maps_a, maps_b)]).correlation(), k=1, above=float(null.strength.max())
    )
    assert {tuple(pair) for pair in pairs.tolist()} == planted


def test_heldout_is_the_correlation_of_those_pairs_on_other_images():
    maps_a, maps_b, planted = planted_networks(12)
    pairs = torch.tensor(sorted(planted))
    found = rosetta.heldout([(maps_a[20:30], maps_b[20:30]), (maps_a[30:], maps_b[30:])], pairs)
    expected = brute_force(maps_a[20:], maps_b[20:])[pairs[:, 0], pairs[:, 1]]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    assert found.min() > 0.7


def test_permuting_images_breaks_what_images_share_and_keeps_what_places_share():
    maps_a, maps_b, _ = planted_networks(13)
    maps_a[:, 0], maps_b[:, 0] = torch.arange(12.0), torch.arange(6.0)
    null = rosetta.permutation_baseline(maps_a, maps_b, k=1, n_permutations=2)
    assert len(null.n_pairs) == 2
    assert null.strength.max() > 0.95, "a ramp from left to right survives any order of images"
    assert null.strength.sort().values[-3] < 0.4, "the planted concepts do not"
    assert null.threshold(0.5) < null.threshold(1.0)


def test_neighbours_of_sums_give_the_pairs_of_the_table():
    maps_a, maps_b, _ = planted_networks(14)
    sums = rosetta.correlate([(maps_a, maps_b)])
    assert sums.neighbours(3).pairs()[0].tolist() == rosetta.best_buddies(sums.correlation(), 3).tolist()
    with pytest.raises(ValueError, match="at least one batch"):
        rosetta.correlate([])


@pytest.mark.parametrize("faint", [1e-12, 1e-9])
def test_a_unit_beneath_the_rounding_of_its_layer_is_dead(faint):
    maps_a, maps_b = random_maps(8, 4, (6, 6), 8), random_maps(8, 4, (6, 6), 9)
    maps_a[:, 1] *= faint
    maps_b[:, 1] = maps_a[:, 1]
    sums = rosetta.CorrelationSums(4, 4).update(maps_a, maps_b)
    assert sums.dead()[0].tolist() == [False, True, False, False]
    assert (sums.correlation()[1] == 0).all()
    small = rosetta.CorrelationSums(4, 4).update(maps_a[:, [1, 1, 1, 1]], maps_b)
    assert not small.dead()[0].any()  # a whole layer of small numbers is not dead


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_maps_in_half_precision_are_read_as_float32(dtype):
    maps_a, maps_b = (random_maps(8, 4, (6, 6), seed).to(dtype) for seed in (8, 9))
    found = rosetta.CorrelationSums(4, 4).update(maps_a, maps_b).correlation()
    torch.testing.assert_close(found.double(), brute_force(maps_a, maps_b), atol=1e-5, rtol=0)
