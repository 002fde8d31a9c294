"""Changes of activation maps that edits ask for (thesis 4.4, Figures 4.7 and 4.8), and the search that follows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from clipviz.lens.invert import Generate, Inversion, Maps, Schedule, Step, UnitPairs, invert

Change = Callable[[Tensor], Tensor]
UnitMaps = Float[Tensor, "image unit rows cols"]


def edited_maps(maps: Maps, pairs: Sequence[UnitPairs], change: Change) -> dict[str, Tensor]:
    """The maps with the units of `pairs` (their side a) changed, the others as they are."""
    edited = {layer: layer_maps.clone() for layer, layer_maps in maps.items()}
    for group in pairs:
        edited[group.layer_a][:, group.units_a] = change(maps[group.layer_a][:, group.units_a])
    return edited


def edit(
    generate: Generate,
    latents: Float[Tensor, "image ..."],
    pairs: Sequence[UnitPairs],
    change: Change,
    *,
    keep: Sequence[UnitPairs] = (),
    start: Float[Tensor, "image ..."] | None = None,
    alpha: float = 0.0,
    objective: str = "distance",
    schedule: Schedule | None = None,
    progress: Callable[[Step], bool | None] | None = None,
) -> Inversion:
    """Change the maps of a few units and search the latent that follows (thesis 4.4, Rosetta-guided editing).

    latents: whose maps are changed. pairs: the generator's units to change (their side a). change: `zoomed`, `shifted`,
    `copied`, `removed`, `scaled` or any function of maps [image, unit, rows, cols]. keep: units that should stay as
    they are. start: where the search begins, default `latents`; for copying the thesis starts from random latents.
    The maps as they are have distance 0 from themselves, so a change that does nothing leaves the latents in place.
    """
    with torch.no_grad():
        _, maps = generate(latents)
    own = [group.with_itself() for group in (*pairs, *keep)]
    return invert(
        generate,
        latents if start is None else start,
        target_maps=edited_maps(maps, pairs, change),
        pairs=own,
        alpha=alpha,
        objective=objective,
        schedule=schedule,
        progress=progress,
    )


def placed(
    maps: UnitMaps, right: float = 0.0, down: float = 0.0, zoom: float = 1.0, fill: str = "edge"
) -> UnitMaps:
    """The maps enlarged about their centre and then moved, read bilinearly.

    right, down: shares of the maps' sides (0.25: a quarter). zoom: factor of lengths, above 1 is larger. fill: what
    comes in from outside, "edge" (the border goes on) or "zeros" (as in the thesis). Raises ValueError for a zoom that
    is not positive, and for numbers that are not finite.
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


def zoomed(maps: UnitMaps, factor: float = 2.0, fill: str = "edge") -> UnitMaps:
    """The maps enlarged bilinearly, their centre kept; factor 2 is the thesis's zoom-in, below 1 makes room around."""
    return placed(maps, zoom=factor, fill=fill)


def shifted(maps: UnitMaps, right: float = 0.0, down: float = 0.0, fill: str = "zeros") -> UnitMaps:
    """The maps moved by a share of their size (right=0.25: a quarter of the cols); zeros come in, as in the thesis."""
    return placed(maps, right, down, fill=fill)


def copied(maps: UnitMaps, share: float = 0.25, fill: str = "zeros") -> UnitMaps:
    """Left half of the maps moved left beside the right half of the maps moved right: everything twice (thesis 4.4)."""
    half = maps.shape[3] // 2
    left, right = shifted(maps, right=-share, fill=fill), shifted(maps, right=share, fill=fill)
    return torch.cat([left[..., :half], right[..., half:]], 3)


def removed(maps: UnitMaps) -> UnitMaps:
    """Each map set to its own minimum: the concept is nowhere (thesis 4.4, Figure 4.8)."""
    return maps.amin((2, 3), keepdim=True).expand_as(maps)


def scaled(maps: UnitMaps, factor: float = 2.0) -> UnitMaps:
    """Each map stretched away from its own minimum: more of the concept (factor > 1) or less (< 1)."""
    lowest = maps.amin((2, 3), keepdim=True)
    return lowest + factor * (maps - lowest)
