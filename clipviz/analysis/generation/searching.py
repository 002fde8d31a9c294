"""Searches among latents as steps that can each be displayed, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.invert import Generate, Maps, Step
from clipviz.values import with_numbers
from clipviz.values.tables import Columns, Table

SearchProgress = Callable[[Step], bool | None]
"""Called with every step; the search ends early if it returns False."""


@dataclass(frozen=True, eq=False, repr=False)
class Edited(Table):
    """The result of a search. latents, images: [image, ...]; source: the images at the start; distance: [image], the
    distance of the maps from the requested ones (see lens.invert.map_distance), and asked: [image], that distance at
    the start.
    """

    latents: Any
    images: Float[Tensor, "image 3 rows cols"]
    source: Float[Tensor, "image 3 rows cols"]
    distance: Float[Tensor, " image"]
    asked: Float[Tensor, " image"]

    def _columns(self) -> Columns:
        distances = {"distance": self.distance, "distance_before": self.asked}
        return {name: one.detach().cpu().numpy() for name, one in distances.items()}

    def _pictures(self) -> Sequence[Any]:
        pictures = self.images.detach().clamp(0, 1).mul(255).byte()
        return list(pictures.permute(0, 2, 3, 1).cpu().numpy())

    def _title(self) -> str:
        return "Images found, and the distance of their maps from the requested ones"


def followed(
    steps: Iterator[Step], latents: Any, progress: SearchProgress | None = None, nearest: bool = False
) -> Edited:
    """Run a search to its end, or until progress(step) returns False. latents: provide the classes of the result.

    nearest: return for each image the step at which its maps were nearest to the requested ones, rather than the
    last.
    """
    first = step = next(steps)
    numbers, images, least = step.latents, step.images, step.objectives
    while (progress is None or progress(step) is not False) and step.number < step.of:
        step = next(steps)
        taken = step.objectives <= least if nearest else torch.ones_like(least, dtype=torch.bool)
        numbers, images, least = (
            torch.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in ((step.latents, numbers), (step.images, images), (step.objectives, least))
        )
    return Edited(with_numbers(latents, numbers), images, first.images, least, first.objectives)


def generate_from(generator: Any, latents: Any) -> Generate:
    """Return a function from numbers to images and maps, with the classes of `latents`."""

    def generate(z: Tensor) -> tuple[Tensor, Maps]:
        images, maps = generator.generate(with_numbers(latents, z))
        return images, maps

    return generate
