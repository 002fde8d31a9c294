"""The changes of activation maps that an edit requests (thesis 4.4, Figures 4.7 and 4.8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from clipviz.lens.invert import Maps, UnitPairs

Change = Callable[[Tensor], Tensor]
UnitMaps = Float[Tensor, "image unit rows cols"]


def edited_maps(maps: Maps, pairs: Sequence[UnitPairs], change: Change) -> dict[str, Tensor]:
    """Return the maps with some units changed and all others as they were.

    Args:
        maps: Layer -> [image, unit, rows, cols].
        pairs: The units of their side a are changed.
        change: From maps [image, unit, rows, cols] to changed ones.

    Returns:
        Layer -> maps.

    Raises:
        ValueError: The maps are of no image, or not finite.
    """
    for layer, layer_maps in maps.items():
        if not len(layer_maps):
            raise ValueError(
                "expected maps of at least one image, got none; begin from sample(n) with n >= 1"
            )
        if not all(torch.isfinite(end) for end in layer_maps.aminmax()):  # both ends are NaN if any number is
            raise ValueError(
                f"expected finite maps, got NaN or infinity in layer {layer!r}; check the latents and the weights"
            )
    changed = {group.layer_a for group in pairs}
    edited = {layer: one.clone() if layer in changed else one for layer, one in maps.items()}
    for group in pairs:
        edited[group.layer_a][:, group.units_a] = change(maps[group.layer_a][:, group.units_a])
    return edited


def placed(
    maps: UnitMaps, right: float = 0.0, down: float = 0.0, zoom: float = 1.0, fill: str = "edge"
) -> UnitMaps:
    """Return the maps enlarged about their centre and then moved, read bilinearly.

    Args:
        maps: [image, unit, rows, cols].
        right: How far to move, as a share of the maps' width (0.25: a quarter).
        down: The same for their height.
        zoom: Factor of lengths, above 1 is larger.
        fill: What comes in from outside: "edge" repeats the border, "zeros" is what the thesis takes.

    Returns:
        Maps of the same shape.

    Raises:
        ValueError: A number is not finite, the zoom is not positive, or `fill` is unknown.
    """
    if not all(math.isfinite(value) for value in (right, down, zoom)) or zoom <= 0:
        raise ValueError(
            f"expected finite moves and a positive zoom, got right={right}, down={down}, zoom={zoom}; "
            "zoom=2 doubles the size"
        )
    if fill not in ("edge", "zeros"):
        raise ValueError(f"expected fill 'edge' or 'zeros', got {fill!r}")
    affine = maps.new_tensor([[1 / zoom, 0, -2 * right / zoom], [0, 1 / zoom, -2 * down / zoom]])
    grid = F.affine_grid(affine[None], [1, 1, *maps.shape[2:]], align_corners=False)
    padding = "border" if fill == "edge" else "zeros"
    grid = grid.expand(len(maps), -1, -1, -1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def shifted(maps: UnitMaps, right: float = 0.0, down: float = 0.0, fill: str = "zeros") -> UnitMaps:
    """Return the maps moved, filled with zeros as in the thesis.

    Args:
        maps: [image, unit, rows, cols].
        right: How far, as a share of their width.
        down: The same for their height.
        fill: As in `placed`.

    Returns:
        Maps of the same shape.
    """
    return placed(maps, right, down, fill=fill)


def copied(maps: UnitMaps, share: float = 0.25, fill: str = "zeros") -> UnitMaps:
    """Return the left half of the maps moved left beside the right half moved right: everything twice (thesis 4.4).

    Args:
        maps: [image, unit, rows, cols].
        share: How far each half moves, as a share of their width.
        fill: As in `placed`.

    Returns:
        Maps of the same shape.
    """
    half = maps.shape[3] // 2
    left, right = shifted(maps, right=-share, fill=fill), shifted(maps, right=share, fill=fill)
    return torch.cat([left[..., :half], right[..., half:]], 3)


def region(parts: Sequence[tuple[Tensor, Tensor]], share: float = 0.4) -> Float[Tensor, "image 1 rows cols"]:
    """Return where units stand out from the rest of their own maps, at the size of the largest map.

    A position belongs to the region where the sum over units of ((map - its median) / deviation)^2, cut at 3 deviations
    and smoothed over a seventh of the side, exceeds a share of its maximum.

    Args:
        parts: Each layer's maps [image, unit, rows, cols] and its units' deviations [unit].
        share: The share of the maximum.

    Returns:
        [image, 1, rows, cols], 1 inside and 0 elsewhere.
    """
    side = max(maps.shape[2] for maps, _ in parts)
    strength = torch.zeros(len(parts[0][0]), 1, side, side, device=parts[0][0].device)
    for maps, std in parts:
        away = (maps - _median(maps)) / torch.where(std > 0, std, torch.inf)[:, None, None]
        energy = away.clamp(-3, 3).square().sum(1, keepdim=True)
        strength += F.interpolate(energy, side, mode="bilinear", align_corners=False)
    reach = max(side // 14, 1)
    padded = F.pad(strength, (reach,) * 4, mode="replicate")
    strength = F.avg_pool2d(padded, 2 * reach + 1, 1)
    return (strength > share * strength.amax((2, 3), keepdim=True)).float()


def room_beside(where: Float[Tensor, "image 1 rows cols"], most: float = 0.46) -> Float[Tensor, " image"]:
    """Return how far a copy of the region can go within the frame.

    Args:
        where: The region, [image, 1, rows, cols].
        most: The largest move.

    Returns:
        [image], in sides of the image; negative to the left.
    """
    line = (torch.arange(where.shape[3], device=where.device) + 0.5) / where.shape[3]
    columns = where[:, 0].sum(1)
    centre = (columns * line).sum(1) / columns.sum(1).clamp_min(1e-9)
    room = torch.where(centre < 0.5, 0.85 - centre, centre - 0.15).clamp(0, most)
    return torch.where(centre < 0.5, room, -room)


def pasted(maps: UnitMaps, where: Float[Tensor, "image 1 height width"]) -> UnitMaps:
    """Return the maps with a copy of a region added beside it where there is room; everything else stays.

    Args:
        maps: [image, unit, rows, cols].
        where: The region, [image, 1, height, width].

    Returns:
        Maps of the same shape.
    """
    right = room_beside(where)
    there = _moved(where, right, "zeros")
    there = _grown(there, 0.03) * (1 - where)
    there = F.interpolate(there, maps.shape[2:], mode="area")
    return torch.lerp(maps, _moved(maps, right, "border"), there)


def filled(maps: UnitMaps, where: Float[Tensor, "image 1 height width"]) -> UnitMaps:
    """Return the maps with a region removed: there, each map is set to the median of the rest.

    Args:
        maps: [image, unit, rows, cols].
        where: The region, [image, 1, height, width].

    Returns:
        Maps of the same shape.
    """
    inside = F.interpolate(_grown(where, 0.06), maps.shape[2:], mode="area")
    outside = torch.where(inside < 0.1, maps, torch.nan).flatten(2).nanmedian(2).values[:, :, None, None]
    return torch.lerp(maps, torch.where(outside.isnan(), _median(maps), outside).expand_as(maps), inside)


def _median(maps: UnitMaps) -> Tensor:
    return maps.flatten(2).median(2).values[:, :, None, None]


def _grown(where: Tensor, share: float) -> Tensor:
    reach = round(share * where.shape[3])
    return F.max_pool2d(where, 2 * reach + 1, 1, reach) if reach else where


def _moved(maps: Tensor, right: Float[Tensor, " image"], padding: str) -> Tensor:
    """Return each image's maps moved by its own share of the number of cols."""
    affine = torch.eye(2, 3, device=maps.device, dtype=maps.dtype).repeat(len(maps), 1, 1)
    affine[:, 0, 2] = -2 * right
    grid = F.affine_grid(affine, [len(maps), 1, *maps.shape[2:]], align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def removed(maps: UnitMaps) -> UnitMaps:
    """Return each map set to its own minimum, so that the concept is absent (thesis 4.4, Figure 4.8)."""
    return maps.amin((2, 3), keepdim=True).expand_as(maps)


def scaled(maps: UnitMaps, factor: float = 2.0) -> UnitMaps:
    """Return each map scaled away from its own minimum.

    Args:
        maps: [image, unit, rows, cols].
        factor: Above 1 for more of the concept, below 1 for less.

    Returns:
        Maps of the same shape.
    """
    lowest = maps.amin((2, 3), keepdim=True)
    return lowest + factor * (maps - lowest)
