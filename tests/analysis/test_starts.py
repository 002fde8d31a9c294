"""Copies and removals on a toy whose second blob is hidden: no map feels where it would be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipviz.analysis.generation import editing, inversion, starts
from clipviz.analysis.generation.guides import Guides
from clipviz.lens.invert import Asked, Schedule, UnitPairs
from clipviz.models.generator import ModuleGenerator

SIDE = 24
PLACES = (0.3, 0.75)


class Blobs(nn.Module):
    """Four numbers: the places of two blobs, whether there is a second (above 1), and one that nothing shows."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Conv2d(1, 2, 1, bias=False)
        self.units.weight.data = torch.tensor([1.0, -0.5]).reshape(2, 1, 1, 1)

    def forward(self, z):
        at = (torch.arange(SIDE) + 0.5) / SIDE
        shown = [torch.ones(len(z)), torch.sigmoid(10 * (z[:, 2] - 1))]
        picture = sum(
            light[:, None, None]
            * torch.exp(
                -((at[None, None] - 0.5 - 0.2 * z[:, i, None, None]) ** 2 + (at[None, :, None] - 0.5) ** 2)
                / 0.01
            )
            for i, light in enumerate(shown)
        )
        maps = self.units(picture[:, None])
        return maps[:, :1].expand(-1, 3, -1, -1)


@pytest.fixture(scope="module")
def generator():
    module = Blobs().eval().requires_grad_(False)
    return ModuleGenerator("blobs", module, module, ("units",), 4)


@pytest.fixture(scope="module")
def guides():
    units, zero, std = torch.arange(2), torch.zeros(2), torch.tensor([0.3, 0.15])
    own = UnitPairs("units", "units", units, units, zero, std, zero, std)
    return Guides({}, (own,))


@pytest.fixture(scope="module")
def latents():
    return torch.tensor([[-1.0, 0.0, 0.0, 0.3], [1.0, -0.2, -0.3, 0.0]])


def test_sensitivity_is_the_mean_square_of_derivatives(generator, guides, latents):
    found = starts.sensitivity(generator, latents, guides.own, step=1e-2)

    def of(z):
        return starts.features(generator.generate(z[None])[1], guides.own)[0]

    for i in range(2):
        slopes = torch.autograd.functional.jacobian(of, latents[i]).T
        torch.testing.assert_close(found[i], slopes @ slopes.T / slopes.shape[1], atol=0.02, rtol=0.05)
    assert found[:, 1].abs().max() < 1e-3 * found[:, 0, 0].min()  # where the hidden blob would be


def test_what_is_drawn_around_moves_what_no_map_feels(generator, guides, latents):
    drawn = torch.stack(starts.around(generator, latents, guides.own, 60)) - latents
    spread = drawn.std(0)
    assert (spread[:, 0] < 0.3).all()  # a move by 0.2 of a unit is a twenty-fifth of the side
    assert (spread[:, [1, 3]] > 0.8).all()
    other = starts.around(generator, latents[:, None], guides.own, 2)
    assert other[0].shape == latents[:, None].shape


def test_what_is_sought_lies_in_the_direction_that_is_asked(generator, guides, latents):
    asked = editing.asked_maps(generator.maps(latents), guides.own, "copy")
    usual = starts.usual_sensitivity(generator, guides.own)
    # the second blob is felt on other pictures, the idle number on none
    assert usual[1, 1] > 10 * usual[3, 3]
    assert len(list(starts.seek(generator, latents, asked, guides.own, usual=usual))) == starts.N_SOUGHT
    found = _end(starts.seek(generator, latents, asked, guides.own, usual=usual))
    before = starts.features(generator.maps(latents), guides.own)
    moved, wanted = (starts.features(maps, guides.own) - before for maps in (generator.maps(found), asked))
    assert (torch.nn.functional.cosine_similarity(moved, wanted) > 0.5).all()
    # usual is then taken anew
    assert torch.equal(found, _end(starts.seek(generator, latents, asked, guides.own)))


def _end(rounds):
    while True:
        try:
            next(rounds)
        except StopIteration as end:
            return end.value


def test_a_copy_shows_what_was_hidden_and_small_steps_alone_do_not(generator, guides, latents, monkeypatch):
    # held a little, so that no step is taken by chance
    quick = {"schedule": Schedule(60, 0.05), "alpha": 0.002}
    found = editing.edit(generator, latents, guides, "copy", **quick)
    assert (found.latents[:, 2] > 1).all()
    assert (found.distance < 0.4 * found.asked).all()

    def stay(_generator, start, *_, **__):
        yield from ()
        return start

    monkeypatch.setattr(starts, "seek", stay)
    stuck = editing.edit(generator, latents, guides, "copy", **quick)
    assert (stuck.latents[:, 2] < 1).all()


def test_a_removal_asks_for_the_surroundings(generator, guides, latents):
    both = torch.tensor([[-1.2, 1.2, 1.5, 0.0]])
    maps = generator.maps(both)
    where = editing.edited_region(maps, guides.own)
    asked = editing.change_of("remove", where=where)(maps["units"])
    assert asked[0, 0].max() < 0.2 * maps["units"][0, 0].max()


def test_starts_are_the_nearest_of_several_for_each_image(generator, guides, latents):
    maps = generator.maps(latents)
    several = [latents.flip(0), latents + torch.tensor([0.1, 0, 0, 0]), latents + 1]
    first, second = inversion.nearest_starts(generator, latents, several, maps, guides.own, 2)
    assert torch.equal(first, several[1])
    assert all(any(torch.equal(row, start[i]) for start in several[::2]) for i, row in enumerate(second))
    with pytest.raises(ValueError, match="at least one start"):
        inversion.nearest_starts(generator, latents, [], maps, guides.own)


def test_starts_are_chosen_by_where_not_by_how_high(generator, guides, latents):
    """Of a start at the asked place but far too faint, and one as bright elsewhere, the first."""
    maps = generator.maps(latents)
    faint = {layer: 0.1 * found + 3.0 for layer, found in maps.items()}
    elsewhere = latents.flip(0)
    (found,) = inversion.nearest_starts(generator, latents, [elsewhere, latents], faint, guides.own)
    assert torch.equal(found, latents)


def test_a_start_is_tried_before_it_is_taken(generator, guides, latents):
    """Each image takes the start whose short search ends nearest, and where that search ended."""
    maps = generator.maps(latents)
    far = latents + torch.tensor([1.5, -1.5, 0, 0])
    near = latents + torch.tensor([0.2, 0, 0, 0])
    one = torch.where(torch.arange(len(latents))[:, None] == 0, near, far)
    other = torch.where(torch.arange(len(latents))[:, None] == 0, far, near)
    found = inversion.tried_start(generator, [one, other], maps, guides.own)
    asked = Asked(maps, maps, guides.own)
    reached = asked.objective(generator.maps(found), "correlation")
    before = asked.objective(generator.maps(near), "correlation")
    assert (reached < before).all()
