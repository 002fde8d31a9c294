"""Matching two models over a collection: the units that are each other's best buddies (thesis 4.3).

Layers are read in blocks whose correlation tables fit in `memory` bytes; each set of blocks takes one pass over the
images. Peak memory: `memory` for the tables, 12 k bytes per unit for the neighbours, and one batch of maps with its
copies; a batch has fewer images than asked for where maps are so large that they exceed MAPS_BYTES.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clipviz.lens.best_buddies import Neighbours
from clipviz.lens.invert import UnitPairs
from clipviz.lens.rosetta import CorrelationSums
from clipviz.models.preprocess import take
from clipviz.models.zoo import clip_partner
from clipviz.values import Matches, whole

Layers = tuple[tuple[str, int], ...]
MAPS_BYTES = 1 << 29
"""What the maps of a batch may hold: 5 images of all MLPs of a ViT-L/14."""
KEPT_BYTES = 3 << 30
"""What maps that are kept from one pass to the next may hold: 31 images of all MLPs of a ViT-L/14."""


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive layers of one map size: their names, the first unit, the number of units.

    chosen: of each layer the units that are read, None for all of them.
    """

    layers: tuple[str, ...]
    start: int
    n_units: int
    chosen: tuple[Tensor, ...] | None = None

    def of(self, maps: dict[str, Tensor]) -> Tensor:
        """The block's maps [image, unit, rows, cols]."""
        parts = [maps[layer] for layer in self.layers]
        if self.chosen is not None:
            parts = [part[:, units] for part, units in zip(parts, self.chosen, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class View:
    """One model over one collection: its layers, and its maps batch by batch."""

    def __init__(
        self, model: Any, images: Any, layers: Sequence[str] | None, of_generator: Any = None
    ) -> None:
        self.model, self.images, self.chosen, self.of_generator = (
            as_partner(model),
            images,
            layers,
            of_generator,
        )
        probe = self.read([0])
        self.shapes = {name: (maps.shape[1], tuple(maps.shape[2:])) for name, maps in probe.items()}
        self.layers: Layers = tuple((name, n_units) for name, (n_units, _) in self.shapes.items())
        self.n_units = sum(n_units for _, n_units in self.layers)

    def maps(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Maps of some images, those that are kept without a pass."""
        kept = _KEPT.get()
        return self.read(rows) if kept is None else kept.maps(self, tuple(rows))

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Maps of some images from a pass."""
        pictures = take(self.images, rows)
        if self.of_generator is not None and self.of_generator is not self.model:
            pictures = self.of_generator.images(pictures)
        return self.model.maps(pictures) if self.chosen is None else self.model.maps(pictures, self.chosen)

    @property
    def image_bytes(self) -> int:
        """What the maps of one image hold."""
        return 4 * sum(n_units * rows * cols for n_units, (rows, cols) in self.shapes.values())

    def fitting(self, batch: int) -> int:
        """At most so many images that their maps fit in MAPS_BYTES."""
        return max(1, min(batch, MAPS_BYTES // max(1, self.image_bytes)))

    def blocks(self, limit: int, among: Tensor | None = None) -> list[Block]:
        """Runs of layers with one map size, at most `limit` units each unless one layer alone has more.

        among: units counted through the layers, in order; then blocks hold these alone and are counted through them.
        """
        layer, unit = places(torch.arange(self.n_units) if among is None else among, self.layers)
        found: list[Block] = []
        size, start = None, 0
        for place, (name, (_, new_size)) in enumerate(self.shapes.items()):
            own = unit[layer == place]
            n_units, chosen = len(own), None if among is None else (own,)
            last = found[-1] if found else None
            if not n_units:
                continue
            if last is not None and new_size == size and last.n_units + n_units <= limit:
                joined = None if last.chosen is None or chosen is None else last.chosen + chosen
                found[-1] = Block((*last.layers, name), last.start, last.n_units + n_units, joined)
            else:
                found.append(Block((name,), start, n_units, chosen))
            size, start = new_size, start + n_units
        return found


@dataclass(frozen=True, eq=False)
class _Collection:
    """One model's maps of one collection, by the batches that they were read in: their images -> maps."""

    view: View
    batches: dict[tuple[int, ...], dict[str, Tensor]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.view.images) * self.view.image_bytes

    def is_of(self, view: View) -> bool:
        same = (
            getattr(self.view, name) is getattr(view, name) for name in ("model", "images", "of_generator")
        )
        return all(same) and self.view.shapes == view.shapes


class _Kept:
    """Maps of known collections in their order, each whole or not at all; the one used longest ago makes room."""

    def __init__(self, known: Sequence[Any]) -> None:
        self.known = known
        self.collections: list[_Collection] = []

    def maps(self, view: View, rows: tuple[int, ...]) -> dict[str, Tensor]:
        own = next((one for one in self.collections if one.is_of(view)), _Collection(view))
        in_order = rows == tuple(range(rows[0], rows[0] + len(rows)))  # others would be kept a second time
        if not in_order or own.size > KEPT_BYTES or not any(view.images is one for one in self.known):
            return view.read(rows)
        self.collections = [*(one for one in self.collections if one is not own), own]
        while sum(one.size for one in self.collections) > KEPT_BYTES:
            self.collections.pop(0)
        if rows in own.batches:
            return own.batches[rows]
        if rows[0] == 0:
            own.batches.clear()  # a pass in batches of another size begins
        maps = view.read(rows)
        if not any(row in batch for batch in own.batches for row in rows):
            own.batches[rows] = maps
        return maps


_KEPT: ContextVar[_Kept | None] = ContextVar("kept maps", default=None)


@contextmanager
def keeping(*collections: Any) -> Iterator[None]:
    """Within it, maps of these collections are kept from one pass over them to the next, as far as they fit."""
    before = _KEPT.set(_Kept(collections))
    try:
        yield
    finally:
        _KEPT.reset(before)


def as_partner(model: Any) -> Any:
    """Anything with `.maps(images)` as it is; a ClipModel or an open_clip model through its MLP units."""
    if hasattr(model, "maps"):
        return model
    return clip_partner(model)


def views(
    model_a: Any, model_b: Any, images: Any, layers_a: Sequence[str] | None, layers_b: Sequence[str] | None
) -> tuple[View, View]:
    """Both models over the same pictures; where one is a generator, `images` are its latents."""
    if not len(images):
        raise ValueError("expected at least one image to match on, got none; the thesis uses 1,600")
    generators = [
        model for model in (model_a, model_b) if hasattr(model, "images") and hasattr(model, "sample")
    ]
    if len(generators) == 2 and model_a is not model_b:
        raise ValueError(
            f"expected at most one generator, got {model_a.name!r} and {model_b.name!r}, whose latents stand for "
            "different pictures; where both share their latents, wrap them in models.generator.AtLatents, else match "
            "each with a model that looks at images and join the pairs there"
        )
    generator = generators[0] if generators else None
    return View(model_a, images, layers_a, generator), View(model_b, images, layers_b, generator)


def _passes(
    blocks_a: Sequence[Block], blocks_b: Sequence[Block], memory: int
) -> Iterator[list[tuple[Block, Block]]]:
    """Pairs of blocks whose float64 tables fit in `memory` together, one list per pass over the images."""
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
) -> Matches:
    """Best buddies of two models over a collection (thesis Eq. 4.2, 4.3): one exact correlation for every two units.

    model_a, model_b: Partners, ClipModels, or generators (then `images` are its latents and the other model sees what
    it paints); images: PIL images, a uint8 array or a float tensor in 0..1. k: neighbours; layers_a, layers_b: module
    names or patterns, default the partner's own; above: correlation that a pair must exceed; permute: a seed that
    shuffles the images of model b, for the chance baseline; memory: bytes for correlation tables.
    Raises ValueError for an empty collection or a layer that is not there.

        matches = match(clipviz.load("demo"), load_partner("cnn"), images)
    """
    view_a, view_b = views(model_a, model_b, images, layers_a, layers_b)
    return _matched(view_a, view_b, k, above, [permute], batch, memory)[0]


def match_and_shuffled(
    model_a: Any, model_b: Any, images: Any, k: int = 5, *, batch: int = 32, memory: int = 2 << 30
) -> tuple[Matches, Matches]:
    """`match` as it is and with the images of model b shuffled (permute=0), from the same passes of model a."""
    view_a, view_b = views(model_a, model_b, images, None, None)
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
) -> Tensor:
    """Self best buddies among some units of a model, each pair once with the smaller unit first, [pair, 2].

    units: different ones, in order, counted through the layers. Neighbours are sought among all units of the model,
    so that the pairs are those of the whole table [unit, unit], of which only the rows of `units` are formed.
    """
    view, _ = views(model, model, images, None, None)
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
    """Neighbours of all units, and the whole table in float32 where it fits in `memory`; once for each order of the
    images of model b, all from the same maps of model a.

    among: the units of model a that are read, default all; side a of the neighbours is then counted through these.
    """
    n_images, share = len(view_a.images), memory // len(permutes)
    orders = [_order(n_images, permute) for permute in permutes]
    n_a, n_b = view_a.n_units if among is None else len(among), view_b.n_units
    k = min(whole("k", k), max(n_a, n_b))  # no unit has more neighbours than there are units
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
    """Images as they are, or shuffled by a seed."""
    if permute is None:
        return list(range(n_images))
    return torch.randperm(n_images, generator=torch.Generator().manual_seed(permute)).tolist()


def _sparse(found: Neighbours, n_a: int, n_b: int) -> Tensor:
    """The top k of both sides as a sparse [unit_a, unit_b] table."""
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
) -> Tensor:
    """Correlation [pair] of given unit pairs on other images. pairs: [pair, 2], counted as in `matches`.

    permute: a seed that shuffles the images of model b: what a pair shares by place alone.
    """
    correlation = torch.zeros(len(pairs))
    for group in _paired(model_a, model_b, images, matches, pairs, batch, permute):
        correlation[group.rows] = group.sums.correlation().cpu()
    return correlation


def unit_pairs(
    model_a: Any, model_b: Any, images: Any, matches: Matches, pairs: Tensor | None = None, batch: int = 32
) -> list[UnitPairs]:
    """Matched units as `lens.invert` reads them, with the means and deviations of Eq. 4.1 over these images.

    model_a: the generator that will be inverted or edited. pairs: [pair, 2], default all of `matches`.

        pairs = unit_pairs(generator, cnn, latents, match(generator, cnn, latents))
        invert(generator.generate, start, target_maps=cnn.maps(picture), pairs=pairs)
    """
    groups = _paired(model_a, model_b, images, matches, matches.pairs if pairs is None else pairs, batch)
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
) -> list[_Group]:
    """Sums of pairs alone, in one pass over the images."""
    order = _order(len(images), permute)
    names_a, names_b = ([layer for layer, _ in layers] for layers in (matches.layers_a, matches.layers_b))
    view_a, view_b = views(model_a, model_b, images, names_a, names_b)
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


def places(units: Tensor, layers: Layers) -> tuple[Tensor, Tensor]:
    """Layer number and unit inside it of units counted through all layers."""
    ends = torch.tensor([n_units for _, n_units in layers]).cumsum(0)
    layer = torch.searchsorted(ends, units.contiguous(), right=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]])
    return layer, units - starts[layer]
