"""Edits and inversions on a toy generator that paints a blob where its latent says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from clipviz.analysis.generation import editing, inversion
from clipviz.analysis.generation import guides as stored
from clipviz.analysis.generation.guides import find_guides, pairs_with
from clipviz.lens import edits
from clipviz.lens.invert import OBJECTIVES, Asked, Schedule
from clipviz.models.generator import ModuleGenerator
from clipviz.models.hooks import activation_maps

SIDE = 16
QUICK = Schedule(150, 0.05)


class Blob(nn.Module):
    """Three numbers to a blob: place x, place y and brightness, read back by one convolution's units."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Conv2d(1, 4, 1, bias=False)
        self.units.weight.data = torch.tensor([1.0, -1.0, 0.5, 0.0]).reshape(4, 1, 1, 1)
        self.rgb = nn.Conv2d(4, 3, 1, bias=False)
        self.rgb.weight.data = torch.tensor([[1.0, 0, 0, 0], [0, 0, 2, 0], [1, 0, 0, 0]]).reshape(3, 4, 1, 1)

    def forward(self, z):
        at = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
        x, y = z[:, 0, None, None], z[:, 1, None, None]
        blob = torch.exp(-((at[None, None] - 0.2 * x) ** 2 + (at[None, :, None] - 0.2 * y) ** 2) / 0.02)
        height = torch.sigmoid(z[:, 2, None, None])
        return self.rgb(self.units((height * blob)[:, None]))


@pytest.fixture(scope="module")
def generator():
    module = Blob().eval().requires_grad_(False)
    return ModuleGenerator("blob", module, module, ("units",), 3)


class Reader:
    """A network that sees pictures: its units are three pooled colours."""

    name = "reader"

    def maps(self, images, layers=None):
        return {"pool": torch.nn.functional.avg_pool2d(torch.as_tensor(images), 2)}


@pytest.fixture(scope="module")
def guides(generator):
    return find_guides(generator, {"reader": Reader()}, generator.sample(64, seed=0))


def place(images):
    """Centroid [image, (x, y)] in -0.5..0.5 of the red channel."""
    at = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    red = images[:, 0].clamp(0)
    total = red.sum((1, 2))
    return torch.stack([(red * at).sum((1, 2)) / total, (red * at[:, None]).sum((1, 2)) / total], 1)


def test_guides_are_best_buddies_each_once(guides):
    units = [(group.layer_a, unit) for group in guides.own for unit in group.units_a.tolist()]
    assert len(units) == len(set(units)) == guides.n_units
    assert ("units", 0) in units
    assert ("units", 3) not in units  # a dead unit correlates with nothing
    assert set(guides.pairs) == {"reader"}
    assert all(group.layer_b == "reader/pool" for group in guides.pairs["reader"])


def test_guides_read_the_generators_maps_once_for_all_readers(generator, guides, monkeypatch):
    """The same guides, with one pass for each batch of latents, beside the probes of one latent for map sizes."""
    read, maps = [], type(generator).maps

    def counted(self, latents, *layers):
        read.append(len(latents))
        return maps(self, latents, *layers)

    monkeypatch.setattr(type(generator), "maps", counted)
    both = find_guides(generator, {"reader": Reader(), "other": Reader()}, generator.sample(64, seed=0))
    assert [n for n in read if n > 1] == [32, 32]
    for name in ("reader", "other"):
        for one, first in zip(both.pairs[name], guides.pairs["reader"], strict=True):
            assert torch.equal(one.units_a, first.units_a)
            assert torch.equal(one.units_b, first.units_b)
            assert torch.equal(one.std_a, first.std_a)
            assert torch.equal(one.mean_b, first.mean_b)


def test_no_change_leaves_every_number_in_place(generator, guides):
    latents = generator.sample(3, seed=1)
    found = editing.edit(generator, latents, guides, "none")
    assert torch.equal(found.latents, latents)
    assert torch.equal(found.images, found.source)
    assert found.distance.tolist() == found.asked.tolist() == [0, 0, 0]


@pytest.mark.parametrize("change", ["none", "zoom", "shift"])
def test_a_search_for_what_is_there_ends_where_it_began(generator, guides, change):
    """Adam leaves an optimum by steps of full length along gradients of rounding, and so does a pull to the mean."""
    latents, steps = generator.sample(5, seed=1), []
    found = editing.edit(
        generator, latents, guides, change, start=latents, schedule=QUICK, progress=steps.append
    )
    torch.testing.assert_close(found.latents, latents, atol=1e-5, rtol=0)
    assert (found.distance <= found.asked).all()
    assert [step.number for step in steps] == list(range(QUICK.n_steps + 1))


