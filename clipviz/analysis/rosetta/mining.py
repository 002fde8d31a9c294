"""Mine the dictionary of units that several models share with a pivot model (thesis 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.rosetta.matching import (
    heldout_correlation,
    match,
    match_and_shuffled,
    own_pairs,
)
from clipviz.analysis.rosetta.unit_maps import KeptMaps, Layers, View, as_partner, places
from clipviz.lens.best_buddies import clusters, rosetta_units
from clipviz.lens.unit_thumbnails import SIDE, Range, drawn
from clipviz.models.generator import Sampler
from clipviz.values import Concepts, Matches, Progress, UnitThumbnails, counted, unwatched

SAME = 0.7
"""Two units of one model count as one concept if their correlation exceeds this value."""


@dataclass(frozen=True)
class Mining:
    """The settings for mining a dictionary.

    k: number of neighbours among which best buddies are searched. at_least: number of partners that a row needs,
    None for all (the thesis's intersection). above: how much a pair's correlation must exceed that on shuffled
    images, see `pairs_above_chance`. same: self best buddies of the pivot whose correlation exceeds this form one
    concept (the thesis joins all of them, which leads to long chains). n_examples: example images of a row.
    batch: images that are read at once. memory: bytes for correlation tables.
    """

    k: int = 5
    at_least: int | None = None
    above: float | Literal["chance"] = "chance"
    same: float = SAME
    n_examples: int = 8
    batch: int = 32
    memory: int = 2 << 30


def mine(
    pivot: Any,
    partners: Sequence[Any],
    images: Any,
    *,
    heldout: Any,
    how: Mining = Mining(),
    progress: Progress = unwatched,
    own: Mapping[str, tuple[Any, Any]] | None = None,
) -> Concepts:
    """Return the dictionary of units that a pivot model shares with its partners (thesis Eq. 4.4 and clusters).

    images, heldout: collections for mining and for validation. progress: called after each of the n_passes over
    the images. own: a partner's name -> (latents, other latents) on which it is matched and validated instead,
    for a generator that paints for the pivot; its maps on the examples, which it did not paint, are dark. Each
    pivot unit is listed once, with its strongest partners; rows are sorted by mean held-out correlation. Raises
    ValueError for no partner or an empty collection.
    """
    if not partners:
        raise ValueError('expected at least one partner, got none; load_partner("cnn") is embedded')
    pivot, partners = as_partner(pivot), [as_partner(partner) for partner in partners]
    step = counted(progress)
    seen = [(own or {}).get(partner.name, (images, heldout)) for partner in partners]
    kept = KeptMaps(*(collection for both in seen for collection in both))
    mined_on = [mined for mined, _ in seen]
    found, units = _rows(pivot, partners, mined_on, how, step, kept)
    all_matches = [matches for matches, _, _ in found]
    # Mining and validation images of each partner; `images` come last, since the next step reads them once more.
    looks = [(i, which) for i in range(len(partners)) for which in (0, 1)]
    looks.sort(key=lambda look: (seen[look[0]][look[1]] is images, seen[look[0]][look[1]] is heldout))
    tables = [torch.ones(units.shape), torch.ones(units.shape)]
    for i, which in looks:
        there = (units[:, i + 1] >= 0).nonzero()[:, 0]
        pairs = units[there][:, [0, i + 1]]
        tables[which][:, i + 1] = 0.0
        tables[which][there, i + 1] = heldout_correlation(
            pivot, partners[i], seen[i][which], all_matches[i], pairs, how.batch, kept=kept
        )
        if which == 0:
            step()
    correlation, other = tables
    order = (other[:, 1:].sum(1) / (units[:, 1:] >= 0).sum(1).clamp_min(1)).argsort(descending=True)
    units, correlation, other = units[order], correlation[order], other[order]
    layers = (all_matches[0].layers_a, *(matches.layers_b for matches in all_matches))
    latents = {i: mined for i, (mined, _) in enumerate(seen, start=1) if partners[i - 1].name in (own or {})}
    examples, looks_of = unit_thumbnails(
        [pivot, *partners], images, units, layers, how.n_examples, how.batch, latents, kept
    )
    cluster = clusters(
        units,
        own_pairs(pivot, images, units[:, 0].unique(), how.k, how.same, how.batch, how.memory, kept),
    )
    step()
    return Concepts(
        models=(pivot.name, *(partner.name for partner in partners)),
        layers=layers,
        units=units,
        correlation=correlation,
        heldout=other,
        cluster=cluster,
        examples=examples,
        n_pairs=torch.tensor([0, *(len(matches.pairs) for matches in all_matches)]),
        n_chance=torch.tensor([0, *(n_chance for _, n_chance, _ in found)]),
        threshold=torch.tensor([0.0, *(threshold for _, _, threshold in found)]),
        k=how.k,
        labels=("",) * len(units),
        thumbnails=looks_of,
    )


def n_passes(n_partners: int) -> int:
    """Return the number of passes of `mine`."""
    return 3 * n_partners + 1


def control_passes(n_partners: int) -> int:
    """Return the number of passes of `count_rows`."""
    return 2 * n_partners


def count_rows(
    pivot: Any,
    partners: Sequence[Any],
    images: Any,
    how: Mining = Mining(),
    progress: Progress = unwatched,
    own: Mapping[str, tuple[Any, Any]] | None = None,
) -> int:
    """Return how many rows `mine` would find, without measuring and drawing them: about two thirds of its work.

    progress: called after each of control_passes. This serves as a control, with an untrained pivot or partner.
    """
    pivot, partners = as_partner(pivot), [as_partner(partner) for partner in partners]
    mined_on = [(own or {}).get(partner.name, (images, None))[0] for partner in partners]
    return len(_rows(pivot, partners, mined_on, how, counted(progress), KeptMaps(*mined_on))[1])


def _rows(
    pivot: Any,
    partners: Sequence[Any],
    mined_on: Sequence[Any],
    how: Mining,
    step: Callable[[], None],
    kept: KeptMaps,
) -> tuple[list[tuple[Matches, int, float]], Tensor]:
    """Return `pairs_above_chance` of each partner, and the pivot's units that enough of them share [row, 1 + model]."""
    found = [
        pairs_above_chance(pivot, partner, mined, how, step, kept)
        for partner, mined in zip(partners, mined_on, strict=True)
    ]
    needed = len(partners) if how.at_least is None else max(1, how.at_least)
    return found, _joined([matches.pairs for matches, _, _ in found], needed)


def pairs_above_chance(
    pivot: Any,
    partner: Any,
    images: Any,
    how: Mining = Mining(),
    step: Callable[[], None] = lambda: None,
    kept: KeptMaps | None = None,
) -> tuple[Matches, int, float]:
    """Return best buddies that share more than position: the matches, the number of equally good chance pairs, and
    the threshold.

    Units may correlate merely by the position of their activity (centre, borders), on any pictures. A pair is
    therefore judged by its excess: its correlation minus that of the same pair when the partner's images are
    shuffled. how.above: the excess that a pair must have; "chance" uses the 99% quantile of the excesses of best
    buddies on shuffled images (minus the same pairs' correlation under another shuffle). step: called after each
    of two passes.
    """
    matches, chance = match_and_shuffled(
        pivot, partner, images, how.k, batch=how.batch, memory=how.memory, kept=kept
    )
    step()
    both = torch.cat([chance.pairs, matches.pairs])
    by_place = heldout_correlation(pivot, partner, images, matches, both, how.batch, permute=1, kept=kept)
    null = chance.strength - by_place[: len(chance.pairs)]
    step()
    if isinstance(how.above, str):
        threshold = max(0.0, float(null.quantile(0.99))) if len(null) else 0.0
    else:
        threshold = float(how.above)
    found = _exceeding(matches, by_place[len(chance.pairs) :], threshold)
    return found, int((null > threshold).sum()), threshold


def pairs_above(
    pivot: Any,
    partner: Any,
    images: Any,
    threshold: float,
    k: int = 5,
    batch: int = 32,
    kept: KeptMaps | None = None,
) -> Matches:
    """Return best buddies whose correlation exceeds that of the pair on shuffled images by over `threshold`."""
    matches = match(pivot, partner, images, k=k, batch=batch, kept=kept)
    by_place = heldout_correlation(pivot, partner, images, matches, matches.pairs, batch, 1, kept)
    return _exceeding(matches, by_place, threshold)


def _exceeding(matches: Matches, by_place: Tensor, threshold: float) -> Matches:
    """Return the pairs whose correlation exceeds the part due to position by more than `threshold`."""
    kept = matches.strength - by_place > threshold
    return replace(matches, pairs=matches.pairs[kept], strength=matches.strength[kept])


def _joined(pairs_by_model: list[Tensor], needed: int) -> Tensor:
    """Return pivot units with a partner in `needed` models or more; [row, 1 + model], -1 for a missing partner."""
    if needed >= len(pairs_by_model):
        return rosetta_units(pairs_by_model, strongest=True)
    strongest: list[dict[int, int]] = []
    for pairs in pairs_by_model:
        table: dict[int, int] = {}
        for unit, partner in pairs.tolist():
            table.setdefault(unit, partner)
        strongest.append(table)
    rows = [(unit, *(table.get(unit, -1) for table in strongest)) for unit in sorted(set().union(*strongest))]
    rows = [row for row in rows if sum(unit >= 0 for unit in row[1:]) >= needed]
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), 1 + len(strongest))


