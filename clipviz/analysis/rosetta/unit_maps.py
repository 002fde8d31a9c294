"""Maps of a model's units over a collection, read batch by batch and cached as far as memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clipviz.models.generator import Sampler
from clipviz.models.preprocess import take
from clipviz.models.zoo import clip_partner

Layers = tuple[tuple[str, int], ...]
MAPS_BYTES = 1 << 29
"""Memory bound for the maps of a batch: 5 images of all MLPs of a ViT-L/14."""
KEPT_BYTES = 3 << 30
"""Memory bound for maps cached between passes: 31 images of all MLPs of a ViT-L/14."""


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive layers of one map size: their names, the first unit, the number of units.

    chosen: for each layer the units to read, None for all.
    """

    layers: tuple[str, ...]
    start: int
    n_units: int
    chosen: tuple[Tensor, ...] | None = None

    def of(self, maps: dict[str, Tensor]) -> Tensor:
        """Return the block's maps [image, unit, rows, cols]."""
        parts = [maps[layer] for layer in self.layers]
        if self.chosen is not None:
            parts = [part[:, units] for part, units in zip(parts, self.chosen, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class View:
    """One model over one collection: its layers, and its maps batch by batch; maps in `kept` need no pass."""

    def __init__(
        self,
        model: Any,
        images: Any,
        layers: Sequence[str] | None,
        of_generator: Any = None,
        kept: KeptMaps | None = None,
    ) -> None:
        self.model, self.images, self.chosen = as_partner(model), images, layers
        self.of_generator, self.kept = of_generator, kept
        probe = self.read([0])
        self.shapes = {name: (maps.shape[1], tuple(maps.shape[2:])) for name, maps in probe.items()}
        self.layers: Layers = tuple((name, n_units) for name, (n_units, _) in self.shapes.items())
        self.n_units = sum(n_units for _, n_units in self.layers)

    def maps(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return maps of some images, from the cache if possible."""
        return self.read(rows) if self.kept is None else self.kept.maps(self, tuple(rows))

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return maps of some images from a pass."""
        pictures = take(self.images, rows)
        if self.of_generator is not None and self.of_generator is not self.model:
            pictures = self.of_generator.images(pictures)
        found: dict[str, Tensor] = (
            self.model.maps(pictures) if self.chosen is None else self.model.maps(pictures, self.chosen)
        )
        return found

    @property
    def image_bytes(self) -> int:
        """Bytes of the maps of one image."""
        return 4 * sum(n_units * rows * cols for n_units, (rows, cols) in self.shapes.values())

    def fitting(self, batch: int) -> int:
        """Return the largest number of images, at most the given one, whose maps fit in MAPS_BYTES."""
        return max(1, min(batch, MAPS_BYTES // max(1, self.image_bytes)))

    def blocks(self, limit: int, among: Tensor | None = None) -> list[Block]:
        """Return runs of layers with one map size, with at most `limit` units each unless a single layer has more.

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
    """One model's maps of one collection, by the batches in which they were read: their images -> maps."""

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


class KeptMaps:
    """A cache of maps of some collections between passes, bounded by KEPT_BYTES.

    known: the collections, in the order of their rows. Each is cached completely or not at all, and the least
    recently used one is dropped first.
    """

    def __init__(self, *known: Any) -> None:
        self.known = known
        self.collections: list[_Collection] = []

    def maps(self, view: View, rows: tuple[int, ...]) -> dict[str, Tensor]:
        """Return the maps of some rows of a view; they are read if they are not cached."""
        own = next((one for one in self.collections if one.is_of(view)), _Collection(view))
        in_order = rows == tuple(range(rows[0], rows[0] + len(rows)))  # others would be cached twice
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


def as_partner(model: Any) -> Any:
    """Return an object with `.maps(images)` unchanged; wrap a ClipModel or an open_clip model as its MLP units."""
    if hasattr(model, "maps"):
        return model
    return clip_partner(model)


def views(
    model_a: Any,
    model_b: Any,
    images: Any,
    layers_a: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    kept: KeptMaps | None = None,
) -> tuple[View, View]:
    """Return views of both models over the same pictures; if one is a generator, `images` are its latents."""
    if not len(images):
        raise ValueError("expected at least one image to match on, got none; the thesis uses 1,600")
    generators = [model for model in (model_a, model_b) if isinstance(model, Sampler)]
    if len(generators) == 2 and model_a is not model_b:
        raise ValueError(
            f"expected at most one generator, got {model_a.name!r} and {model_b.name!r}, whose latents stand for "
            "different pictures; where both share their latents, wrap them in models.generator.AtLatents, else match "
            "each with a model that looks at images and join the pairs there"
        )
    generator = generators[0] if generators else None
    return (
        View(model_a, images, layers_a, generator, kept),
        View(model_b, images, layers_b, generator, kept),
    )


def places(units: Tensor, layers: Layers) -> tuple[Tensor, Tensor]:
    """Return the layer and the unit within it of units that are counted through all layers."""
    ends = torch.tensor([n_units for _, n_units in layers]).cumsum(0)
    layer = torch.searchsorted(ends, units.contiguous(), right=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]])
    return layer, units - starts[layer]
