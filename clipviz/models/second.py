"""One forward pass, recorded for the second-order lens (thesis 3.3).

Hooks are context managers, so that they are always removed. Nothing else in the model is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipviz.lens.neurons import (
    KEPT_BYTES,
    NeuronBasis,
    Passage,
    SecondOrder,
    check_layer,
    neuron_basis,
    second_order,
)
from clipviz.models.towers.anatomy import Reading, Tower, deviation, full, unmixed
from clipviz.models.towers.recording import Attending, listening
from clipviz.values import TowerWeights

# A layer's basis is independent of images and costs more than a forward pass, so one is kept per tower and layer
# as long as the tower lives.
_BASES: WeakKeyDictionary[TowerWeights, dict[int, NeuronBasis]] = WeakKeyDictionary()
BASES_BYTES = 2 << 30
"""Bytes of bases kept per tower: all of a small one, the most recently used of a large one (11 GB in ViT-L/14)."""


def basis_of(weights: TowerWeights, layer: int) -> NeuronBasis:
    """Return the layer's basis, computed on first use and cached while memory allows and the tower's weights exist."""
    bases = _BASES.setdefault(weights, {})
    layer = check_layer(weights, layer)
    basis = bases.pop(layer, None)
    if basis is None:
        with unmixed(weights.readout.matrices.device):
            basis = neuron_basis(weights, layer)
    bases[layer] = basis  # moved to the end: most recently used
    room = BASES_BYTES
    for place, other in enumerate(reversed(list(bases))):
        room -= basis_bytes(weights, other)
        if place and room < 0:
            bases.pop(other, None)
    return basis


def basis_bytes(weights: TowerWeights, layer: int) -> int:
    """Return the bytes of a layer's basis, including the Gram matrices that it will keep."""
    matrices = weights.readout.matrices
    n_writers = weights.n_heads * (weights.n_layers - 1 - layer)
    gram = matrices.element_size() * weights.n_neurons * (n_writers * len(matrices)) ** 2
    width = weights.n_neurons + len(matrices) * weights.d_embed
    kept = matrices.element_size() * n_writers * weights.d_head * width
    return kept + (gram if gram <= KEPT_BYTES else 0)


def second_orders(
    tower: Tower, forward: Callable[[Tensor], Tensor], pixels: Tensor, layers: Sequence[int]
) -> list[SecondOrder]:
    """Return second-order effects of several layers' neurons from one forward pass (Eq. 3.3, B.5), in the order of
    `layers`.

    forward: pixels [image, 3, rows, cols] to embeddings; layers: counted from 0, below the last.
    """
    return list(each_second_order(tower, forward, pixels, layers))


def each_second_order(
    tower: Tower, forward: Callable[[Tensor], Tensor], pixels: Tensor, layers: Sequence[int]
) -> Iterator[SecondOrder]:
    """Yield the same lazily, layer by layer, so that only one layer's basis and coordinates are in memory."""
    layers = [check_layer(tower.weights, layer) for layer in layers]
    with torch.no_grad():
        with recording_second(tower, layers) as recorder:
            embedding = forward(pixels)
        recorder.finish_pass()
    for place, layer in enumerate(layers):
        with torch.no_grad(), unmixed(pixels.device):
            basis = basis_of(tower.weights, layer)
            found = second_order(recorder.passage(layer, embedding), basis)
        if layer not in layers[place + 1 :]:
            del recorder.activations[layer]
        yield found


@contextmanager
def recording_second(tower: Tower, layers: Sequence[int]) -> Iterator[SecondRecorder]:
    """Hook one forward pass: the layers' activations, the attention of later layers, and the readout."""
    with listening(
        SecondRecorder(tower, [check_layer(tower.weights, layer) for layer in layers])
    ) as recorder:
        yield recorder


