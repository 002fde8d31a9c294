"""One forward pass as the second-order lens reads it, and real interventions on neurons (thesis 3.3).

Hooks are context managers: always removed, and nothing else of the model is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from clipviz.lens.decompose import class_attention
from clipviz.lens.neurons import NeuronBasis, Passage, SecondOrder, check_layer, neuron_basis, second_order
from clipviz.models.forward_lock import turn
from clipviz.values import TowerWeights

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel

Images = Tensor | Image.Image | Sequence[Image.Image]

# A layer's basis is image independent and costs more than a forward pass: one a tower and layer, gone with the tower.
_BASES: WeakKeyDictionary[TowerWeights, dict[int, NeuronBasis]] = WeakKeyDictionary()


def basis_of(weights: TowerWeights, layer: int) -> NeuronBasis:
    """The layer's basis, made on first use and kept as long as the tower's weights are."""
    bases = _BASES.setdefault(weights, {})
    layer = check_layer(weights, layer)
    if layer not in bases:
        bases[layer] = neuron_basis(weights, layer)
    return bases[layer]


@torch.no_grad()
def trace_second_order(model: ClipModel, images: Images, layer: int) -> SecondOrder:
    """Second-order effects of one layer's neurons on some images, from one forward pass (Eq. 3.3, B.5).

    images: [image, 3, rows, cols] preprocessed, or PIL images; layer: counted from 0, below the last.
    """
    return trace_second_orders(model, images, [layer])[0]


@torch.no_grad()
def trace_second_orders(model: ClipModel, images: Images, layers: Sequence[int]) -> list[SecondOrder]:
    """Second-order effects of several layers' neurons from one forward pass, in the order of `layers`."""
    bases = [basis_of(model.weights, layer) for layer in layers]
    pixels = model.prepare(images)
    with recording_second(model.visual, model.weights, layers) as recorder:
        embedding = model.encode_images(pixels)
    return [second_order(recorder.passage(basis.layer, embedding), basis) for basis in bases]


@contextmanager
def recording_second(
    visual: nn.Module, weights: TowerWeights, layers: Sequence[int]
) -> Iterator[_SecondRecorder]:
    """Hooks for one forward pass: the layers' activations, later layers' class attention, final statistics."""
    chosen = [check_layer(weights, layer) for layer in layers]
    tower: Any = visual
    recorder = _SecondRecorder(weights)
    blocks = list(tower.transformer.resblocks)
    with turn(visual):
        handles = [tower.ln_post.register_forward_pre_hook(recorder.note_statistics)]
        for layer in chosen:
            hook = partial(recorder.note_activations, layer)
            handles.append(blocks[layer].mlp.gelu.register_forward_hook(hook))
        for later in range(min(chosen) + 1, len(blocks)):
            handles.append(blocks[later].ln_1.register_forward_hook(partial(recorder.note_later, later)))
        try:
            yield recorder
        finally:
            for handle in handles:
                handle.remove()


class _SecondRecorder:
    """Collects one forward pass in float32."""

    def __init__(self, weights: TowerWeights) -> None:
        self.weights = weights
        self.activations: dict[int, Tensor] = {}
        self.attention: dict[int, Tensor] = {}  # later layer -> [image, head, token]
        self.shift: dict[int, Tensor] = {}  # later layer -> [image, head]
        self.mean: Tensor | None = None
        self.std: Tensor | None = None

    def note_activations(self, layer: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.activations[layer] = output.float()

    def note_later(self, later: int, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weights, tokens = self.weights.layers[later], inputs[0].float()
        variance, mean = torch.var_mean(tokens, -1, correction=0)
        attention = class_attention(output.float(), weights) / (variance + weights.ln_eps).sqrt()[:, None]
        self.attention[later] = attention
        self.shift[later] = torch.einsum("iht,it->ih", attention, mean)

    def note_statistics(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        final = inputs[0].float()
        final = final[:, 0] if final.ndim == 3 else final
        variance, self.mean = torch.var_mean(final, -1, correction=0)
        self.std = (variance + self.weights.eps).sqrt()

    def passage(self, layer: int, embedding: Float[Tensor, "image d_embed"]) -> Passage:
        """What the pass left for one of the recorded layers."""
        later = range(layer + 1, self.weights.n_layers)
        assert self.mean is not None
        assert self.std is not None
        return Passage(
            activations=self.activations[layer],
            attention=torch.cat([self.attention[k] for k in later], 1),
            shift=torch.cat([self.shift[k] for k in later], 1),
            mean=self.mean,
            std=self.std,
            embedding=embedding.float(),
        )
