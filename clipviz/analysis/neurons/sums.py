"""Second-order statistics of one MLP layer, streamed; used by the session, the index and the reports alike.

Sums are kept in float64 while batches are added and read in float32, as an index stores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.collection.reading import BATCH, batches
from clipviz.lens.neuron_stats import NeuronStats, neuron_stats
from clipviz.lens.neurons import SecondOrder
from clipviz.models.second import basis_bytes

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.values import TowerWeights

SUMS = ("mean", "scatter", "shared_mean", "total")
TOGETHER_BYTES = 3 << 30
"""Memory bound for layers that are read in one pass."""


def batch_stats(
    second: SecondOrder,
    ids: Sequence[int],
    n_top: int,
    shared: bool = True,
    scatter: bool = True,
    norms: Float[Tensor, "image neuron"] | None = None,
) -> NeuronStats:
    """Return one batch's statistics, sums in float64; ids: its images. Call it without autocast."""
    stats = neuron_stats(second, ids, n_top, shared=shared, scatter=scatter, norms=norms)
    values = {name: getattr(stats, name) for name in SUMS}
    sums: dict[str, Any] = {name: _double(value) for name, value in values.items() if value is not None}
    return replace(stats, **sums)


def in_single(stats: NeuronStats, device: str | torch.device | None = None) -> NeuronStats:
    """Return the statistics as all other code uses them: sums in float32, on a device."""
    tensors = {name: value for name, value in vars(stats).items() if isinstance(value, Tensor)}
    small = {
        name: value.float() if value.dtype == torch.float64 else value for name, value in tensors.items()
    }
    fields: dict[str, Any] = {name: value.to(device) for name, value in small.items()}
    return replace(stats, **fields)


class NeuronSums:
    """One layer's statistics, added batch by batch; also every |phi_n| in half precision if `norms` is set.

    scatter: include the covariances, which an index keeps; without them a layer of any size fits in memory.
    """

    def __init__(self, n_top: int, shared: bool = True, norms: bool = True, scatter: bool = True) -> None:
        self.n_top, self.shared, self.scatter = n_top, shared, scatter
        self._stats: NeuronStats | None = None
        self._norms: list[Tensor] | None = [] if norms else None

    def add(self, ids: Sequence[int], second: SecondOrder) -> None:
        """Add the images `ids` with their effects `second`."""
        norms = None if self._norms is None else second.norms()
        stats = batch_stats(
            second, ids, self.n_top, self.shared, self.scatter, norms if self.shared else None
        )
        self._stats = stats if self._stats is None else self._stats.merge(stats)
        if self._norms is not None and norms is not None:
            self._norms.append(norms.half())

    @property
    def count(self) -> int:
        return 0 if self._stats is None else self._stats.count

    @property
    def stats(self) -> NeuronStats:
        """The statistics so far, with sums in float32. Raises ValueError if nothing has been added."""
        if self._stats is None:
            raise ValueError("expected images that can be read, got none; check the files")
        return in_single(self._stats, self._stats.top_norms.device)

    @property
    def norms(self) -> Float[Tensor, "image neuron"]:
        """|phi_n| of every image in the order added, in half precision."""
        if not self._norms:
            raise ValueError("expected stored norms, got none; pass norms=True")
        self._norms = [torch.cat(self._norms)]
        return self._norms[0]


def read_layers(
    model: ClipModel,
    images: Any,
    layers: Sequence[int],
    n_top: int,
    shared: bool = True,
    norms: bool = True,
    bar: str = "",
    scatter: bool = True,
) -> list[NeuronSums]:
    """Return the statistics of several layers, from one pass over the images; bar: text beside a progress bar."""
    sums = [NeuronSums(n_top, shared, norms, scatter) for _ in layers]
    for rows, pictures in batches(images, bar=bar):
        for own, second in zip(sums, model.each_second_order(pictures, layers), strict=True):
            own.add(rows, second)
    return sums


def read_together(model: ClipModel, layers: Sequence[int], n_images: int, n_top: int) -> list[list[int]]:
    """Return groups of layers that are read together: one pass serves a whole group if its data fit in
    TOGETHER_BYTES.

    These data are every layer's activations of a batch and its sums. Over several batches they also include the
    layer's basis, if recomputing it for each batch would cost more than another pass, as for batches of few
    tokens.
    """
    weights, n_batch = model.weights, min(n_images, BATCH)
    groups: list[list[int]] = []
    room = 0
    for layer in layers:
        n_later = weights.n_heads * (weights.n_layers - 1 - layer)
        a_neuron = 4 * weights.n_tokens * n_batch + n_top * (
            4 * n_later * len(weights.readout.matrices) + 2 * (weights.n_tokens - weights.prefix)
        )
        kept = n_images > n_batch and basis_costs(weights, layer) > pass_costs(weights, n_batch)
        size = weights.n_neurons * a_neuron + (basis_bytes(weights, layer) if kept else 0)
        if not groups or size > room:
            groups.append([])
            room = TOGETHER_BYTES
        groups[-1].append(layer)
        room -= size
    return groups


def basis_costs(weights: TowerWeights, layer: int) -> int:
    """Return the number of products for a layer's basis, the value codes of all later heads."""
    d_model, n_neurons = weights.layers[layer].mlp_output.shape
    return (weights.n_layers - 1 - layer) * weights.n_heads * weights.d_head * d_model * n_neurons


def pass_costs(weights: TowerWeights, n_images: int) -> int:
    """Return the number of products in a pass over so many images: four square matrices of attention and two of an
    MLP per layer.
    """
    d_model, n_neurons = weights.layers[0].mlp_output.shape
    a_token = weights.n_layers * d_model * (4 * weights.n_heads * weights.d_head + 2 * n_neurons)
    return n_images * weights.n_tokens * a_token


def _double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if the device does not support it."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()
