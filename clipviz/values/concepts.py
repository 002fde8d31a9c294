"""Units that models share: the matches between two models, and dictionaries of several models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Matches:
    """Rosetta matches of two models (thesis Eq. 4.1-4.4): correlation [unit_a, unit_b], or a sparse tensor of its
    top k where the table would not fit; pairs [pair, 2] mutual nearest neighbours, strongest first; strength
    [pair] their correlation.

    Units are counted through all layers: layers_a, layers_b list (layer name, number of units) in that order.
    """

    correlation: Tensor
    pairs: Tensor
    strength: Tensor
    layers_a: tuple[tuple[str, int], ...] = ()
    layers_b: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, eq=False)
class UnitThumbnails:
    """What the units of a dictionary look like on its example images.

    maps: [concept, model, example, rows, cols] uint8; 0 is the unit's mean over the mining images, 255 its peak;
    floor, peak: [concept, model] those two, in the unit's own activation (peak: mean over its strongest images).
    All values are 0 where a model has no matching unit.
    """

    maps: Tensor | np.ndarray
    floor: Tensor | np.ndarray
    peak: Tensor | np.ndarray


@dataclass(frozen=True, eq=False)
class Concepts:
    """A dictionary of Rosetta neurons (thesis 4.3): one row per pivot unit, one column per model, the pivot first.

    units: [concept, model] unit counted through the model's layers, -1 where the model has none; correlation,
    heldout: [concept, model] with the pivot on the mining images and on others (1 for the pivot itself, 0 where
    there is no unit); cluster: [concept], rows with the same number form one concept; examples: [concept,
    example] image ids, the strongest first; layers: a model's (layer name, number of units); n_pairs, n_chance:
    [model] best buddies with the pivot, and how many arise when its images are shuffled (0 for the pivot); k:
    neighbours; threshold: [model], how much the correlation of a pair had to exceed that on shuffled images;
    labels: [concept] a person's names, "" where none; hints: [concept], a text that fits the pivot's strongest
    images, and the share of held-out images that it fits; the text is "" if it fits none of them. hints may be
    empty.
    """

    models: tuple[str, ...]
    layers: tuple[tuple[tuple[str, int], ...], ...]
    units: Tensor | np.ndarray
    correlation: Tensor | np.ndarray
    heldout: Tensor | np.ndarray
    cluster: Tensor | np.ndarray
    examples: Tensor | np.ndarray
    n_pairs: Tensor | np.ndarray
    n_chance: Tensor | np.ndarray
    threshold: Tensor | np.ndarray
    k: int = 5
    labels: tuple[str, ...] = ()
    hints: tuple[tuple[str, float], ...] = ()
    thumbnails: UnitThumbnails | None = None

    def __len__(self) -> int:
        return len(self.units)

    def name(self, concept: int) -> str:
        """Return the label that a person gave a concept, else its hint, else the pivot's unit."""
        if self.labels and self.labels[concept]:
            return self.labels[concept]
        return (self.hints[concept][0] if self.hints else "") or f"unit {int(self.units[concept, 0])}"

    def where(self, concept: int, model: int) -> tuple[str, int] | None:
        """Return the layer name and the unit within that layer of one cell, or None where the model has no unit."""
        unit = int(self.units[concept, model])
        for layer, n_units in self.layers[model] if unit >= 0 else ():
            if unit < n_units:
                return layer, unit
            unit -= n_units
        return None
