"""Pictures that follow Rosetta neurons: guides, inversion, edits and single-concept pictures (thesis 4.4).

guides = find_guides(generator, {"cnn": load_partner("cnn")}, generator.sample(256, seed=7))
moved = edit(generator, generator.sample(1, seed=3), guides, "shift", right=0.25)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from clipviz.analysis.generation import starts as leaping
from clipviz.analysis.generation.starts import generate_from, leap, numbers_of, seek, trials, with_numbers
from clipviz.analysis.rosetta.matching import keeping, match, unit_pairs
from clipviz.lens import edits
from clipviz.lens import invert as lens
from clipviz.lens.invert import Schedule, Step, UnitPairs

CHANGES = ("none", "zoom", "shift", "copy", "remove", "amplify")
LEAPS = {"copy": leaping.N_SOUGHT, "remove": leaping.N_STEPS}
"""Changes that small steps do not find, since nothing on the picture tells where an object would appear that is hidden,
and the steps that it takes to choose their start."""
PRIOR, THERE = 0.002, 1e-6
"""Weight of the mean square of the latent in an edit, enough to stay where the prior is, too little to be seen; and the
distance of maps (mean square, in deviations) from which on they are as asked, and the latent is left as it is."""
TRIAL = Schedule(12, 0.1, ramp_up=0.0, ramp_down=0.3)
"""The short search that each start of an inversion is tried by."""
Progress = Callable[[Step], bool | None]


class NoPairError(ValueError):
    """No unit of a generator is shared with a reader."""


@dataclass(frozen=True, eq=False)
class Guides:
    """Units of a generator that other models share (best buddies, Eq. 4.3), by reader.

    pairs: reader's name -> pairs; the reader's layers are called "reader/layer". own: each of the generator's units
    once, paired with itself: what edits compare. felt: how these maps feel the latent's numbers on the generator's
    pictures (leaping.usual_sensitivity), None where it is not known yet.
    """

    pairs: Mapping[str, tuple[UnitPairs, ...]]
    own: tuple[UnitPairs, ...]
    felt: Float[Tensor, "latent latent"] | None = None

    @property
    def n_units(self) -> int:
        return sum(len(group.units_a) for group in self.own)

    def of(self, units: Sequence[tuple[str, int]]) -> tuple[UnitPairs, ...]:
        """The generator's units of some (layer, unit), to edit these alone. ValueError for one that is not a guide."""
        wanted, found = set(units), set()
        chosen = []
        for group in self.own:
            rows = [i for i, unit in enumerate(group.units_a.tolist()) if (group.layer_a, unit) in wanted]
            found |= {(group.layer_a, int(group.units_a[i])) for i in rows}
            if rows:
                chosen.append(group.rows(rows))
        missing = sorted(wanted - found)
        if missing or not chosen:
            raise ValueError(
                f"expected units that the generator shares with another model, got {missing or 'none'}; choose "
                "concepts that have a unit in the generator"
            )
        return tuple(chosen)

    def without(self, chosen: Sequence[UnitPairs]) -> tuple[UnitPairs, ...]:
        """All the other units."""
        gone = {(group.layer_a, unit) for group in chosen for unit in group.units_a.tolist()}
        rest = []
        for group in self.own:
            rows = [i for i, unit in enumerate(group.units_a.tolist()) if (group.layer_a, unit) not in gone]
            if rows:
                rest.append(group.rows(rows))
        return tuple(rest)


@dataclass(frozen=True, eq=False)
class Edited:
    """What a search found. latents, images: [image, ...]; source: the images it began with; distance: [image] how far
    the maps are from those asked (see lens.invert.map_distance), and asked: [image] how far they were at the start."""

    latents: Any
    images: Float[Tensor, "image 3 rows cols"]
    source: Float[Tensor, "image 3 rows cols"]
    distance: Float[Tensor, " image"]
    asked: Float[Tensor, " image"]


def find_guides(
    generator: Any,
    readers: Mapping[str, Any],
    latents: Any,
    *,
    k: int = 5,
    above: float = 0.4,
    most: int = 150,
    batch: int = 32,
    between: Callable[[int], None] = lambda n_done: None,
) -> Guides:
    """The generator's best buddies in every reader over G(latents) (Eq. 4.3), at most `most` pairs for each.

    above: correlation that a pair must exceed; between: called after each reader with how many are done. Raises
    ValueError where no pair is left.
    """
    pairs: dict[str, tuple[UnitPairs, ...]] = {}
    with keeping(latents):  # every reader, and the moments of its pairs, want the generator's maps again
        for name, reader in readers.items():
            between(len(pairs))
            matches = match(generator, reader, latents, k=k, above=above, batch=batch)
            groups = unit_pairs(generator, reader, latents, matches, matches.pairs[:most], batch=batch)
            pairs[name] = tuple(replace(group, layer_b=f"{name}/{group.layer_b}") for group in groups)
    every = [group for groups in pairs.values() for group in groups]
    if not every:
        raise NoPairError(
            f"no unit of {generator.name!r} correlates above {above} with a unit of "
            f"{', '.join(readers) or 'no reader'}; lower above=..., or match with another model"
        )
    return Guides(pairs, tuple(each_once(every)))


