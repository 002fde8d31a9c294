"""A first guess at what a unit is about: the text whose heatmap lights up where the unit does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clipviz.analysis.matching import Layers
from clipviz.analysis.mining import maps_of_units
from clipviz.lens.rosetta import CorrelationSums
from clipviz.models.clip import ClipModel
from clipviz.models.preprocess import take


@torch.no_grad()
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
    units are active and others. Heatmaps are direct effects of all heads (thesis 2.5) of the texts less their mean, so
    that what every text shares does not count. Correlation is over images and positions, as between units (Eq. 4.2).
    """
    directions = model.encode_texts(list(texts))
    directions = directions - directions.mean(0)
    sums = CorrelationSums(len(texts), len(units))
    for start in range(0, len(images), batch):
        pictures = take(images, range(start, min(start + batch, len(images))))
        heatmaps = model.trace(pictures).heatmap(directions).transpose(0, 1)
        maps = maps_of_units(model if partner is None else partner, pictures, units, layers)
        sums.update(heatmaps.float().cpu(), maps.cpu())
    strength, best = sums.correlation().max(0)
    return tuple((texts[i], value) for i, value in zip(best.tolist(), strength.tolist(), strict=True))