def test_literal_maps_are_those_of_the_thesis(generator, guides):
    """Zeros come in, halves are copied and minima removed, whatever stands out."""
    maps = generator.maps(torch.tensor([[0.4, 0.1, 1.0]]))
    units = guides.own[0].units_a
    before = maps["units"][:, units] + 1.0
    maps = {"units": maps["units"] + 1.0}
    asked = {
        change: editing.asked_maps(maps, guides.own, change, right, 0.0, factor, literal=True)["units"][
            :, units
        ]
        for change, right, factor in (
            ("shift", 0.25, 1.0),
            ("zoom", 0.0, 2.0),
            ("copy", 0, 1),
            ("remove", 0, 1),
        )
    }
    moved = SIDE // 4
    assert (asked["shift"][..., :moved] == 0).all()
    torch.testing.assert_close(asked["shift"][..., moved:], before[..., :-moved])
    doubled = torch.nn.functional.interpolate(before, scale_factor=2.0, mode="bilinear", align_corners=False)
    middle = slice(SIDE // 2, SIDE // 2 + SIDE)
    torch.testing.assert_close(asked["zoom"], doubled[..., middle, middle], atol=1e-5, rtol=1e-5)
    left, right = torch.zeros_like(before), torch.zeros_like(before)
    left[..., :-moved], right[..., moved:] = before[..., moved:], before[..., :-moved]
    half = SIDE // 2
    torch.testing.assert_close(asked["copy"], torch.cat([left[..., :half], right[..., half:]], 3))
    torch.testing.assert_close(asked["remove"], before.amin((2, 3), keepdim=True).expand_as(before))
    usual = editing.asked_maps(maps, guides.own, "shift", 0.25)["units"][:, units]
    assert (usual[..., 0] > 0.4).any()  # the border goes on


def test_a_literal_edit_searches_for_literal_maps_by_the_literal_objective(generator, guides):
    latents = torch.tensor([[0.4, 0.1, 1.0]])
    for literal in (False, True):
        asked = editing.asked_maps(generator.maps(latents), guides.own, "shift", 0.25, literal=literal)
        for objective in ("distance", "product"):
            found = editing.edit(
                generator,
                latents,
                guides,
                "shift",
                right=0.25,
                literal=literal,
                objective=objective,
                schedule=Schedule(1),
            )
            expected = Asked(generator.maps(latents), asked, guides.own)
            torch.testing.assert_close(found.asked, expected.objective(generator.maps(latents), objective))


def test_a_shift_moves_what_is_painted_by_what_was_asked(generator, guides):
    latents = torch.tensor([[-0.8, 0.2, 1.0], [0.0, -0.5, 0.5]])
    found = editing.edit(generator, latents, guides, "shift", right=0.125, down=0.0625, schedule=QUICK)
    moved = place(found.images) - place(found.source)
    torch.testing.assert_close(moved, torch.tensor([[0.125, 0.0625]]).expand(2, 2), atol=0.02, rtol=0)
    assert (found.distance < 0.2 * found.asked).all()


def test_removal_and_amplification_stop_where_asked(generator, guides):
    latents = torch.tensor([[0.0, 0.0, 0.0]])
    height = lambda images: float(images[0, 0].max())  # noqa: E731
    removed = editing.edit(generator, latents, guides, "remove", alpha=0.0, schedule=Schedule(200, 0.1))
    assert height(removed.images) < 0.2 * height(removed.source)
    louder = editing.edit(generator, latents, guides, "amplify", factor=1.5, alpha=0.0, schedule=QUICK)
    assert height(louder.images) == pytest.approx(1.5 * height(louder.source), rel=0.03)


def test_a_few_units_can_be_changed_and_the_rest_kept(generator, guides):
    chosen = guides.of([("units", 0)])
    rest = guides.without(chosen)
    assert sum(len(group.units_a) for group in rest) == guides.n_units - 1
    with pytest.raises(ValueError, match=r"got \[\('units', 3\)\]; choose concepts"):
        guides.of([("units", 3)])
    latents = torch.tensor([[0.0, 0.0, 0.0]])
    every = editing.edit(generator, latents, guides, "shift", right=0.1, schedule=QUICK)
    alone = editing.edit(generator, latents, guides, "shift", units=[("units", 0)], right=0.1, schedule=QUICK)
    assert place(alone.images)[0, 0] < place(every.images)[0, 0] - 0.01  # the kept units hold it back


def test_overwriting_units_is_the_baseline_and_leaves_no_hook(generator, guides):
    latents = torch.tensor([[0.0, 0.0, 1.0]])
    written = editing.edit_units_directly(generator, latents, guides, "shift", right=0.125)
    torch.testing.assert_close(place(written)[0, 0], torch.tensor(0.125), atol=0.03, rtol=0)
    assert not generator.module.units._forward_hooks
    with activation_maps(generator.module, ("units",)) as maps:
        generator.images(latents)
    assert maps


def test_maps_alone_invert_a_picture_that_no_latent_paints(generator, guides):
    """Figure 4.4: a square in the place of the blob is found by its maps."""
    picture = torch.zeros(1, 3, SIDE, SIDE)
    picture[:, :, 9:13, 3:7] = 0.5
    found = inversion.invert(
        generator,
        torch.zeros(1, 3),
        images=picture,
        readers={"reader": Reader()},
        guides=guides,
        alpha=0.001,
        schedule=Schedule(200, 0.1),
    )
    torch.testing.assert_close(place(found.images), torch.tensor([[-0.1875, 0.1875]]), atol=0.04, rtol=0)
    assert (found.distance < found.asked).all()


def test_a_single_concept_from_several_starts_shares_its_map(generator, guides):
    starts = torch.tensor([[1.0, 0.5, 1.0], [-1.0, -0.5, 0.0], [0.2, -1.0, 0.5]])
    found = inversion.visualise(
        generator, starts, guides, ("units", 0), alpha=0.0, schedule=Schedule(300, 0.1)
    )
    spread = lambda images: place(images).std(0).sum()  # noqa: E731
    assert spread(found.images) < 0.2 * spread(found.source)
    assert (found.distance <= found.asked + 1e-6).all()


def test_impossible_changes_say_what_to_do(generator, guides):
    latents = generator.sample(1)
    for wrong, told in (
        ({"change": "turn"}, "among none, zoom, shift, copy, remove, amplify, got 'turn'"),
        ({"change": "zoom", "factor": 0.0}, "positive zoom"),
        ({"change": "shift", "right": float("nan")}, "finite moves"),
        ({"change": "amplify", "factor": -1.0}, "0 or more"),
    ):
        with pytest.raises(ValueError, match=told):
            editing.edit(generator, latents, guides, **wrong)
    with pytest.raises(ValueError, match="no unit of 'blob' correlates above 2"):
        find_guides(generator, {"reader": Reader()}, generator.sample(8), above=2.0)


def test_guides_come_back_from_disk_for_the_same_weights_alone(tmp_path, generator, guides):
    about, path = {"": stored.fingerprint(generator.module), "reader": "0"}, tmp_path / "guides.safetensors"
    assert stored.open_guides(path, about) is None
    stored.save(path, guides, about)
    assert stored.open_guides(path, about).felt is None
    stored.save(path, replace(guides, felt=torch.eye(3)), about)
    found = stored.open_guides(path, about)
    assert torch.equal(found.felt, torch.eye(3))
    for one, other in zip(found.own, guides.own, strict=True):
        assert one.layer_a == other.layer_a
        assert torch.equal(one.units_a, other.units_a)
        assert torch.equal(one.std_a, other.std_a)
    assert stored.open_guides(path, {**about, "": "other"}) is None
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"expected guides at .* cannot be read .* delete it"):
        stored.open_guides(path, about)


