"""Starts for edits that small steps do not find: latents that leave a picture as it is, but would paint what was asked.

An object that is hidden has a place in the latent that no map feels, and so no gradient. Around the latents we draw
from the prior, narrowed in the directions that the maps feel (a Gaussian with the inverse covariance 1 + G / tau, where
G are the mean squared derivatives of the maps), and keep those whose maps move in the direction that was asked; a few
steps from each tell which to go on from. The thesis (4.4) likewise starts copies from random latents.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from clipviz.lens import invert as lens
from clipviz.lens.invert import Schedule, Step, UnitPairs

N_DRAWN, N_KEPT = 64, 2
TRIAL = Schedule(8, 0.1, ramp_up=0.0, ramp_down=0.3)
N_STEPS = (1 + N_KEPT) * (TRIAL.n_steps + 1)
"""Steps that `leap` takes."""
NARROW = (0.005, 0.02)
"""tau: how much the maps may change, as a mean square in deviations; small first."""
WIDE = (1.0, 1.7)
"""Multiples of the prior's width: a start may lie a little outside, where rare things are."""
MOST = 128
"""Latents of more numbers are changed by differences of the prior's own samples instead."""
GRID = 16


def leap(
    generator: Any,
    latents: Any,
    target_maps: lens.Maps,
    pairs: Sequence[UnitPairs],
    *,
    alpha: float,
    seed: int = 0,
    of: int = N_STEPS,
) -> Generator[Step, None, Any]:
    """For each of the latents that start, of itself and a few around it, from which a short search comes nearest.

    Yields the steps of these searches, numbered 1..N_STEPS of `of`, so that whoever watches can stop; returns the
    latents.
    """
    own = numbers_of(latents)
    drawn = around(generator, latents, pairs, N_DRAWN, seed)
    before = features(generator.maps(latents), pairs)
    asked = features(target_maps, pairs) - before
    scores = torch.stack(
        [
            F.cosine_similarity(features(generator.maps(with_numbers(latents, z)), pairs) - before, asked)
            for z in drawn
        ]
    )
    best = scores.topk(N_KEPT, 0).indices
    every, image = torch.stack(drawn), torch.arange(len(own), device=own.device)
    nearest, least, number = own, None, 0
    for start in (own, *(every[rows, image] for rows in best)):
        trial = lens.search(
            generate_from(generator, latents),
            start,
            target_maps=target_maps,
            pairs=pairs,
            alpha=alpha,
            schedule=TRIAL,
        )
        for step in trial:
            number += 1
            yield step._replace(number=number, of=of)
        if least is None:
            nearest, least = step.latents, step.objectives
            continue
        nearer = step.objectives < least
        nearest = torch.where(nearer.reshape(-1, *[1] * (own.ndim - 1)), step.latents, nearest)
        least = torch.minimum(step.objectives, least)
    return with_numbers(latents, nearest)


def around(generator: Any, latents: Any, pairs: Sequence[UnitPairs], n: int, seed: int = 0) -> list[Tensor]:
    """n times numbers near those of the latents, [image, ...] each, that change the maps little."""
    own = numbers_of(latents)
    if own.ndim != 2 or own.shape[1] > MOST:
        one, other = (numbers_of(generator.sample(n, seed=seed + i)) for i in (0, 1))
        return [own + 0.5 * (a - b) for a, b in zip(one.split(1), other.split(1), strict=True)]
    strength, directions = torch.linalg.eigh(sensitivity(generator, latents, pairs))
    draw = torch.Generator().manual_seed(seed)
    drawn = []
    for i in range(n):
        width = (1 + strength.clamp_min(0) / NARROW[i % len(NARROW)]).rsqrt()
        normal = torch.randn(own.shape, generator=draw).to(own)
        moved = torch.einsum("idk,ik->id", directions, width * normal)
        drawn.append(own + WIDE[i // len(NARROW) % len(WIDE)] * moved)
    return drawn


def sensitivity(
    generator: Any, latents: Any, pairs: Sequence[UnitPairs], step: float = 0.05
) -> Float[Tensor, "image latent latent"]:
    """Mean products of the maps' derivatives by the latents' numbers, by differences of `step`."""
    own = numbers_of(latents)
    before = features(generator.maps(latents), pairs)
    slopes = torch.stack(
        [
            (features(generator.maps(with_numbers(latents, own + step * unit)), pairs) - before) / step
            for unit in torch.eye(own.shape[1], device=own.device, dtype=own.dtype)
        ],
        1,
    )
    return slopes @ slopes.transpose(1, 2) / slopes.shape[2]


def features(maps: lens.Maps, pairs: Sequence[UnitPairs]) -> Float[Tensor, "image feature"]:
    """The pairs' maps of side a in deviations, at most GRID on a side, in one row for each image."""
    parts = []
    for group in pairs:
        scale = torch.where(group.std_a > 0, group.std_a, torch.inf)[:, None, None]
        chosen = maps[group.layer_a].index_select(1, group.units_a) / scale
        if chosen.shape[2] > GRID:
            chosen = F.adaptive_avg_pool2d(chosen, GRID)
        parts.append(chosen.flatten(1))
    return torch.cat(parts, 1)


def numbers_of(latents: Any) -> Tensor:
    """The numbers that a search moves: z of class-conditional latents, or the latents themselves."""
    return latents.z if hasattr(latents, "z") else latents


def with_numbers(latents: Any, z: Tensor) -> Any:
    """Latents of the same classes with other numbers."""
    return latents.moved(z) if hasattr(latents, "z") else z


def generate_from(generator: Any, latents: Any) -> lens.Generate:
    """Numbers -> pictures and maps, with the classes of `latents`."""

    def generate(z: Tensor) -> tuple[Tensor, lens.Maps]:
        return generator.generate(with_numbers(latents, z))

    return generate