def each_once(groups: Sequence[UnitPairs]) -> list[UnitPairs]:
    """Each of the generator's units once, with itself, one layer at a time."""
    found: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    for group in groups:
        known = found.setdefault(group.layer_a, {})
        for i, unit in enumerate(group.units_a.tolist()):
            known.setdefault(unit, (group.mean_a[i], group.std_a[i]))
    made = []
    for layer, units in sorted(found.items()):
        index = torch.tensor(list(units))
        mean, std = (torch.stack([numbers[i] for numbers in units.values()]) for i in (0, 1))
        made.append(
            UnitPairs(layer, layer, index.to(mean.device), index.to(mean.device), mean, std, mean, std)
        )
    return made


def change_of(
    change: str,
    right: float = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
    where: Float[Tensor, "image 1 rows cols"] | None = None,
    literal: bool = False,
) -> edits.Change:
    """A change of maps by its name: "none", "zoom" (factor, and a shift), "shift", "copy", "remove" or "amplify".

    right, down: shares of the picture's sides; factor: of lengths for "zoom", of heights for "amplify". What comes in
    at a border goes on from it, so that grounds stay. where: the region (lens.edits.region) that is written once more
    beside itself by "copy" and filled with its surroundings by "remove"; without it the maps' halves and minima are
    taken. literal: as in thesis 4.4, zeros come in at a border, and `where` is left out.
    Raises ValueError for another name or impossible numbers.
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
    edits.placed(torch.zeros(1, 1, 2, 2), right, down, zoom)  # says what is wrong before a search begins
    return partial(edits.placed, right=right, down=down, zoom=zoom, fill=fill)


def asked_maps(
    maps: lens.Maps,
    chosen: Sequence[UnitPairs],
    change: str,
    right: float = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
    literal: bool = False,
) -> dict[str, Tensor]:
    """The maps that a change of some units asks for; "copy" and "remove" act on the region where these stand out.

    literal: as in thesis 4.4 instead (see `change_of`).
    """
    where = edited_region(maps, chosen) if change in LEAPS and not literal else None
    return edits.edited_maps(maps, chosen, change_of(change, right, down, factor, where, literal))


class EditOptions(TypedDict, total=False):
    """The keywords of `edit_steps`."""

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
    """The search of `edit`, one step at a time: each shows where it is, and whoever stops asking ends it.

    units: (layer, unit) to change, default all guides; the others should stay as they are if `keep`. start: latents
    that the search begins at, default `latents`. literal: the maps that thesis 4.4 asks for (see `change_of`).
    objective: as in lens.invert, "product" for that of Eq. 4.6; a step's objectives are these, by default the distance
    of the maps from those asked (lens.invert.map_distance), for each image. The steps of "copy" and "remove" begin
    with those of the searches that choose a start (analysis.generation.starts), LEAPS more than the schedule has.
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
    steps = lens.search(generate, numbers_of(start), schedule=schedule, **goal)
    if change in LEAPS:
        first = next(steps)  # where it begins is to be seen before the leap
        before = LEAPS[change]
        of = first.of + before
        yield first._replace(of=of)
        if change == "copy":
            rounds = seek(generator, start, asked, goal["pairs"], usual=guides.felt)
            start = yield from _counted(rounds, first._replace(of=of))
        else:
            start = yield from leap(generator, start, **goal, of=of)
        steps = lens.search(generate, numbers_of(start), schedule=schedule, **goal)
        next(steps)
        steps = (step._replace(number=before + step.number, of=of) for step in steps)
    yield from steps


def _counted(rounds: Generator[None, None, Any], here: Step) -> Generator[Step, None, Any]:
    """The rounds of a search that shows nothing on its way, as steps that stay `here`."""
    for number in itertools.count(1):
        try:
            next(rounds)
        except StopIteration as end:
            return end.value
        yield here._replace(number=number)


def edited_region(maps: lens.Maps, chosen: Sequence[UnitPairs]) -> Float[Tensor, "image 1 rows cols"]:
    """Where units stand out on their own maps: what is copied or removed."""
    return edits.region(
        [(maps[group.layer_a].index_select(1, group.units_a), group.std_a) for group in chosen]
    )


def edit(
    generator: Any,
    latents: Any,
    guides: Guides,
    change: str = "none",
    *,
    progress: Progress | None = None,
    **how: Unpack[EditOptions],
) -> Edited:
    """Change the maps of a generator's shared units and search for latents that follow (thesis 4.4, Fig. 4.7, 4.8).

    change, how: as in `change_of` and `edit_steps`. The class of a class-conditional generator does not change.
    progress: called with every step; the search ends early when it returns False.
    Raises ValueError as `change_of`, `Guides.of` and `lens.invert.search` do.
    """
    with torch.no_grad():
        source = generator.images(latents)
    if change == "none" and how.get("start") is None:  # the maps are already as asked
        nothing = torch.zeros(len(source))
        return Edited(latents, source, source, nothing, nothing)
    found = followed(edit_steps(generator, latents, guides, change, **how), latents, progress)
    return replace(found, source=source)