class SecondRecorder(Attending):
    """Collects one forward pass in float32 (or float64)."""

    def __init__(self, tower: Tower, sources: Sequence[int]) -> None:
        super().__init__(tower, first_layer=min(sources) + 1)
        self.sources = sources
        self.activations: dict[int, Tensor] = {}
        self.divisors: dict[int, Tensor] = {}  # source layer -> [image, token], of a post-norm MLP
        self.statistics: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # later layer -> mean, deviation [image, token]
        self.attention: dict[int, Tensor] = {}  # later layer -> [image, later_head, token]
        self.shift: dict[int, Tensor] = {}  # later layer -> [image, later_head]
        self.reach: dict[int, Tensor] = {}
        self.tallies: dict[int, Tensor] = {}
        self.reading: Reading | None = None

    def hooks(self) -> Iterator[Any]:
        yield from super().hooks()
        for layer in self.sources:
            block = self.tower.blocks[layer]
            yield block.hidden.register_forward_pre_hook(partial(self.note_activations, layer))
            if block.mlp_norm is not None:
                yield block.mlp_norm.register_forward_pre_hook(partial(self.note_divisor, layer))
        for layer in self.layers:
            norm = self.tower.blocks[layer].norm
            if norm is not None:
                yield norm.register_forward_pre_hook(partial(self.note_statistics, layer))

    def note_activations(self, layer: int, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.activations[layer] = full(inputs[0])

    def note_divisor(self, layer: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.divisors[layer] = deviation(inputs[0], module.eps)  # type: ignore[arg-type]

    def note_statistics(self, later: int, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(full(inputs[0]), -1, correction=0)
        self.statistics[later] = mean, (variance + self.tower.weights.layers[later].ln_eps).sqrt()

    def contract(self, layer: int) -> None:
        """Contract what the readout reads through a later layer's heads, divided by its LayerNorm's deviation."""
        paths, tallies = self.read_paths(layer)
        if tallies:
            self.tallies[layer] = torch.cat(tallies, -1)
        paths = paths.flatten(1, 2)
        self.reach[layer] = paths.sum(-1)
        if layer in self.statistics:
            mean, std = self.statistics.pop(layer)
            paths = paths / std[:, None]
            self.shift[layer] = torch.einsum("ikt,it->ik", paths, mean)
        else:
            self.shift[layer] = torch.zeros_like(self.reach[layer])
        self.attention[layer] = paths
        del self.tokens[layer]

    def finish_pass(self) -> None:
        """Compute the readout's statistics once the pass has run."""
        self.reading = self.finish()

    def passage(self, layer: int, embedding: Float[Tensor, "image d_embed"]) -> Passage:
        """Return the passage recorded for one of the layers."""
        later = range(layer + 1, self.tower.weights.n_layers)
        assert self.reading is not None
        plain = self.one_row and all(block.scaling_norm is None for block in self.tower.blocks)
        activations, divisors = self.activations[layer], self.divisors.get(layer)
        return Passage(
            activations=activations if divisors is None else activations / divisors[..., None],
            attention=torch.cat([self.attention[k] for k in later], 1),
            shift=torch.cat([self.shift[k] for k in later], 1),
            mean=self.reading.mean,
            std=self.reading.std,
            embedding=full(embedding),
            reach=None if plain else torch.cat([self.reach[k] for k in later], 1),
            tallies=torch.stack([self.tallies[k] for k in later], 1) if self.tallies else None,
            divisors=divisors,
            **self._read(activations, divisors),
        )

    def _read(self, activations: Tensor, divisors: Tensor | None) -> dict[str, Tensor | None]:
        """Return activations, and one over a post-norm layer's divisors, as the readout reads them."""
        if self.weights is None and divisors is None:
            return {}
        weights = self.weights
        if weights is None:
            weights = torch.zeros_like(activations[:, None, :, 0])
            weights[..., 0] = 1
        weights = weights if divisors is None else weights / divisors[:, None]
        return {"read": weights @ activations, "read_divided": None if divisors is None else weights.sum(-1)}
