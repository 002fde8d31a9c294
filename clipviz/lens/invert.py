"""Rosetta-guided inversion: find the latent whose generator maps resemble given maps (thesis 4.4).

Pure functions over a callable `generate(latents) -> (images, maps)`; the generator itself is never changed. Four
objectives compare the maps of matched units, normalised by the collection's mean and deviation (Eq. 4.1):

    "distance"  mean squared difference; 0, its least value, exactly where every map is as asked (default)
    "cosine"    one minus the cosine of each pair of maps; 0 where they agree up to a positive factor
    "correlation"
                one minus the correlation of each pair of maps over the positions of one image; 0 where they agree up to
                a positive factor and a constant
    "product"   minus L_act of Eq. 4.6, as the thesis writes it. It has no optimum at the asked maps: the larger a map,
                the lower the loss, so a search has to be stopped in time

A unit that never varies (standard deviation 0, or beneath the rounding of its layer) contributes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Maps = Mapping[str, Tensor]  # layer -> [image, unit, rows, cols]
Generate = Callable[[Tensor], tuple[Tensor, Maps]]
OBJECTIVES = ("distance", "cosine", "correlation", "product")

FAINT = 1e-7


@dataclass(frozen=True, eq=False)
class UnitPairs:
    """Matched units between one layer of a generator (a) and one layer of another model (b).

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

    def rows(self, rows: Sequence[int]) -> UnitPairs:
        """Return some of the pairs."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.units_a.device)
        names = ("units_a", "units_b", "mean_a", "std_a", "mean_b", "std_b")
        return replace(self, **{name: getattr(self, name)[index] for name in names})


@dataclass(frozen=True)
class Schedule:
    """The number of steps and the learning rate of Adam (thesis 4.4, implementation details).

    The rate rises linearly from 0 over the first 5% of the steps, stays constant, and falls to 0 along a cosine
    over the last 25%. rate: the thesis uses 0.1 for StyleGAN2 and 0.01 for BigGAN. Raises ValueError for no step
    or a rate that is not positive.
    """

    n_steps: int = 500
    rate: float = 0.1
    ramp_up: float = 0.05
    ramp_down: float = 0.25

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ValueError(f"expected n_steps >= 1, got {self.n_steps}; the thesis uses 500")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"expected a positive learning rate, got {self.rate}; 0.1 is a good start")

    def at(self, step: int) -> float:
        """Return the learning rate of one step, counted from 0."""
        done = (step + 1) / self.n_steps
        up = min(1.0, done / self.ramp_up) if self.ramp_up else 1.0
        down = min(1.0, (1 - step / self.n_steps) / self.ramp_down) if self.ramp_down else 1.0
        return self.rate * up * (0.5 - 0.5 * math.cos(math.pi * down))


class Step(NamedTuple):
    """One step of a search: its number from 0, how many there are, the latents and images before it, and its loss
    and objective (see `Asked.objective`; 0 without maps), both one number per image.
    """

    number: int
    of: int
    latents: Tensor
    images: Tensor
    losses: Float[Tensor, " image"]
    objectives: Float[Tensor, " image"]


@dataclass(frozen=True, eq=False)
class Inversion:
    """A search's result: latents and images at the end; each step's loss and objective, means over images [step]."""

    latents: Tensor
    images: Tensor
    losses: Float[Tensor, " step"]
    objectives: Float[Tensor, " step"]


def activation_similarity(maps_a: Maps, maps_b: Maps, pairs: Sequence[UnitPairs]) -> Float[Tensor, " image"]:
    """Return L_act of thesis Eq. 4.6: for each image, the mean over pairs of the normalised product of two maps.

    Means and variances are the collection's, the product is over the positions of one image, at the larger of the two
    sizes. The sum over positions is divided by their number (Eq. 4.6 leaves that to the coefficient), so that maps of
    any size weigh the same and the usual range is about -1..1.

    Args:
        maps_a: Layer -> the generator's maps, [image, unit, rows, cols].
        maps_b: Layer -> the requested maps.
        pairs: The matched units.

    Returns:
        [image].

    Raises:
        ValueError: There is no pair, a layer was not recorded, or a map is not finite.
    """
    return -Asked(maps_a, maps_b, pairs).objective(maps_a, "product")


def map_distance(maps_a: Maps, maps_b: Maps, pairs: Sequence[UnitPairs]) -> Float[Tensor, " image"]:
    """Return the mean squared difference of normalised maps over pairs and positions.

    Unlike Eq. 4.6 it is bounded below, and its minimum is at the requested maps.

    Args:
        maps_a: Layer -> the generator's maps, [image, unit, rows, cols].
        maps_b: Layer -> the requested maps.
        pairs: The matched units.

    Returns:
        [image], 0 if all maps are equal. It raises ValueError as `activation_similarity` does.
    """
    return Asked(maps_a, maps_b, pairs).objective(maps_a, "distance")


class Asked:
    """The maps that a search should reach, normalised and resized once for all steps.

    maps_a: the generator's, for their sizes and the rounding of their layers; maps_b: the requested maps. Raises
    ValueError as `activation_similarity` does.
    """

    def __init__(self, maps_a: Maps, maps_b: Maps, pairs: Sequence[UnitPairs]) -> None:
        if not pairs:
            raise ValueError(
                "expected at least one pair of units, got none; match the generator with a model first"
            )
        self.pairs = pairs
        self.read = {group.layer_b: maps_b.get(group.layer_b) for group in pairs}
        self.scales, self.wanted = [], []
        for group in pairs:
            scale_a = _scale(maps_a, group.layer_a, group.std_a)
            scale_b = _scale(maps_b, group.layer_b, group.std_b)
            units_b = _normalised(maps_b[group.layer_b], group.units_b, group.mean_b, scale_b)
            size = [
                max(one, other)
                for one, other in zip(maps_a[group.layer_a].shape[2:], units_b.shape[2:], strict=True)
            ]
            self.scales.append(scale_a)
            self.wanted.append(_resized(units_b, size))

    def holds_for(self, maps_b: Maps) -> bool:
        """Return whether these are still the requested maps, since a drag replaces them."""
        return all(maps_b.get(layer) is maps for layer, maps in self.read.items())

    def objective(self, maps: Maps, objective: str = "distance") -> Float[Tensor, " image"]:
        """Return how far the generator's maps are from the requested ones (see the module's table).

        Args:
            maps: Layer -> the generator's maps, [image, unit, rows, cols].
            objective: One of OBJECTIVES.

        Returns:
            [image].

        Raises:
            ValueError: The objective is unknown.
        """
        if objective not in OBJECTIVES:
            raise ValueError(f"expected an objective among {', '.join(OBJECTIVES)}, got {objective!r}")
        parts = []
        for group, scale, wanted in zip(self.pairs, self.scales, self.wanted, strict=True):
            own = _normalised(maps[group.layer_a], group.units_a, group.mean_a, scale)
            parts.append(_COMPARED[objective](_resized(own, list(wanted.shape[2:])), wanted))
        return torch.cat(parts, 1).mean(1)


_COMPARED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "distance": lambda own, wanted: (own - wanted).square().mean((2, 3)),
    "cosine": lambda own, wanted: 1 - F.cosine_similarity(own.flatten(2), wanted.flatten(2), dim=2, eps=1e-6),
    "correlation": lambda own, wanted: _COMPARED["cosine"](_centred(own), _centred(wanted)),
    "product": lambda own, wanted: -(own * wanted).mean((2, 3)),
}


def _centred(maps: Tensor) -> Tensor:
    return maps - maps.mean((2, 3), keepdim=True)


def _scale(maps: Maps, layer: str, std: Tensor) -> Tensor:
    """Return the deviations to divide by, with infinity where a deviation is below the rounding of its layer."""
    if layer not in maps:
        raise ValueError(f"layer {layer!r} was not recorded; the maps hold {', '.join(maps) or 'nothing'}")
    low, high = maps[layer].detach().aminmax()
    floor = FAINT * torch.maximum(high, -low)
    return torch.where(std > floor, std, torch.inf)


def _normalised(maps: Tensor, units: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    share = 1 / scale
    return torch.addcmul(-(mean * share)[:, None, None], maps.index_select(1, units), share[:, None, None])


def _resized(maps: Tensor, size: list[int]) -> Tensor:
    if list(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `search`."""

    target_images: Float[Tensor, "image 3 rows cols"] | None
    target_maps: Maps | None
    pairs: Sequence[UnitPairs]
    alpha: float
    beta: float
    objective: str
    regulariser: str
    reconstruction: Callable[[Tensor, Tensor], Tensor]
    schedule: Schedule | None
    still: float


