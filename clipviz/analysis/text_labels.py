"""A first guess at what a unit is about: the text whose heatmap lights up where the unit does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.matching import Layers
from clipviz.analysis.mining import maps_of_units
from clipviz.lens.rosetta import CorrelationSums
from clipviz.models.clip import ClipModel
from clipviz.models.preprocess import take
from clipviz.models.zoo import clip_partner


@torch.no_grad()
def likeness(
    model: ClipModel, texts: Sequence[str], batches: Iterable[tuple[Any, Tensor]]
) -> Float[Tensor, "text unit"]:
    """Correlation of every text's heatmap with every unit's maps over images and positions (Eq. 4.2).

    batches: (pictures, maps [image, unit, rows, cols]), the same images in both; pictures as PIL images or floats in
    0..1. Heatmaps are direct effects of all heads (thesis 2.5) of the texts minus their mean, so that what every text
    shares does not count. Raises ValueError for no batch.
    """
    directions = model.encode_texts(list(texts))
    directions = directions - directions.mean(0)
    prepare = clip_partner(model).preprocess
    sums = None
    for pictures, maps in batches:
        heatmaps = model.trace(prepare(pictures).to(model.device)).heatmap(directions).transpose(0, 1)
        sums = sums or CorrelationSums(len(texts), maps.shape[1])
        sums.update(heatmaps.float(), maps.to(heatmaps.device))
    if sums is None:
        raise ValueError("expected at least one picture to name units on, got none")
    return sums.correlation().cpu()


def hints(
    model: ClipModel,
    units: Tensor,
    layers: Layers,
    images: Any,
    texts: Sequence[str],
    partner: Any = None,
    batch: int = 8,
) -> tuple[tuple[str, float], ...]:
    """For each unit the text of `texts` whose heatmap has the highest correlation with its maps, and that correlation.

    units: counted through `layers`, units of `partner` (default the model's own MLPs); images: pictures on which the
    units are active and others, or latents where the partner is a generator. See `likeness`.
    """

    def batches() -> Iterator[tuple[Any, Tensor]]:
        for start in range(0, len(images), batch):
            chosen = take(images, range(start, min(start + batch, len(images))))
            maps = maps_of_units(model if partner is None else partner, chosen, units, layers)
            yield (partner.images(chosen) if hasattr(partner, "images") else chosen), maps

    strength, best = likeness(model, texts, batches()).max(0)
    return tuple((texts[i], value) for i, value in zip(best.tolist(), strength.tolist(), strict=True))
