"""Starts for edits that small steps do not find: latents that preserve a picture's maps but could paint what was
requested.

A hidden object has a position in the latent that no map depends on, so it has no gradient. Around the latents we
draw from the prior, narrowed in the directions on which the maps depend (a Gaussian with the inverse covariance 1
+ G / tau, where G are the mean squared derivatives of the maps), and keep draws whose maps move in the requested
direction. The thesis (4.4) likewise starts copies from random latents.

For a removal, `try_around` tries the nearest of these. A copy also has to find a position, which few draws show:
`seek` also narrows them in directions on which maps depend on other pictures (the background, which changes only
beyond a threshold), and draws twice more around the best.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from clipviz.analysis.generation.searching import generate_from
from clipviz.lens.invert import Maps, Schedule, SearchOptions, Step, UnitPairs, search
from clipviz.values import numbers_of, with_numbers

N_DRAWN, N_KEPT = 64, 2
TRIAL = Schedule(8, 0.1, ramp_up=0.0, ramp_down=0.3)
N_STEPS = (1 + N_KEPT) * (TRIAL.n_steps + 1)
"""Number of steps of `try_around`."""
NARROW = (0.005, 0.02)
"""tau: the allowed change of the maps, as a mean square in deviations; small values first."""
WIDE = (1.0, 1.7)
"""Multiples of the prior's width: a start may lie slightly outside, where rare content is found."""
USUAL = 0.3
"""tau of the derivatives on other pictures."""
N_USUAL, STRIDE = 48, 0.25
"""Pictures of the prior used for these derivatives, and the step of their finite differences."""
SOUGHT, N_BEST = (126, 36, 36), 6
"""Latents that `seek` draws in each round, and how many of the best seed the next round."""
WIDTHS = ((1.5, 2.0), (0.5,), (0.3,))
"""Multiples of the width of the draws in each round."""
TOGETHER = 3
"""Draws that take about as long as one step of a search."""
N_SOUGHT = sum(SOUGHT) // TOGETHER
"""Number of steps of `seek`."""
AWAY = 0.3
"""Weight of the maps' distance beside their direction, since other changes have to be undone."""
MOST = 128
"""For latents of more numbers, differences of the prior's own samples are used instead."""
GRID = 16