def search(
    generate: Generate,
    latents: Float[Tensor, "image ..."],
    *,
    target_images: Float[Tensor, "image 3 rows cols"] | None = None,
    target_maps: Maps | None = None,
    pairs: Sequence[UnitPairs] = (),
    alpha: float = 0.1,
    beta: float = 1.0,
    objective: str = "distance",
    regulariser: str = "l2",
    reconstruction: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
    schedule: Schedule | None = None,
    still: float = -math.inf,
) -> Iterator[Step]:
    """Run the search of Eq. 4.7 and yield every step, which reports its progress; stop iterating to cancel.

    The sum over images is minimised, so that images in one search do not slow each other down.

    Args:
        generate: latents -> (images in 0..1, maps by layer), differentiable.
        latents: The start, [image, ...]; not changed.
        target_images: The image to reach. None is for maps alone (images from outside the generator's world).
        target_maps: The maps to reach, by layer. None counts the image alone.
        pairs: The matched units.
        alpha: Weight of L_reg, 0.1 in the thesis.
        beta: Weight of the objective, 1 in the thesis.
        objective: "distance", "cosine" or "correlation", or "product" for the thesis's L_act, Eq. 4.6.
        regulariser: L_reg, the mean of z^2 ("l2") or of |z| ("l1").
        reconstruction: L_rec, any function of (generated, target) that gives one number, or one for each image.
        schedule: None takes that of the thesis, 500 steps at 0.1.
        still: An image whose objective is at most this value is not changed. Otherwise Adam, which takes full steps
            even along gradients that are only rounding, would leave an optimum at which it starts.

    Yields:
        Steps with the latents before their update, so that the last one (number n_steps) is the result.

    Raises:
        ValueError: Neither images nor maps are given, maps are not finite, or the generator has no gradients.
    """
    schedule = schedule or Schedule()
    if target_images is None and target_maps is None:
        raise ValueError("expected target_images or target_maps, got neither; pass at least one of them")
    if regulariser not in ("l2", "l1"):
        raise ValueError(f"expected a regulariser 'l2' or 'l1', got {regulariser!r}")
    for name, wanted in (target_maps or {}).items():
        if not all(torch.isfinite(end) for end in wanted.aminmax()):
            raise ValueError(f"expected finite target maps, got NaN or infinity in layer {name!r}")
    latents = latents.detach().clone().requires_grad_(True)
    asked: Asked | None = None
    optimiser = torch.optim.Adam([latents], lr=schedule.rate)
    for number in range(schedule.n_steps + 1):
        with torch.enable_grad():
            images, maps = generate(latents)
            size = latents.abs() if regulariser == "l1" else latents.square()
            losses = alpha * size.flatten(1).mean(1)
            objectives = torch.zeros_like(losses)
            if target_images is not None:
                losses = losses + _per_image(reconstruction, images, target_images)
            if target_maps is not None:
                if asked is None or not asked.holds_for(target_maps):
                    asked = Asked(maps, target_maps, pairs)
                objectives = asked.objective(maps, objective)
                losses = losses + beta * objectives
            if not (images.requires_grad or any(one.requires_grad for one in maps.values())):
                raise ValueError(
                    "expected a generator whose images and maps follow its latents with gradients, got none; "
                    "its generate() must not run under torch.no_grad()"
                )
            if not torch.isfinite(losses).all():
                raise ValueError(
                    f"the loss is not finite at step {number}; check the maps, or lower the learning rate "
                    f"({schedule.rate})"
                )
        yield Step(
            number,
            schedule.n_steps,
            latents.detach().clone(),
            images.detach(),
            losses.detach(),
            objectives.detach(),
        )
        if number == schedule.n_steps:
            return
        (slope,) = torch.autograd.grad(losses.sum(), [latents])
        moving = (objectives.detach() > still).reshape(-1, *[1] * (latents.ndim - 1))
        latents.grad = torch.where(moving, slope, 0.0)
        optimiser.param_groups[0]["lr"] = schedule.at(number)
        optimiser.step()


