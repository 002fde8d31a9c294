"""Searches among latents as steps, each of which can be shown, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.invert import Generate, Maps, Step
from clipviz.values import with_numbers

SearchProgress = Callable[[Step], bool | None]
"""Called with every step; the search ends early when it returns False."""


@dataclass(frozen=True, eq=False)
class Edited:
    """What a search found. latents, images: [image, ...]; source: the images it began with; distance: [image] how far
    the maps are from those asked (see lens.invert.map_distance), and asked: [image] how far they were at the start."""

    latents: Any
    images: Float[Tensor, "image 3 rows cols"]
    source: Float[Tensor, "image 3 rows cols"]
    distance: Float[Tensor, " image"]
    asked: Float[Tensor, " image"]


def followed(
    steps: Iterator[Step], latents: Any, progress: SearchProgress | None = None, nearest: bool = False
) -> Edited:
    """Return a search to its end, or until progress(step) returns False. latents: for the classes of what is found.

    nearest: for each image the step at which its maps were nearest to those asked, rather than the last.
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
    """Numbers -> images and maps, with the classes of `latents`."""

    def generate(z: Tensor) -> tuple[Tensor, Maps]:
        images, maps = generator.generate(with_numbers(latents, z))
        return images, maps

    return generate
