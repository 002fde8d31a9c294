"""Rosetta-guided inversion and edits: find the latent whose generator maps look like given maps (thesis 4.4).

Pure functions over a callable `generate(latents) -> (images, maps)`; the generator itself is never changed. A zero
standard deviation (dead unit) contributes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Maps = Mapping[str, Tensor]  # layer -> [image, unit, rows, cols]
Generate = Callable[[Tensor], tuple[Tensor, Maps]]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class UnitPairs:
    """Matched units of one layer of a generator (a) and one layer of another model (b).

    units_a, units_b: [pair] unit indices inside their layers; mean and std: [pair] over the whole collection
    (Eq. 4.1), in the maps' own units.
    """

    layer_a: str
    layer_b: str
    units_a: Int[Tensor, " pair"]
    units_b: Int[Tensor, " pair"]
    mean_a: Float[Tensor, " pair"]
    std_a: Float[Tensor, " pair"]
    mean_b: Float[Tensor, " pair"]
    std_b: Float[Tensor, " pair"]

    def with_itself(self) -> UnitPairs:
        """The generator's units paired with themselves: what an edit compares."""
        return replace(self, layer_b=self.layer_a, units_b=self.units_a, mean_b=self.mean_a, std_b=self.std_a)


@dataclass(frozen=True, eq=False)
class Inversion:
    """A found latent: latents and images of the last step, the loss and the map similarity of every step [step]."""

    latents: Tensor
    images: Tensor
    losses: Float[Tensor, " step"]
    similarities: Float[Tensor, " step"]


def activation_similarity(maps_a: Maps, maps_b: Maps, pairs: Sequence[UnitPairs]) -> Float[Tensor, ""]:
    """L_act of thesis Eq. 4.6: mean over pairs and images of the normalised product of two maps.

    Means and variances are the collection's, the product is over the positions of one image, at the larger of the two
    sizes. The sum over positions is divided by their number (Eq. 4.6 leaves that to the coefficient), so that maps of
    any size weigh the same and the usual range is about -1..1.
    Raises ValueError when there is no pair or a layer was not recorded.
    """
    if not pairs:
        raise ValueError(
            "expected at least one pair of units, got none; match the generator with a model first"
        )
    products = []
    for group in pairs:
        units_a = _normalised(maps_a, group.layer_a, group.units_a, group.mean_a, group.std_a)
        units_b = _normalised(maps_b, group.layer_b, group.units_b, group.mean_b, group.std_b)
        size = [max(one, other) for one, other in zip(units_a.shape[2:], units_b.shape[2:], strict=True)]
        products.append((_resized(units_a, size) * _resized(units_b, size)).mean((2, 3)))
    return torch.cat(products, 1).mean()


