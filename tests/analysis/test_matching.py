"""Matching and mining: blocks against one table, kept maps, planted units found, shuffled images and places not."""

from __future__ import annotations

import pytest
import torch
from random_pictures import IDENTITY, random_images
from torch import nn

from clipviz.analysis.rosetta import matching, unit_maps
from clipviz.analysis.rosetta.matching import heldout_correlation, match, unit_pairs
from clipviz.analysis.rosetta.mining import Mining, mine, pairs_above_chance
from clipviz.lens import invert, rosetta
from clipviz.models.zoo import Partner


def shared_network(seed, n_own, planted):
    """Three layers at 16, 8 and 8 px; the planted filters are among the first layer's units.

    In float64: the float32 product of a batch rounds by its size and by the machine, here by up to 6e-6.
    """
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, n_own, 5, 1, 2),
        nn.ReLU(),
        nn.Conv2d(n_own, 6, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(6, 5, 1),
        nn.ReLU(),
    )
    with torch.no_grad():
        for unit, (weight, bias) in planted.items():
            network[0].weight[unit], network[0].bias[unit] = weight, bias
    return network.double().eval()


@pytest.fixture(scope="module")
def partners():
    draw = torch.Generator().manual_seed(5)
    filters = [(torch.randn(3, 5, 5, generator=draw), torch.zeros(())) for _ in range(3)]
    one = shared_network(0, 9, dict(zip((1, 4, 7), filters, strict=True)))
    other = shared_network(1, 8, dict(zip((6, 0, 2), filters, strict=True)))
    layers = ("[135]",)
    return Partner("one", one, IDENTITY, layers), Partner("other", other, IDENTITY, layers)


def all_units(partner, images):
    """Every layer upsampled to 16 px, [image, unit, 16, 16]: what one table would be computed from."""
    maps = partner.maps(images).values()
    return torch.cat(
        [nn.functional.interpolate(m, (16, 16), mode="bilinear", align_corners=False) for m in maps], 1
    )


def test_match_finds_planted_units_and_equals_one_table(partners):
    images = random_images(12)
    matches = match(*partners, images, k=1, batch=5)
    assert matches.layers_a == (("1", 9), ("3", 6), ("5", 5))
    assert {(1, 6), (4, 0), (7, 2)} <= {tuple(pair) for pair in matches.pairs[:3].tolist()}
    torch.testing.assert_close(matches.strength[:3], torch.ones(3))
    maps_a, maps_b = partners[0].maps(images)["1"], partners[1].maps(images)["3"]
    expected = rosetta.correlate([(maps_a, maps_b)]).correlation()
    torch.testing.assert_close(matches.correlation[:9, 8:14], expected, atol=1e-6, rtol=0)


def test_any_memory_gives_the_same_pairs(partners):
    images = random_images(10)
    whole = match(*partners, images, k=3)
    for memory in (8 * 40, 8 * 120, 4 * 20 * 19):
        tight = match(*partners, images, k=3, memory=memory)
        assert tight.pairs.tolist() == whole.pairs.tolist()
        table = tight.correlation
        if table.is_sparse:
            table = table.to_dense()
            whole_table = torch.where(table != 0, whole.correlation, 0.0)
            torch.testing.assert_close(table, whole_table, atol=1e-6, rtol=0)
    assert tight.correlation.shape == whole.correlation.shape == (20, 19)


def test_maps_of_few_images_at_a_time_give_the_same_pairs(partners, monkeypatch):
    """Large maps are read a few images at a time; the sums are those over all of them."""
    images = random_images(10)
    whole = match(*partners, images, k=3)
    sizes = []
    monkeypatch.setattr(unit_maps, "MAPS_BYTES", 3 * 4 * (9 * 256 + 6 * 64 + 5 * 64))
    maps = unit_maps.View.maps
    monkeypatch.setattr(
        unit_maps.View, "maps", lambda view, rows: sizes.append(len(rows)) or maps(view, rows)
    )
    few = match(*partners, images, k=3)
    assert max(sizes) == 3
    assert few.pairs.tolist() == whole.pairs.tolist()
    a, b = (
        torch.cat([grown(maps) for maps in one.maps(images).values()], 1).double().transpose(0, 1).flatten(1)
        for one in partners
    )
    expected = torch.corrcoef(torch.cat([a, b]))[: len(a), len(a) :]
    same_size = torch.zeros(20, 19, dtype=torch.bool)
    same_size[:9, :8] = True  # both first layers at 16 px, where growing changes nothing
    torch.testing.assert_close(few.correlation[same_size].double(), expected[same_size], atol=1e-6, rtol=0)
    torch.testing.assert_close(few.correlation, whole.correlation, atol=1e-6, rtol=0)
    found, before = matching.heldout_correlation(*partners, images, whole, whole.pairs), whole.strength
    torch.testing.assert_close(found, before, atol=1e-6, rtol=0)
    mine(partners[0], [partners[1]], images, heldout=images, how=Mining(above=0.3))
    assert max(sizes) == 3


