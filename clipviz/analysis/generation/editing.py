"""Edits of images through the maps of Rosetta neurons (thesis 4.4; Figures 4.7, 4.8).

moved = edit(generator, generator.sample(1, seed=3), guides, "shift", right=0.25)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from clipviz.analysis.generation import starts
from clipviz.analysis.generation.guides import Guides
from clipviz.analysis.generation.searching import Edited, SearchProgress, followed, generate_from
from clipviz.lens import edits
from clipviz.lens.invert import Maps, Schedule, Step, UnitPairs, search
from clipviz.values import numbers_of

CHANGES = ("none", "zoom", "shift", "copy", "remove", "amplify")
START_STEPS = {"copy": starts.N_SOUGHT, "remove": starts.N_STEPS}
"""Changes that small steps cannot find, since no gradient shows where a hidden object could appear, and the number
of steps for choosing their start.
"""
PRIOR, THERE = 0.002, 1e-6
"""Weight of the latent's mean square in an edit, large enough to stay within the prior and too small to be visible;
and the distance of maps (mean square, in deviations) below which they count as reached and the latent is not
changed.
"""


def change_of(
    change: str,
    right: float = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
    where: Float[Tensor, "image 1 rows cols"] | None = None,
    literal: bool = False,
) -> edits.Change:
    """Return a change of maps by its name: "none", "zoom" (factor, and a shift), "shift", "copy", "remove" or
    "amplify".

    right, down: shares of the picture's sides; factor: scales lengths for "zoom" and heights for "amplify". New
    values at a border repeat it, so that backgrounds stay. where: the region (lens.edits.region) that "copy"
    duplicates beside itself and "remove" fills with its surroundings; without it the maps' halves and minima are
    used. literal: as in thesis 4.4, new values at a border are zero and `where` is ignored. Raises ValueError for
    another name or impossible numbers.
    """
    fill, where = ("zeros", None) if literal else ("edge", where)
    if change not in CHANGES:
        raise ValueError(f"expected a change among {', '.join(CHANGES)}, got {change!r}")
    if change == "none":
        return lambda maps: maps
    if change == "remove":
        return edits.removed if where is None else partial(edits.filled, where=where)
    if change == "copy":
        return partial(edits.copied, fill=fill) if where is None else partial(edits.pasted, where=where)
    if change == "amplify":
        if not 0 <= factor < float("inf"):
            raise ValueError(f"expected a factor of 0 or more, got {factor}; 2 doubles the concept")
        return partial(edits.scaled, factor=factor)
    zoom = factor if change == "zoom" else 1.0
    edits.placed(torch.zeros(1, 1, 2, 2), right, down, zoom)  # raises an error before a search begins
    return partial(edits.placed, right=right, down=down, zoom=zoom, fill=fill)


def asked_maps(
    maps: Maps,
    chosen: Sequence[UnitPairs],
    change: str,
    right: float = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
    literal: bool = False,
) -> dict[str, Tensor]:
    """Return the maps that a change of some units requests; "copy" and "remove" act on the region where these stand
    out.

    literal: as in thesis 4.4 instead (see `change_of`).
    """
    where = edited_region(maps, chosen) if change in START_STEPS and not literal else None
    return edits.edited_maps(maps, chosen, change_of(change, right, down, factor, where, literal))


class EditOptions(TypedDict, total=False):
    """The keyword arguments of `edit_steps`."""

    units: Sequence[tuple[str, int]] | None
    keep: bool
    right: float
    down: float
    factor: float
    start: Any
    alpha: float
    objective: str
    schedule: Schedule | None
    literal: bool


def edit_steps(
    generator: Any,
    latents: Any,
    guides: Guides,
    change: str = "none",
    *,
    units: Sequence[tuple[str, int]] | None = None,
    keep: bool = True,
    right: float = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
    start: Any = None,
    alpha: float = PRIOR,
    objective: str = "distance",
    schedule: Schedule | None = None,
    literal: bool = False,
) -> Iterator[Step]:
    """Run the search of `edit` and yield every step; stop iterating to cancel.

    units: (layer, unit) to change, default all guides; the others should stay as they are if `keep`. start:
    latents at which the search begins, default `latents`. literal: request the maps of thesis 4.4 (see
    `change_of`). objective: as in lens.invert, "product" for that of Eq. 4.6. A step's objectives are one number
    per image, by default the distance of the maps from the requested ones (lens.invert.map_distance). For "copy"
    and "remove" START_STEPS steps of searches that choose a start (starts) come before those of the schedule.
    """
    chosen = guides.own if units is None else guides.of(units)
    others = guides.without(chosen) if units is not None and keep else ()
    asked = asked_maps(generator.maps(latents), chosen, change, right, down, factor, literal)
    goal: dict[str, Any] = {
        "target_maps": asked,
        "pairs": [*chosen, *others],
        "alpha": alpha,
        "objective": objective,
        "still": -math.inf if objective == "product" else THERE,
    }
    generate, start = generate_from(generator, latents), latents if start is None else start
    steps = search(generate, numbers_of(start), schedule=schedule, **goal)
    if change in START_STEPS:
        first = next(steps)  # show where it begins before its start is chosen
        before = START_STEPS[change]
        of = first.of + before
        yield first._replace(of=of)
        if change == "copy":
            rounds = starts.seek(generator, start, asked, goal["pairs"], usual=guides.felt)
            start = yield from _counted(rounds, first._replace(of=of))
        else:
            start = yield from starts.try_around(generator, start, **goal, of=of)
        steps = search(generate, numbers_of(start), schedule=schedule, **goal)
        next(steps)
        steps = (step._replace(number=before + step.number, of=of) for step in steps)
    yield from steps


def _counted(rounds: Generator[None, None, Any], here: Step) -> Generator[Step, None, Any]:
    """Yield the rounds of a search that shows no intermediate results, as steps that stay at `here`."""
    for number in itertools.count(1):
        try:
            next(rounds)
        except StopIteration as end:
            return end.value
        yield here._replace(number=number)


def edited_region(maps: Maps, chosen: Sequence[UnitPairs]) -> Float[Tensor, "image 1 rows cols"]:
    """Return where units stand out on their own maps: the region that is copied or removed."""
    return edits.region(
        [(maps[group.layer_a].index_select(1, group.units_a), group.std_a) for group in chosen]
    )


def edit(
    generator: Any,
    latents: Any,
    guides: Guides,
    change: str = "none",
    *,
    progress: SearchProgress | None = None,
    **how: Unpack[EditOptions],
) -> Edited:
    """Change the maps of a generator's shared units and search for latents that follow (thesis 4.4, Fig. 4.7, 4.8).

    change, how: as in `change_of` and `edit_steps`. The class of a class-conditional generator stays fixed.
    progress: called with every step; the search ends early if it returns False. Raises ValueError as `change_of`,
    `Guides.of` and `lens.invert.search` do.
    """
    with torch.no_grad():
        source = generator.images(latents)
    if change == "none" and how.get("start") is None:  # the maps are already as requested
        nothing = torch.zeros(len(source))
        return Edited(latents, source, source, nothing, nothing)
    found = followed(edit_steps(generator, latents, guides, change, **how), latents, progress)
    return replace(found, source=source)


def edit_units_directly(
    generator: Any,
    latents: Any,
    guides: Guides,
    change: str,
    *,
    right: float = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
) -> Float[Tensor, "image 3 rows cols"]:
    """Return the picture when the units themselves are overwritten in the forward pass, without a search: the
    baseline of thesis 4.4 (Bau et al.), which leaves artefacts.
    """
    where = edited_region(generator.maps(latents), guides.own) if change in START_STEPS else None
    how = change_of(change, right, down, factor, where)
    by_layer = {group.layer_a: group.units_a for group in guides.own}
    handles = []

    def hook(units: Tensor, module: Any, inputs: Any, output: Tensor) -> Tensor:
        written = output.clone()
        written[:, units] = how(output[:, units])
        return written

    try:
        for layer, units in by_layer.items():
            module = generator.module.get_submodule(layer)
            handles.append(module.register_forward_hook(partial(hook, units)))
        with torch.no_grad():
            found: Tensor = generator.images(latents)
            return found
    finally:
        for handle in handles:
            handle.remove()