@pytest.mark.parametrize(
    ("given", "objective"),
    [
        ({"pixels": False}, "correlation"),
        ({"pixels": True}, "distance"),
        ({"objective": "product"}, "product"),
    ],
)
def test_maps_alone_are_compared_by_their_correlation(generator, guides, given, objective):
    wanted = torch.tensor([[0.8, -0.4, 1.0]])
    reader, start = Reader(), torch.zeros(1, 3)
    how = {name: value for name, value in given.items() if name != "pixels"}
    target = generator.images(wanted) if given.get("pixels") else None
    found = inversion.invert(
        generator,
        start,
        images=generator.images(wanted),
        readers={"reader": reader},
        guides=guides,
        target=target,
        schedule=Schedule(1),
        **how,
    )
    asked = inversion.read({"reader": reader}, generator.images(wanted))
    pairs = pairs_with({"reader": reader}, guides)
    expected = Asked(generator.maps(start), asked, pairs).objective(generator.maps(start), objective)
    torch.testing.assert_close(found.asked, expected)
    others = {*OBJECTIVES} - {objective}
    for other in others:
        assert not torch.allclose(
            expected, Asked(generator.maps(start), asked, pairs).objective(generator.maps(start), other)
        )


def test_copies_and_removals_act_on_where_the_units_stand_out(generator, guides):
    maps = generator.maps(torch.tensor([[-1.0, 0.5, 1.0]]))
    (group,) = guides.own
    own = maps["units"][:, group.units_a]
    where = edits.region([(own, group.std_a)])
    for change, make in (("copy", edits.pasted), ("remove", edits.filled)):
        found, plain = (
            editing.asked_maps(maps, guides.own, change, literal=literal)["units"][:, group.units_a]
            for literal in (False, True)
        )
        torch.testing.assert_close(found, make(own, where))
        assert not torch.allclose(found, plain, atol=1e-3), change


def test_a_concepts_picture_is_the_one_nearest_to_its_map_on_the_way(generator, guides):
    """A rate this high goes past what is asked; the last step is not the nearest."""
    starts, steps = torch.tensor([[1.0, 0.5, 1.0], [-1.0, -0.5, 0.0], [0.2, -1.0, 0.5]]), []
    found = inversion.visualise(
        generator, starts, guides, ("units", 0), schedule=Schedule(25, 0.6), progress=steps.append
    )
    distances = torch.stack([step.objectives for step in steps])
    assert (distances[-1] > distances.amin(0)).any()
    torch.testing.assert_close(found.distance, distances.amin(0))
    for image, step in enumerate(distances.argmin(0).tolist()):
        torch.testing.assert_close(found.images[image], steps[step].images[image])
