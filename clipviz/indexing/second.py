"""Second-order statistics of chosen MLP layers, streamed into an index beside the first-order ones.

They are stored as the arrays of lens.neuron_stats.NeuronStats, named "neurons LAYER FIELD". Sums are in float64,
and the ids of the top images are rows of the index.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clipviz.analysis.neurons.sums import batch_stats, in_single
from clipviz.lens.neuron_stats import NeuronStats
from clipviz.lens.neurons import SecondOrder

Arrays = dict[str, np.ndarray]


def unpacked(arrays: Arrays, layer: int, device: str | torch.device = "cpu") -> NeuronStats:
    """Return one layer's statistics from the arrays of an index, float32 on `device`; ids are rows of the index."""
    return in_single(_unpack(fields_of(arrays, layer), layer), device)


def batch_statistics(seconds: Sequence[SecondOrder], n_top: int) -> Arrays:
    """Return the statistics of one batch, whose images have ids 0, 1, ...; call it without autocast."""
    found: Arrays = {}
    for second in seconds:
        found |= _pack(batch_stats(second, range(len(second.coordinates)), n_top))
    return found


def fold_neurons(total: Arrays, part: Arrays, rows: int) -> Arrays:
    """Return the merged statistics of every layer; the images of `part` come after the first `rows`."""
    found: Arrays = {}
    for layer in layers_in(part):
        stats = _unpack(fields_of(part, layer), layer)
        ids = stats.top_images
        stats = dataclasses.replace(stats, top_images=torch.where(ids >= 0, ids + rows, ids))
        before = fields_of(total, layer)
        found |= _pack(_unpack(before, layer).merge(stats) if before else stats)
    return found


def layers_in(arrays: Arrays) -> list[int]:
    return sorted({int(name.split()[1]) for name in arrays if name.startswith("neurons ")})


def fields_of(arrays: Arrays, layer: int) -> Arrays:
    prefix = f"neurons {layer} "
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _pack(stats: NeuronStats) -> Arrays:
    fields = {name: value for name, value in vars(stats).items() if name != "layer"}
    arrays = {n: v.cpu().numpy() if isinstance(v, Tensor) else np.array(v) for n, v in fields.items()}
    return {f"neurons {stats.layer} {name}": array for name, array in arrays.items()}


def _unpack(fields: Arrays, layer: int) -> NeuronStats:
    tensors = {name: torch.from_numpy(array) for name, array in fields.items() if name != "count"}
    return NeuronStats(layer=layer, count=int(fields["count"]), **tensors)