def grown(maps):
    return torch.nn.functional.interpolate(maps, (16, 16), mode="bilinear", align_corners=False)


def test_pairs_and_chance_pairs_come_from_the_same_passes(partners, monkeypatch):
    images = random_images(20)
    plain, chance = match(*partners, images, k=2, batch=6), match(*partners, images, k=2, batch=6, permute=0)
    read = []
    maps = partners[0].maps
    one = Partner("one", partners[0].module, IDENTITY, ("[135]",))
    object.__setattr__(one, "maps", lambda *given: read.append(len(given[0])) or maps(*given))
    both = matching.match_and_shuffled(one, partners[1], images, k=2, batch=6)
    assert sum(read) == 1 + len(images)  # the probe, and one pass for both
    for found, expected in zip(both, (plain, chance), strict=True):
        assert torch.equal(found.pairs, expected.pairs)
        assert torch.equal(found.strength, expected.strength)


def test_maps_that_fit_are_kept_from_pass_to_pass(partners, monkeypatch):
    """The pivot reads each image once where its maps fit, and as often as it is asked where they do not; the
    dictionary is the same."""
    images, others = random_images(20), random_images(10, seed=1)
    read = []
    maps = partners[0].maps
    one = Partner("one", partners[0].module, IDENTITY, ("[135]",))
    object.__setattr__(one, "maps", lambda *given: read.append(len(given[0])) or maps(*given))
    third = Partner("third", partners[1].module, IDENTITY, ("[13]",))
    found = []
    for room in (1 << 30, 0):
        monkeypatch.setattr(unit_maps, "KEPT_BYTES", room)
        read.clear()
        found.append(
            mine(one, [partners[1], third], images, heldout=others, how=Mining(n_examples=4, batch=8))
        )
        found.append(sum(n for n in read if n > 1))
    kept, n_kept, plain, n_plain = found
    thumbnails = n_kept - len(images) - len(others)  # of the examples, which are no run of images
    assert 0 <= thumbnails <= len(images)
    assert n_plain == thumbnails + 8 * len(images) + 2 * len(others)
    for name in ("units", "correlation", "heldout", "cluster", "examples", "threshold"):
        assert torch.equal(getattr(kept, name), getattr(plain, name)), name
    assert torch.equal(kept.thumbnails.maps, plain.thumbnails.maps)


def test_only_collections_that_are_known_are_kept_the_newest_first(partners, monkeypatch):
    first, second, unknown = (random_images(4, seed=n) for n in range(3))
    kept = unit_maps.KeptMaps(first, second)
    views = [unit_maps.View(partners[0], images, None, kept=kept) for images in (first, second, unknown)]
    monkeypatch.setattr(unit_maps, "KEPT_BYTES", views[0].image_bytes * 6)  # room for one of them
    read = []
    plain = unit_maps.View.read
    monkeypatch.setattr(unit_maps.View, "read", lambda view, rows: read.append(view) or plain(view, rows))
    for view, n_read in ((0, 1), (0, 1), (2, 2), (2, 3), (0, 3), (1, 4), (1, 4), (0, 5)):
        maps = views[view].maps(range(4))
        assert len(read) == n_read
        assert torch.equal(maps["3"], plain(views[view], range(4))["3"])
    views[0].maps([2, 0])
    views[0].maps([2, 0])
    assert len(read) == 7  # images in another order are read each time
    views[0].maps(range(2))
    views[0].maps(range(2, 4))
    views[0].maps(range(2))
    assert len(read) == 9  # smaller batches take the place of the larger one
    views[0].maps(range(4))
    assert len(read) == 10
    alone = unit_maps.View(partners[0], first, None)
    alone.maps(range(4))
    assert len(read) == 12  # one image for its shapes, and all, since nothing is kept for it