@torch.no_grad()
def unit_thumbnails(
    models: Sequence[Any],
    images: Any,
    units: Tensor,
    layers: Sequence[Layers],
    n_examples: int = 8,
    batch: int = 32,
    own: Mapping[int, Any] | None = None,
    kept: KeptMaps | None = None,
) -> tuple[Tensor, UnitThumbnails]:
    """Return example images of every row and the maps of each model's unit on them.

    models: the pivot first; units: [row, model], -1 where a model has none; layers: each model's. Returns the ids
    of the images where the pivot's map has its highest value [row, example], and the thumbnails. Two passes over
    them. own: index of a generator among the models -> latents from which its range is measured; its maps on the
    examples are dark.
    """
    own = own or {}
    looking = [i for i in range(len(models)) if i not in own]
    views = _seen_by([models[i] for i in looking], images, [layers[i] for i in looking], kept)
    seen = dict(zip(looking, views, strict=True))
    ranges = [Range(len(units), n_examples) for _ in models]
    batch = min(view.fitting(batch) for view in seen.values())
    for i, latents in own.items():
        view = View(models[i], latents, [name for name, _ in layers[i]], kept=kept)
        for rows in _batches(range(len(latents)), batch):
            ranges[i].update(_chosen(view.maps(rows), layers[i], units[:, i]))
    peaks = []
    for rows in _batches(range(len(images)), batch):
        for i, view in seen.items():
            found = ranges[i].update(_chosen(view.maps(rows), layers[i], units[:, i]))
            if i == 0:
                peaks.append(found)
    examples = torch.cat(peaks).topk(min(n_examples, len(images)), dim=0).indices.T.contiguous()
    floor, peak = (torch.stack([getattr(r, name)() for r in ranges], 1) for name in ("floor", "peak"))
    drawings = torch.zeros(*units.shape, examples.shape[1], SIDE, SIDE, dtype=torch.uint8)
    for ids in _batches(examples.unique().tolist(), batch):
        for i, view in seen.items():
            found = drawn(_chosen(view.maps(ids), layers[i], units[:, i]), floor[:, i], peak[:, i])
            for picture, one in zip(ids, found.cpu(), strict=True):
                row, place = (examples == picture).nonzero(as_tuple=True)
                drawings[row, i, place] = one[row]
    there = units >= 0
    drawings[~there] = 0
    return examples, UnitThumbnails(drawings, torch.where(there, floor, 0.0), torch.where(there, peak, 0.0))


