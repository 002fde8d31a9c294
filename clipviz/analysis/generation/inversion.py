"""Inversion guided by Rosetta neurons, and images that share the map of one unit (thesis 4.4; Figures 4.1, 4.4-4.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from clipviz.analysis.generation.guides import Guides, pairs_with
from clipviz.analysis.generation.searching import Edited, SearchProgress, followed, generate_from
from clipviz.analysis.generation.starts import trials
from clipviz.lens.invert import Asked, Maps, Schedule, SearchOptions, UnitPairs, search
from clipviz.values import Progress, numbers_of, unwatched, with_numbers

N_STARTS, N_SEARCHED = 64, 3
"""Number of random latents to choose an inversion's start from, and how many of these maps alone try."""
TRIAL = Schedule(12, 0.1, ramp_up=0.0, ramp_down=0.3)
"""The short search with which each start of an inversion is tried."""


def invert(
    generator: Any,
    start: Any,
    *,
    images: Float[Tensor, "image 3 rows cols"] | None,
    readers: Mapping[str, Any],
    guides: Guides | None,
    target: Float[Tensor, "image 3 rows cols"] | None = None,
    progress: SearchProgress | None = None,
    **how: Unpack[SearchOptions],
) -> Edited:
    """Return latents whose pictures resemble given images, guided by the readers' maps of them (Eq. 4.7; Eq. 4.5 by
    maps alone).

    images: the readers' inputs, of any size. target: the images with which pixels are compared, at the
    generator's size; None for maps alone, as for pictures from outside the generator's world (Fig. 4.4) or of
    another class (Fig. 4.5). guides=None leaves the maps out. start: initial latents; their class is kept. how:
    alpha, beta, objective, reconstruction and schedule of lens.invert.search; by maps alone the objective is
    "correlation" unless another is given: maps of another class or style differ in scale and level, and their
    squared difference would make an object fade.
    """
    if target is None:
        how.setdefault("objective", "correlation")
    if guides is not None:
        how |= {"target_maps": read(readers, images), "pairs": pairs_with(readers, guides)}
    how["target_images"] = target
    steps = search(generate_from(generator, start), numbers_of(start), **how)
    return followed(steps, start, progress)


def nearest_starts(
    generator: Any,
    latents: Any,
    starts: Sequence[Tensor],
    target_maps: Maps,
    pairs: Sequence[UnitPairs],
    n: int = 1,
    progress: Progress = unwatched,
) -> list[Any]:
    """Return, for each image separately, the n of several starts whose maps correlate best with the requested ones,
    best first.

    latents: [image, ...], for their classes; starts: numbers like those of `latents`, any number of times. Maps
    are compared by their correlation, since among random starts the level of the maps (the background) would hide
    the position of an object.
    """
    if not starts:
        raise ValueError("expected at least one start, got none; take them from generator.sample(n)")
    asked, scores = None, []
    for place, numbers in enumerate(starts):
        progress(place)
        maps = generator.maps(with_numbers(latents, numbers))
        asked = asked or Asked(maps, target_maps, pairs)
        scores.append(asked.objective(maps, "correlation"))
    best = torch.stack(scores).topk(min(n, len(starts)), 0, largest=False).indices
    every, image = torch.stack(list(starts)), torch.arange(len(latents), device=best.device)
    return [with_numbers(latents, every[rows, image]) for rows in best]


def tried_start(generator: Any, starts: Sequence[Any], target_maps: Maps, pairs: Sequence[UnitPairs]) -> Any:
    """Return, for each image separately, the result of the short search that comes nearest to the requested maps."""
    asked: SearchOptions = {
        "target_maps": target_maps,
        "pairs": pairs,
        "objective": "correlation",
        "schedule": TRIAL,
    }
    tried = trials(generator, starts[0], map(numbers_of, starts), **asked)
    while True:
        try:
            next(tried)
        except StopIteration as end:
            return end.value


def visualise(
    generator: Any,
    latents: Any,
    guides: Guides,
    unit: tuple[str, int],
    *,
    like: Any = None,
    alpha: float = 0.02,
    schedule: Schedule | None = None,
    progress: SearchProgress | None = None,
) -> Edited:
    """Return several pictures that share one unit's map and so show what the unit represents (thesis 4.4, Fig. 4.1,
    C.6).

    latents: the starts, [image, ...]. unit: (layer, unit) of the generator. like: latents of one picture, whose
    map of the unit the others should share; default the start on which the unit is strongest.
    """
    chosen = guides.of([unit])
    layer, place = unit
    with torch.no_grad():
        if like is None:
            maps = generator.maps(latents)[layer]
            best = int(maps[:, place].amax((1, 2)).argmax())
            wanted = maps[best : best + 1]
        else:
            wanted = generator.maps(like)[layer][:1]
    steps = search(
        generate_from(generator, latents),
        numbers_of(latents),
        target_maps={layer: wanted.expand(len(latents), -1, -1, -1)},
        pairs=chosen,
        alpha=alpha,
        schedule=schedule,
    )
    return followed(steps, latents, progress, nearest=True)


def lively(generator: Any, latents: Any, guides: Guides, unit: tuple[str, int], n: int) -> Any:
    """Return n latents on whose pictures a unit is active, in order, and if necessary those on which it varies most.
    A search has no direction from a picture on which the unit is silent.
    """
    (group,) = guides.of([unit])
    spread = generator.maps(latents)[unit[0]][:, unit[1]].flatten(1).std(1)
    alive = spread > 0.1 * group.std_a
    order = torch.where(alive, spread.max() + 1 + torch.arange(len(spread)).flip(0).to(spread), spread)
    return latents[order.argsort(descending=True)[:n]]


def read(readers: Mapping[str, Any], images: Any) -> dict[str, Tensor]:
    """Return maps of images by every reader; layers are called "reader/layer"."""
    return {
        f"{name}/{layer}": maps
        for name, reader in readers.items()
        for layer, maps in reader.maps(images).items()
    }


def starts_for(
    generator: Any,
    readers: dict[str, Any],
    found: Guides,
    pictures: Tensor,
    labels: Any,
    seed: int,
    n_tried: int = N_SEARCHED,
    progress: Progress = unwatched,
) -> Any:
    """Return, for each picture, the one of N_STARTS random latents whose maps are most similar to the readers' maps
    of it.

    labels: a class for each picture, None for a generator without classes. n_tried: how many of the best are
    tried by a short search before one is chosen; 1 for none. progress: called with the number compared.
    """
    drawn = generator.sample(N_STARTS, seed=seed)
    latents = generator.sample(len(pictures), seed=seed)
    if labels is not None:
        index = [generator.label(label) for label in labels]
        latents = replace(latents, label=torch.tensor(index, device=latents.label.device))
    numbers = numbers_of(drawn)
    starts = [one.expand(len(pictures), *one.shape[1:]) for one in numbers.split(1)]
    pairs, asked = pairs_with(readers, found), read(readers, pictures)
    nearest = nearest_starts(generator, latents, starts, asked, pairs, n_tried, progress)
    return nearest[0] if n_tried == 1 else tried_start(generator, nearest, asked, pairs)
