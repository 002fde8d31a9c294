"""Match two models over a collection: find the units that are each other's best buddies (thesis 4.3).

Layers are read in blocks whose correlation tables fit in `memory` bytes; each set of blocks takes one pass over
the images. Peak memory: `memory` for the tables, 12 k bytes per unit for the neighbours, and one batch of maps
with its copies; a batch has fewer images than requested if its maps would exceed MAPS_BYTES.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipviz.analysis.rosetta.unit_maps import Block, KeptMaps, View, places, views
from clipviz.lens.best_buddies import Neighbours
from clipviz.lens.invert import UnitPairs
from clipviz.lens.rosetta import CorrelationSums
from clipviz.values import Matches, whole


def _passes(
    blocks_a: Sequence[Block], blocks_b: Sequence[Block], memory: int
) -> Iterator[list[tuple[Block, Block]]]:
    """Return pairs of blocks whose float64 tables fit in `memory` together, one list per pass over the images."""
    waiting: list[tuple[Block, Block]] = []
    used = 0
    for pair in itertools.product(blocks_a, blocks_b):
        size = 8 * pair[0].n_units * pair[1].n_units
        if waiting and used + size > memory:
            yield waiting
            waiting, used = [], 0
        waiting.append(pair)
        used += size
    if waiting:
        yield waiting


def match(
    model_a: Any,
    model_b: Any,
    images: Any,
    k: int = 5,
    *,
    layers_a: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    above: float = 0.0,
    permute: int | None = None,
    batch: int = 32,
    memory: int = 2 << 30,
    kept: KeptMaps | None = None,
) -> Matches:
    """Return the best buddies of two models over a collection (thesis Eq. 4.2, 4.3), from the exact correlation of
    every two units.

        matches = match(clipviz.load("demo"), load_partner("cnn"), images)

    Args:
        model_a: A Partner, a ClipModel, or a generator.
        model_b: Another one. At most one of the models is a generator: `images` are then its latents, and the
            other model sees the images that it makes from them.
        images: PIL images, a uint8 array [image, rows, cols, 3] or a float tensor [image, 3, rows, cols] in 0..1.
        k: Neighbours of a unit in the other model; both units of a pair have to be among each other's.
        layers_a: Module names or patterns whose outputs are units; None takes the partner's own.
        layers_b: The same for model b.
        above: The correlation that a pair must exceed.
        permute: A seed for shuffling the images of model b, to measure chance.
        batch: Images that are read at once.
        memory: Bytes for tables of correlations.
        kept: Maps of earlier passes over these images.

    Returns:
        Matches: the pairs [pair, 2], strongest first, with units counted through all layers, their correlations, and
        the whole table where it fits in `memory`.

    Raises:
        ValueError: The collection is empty, a layer does not exist, or both models are generators.
    """
    view_a, view_b = views(model_a, model_b, images, layers_a, layers_b, kept)
    return _matched(view_a, view_b, k, above, [permute], batch, memory)[0]


def match_and_shuffled(
    model_a: Any,
    model_b: Any,
    images: Any,
    k: int = 5,
    *,
    batch: int = 32,
    memory: int = 2 << 30,
    kept: KeptMaps | None = None,
) -> tuple[Matches, Matches]:
    """Run `match` as is and with the images of model b shuffled (permute=0), from the same passes of model a."""
    view_a, view_b = views(model_a, model_b, images, kept=kept)
    plain, shuffled = _matched(view_a, view_b, k, 0.0, [None, 0], batch, memory)
    return plain, shuffled


def _matched(
    view_a: View,
    view_b: View,
    k: int,
    above: float,
    permutes: Sequence[int | None],
    batch: int,
    memory: int,
) -> list[Matches]:
    found = []
    for neighbours, table in _stream(view_a, view_b, k, permutes, batch, memory):
        pairs, strength = neighbours.pairs(above)
        if table is None:
            table = _sparse(neighbours, view_a.n_units, view_b.n_units)
        found.append(Matches(table, pairs, strength, view_a.layers, view_b.layers))
    return found


def own_pairs(
    model: Any,
    images: Any,
    units: Tensor,
    k: int,
    above: float,
    batch: int = 32,
    memory: int = 2 << 30,
    kept: KeptMaps | None = None,
) -> Tensor:
    """Return self best buddies among some units of a model, each pair once with the smaller unit first, [pair, 2].

    units: distinct units, in order, counted through the layers. Neighbours are searched among all units of the
    model, so that the pairs are those of the whole table [unit, unit], but only the rows of `units` are computed.
    """
    view, _ = views(model, model, images, kept=kept)
    ((found, _),) = _stream(view, view, k + 1, [None], batch, memory, units)
    place = torch.searchsorted(units, found.index_a).clamp_max(len(units) - 1)
    place = torch.where(units[place] == found.index_a, place, -1)
    rows, _ = Neighbours(found.values_a, place, found.values_a, place).without_self().pairs(above)
    return units[rows[rows[:, 0] < rows[:, 1]]]


def _stream(
    view_a: View,
    view_b: View,
    k: int,
    permutes: Sequence[int | None],
    batch: int,
    memory: int,
    among: Tensor | None = None,
) -> list[tuple[Neighbours, Tensor | None]]:
    """Return neighbours of all units, and the whole table in float32 if it fits in `memory`; once for each order of
    the images of model b, all from the same maps of model a.

    among: the units of model a that are read, default all; side a of the neighbours is then counted through these.
    """
    n_images, share = len(view_a.images), memory // len(permutes)
    orders = [_order(n_images, permute) for permute in permutes]
    n_a, n_b = view_a.n_units if among is None else len(among), view_b.n_units
    k = min(whole("k", k), max(n_a, n_b))  # a unit cannot have more neighbours than there are units
    tables = [torch.zeros(n_a, n_b) if 4 * n_a * n_b <= share else None for _ in orders]
    found = [Neighbours.empty(n_a, n_b, k) for _ in orders]
    batch, limit = min(view_a.fitting(batch), view_b.fitting(batch)), max(1, int((share / 8) ** 0.5))
    for pairs in _passes(view_a.blocks(limit, among), view_b.blocks(limit), share):
        sums = [[CorrelationSums(a.n_units, b.n_units) for a, b in pairs] for _ in orders]
        for start in range(0, n_images, batch):
            rows = range(start, min(start + batch, n_images))
            maps_a = view_a.maps(rows)
            joined_a = {block: block.of(maps_a) for block in {a for a, _ in pairs}}
            for order, totals in zip(orders, sums, strict=True):
                shown = [order[i] for i in rows]
                maps_b = maps_a if view_b is view_a and shown == list(rows) else view_b.maps(shown)
                joined_b = {block: block.of(maps_b) for block in {b for _, b in pairs}}
                for total, (block_a, block_b) in zip(totals, pairs, strict=True):
                    total.update(joined_a[block_a], joined_b[block_b])
        for place, totals in enumerate(sums):
            for total, (block_a, block_b) in zip(totals, pairs, strict=True):
                correlation = total.correlation().cpu()
                found[place] = found[place].include(correlation, block_a.start, block_b.start)
                table = tables[place]
                if table is not None:
                    rows_a = slice(block_a.start, block_a.start + block_a.n_units)
                    table[rows_a, block_b.start : block_b.start + block_b.n_units] = correlation
    return list(zip(found, tables, strict=True))


def _order(n_images: int, permute: int | None) -> list[int]:
    """Return the images in order, or shuffled with a seed."""
    if permute is None:
        return list(range(n_images))
    return torch.randperm(n_images, generator=torch.Generator().manual_seed(permute)).tolist()


def _sparse(found: Neighbours, n_a: int, n_b: int) -> Tensor:
    """Return the top k of both sides as a sparse [unit_a, unit_b] table."""
    k = found.index_a.shape[1]
    from_a = torch.stack([torch.arange(n_a).repeat_interleave(k), found.index_a.flatten()])
    from_b = torch.stack([found.index_b.flatten(), torch.arange(n_b).repeat_interleave(k)])
    index, values = (
        torch.cat([from_a, from_b], 1),
        torch.cat([found.values_a.flatten(), found.values_b.flatten()]),
    )
    known = (index >= 0).all(0)
    flat, first = torch.unique(index[0][known] * n_b + index[1][known], return_inverse=True)
    kept = torch.zeros(len(flat)).scatter_(0, first, values[known])
    return torch.sparse_coo_tensor(
        torch.stack([flat // n_b, flat % n_b]), kept, (n_a, n_b), check_invariants=True
    ).coalesce()


def heldout_correlation(
    model_a: Any,
    model_b: Any,
    images: Any,
    matches: Matches,
    pairs: Tensor,
    batch: int = 32,
    permute: int | None = None,
    kept: KeptMaps | None = None,
) -> Tensor:
    """Return the correlation [pair] of given unit pairs on other images. pairs: [pair, 2], counted as in `matches`.

    permute: a seed for shuffling the images of model b, which leaves the correlation due to position alone.
    """
    correlation = torch.zeros(len(pairs))
    for group in _paired(model_a, model_b, images, matches, pairs, batch, permute, kept):
        correlation[group.rows] = group.sums.correlation().cpu()
    return correlation


def unit_pairs(
    model_a: Any,
    model_b: Any,
    images: Any,
    matches: Matches,
    pairs: Tensor | None = None,
    batch: int = 32,
    kept: KeptMaps | None = None,
) -> list[UnitPairs]:
    """Return matched units as `lens.invert` needs them, with the means and deviations of Eq. 4.1 over these images.

    model_a: the generator that will be inverted or edited. pairs: [pair, 2], default all of `matches`.

        pairs = unit_pairs(generator, cnn, latents, match(generator, cnn, latents))
        invert(generator.generate, start, target_maps=cnn.maps(picture), pairs=pairs)
    """
    chosen = matches.pairs if pairs is None else pairs
    groups = _paired(model_a, model_b, images, matches, chosen, batch, kept=kept)
    found = []
    for group in groups:
        sums, freedom = group.sums, max(group.sums.n_positions - 1, 1)
        moments = [
            sums.mean_a,
            (sums.square_a / freedom).sqrt(),
            sums.mean_b,
            (sums.square_b / freedom).sqrt(),
        ]
        units = (group.units_a, group.units_b)
        found.append(
            UnitPairs(group.layer_a, group.layer_b, *units, *(moment.float().cpu() for moment in moments))
        )
    return found


@dataclass(frozen=True, eq=False)
class _Group:
    """Pairs of one layer of a and one of b: their rows among all pairs, their units, their sums."""

    layer_a: str
    layer_b: str
    rows: Tensor
    units_a: Tensor
    units_b: Tensor
    sums: CorrelationSums


def _paired(
    model_a: Any,
    model_b: Any,
    images: Any,
    matches: Matches,
    pairs: Tensor,
    batch: int,
    permute: int | None = None,
    kept: KeptMaps | None = None,
) -> list[_Group]:
    """Return the sums of pairs only, from one pass over the images."""
    order = _order(len(images), permute)
    names_a, names_b = ([layer for layer, _ in layers] for layers in (matches.layers_a, matches.layers_b))
    view_a, view_b = views(model_a, model_b, images, names_a, names_b, kept)
    layer_a, unit_a = places(pairs[:, 0], matches.layers_a)
    layer_b, unit_b = places(pairs[:, 1], matches.layers_b)
    groups = []
    for one, other in sorted(set(zip(layer_a.tolist(), layer_b.tolist(), strict=True))):
        rows = ((layer_a == one) & (layer_b == other)).nonzero()[:, 0]
        sums = CorrelationSums(len(rows), len(rows), paired=True)
        groups.append(_Group(names_a[one], names_b[other], rows, unit_a[rows], unit_b[rows], sums))
    batch = min(view_a.fitting(batch), view_b.fitting(batch))
    for start in range(0, len(images), batch):
        now = range(start, min(start + batch, len(images)))
        maps_a, maps_b = view_a.maps(now), view_b.maps([order[i] for i in now])
        for group in groups:
            group.sums.update(
                maps_a[group.layer_a][:, group.units_a], maps_b[group.layer_b][:, group.units_b]
            )
    return groups