def _per_image(reconstruction: Callable[[Tensor, Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """Return the reconstruction loss of each image."""
    if reconstruction is F.mse_loss:
        return (images - targets).square().flatten(1).mean(1)
    together = reconstruction(images, targets)
    if together.shape == images.shape[:1]:
        return together
    pairs = zip(images.split(1), targets.split(1), strict=True)
    return torch.stack([reconstruction(one, other).reshape(()) for one, other in pairs])


def invert(
    generate: Generate,
    latents: Float[Tensor, "image ..."],
    *,
    progress: Callable[[Step], bool | None] | None = None,
    **how: Any,
) -> Inversion:
    """Minimise L_rec(G(z), I) + alpha L_reg(z) + beta objective(z, I) over z by Adam (Eq. 4.7; Eq. 4.5 without images).

    Args:
        generate: As in `search`.
        latents: The start, [image, ...]; not changed.
        progress: Called with every step; the search ends early when it returns False.
        how: The target and options, as keyword arguments of `search` (SearchOptions).

    Returns:
        Latents and images at the end, and the losses of all steps. It raises ValueError as `search` does.
    """
    losses, objectives = [], []
    for step in search(generate, latents, **how):
        losses.append(step.losses.mean())
        objectives.append(step.objectives.mean())
        if progress is not None and progress(step) is False:
            break
    return Inversion(step.latents, step.images, torch.stack(losses), torch.stack(objectives))