def try_around(
    generator: Any,
    latents: Any,
    target_maps: Maps,
    pairs: Sequence[UnitPairs],
    *,
    seed: int = 0,
    of: int = N_STEPS,
    **how: Any,
) -> Generator[Step, None, Any]:
    """For each latent, try itself and a few starts around it by a short search, and return the start that comes
    nearest.

    how: alpha and objective of these searches. Yields their steps, numbered 1..N_STEPS of `of`, so that a caller
    can cancel; returns the latents.
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
    starts = (own, *(every[rows, image] for rows in best))
    asking: dict[str, Any] = {**how, "target_maps": target_maps, "pairs": pairs, "schedule": TRIAL}
    return (yield from trials(generator, latents, starts, of, **asking))


def trials(
    generator: Any,
    latents: Any,
    starts: Iterable[Tensor],
    of: int = N_STEPS,
    **asked: Unpack[SearchOptions],
) -> Generator[Step, None, Any]:
    """Run short searches from several starts; the one that comes nearest to the request is chosen for each image
    separately.

    starts: numbers like those of `latents`, whose classes stay. Yields the steps of all searches, numbered 1.. of `of`;
    returns the latents.
    """
    generate, number = generate_from(generator, latents), 0
    nearest = least = None
    for start in starts:
        for step in search(generate, start, **asked):
            number += 1
            yield step._replace(number=number, of=of)
        if nearest is None or least is None:
            nearest, least = step.latents, step.objectives
            continue
        nearer = step.objectives < least
        nearest = torch.where(nearer.reshape(-1, *[1] * (start.ndim - 1)), step.latents, nearest)
        least = torch.minimum(step.objectives, least)
    assert nearest is not None, "no start"
    return with_numbers(latents, nearest)


def seek(
    generator: Any,
    latents: Any,
    target_maps: Maps,
    pairs: Sequence[UnitPairs],
    *,
    usual: Float[Tensor, "latent latent"] | None = None,
    seed: int = 0,
) -> Generator[None, None, Any]:
    """For each latent, find the one drawn around it whose maps move most in the requested direction.

    usual: from `usual_sensitivity`, by default computed now. Yields N_SOUGHT times, so that a caller can cancel;
    returns the latents.
    """
    own, image = numbers_of(latents), torch.arange(len(latents), device=numbers_of(latents).device)
    before = features(generator.maps(latents), pairs)
    asked = features(target_maps, pairs) - before

    def score(z: Tensor) -> Tensor:
        moved = features(generator.maps(with_numbers(latents, z)), pairs) - before
        away = (moved - asked).square().mean(1)
        return F.cosine_similarity(moved, asked) - AWAY * away

    felt = None
    if _plain(own):
        usual = usual_sensitivity(generator, pairs) if usual is None else usual.to(own)
        felt = sensitivity(generator, latents, pairs) / NARROW[-1] + usual / USUAL
    draw = torch.Generator().manual_seed(seed)
    every, scores = own[None], torch.full((1, len(own)), -torch.inf, device=own.device)
    for n, widths in zip(SOUGHT, WIDTHS, strict=True):
        noise = _drawn(generator, own, felt, n, draw)
        new = [every[i % len(every)] + widths[i % len(widths)] * moved for i, moved in enumerate(noise)]
        found = []
        for z in new:
            found.append(score(z))
            if len(found) % TOGETHER == 0:
                yield
        scores, every = torch.cat([scores, torch.stack(found)]), torch.cat([every, torch.stack(new)])
        scores, rows = scores.topk(min(N_BEST, len(scores)), 0)
        every = torch.stack([every[row, image] for row in rows])
    return with_numbers(latents, every[0])


def around(generator: Any, latents: Any, pairs: Sequence[UnitPairs], n: int, seed: int = 0) -> list[Tensor]:
    """Return n sets of numbers near those of the latents, [image, ...] each, that change the maps little."""
    own, draw = numbers_of(latents), torch.Generator().manual_seed(seed)
    if not _plain(own):
        return [own + one for one in _drawn(generator, own, None, n, draw)]
    felt = sensitivity(generator, latents, pairs)
    return [
        own + WIDE[i // len(NARROW) % len(WIDE)] * _drawn(generator, own, felt / tau, 1, draw)[0]
        for i, tau in zip(range(n), itertools.cycle(NARROW), strict=False)
    ]


def _plain(own: Tensor) -> bool:
    """Return whether latents have so few numbers that each can be varied separately."""
    return own.ndim == 2 and own.shape[1] <= MOST


def _drawn(generator: Any, own: Tensor, felt: Tensor | None, n: int, draw: torch.Generator) -> list[Tensor]:
    """Return n draws for each image from the Gaussian with the inverse covariance 1 + felt; without it, half the
    differences of the prior's own samples.
    """
    if felt is None:
        seeds = torch.randint(2**31, (2,), generator=draw).tolist()
        one, other = (numbers_of(generator.sample(n, seed=seed)) for seed in seeds)
        return [0.5 * (a - b) for a, b in zip(one.split(1), other.split(1), strict=True)]
    strength, directions = torch.linalg.eigh(felt)
    width = (1 + strength.clamp_min(0)).rsqrt()
    normals = torch.randn((n, *own.shape), generator=draw).to(own)
    return list(torch.einsum("idk,nik->nid", directions, width * normals))


def usual_sensitivity(generator: Any, pairs: Sequence[UnitPairs]) -> Float[Tensor, "latent latent"]:
    """Return the mean of `sensitivity` over pictures of the prior."""
    return sensitivity(generator, generator.sample(N_USUAL, seed=5), pairs, STRIDE).mean(0)


def sensitivity(
    generator: Any, latents: Any, pairs: Sequence[UnitPairs], step: float = 0.05
) -> Float[Tensor, "image latent latent"]:
    """Return mean products of the maps' derivatives with respect to the latents' numbers, by differences of `step`."""
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


def features(maps: Maps, pairs: Sequence[UnitPairs]) -> Float[Tensor, "image feature"]:
    """Return the pairs' maps of side a in deviations, at most GRID on a side, flattened to one row per image."""
    parts = []
    for group in pairs:
        scale = torch.where(group.std_a > 0, group.std_a, torch.inf)[:, None, None]
        chosen = maps[group.layer_a].index_select(1, group.units_a) / scale
        if chosen.shape[2] > GRID:
            chosen = F.adaptive_avg_pool2d(chosen, GRID)
        parts.append(chosen.flatten(1))
    return torch.cat(parts, 1)
