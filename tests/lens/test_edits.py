"""Changes of maps by hand, and the search that follows them on a generator whose maps are its latents."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens import edits, invert


def pairs(*units):
    zeros, ones = torch.zeros(len(units)), torch.ones(len(units))
    chosen = torch.tensor(units)
    return [invert.UnitPairs("layer", "layer", chosen, chosen, zeros, ones, zeros, ones)]


def reshaping_generator(latents):
    """Three units of 2 x 2 numbers: the latent itself."""
    maps = latents.reshape(-1, 3, 2, 2)
    return maps, {"layer": maps}


def edit(generate, latents, changed, change, *, keep=(), start=None, **how):
    """The latents whose maps are as the change asks."""
    asked = edits.edited_maps(generate(latents)[1], changed, change)
    start = latents if start is None else start
    return invert.invert(generate, start, target_maps=asked, pairs=[*changed, *keep], alpha=0.0, **how)


def test_changes_by_hand():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert (edits.removed(maps) == 0).all()
    assert edits.scaled(maps + 1, 2.0)[0, 0, 0].tolist() == [1, 3, 5, 7]
    assert edits.shifted(maps, down=0.25)[0, 0, :, 0].tolist() == pytest.approx([0, 0, 4, 8], abs=1e-5)
    assert edits.shifted(maps, right=-0.5)[0, 0, 0].tolist() == pytest.approx([2, 3, 0, 0], abs=1e-5)
    assert edits.shifted(maps, right=-0.5, fill="edge")[0, 0, 0].tolist() == pytest.approx(
        [2, 3, 3, 3], abs=1e-5
    )
    assert edits.shifted(maps, right=2.0).abs().sum() == 0
    assert edits.copied(maps)[0, 0, 0].tolist() == pytest.approx([1, 2, 1, 2], abs=1e-5)
    torch.testing.assert_close(edits.placed(maps), maps)
    torch.testing.assert_close(
        edits.placed(maps, right=0.125)[0, 0, 1, 1:], (maps[0, 0, 1, 1:] + maps[0, 0, 1, :-1]) / 2
    )


def test_zoom_is_the_thesis_doubling_and_central_crop():
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(edits.placed(maps, zoom=2.0), large[:, :, 4:12, 4:12], atol=1e-5, rtol=1e-5)
    smaller = edits.placed(maps, zoom=0.5)
    torch.testing.assert_close(smaller[0, 0, 0, 0], maps[0, 0, 0, 0])  # the border goes on


def test_zooming_and_moving_follow_each_other():
    """Zoom about the centre first, then move: a peak at an offset lands at zoom x offset + move."""
    maps = torch.zeros(1, 1, 33, 33)
    maps[0, 0, 16, 20] = 1
    found = edits.placed(maps, right=4 / 33, down=-2 / 33, zoom=2.0)
    assert divmod(int(found.argmax()), 33) == (14, 28)


def test_an_identity_edit_stays_where_it_is():
    latents = torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    found = edit(reshaping_generator, latents, pairs(0, 1), lambda maps: maps, schedule=invert.Schedule(20))
    torch.testing.assert_close(found.latents, latents)
    assert found.objectives.max() == 0


def test_a_single_unit_edit_moves_that_unit_and_keeps_another():
    latents = torch.tensor([[0.0, 1, 0, 0, 2, 0, 2, 0, 1, 1, 0, 0]])
    found = edit(
        reshaping_generator,
        latents,
        pairs(0),
        lambda maps: edits.shifted(maps, right=-0.5),
        keep=pairs(1),
        schedule=invert.Schedule(200),
    )
    before, after = latents.reshape(3, 2, 2), found.latents.reshape(3, 2, 2)
    torch.testing.assert_close(after[0], torch.tensor([[1.0, 0], [0, 0]]), atol=5e-3, rtol=0)
    torch.testing.assert_close(after[1:], before[1:], atol=5e-3, rtol=0)


def test_amplifying_stops_where_it_was_asked_to():
    """The product of Eq. 4.6 runs away here; the distance settles at twice the height."""
    latents = torch.tensor([[0.0, 1, 0, 0, *[0.0] * 8]])
    found = {
        objective: edit(
            reshaping_generator,
            latents,
            pairs(0),
            edits.scaled,
            objective=objective,
            schedule=invert.Schedule(300),
        ).latents[0, 1]
        for objective in ("distance", "product")
    }
    assert found["distance"] == pytest.approx(2, abs=0.01)
    assert found["product"] > 10


def test_a_copy_may_start_elsewhere():
    start = torch.randn(1, 12, generator=torch.Generator().manual_seed(2))
    latents = torch.arange(12.0)[None] / 12
    found = edit(
        reshaping_generator, latents, pairs(0, 1, 2), edits.copied, start=start, schedule=invert.Schedule(400)
    )
    wanted = edits.copied(latents.reshape(1, 3, 2, 2))
    torch.testing.assert_close(found.latents.reshape(1, 3, 2, 2), wanted, atol=5e-3, rtol=0)


def test_wrong_requests_say_what_to_do():
    maps = torch.zeros(1, 1, 2, 2)
    for wrong in ({"zoom": 0.0}, {"zoom": float("nan")}, {"right": float("inf")}):
        with pytest.raises(ValueError, match="expected finite moves and a positive zoom"):
            edits.placed(maps, **wrong)
    with pytest.raises(ValueError, match="'edge' or 'zeros', got 'wrap'"):
        edits.placed(maps, fill="wrap")
    with pytest.raises(ValueError, match="maps of at least one image, got none"):
        edits.edited_maps({"layer": maps[:0]}, pairs(0), edits.copied)


def test_a_region_is_written_once_more_where_there_is_room_or_filled_with_its_surroundings():
    maps = torch.full((2, 3, 32, 32), 0.2)
    maps[0, :2, 12:20, 4:12] = 2.0
    maps[1, :2, 12:20, 20:28] = 2.0
    where = edits.region([(maps, torch.tensor([1.0, 1.0, 0.0]))])
    block = maps[:, :1] > 1
    overlap = ((where > 0) & block).sum((1, 2, 3)) / ((where > 0) | block).sum((1, 2, 3))
    assert overlap.min() > 0.6
    torch.testing.assert_close(edits.room_beside(where), torch.tensor([0.46, -0.46]), atol=0.02, rtol=0)
    twice = edits.pasted(maps, where)
    assert torch.equal(twice[0, :, 12:20, 4:12], maps[0, :, 12:20, 4:12])
    assert twice[0, 0, 16, 8 + 15] == pytest.approx(2, abs=0.05)
    assert twice[1, 0, 16, 24 - 15] == pytest.approx(2, abs=0.05)
    gone = edits.filled(maps, where)
    torch.testing.assert_close(gone, torch.full_like(gone, 0.2), atol=0.02, rtol=0)
    assert edits.region([(torch.zeros(1, 2, 8, 8), torch.ones(2))]).sum() == 0


def test_a_copy_that_reaches_into_its_own_region_leaves_that_as_it_is():
    maps = torch.rand(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    where = torch.zeros(1, 1, 32, 32)
    where[..., 8:24, 2:22] = 1  # 20 of 32 columns wide, moved by at most 15
    twice = edits.pasted(maps, where)
    assert torch.equal(twice[..., 8:24, 2:22], maps[..., 8:24, 2:22])
    assert not torch.equal(twice, maps)