def followed(
    steps: Iterator[Step], latents: Any, progress: Progress | None = None, nearest: bool = False
) -> Edited:
    """A search to its end, or until progress(step) returns False. latents: for the classes of what is found.

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
    """The picture when the units themselves are overwritten in the forward pass, without a search: the baseline of
    thesis 4.4 (Bau et al.), which leaves artefacts."""
    where = edited_region(generator.maps(latents), guides.own) if change in LEAPS else None
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
            return generator.images(latents)
    finally:
        for handle in handles:
            handle.remove()


def invert(
    generator: Any,
    start: Any,
    *,
    images: Float[Tensor, "image 3 rows cols"] | None,
    readers: Mapping[str, Any],
    guides: Guides | None,
    target: Float[Tensor, "image 3 rows cols"] | None = None,
    progress: Progress | None = None,
    **how: Unpack[lens.SearchOptions],
) -> Edited:
    """Latents whose picture is like given images, guided by the readers' maps of them (Eq. 4.7; Eq. 4.5 by maps alone).

    images: what the readers look at, any size. target: the images to compare pixels with, at the generator's size;
    None for maps alone, as for pictures from outside the generator's world (Fig. 4.4) or of another class (Fig. 4.5).
    guides=None leaves the maps out. start: latents to begin at; their class is kept. how: alpha, beta, objective,
    reconstruction and schedule of lens.invert.search; by maps alone the objective is "correlation" unless another is
    given: maps of another class or manner differ in height and level, and by their squared difference an object would
    fade.
    """
    if target is None:
        how.setdefault("objective", "correlation")
    if guides is not None:
        how |= {"target_maps": read(readers, images), "pairs": pairs_with(readers, guides)}
    how["target_images"] = target
    steps = lens.search(generate_from(generator, start), numbers_of(start), **how)
    return followed(steps, start, progress)


def pairs_with(readers: Mapping[str, Any], guides: Guides) -> list[UnitPairs]:
    """The guides' pairs with some readers."""
    return [group for name in readers for group in guides.pairs.get(name, ())]


def nearest_starts(
    generator: Any,
    latents: Any,
    starts: Sequence[Tensor],
    target_maps: lens.Maps,
    pairs: Sequence[UnitPairs],
    n: int = 1,
    between: Callable[[int], None] = lambda n_done: None,
) -> list[Any]:
    """Of several starts the n whose maps correlate best with those asked, for each image by itself, the best first.

    latents: [image, ...], for their classes; starts: numbers like those of `latents`, any number of times. Maps are
    compared by their correlation: among random starts, the levels of maps (the ground) would hide where an object is.
    """
    if not starts:
        raise ValueError("expected at least one start, got none; take them from generator.sample(n)")
    asked, scores = None, []
    for place, numbers in enumerate(starts):
        between(place)
        maps = generator.maps(with_numbers(latents, numbers))
        asked = asked or lens.Asked(maps, target_maps, pairs)
        scores.append(asked.objective(maps, "correlation"))
    best = torch.stack(scores).topk(min(n, len(starts)), 0, largest=False).indices
    every, image = torch.stack(list(starts)), torch.arange(len(latents), device=best.device)
    return [with_numbers(latents, every[rows, image]) for rows in best]


def tried_start(
    generator: Any, starts: Sequence[Any], target_maps: lens.Maps, pairs: Sequence[UnitPairs]
) -> Any:
    """Where short searches from several starts come nearest to the maps asked, for each image by itself."""
    asked: lens.SearchOptions = {
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
    progress: Progress | None = None,
) -> Edited:
    """Several pictures that share one unit's map: what a single Rosetta neuron stands for (thesis 4.4, Fig. 4.1, C.6).

    latents: the starts, [image, ...]. unit: (layer, unit) of the generator. like: latents of one picture whose map of
    the unit the others should have; default the start on which the unit is strongest.
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
    steps = lens.search(
        generate_from(generator, latents),
        numbers_of(latents),
        target_maps={layer: wanted.expand(len(latents), -1, -1, -1)},
        pairs=chosen,
        alpha=alpha,
        schedule=schedule,
    )
    return followed(steps, latents, progress, nearest=True)


def lively(generator: Any, latents: Any, guides: Guides, unit: tuple[str, int], n: int) -> Any:
    """n of some latents on whose pictures a unit is not silent, the first ones; where these are too few, then those on
    which it varies most. From a picture on which it is silent a search has no direction."""
    (group,) = guides.of([unit])
    spread = generator.maps(latents)[unit[0]][:, unit[1]].flatten(1).std(1)
    alive = spread > 0.1 * group.std_a
    order = torch.where(alive, spread.max() + 1 + torch.arange(len(spread)).flip(0).to(spread), spread)
    return latents[order.argsort(descending=True)[:n]]


def read(readers: Mapping[str, Any], images: Any) -> dict[str, Tensor]:
    """Maps of images by every reader, layers called "reader/layer"."""
    return {
        f"{name}/{layer}": maps
        for name, reader in readers.items()
        for layer, maps in reader.maps(images).items()
    }