@pytest.mark.parametrize("memory", [2 << 30, 8 * 40])
def test_own_pairs_of_some_units_are_those_of_the_whole_table(partners, memory):
    """Only the rows of the chosen units are formed; neighbours are still sought among all units."""
    images, units = random_images(30), torch.tensor([0, 1, 3, 4, 8, 9, 10, 13, 15, 17, 19])
    table = match(partners[0], partners[0], images, k=1).correlation
    expected = rosetta.self_best_buddies(table, k=3, above=0.05).tolist()
    expected = [pair for pair in expected if set(pair) <= set(units.tolist())]
    everything = rosetta.self_best_buddies(table[units][:, units], k=3, above=0.05)
    assert len(everything) > len(expected) > 2  # neighbours that are not chosen push some out
    found = matching.own_pairs(partners[0], images, units, 3, 0.05, batch=7, memory=memory)
    assert sorted(found.tolist()) == sorted(expected)


def test_shuffled_images_lose_the_planted_units(partners):
    images = random_images(40)
    strong, chance = match(*partners, images), match(*partners, images, permute=0)
    assert strong.strength[:3].min() > 0.99
    assert chance.strength.max() < 0.7


class Placed(nn.Module):
    """A unit that lights up in one corner whatever the picture, one that follows the picture, and noise of its own."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.own = nn.Conv2d(3, 3, 1)
        self.units = nn.Identity()

    def forward(self, images):
        corner = torch.zeros_like(images[:, :1])
        corner[..., :4, :4] = 1
        return self.units(
            torch.cat(
                [
                    corner + 0.05 * self.own(images)[:, :1],
                    images.mean(1, keepdim=True),
                    self.own(images).tanh(),
                ],
                1,
            )
        )


def test_units_that_share_only_a_place_are_no_pair():
    one, other = (
        Partner(name, Placed(seed).eval(), IDENTITY, ("units",)) for name, seed in (("one", 0), ("other", 1))
    )
    images = random_images(40)
    plain = match(one, other, images, k=1)
    assert {(0, 0), (1, 1)} <= {tuple(pair) for pair in plain.pairs.tolist()}
    for above in ("chance", 0.5):
        found, n_chance, threshold = pairs_above_chance(one, other, images, Mining(above=above, k=1))
        assert (1, 1) in {tuple(pair) for pair in found.pairs.tolist()}
        assert (0, 0) not in {tuple(pair) for pair in found.pairs.tolist()}
        assert n_chance <= 1
        assert threshold >= 0
    by_place = heldout_correlation(one, other, images, plain, plain.pairs, permute=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    expected = rosetta.correlate(
        [(one.maps(images)["units"], other.maps(images[order])["units"])]
    ).correlation()
    torch.testing.assert_close(by_place, expected[plain.pairs[:, 0], plain.pairs[:, 1]], atol=1e-6, rtol=0)


def test_mine_writes_one_row_a_shared_unit(partners):
    one, other = partners
    third = Partner("third", other.module, IDENTITY, ("[13]",))
    concepts = mine(
        one, [other, third], random_images(40), heldout=random_images(20, seed=1), how=Mining(n_examples=4)
    )
    assert concepts.models == ("one", "other", "third")
    rows = {tuple(row) for row in concepts.units.tolist()}
    assert {(1, 6, 6), (4, 0, 0), (7, 2, 2)} <= rows
    top = concepts.units[:, 0].tolist().index(4)
    assert concepts.heldout[top].min() > 0.99
    drawn = torch.as_tensor(concepts.thumbnails.maps[top])
    assert drawn.flatten(1).any(1).all()  # also of the partners' unit 0
    assert (torch.as_tensor(concepts.thumbnails.peak)[top] > 0).all()
    assert concepts.examples.shape == (len(concepts), 4)
    assert len(set(concepts.cluster[:3].tolist())) == 3
    peaks = one.maps(random_images(40))["1"][:, 4].amax((1, 2))
    assert concepts.examples[top].tolist() == peaks.topk(4).indices.tolist()
    assert (concepts.n_pairs[1:] >= 3).all()
    assert concepts.where(top, 0) == ("1", 4)
    means = concepts.heldout[:, 1:].mean(1)
    assert (means[:-1] >= means[1:]).all()


def test_mine_keeps_rows_that_only_some_models_share(partners):
    one, other = partners
    blind = Partner("blind", nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval(), IDENTITY, ("1",))
    images, others = random_images(20), random_images(10, seed=1)
    assert len(mine(one, [other, blind], images, heldout=others, how=Mining(above=0.3))) == 0
    some = mine(one, [other, blind], images, heldout=others, how=Mining(above=0.3, at_least=1))
    assert len(some) >= 3
    assert (some.units[:, 2] == -1).any()
    assert (some.correlation[some.units == -1] == 0).all()
    with pytest.raises(ValueError, match="at least one partner"):
        mine(one, [], random_images(2), heldout=random_images(2))


def test_a_generator_is_matched_on_what_it_paints(partners):
    class Painter:
        name = "painter"

        def sample(self, n, seed=0):
            return random_images(n, seed=seed)

        def images(self, latents):
            return latents.flip(3)

        def maps(self, latents, layers=None):
            return partners[0].maps(latents.flip(3), layers)

    latents = Painter().sample(8)
    forwards = match(Painter(), partners[1], latents, k=1)
    assert {(1, 6), (4, 0), (7, 2)} <= {tuple(pair) for pair in forwards.pairs[:3].tolist()}
    backwards = match(partners[1], Painter(), latents, k=1)
    assert sorted(backwards.pairs.flip(1).tolist()) == sorted(forwards.pairs.tolist())
    heldout = Painter().sample(8, seed=1)
    concepts = mine(Painter(), [partners[1]], latents, heldout=heldout, how=Mining(above=0.5))
    assert {(1, 6), (4, 0), (7, 2)} <= {tuple(row) for row in concepts.units.tolist()}
    images, others = random_images(10, seed=4), random_images(10, seed=5)
    own = {"painter": (latents, heldout)}
    beside = mine(
        partners[1], [partners[0], Painter()], images, heldout=others, how=Mining(above=0.3), own=own
    )
    rows = beside.units.tolist()
    assert {(6, 1, 1), (0, 4, 4), (2, 7, 7)} <= {tuple(row) for row in rows}
    for column, (seen, unseen) in ((1, (images, others)), (2, (latents, heldout))):
        partner = (partners[0], Painter())[column - 1]
        found = match(partners[1], partner, seen)
        pairs = beside.units[:, [0, column]]
        for place, on in (("correlation", seen), ("heldout", unseen)):
            wanted = heldout_correlation(partners[1], partner, on, found, pairs)
            torch.testing.assert_close(getattr(beside, place)[:, column], wanted, atol=1e-6, rtol=0)
    looks = beside.thumbnails
    assert looks.maps[:, :2].any()
    assert not looks.maps[:, 2].any()  # the examples are not what it painted
    by_layer = torch.cat([maps.amax((2, 3)) for maps in Painter().maps(latents).values()], 1)
    assert (looks.peak[:, 2] <= by_layer.amax(0)[beside.units[:, 2]] + 1e-6).all()
    assert (looks.peak[:, 2] > looks.floor[:, 2]).all()


def test_unit_pairs_carry_the_moments_that_inversion_needs(partners):
    images = random_images(12)
    matches = match(*partners, images, k=1)
    groups = unit_pairs(*partners, images, matches, batch=5)
    assert sum(len(group.units_a) for group in groups) == len(matches.pairs)
    group = next(g for g in groups if (g.layer_a, g.layer_b) == ("1", "1"))
    maps = partners[0].maps(images)["1"][:, group.units_a].transpose(0, 1).flatten(1)
    torch.testing.assert_close(group.mean_a, maps.mean(1).float())
    torch.testing.assert_close(group.std_a, maps.std(1).float())
    similarity = invert.activation_similarity(partners[0].maps(images), partners[1].maps(images), groups)
    expected = heldout_correlation(*partners, images, matches, matches.pairs).mean()
    torch.testing.assert_close(similarity.mean().float(), expected, atol=1e-3, rtol=0)


def test_match_of_nothing_is_refused(partners):
    with pytest.raises(ValueError, match="at least one image"):
        match(*partners, [])
    assert unit_maps.as_partner(partners[0]) is partners[0]