def maps_of_units(model: Any, images: Any, units: Tensor, layers: Layers) -> Tensor:
    """Return maps of some units, counted through the layers, on a few pictures: [image, unit, rows, cols] of the
    largest size.

    Units of -1 are dark (0). Layers without any of these units are not read.
    """
    view = View(model, images, [name for name, _ in layers])
    return _chosen(view.maps(range(len(images))), layers, units)


def _seen_by(
    models: Sequence[Any], images: Any, layers: Sequence[Layers], kept: KeptMaps | None
) -> list[View]:
    generators = [model for model in models if isinstance(model, Sampler)]
    generator = generators[0] if generators else None
    return [
        View(model, images, [name for name, _ in own], generator, kept)
        for model, own in zip(models, layers, strict=True)
    ]


def _batches(ids: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


def _chosen(maps: dict[str, Tensor], layers: Layers, units: Tensor) -> Tensor:
    """Return, on the CPU, the maps of units counted through all layers, resized to the largest among them."""
    units = torch.as_tensor(units)
    layer, place = places(units.clamp_min(0), layers)
    used = [(i, layers[i][0], (layer == i) & (units >= 0)) for i in range(len(layers))]
    used = [(i, name, rows) for i, name, rows in used if rows.any()]
    sizes = [maps[name].shape[2:] for _, name, _ in used] or [next(iter(maps.values())).shape[2:]]
    size = (max(rows for rows, _ in sizes), max(cols for _, cols in sizes))
    first = next(iter(maps.values()))
    chosen = torch.zeros(len(first), len(units), *size)
    for _, name, rows in used:
        found = maps[name][:, place[rows]].float()
        if found.shape[2:] != size:
            found = F.interpolate(found, size, mode="bilinear", align_corners=False)
        chosen[:, rows] = found.cpu()
    return chosen