def _normalised(maps: Maps, layer: str, units: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    if layer not in maps:
        raise ValueError(f"layer {layer!r} was not recorded; the maps hold {', '.join(maps) or 'nothing'}")
    scale = torch.where(std > 0, std, torch.inf)
    return (maps[layer][:, units] - mean[:, None, None]) / scale[:, None, None]


def _resized(maps: Tensor, size: list[int]) -> Tensor:
    if list(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def invert(
    generate: Generate,
    latents: Float[Tensor, "image ..."],
    *,
    target_images: Float[Tensor, "image 3 rows cols"] | None = None,
    target_maps: Maps | None = None,
    pairs: Sequence[UnitPairs] = (),
    alpha: float = 0.1,
    beta: float = 1.0,
    reconstruction: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
    n_steps: int = 200,
    rate: float = 0.05,
) -> Inversion:
    """argmin_z L_rec(G(z), I) + alpha L_reg(z) - beta L_act(z, I) by Adam (thesis Eq. 4.7; Eq. 4.5 without images).

    generate: latents -> (images in 0..1, maps by layer), differentiable. latents: the start; not changed.
    target_images: the image to reach, or None for maps alone (images from outside the generator's world).
    target_maps, pairs: the other model's maps and the matched units; without them only the image counts.
    reconstruction: L_rec, any function of (generated, target) that gives one number; L_reg is the mean of z^2.
    rate falls as a cosine. Raises ValueError when neither images nor maps are given, or n_steps < 1.
    """
    if target_images is None and target_maps is None:
        raise ValueError(
            "expected target_images or target_maps, got neither; say what the latent should reach"
        )
    if n_steps < 1:
        raise ValueError(f"expected n_steps >= 1, got {n_steps}; 200 is a good start")
    latents = latents.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([latents], lr=rate)
    losses, similarities = [], []
    for step in range(n_steps):
        optimiser.param_groups[0]["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * step / n_steps))
        images, maps = generate(latents)
        loss, similarity = alpha * latents.square().mean(), torch.zeros(())
        if target_images is not None:
            loss = loss + reconstruction(images, target_images)
        if target_maps is not None:
            similarity = activation_similarity(maps, target_maps, pairs)
            loss = loss - beta * similarity
        (latents.grad,) = torch.autograd.grad(loss, [latents])
        optimiser.step()
        losses.append(loss.detach())
        similarities.append(similarity.detach())
    with torch.no_grad():
        images, _ = generate(latents)
    return Inversion(latents.detach(), images, torch.stack(losses), torch.stack(similarities))


def edit(
    generate: Generate,
    latents: Float[Tensor, "image ..."],
    pairs: Sequence[UnitPairs],
    change: Change,
    *,
    keep: Sequence[UnitPairs] = (),
    alpha: float = 0.0,
    n_steps: int = 200,
    rate: float = 0.05,
) -> Inversion:
    """Change the maps of a few units and search the latent that follows (thesis 4.4, Rosetta-guided editing).

    pairs: the generator's units to change (their side a); change: `zoomed`, `shifted`, `removed`, `scaled` or any
    function of maps; keep: units that should stay as they are. The search starts at `latents`.
    """
    with torch.no_grad():
        _, maps = generate(latents)
    edited = {layer: layer_maps.clone() for layer, layer_maps in maps.items()}
    for group in pairs:
        edited[group.layer_a][:, group.units_a] = change(maps[group.layer_a][:, group.units_a])
    own = [group.with_itself() for group in (*pairs, *keep)]
    return invert(generate, latents, target_maps=edited, pairs=own, alpha=alpha, n_steps=n_steps, rate=rate)


def zoomed(maps: Float[Tensor, "image unit rows cols"], factor: float = 2.0) -> Tensor:
    """The centre of the maps, enlarged bilinearly to their own size. Raises ValueError for factor < 1."""
    if factor < 1:
        raise ValueError(f"expected a zoom factor of at least 1, got {factor}; use 2.0 to double the size")
    rows, cols = maps.shape[2:]
    size = [math.ceil(rows * factor), math.ceil(cols * factor)]
    large = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - rows) // 2, (size[1] - cols) // 2
    return large[:, :, top : top + rows, left : left + cols]


def shifted(maps: Float[Tensor, "image unit rows cols"], down: float = 0.0, right: float = 0.0) -> Tensor:
    """The maps moved by a share of their size (right=0.25: a quarter of the cols), zeros where nothing was."""
    moved = maps
    for axis, share in ((2, down), (3, right)):
        size = maps.shape[axis]
        step = max(-size, min(size, round(share * size)))
        zeros = torch.zeros_like(moved.narrow(axis, 0, abs(step)))
        if step > 0:
            moved = torch.cat([zeros, moved.narrow(axis, 0, size - step)], axis)
        elif step < 0:
            moved = torch.cat([moved.narrow(axis, -step, size + step), zeros], axis)
    return moved


def copy_pasted(maps: Float[Tensor, "image unit rows cols"], share: float = 0.25) -> Tensor:
    """Left half of the maps moved left beside the right half of the maps moved right: everything twice."""
    half = maps.shape[3] // 2
    left, right = shifted(maps, right=-share), shifted(maps, right=share)
    return torch.cat([left[..., :half], right[..., half:]], 3)


def removed(maps: Float[Tensor, "image unit rows cols"]) -> Tensor:
    """Each map set to its own minimum: the concept is nowhere."""
    return maps.amin((2, 3), keepdim=True).expand_as(maps)


def scaled(maps: Float[Tensor, "image unit rows cols"], factor: float = 2.0) -> Tensor:
    """Each map stretched away from its own minimum: more of the concept (factor > 1) or less (< 1)."""
    lowest = maps.amin((2, 3), keepdim=True)
    return lowest + factor * (maps - lowest)


def moments(
    maps: Float[Tensor, "image unit rows cols"],
) -> tuple[Float[Tensor, " unit"], Float[Tensor, " unit"]]:
    """Mean and standard deviation over images and positions (thesis Eq. 4.1)."""
    var, mean = torch.var_mean(maps, dim=(0, 2, 3))
    return mean, var.sqrt()
