"""Actual interventions on neurons: the model runs again with activations replaced by per-token means (thesis 3.3).

The indirect effect of a neuron is the change of the embedding under its intervention; later layers may compensate
for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from clipviz.models.forward_lock import turn
from clipviz.models.towers.anatomy import full

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel

Images = Tensor | Image.Image | Sequence[Image.Image]
COPIES = 512  # image-neuron pairs that run through the later layers together,
COPIES_BYTES = 1 << 29  # fewer if their activations in one MLP would exceed this size


@torch.no_grad()
def mean_activations(
    model: ClipModel, batches: Iterable[Images], layer: int
) -> Float[Tensor, "token neuron"]:
    """Return the per-token mean of one layer's activations p over a collection, given in batches."""
    total, count = torch.zeros(()), 0
    for images in batches:
        pixels = model.prepare(images)
        with turn(model.visual), _noting(_block(model, layer).hidden) as noted:
            model.encode_images(pixels)
        total, count = full(noted[0]).sum(0) + total.to(pixels.device), count + len(pixels)
    if not count:
        raise ValueError("expected at least one batch of images, got none; pass batches of the collection")
    return total / count


@contextmanager
def replacing(
    model: ClipModel, layer: int, mean: Float[Tensor, "token neuron"], neurons: Sequence[int] | None = None
) -> Iterator[None]:
    """Replace the layer's activations of the chosen neurons (all if None) by their per-token means while the block
    runs.
    """

    def replace(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if neurons is None:
            return (mean.to(inputs[0]).expand_as(inputs[0]),)
        replaced = inputs[0].clone()
        replaced[..., list(neurons)] = mean.to(replaced)[:, list(neurons)]
        return (replaced,)

    with turn(model.visual):
        handle = _block(model, layer).hidden.register_forward_pre_hook(replace)
        try:
            yield
        finally:
            handle.remove()


@torch.no_grad()
def intervened_embeddings(
    model: ClipModel,
    images: Images,
    layer: int,
    mean: Float[Tensor, "token neuron"],
    neurons: Sequence[int] | None = None,
) -> Float[Tensor, "image d_embed"]:
    """Return embeddings with the chosen neurons (all if None) set to their means together: "indirect" in Table 3.1."""
    with replacing(model, layer, mean, neurons):
        return model.encode_images(images)


@torch.no_grad()
def indirect_effects(
    model: ClipModel,
    images: Images,
    layer: int,
    mean: Float[Tensor, "token neuron"],
    neurons: Sequence[int],
    normalize: bool = True,
) -> Float[Tensor, "image chosen d_embed"]:
    """Return the indirect effect of each chosen neuron alone: the embedding minus the one with p set to its
    per-token mean.

    mean: from `mean_activations`, over the collection. The layers up to `layer` run once per batch of neurons; the
    later ones once per image and neuron. normalize: divide by the undisturbed embedding's length (cosine units).
    """
    pixels, chosen = model.prepare(images), [int(neuron) for neuron in neurons]
    plain = model.encode_images(pixels)
    a_copy = 4 * model.weights.n_tokens * model.weights.n_neurons
    size = max(1, min(COPIES, COPIES_BYTES // a_copy) // len(pixels))
    parts = [
        _without(model, pixels, layer, mean, chosen[start : start + size])
        for start in range(0, len(chosen), size)
    ]
    effects = plain[:, None] - torch.cat(parts, 1)
    return effects / plain.norm(dim=-1)[:, None, None] if normalize else effects


def _without(
    model: ClipModel, pixels: Tensor, layer: int, mean: Float[Tensor, "token neuron"], neurons: list[int]
) -> Float[Tensor, "image chosen d_embed"]:
    """Return embeddings without each neuron in turn: the block's output is branched, one branch per neuron."""
    writes = model.weights.layers[layer].mlp_output[:, neurons]
    block = _block(model, layer)

    def branch(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        gaps = noted[0][..., neurons].to(writes) - mean.to(writes)[:, neurons]
        changes = torch.einsum("itn,dn->intd", gaps, writes)
        if block.mlp_norm is None:
            return (output[:, None] - changes.to(output)).flatten(0, 1)
        # the norm after the MLP sees the change: subtract its old output and normalise the rest
        weight = block.hidden.weight[:, neurons]
        left = summed[0][:, None] - torch.einsum("itn,dn->intd", gaps.to(weight), weight)
        found: Tensor = (output[:, None] - block.mlp_norm(summed[0])[:, None] + block.mlp_norm(left)).flatten(
            0, 1
        )
        return found

    with turn(model.visual), _noting(block.hidden) as noted, _noting(block.mlp_norm) as summed:
        handle = block.module.register_forward_hook(branch)
        try:
            embeddings = model.encode_images(pixels)
        finally:
            handle.remove()
    found: Tensor = embeddings.unflatten(0, (len(pixels), len(neurons)))
    return found


@contextmanager
def _noting(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Record the module's inputs, pass by pass; record nothing if there is no module."""
    noted: list[Tensor] = []
    if module is None:
        yield noted
        return
    handle = module.register_forward_pre_hook(lambda _module, inputs: noted.insert(0, inputs[0]))
    try:
        yield noted
    finally:
        handle.remove()


def _block(model: ClipModel, layer: int) -> Any:
    blocks = model.tower.blocks
    if isinstance(layer, bool) or int(layer) != layer or not 0 <= layer < len(blocks):
        raise ValueError(f"expected a layer within 0..{len(blocks) - 1} (counted from 0), got {layer!r}")
    return blocks[int(layer)]
