"""Actual interventions on units: the model runs again with activations replaced by per-token means (thesis 3.3).

The units are the neurons of a layer or the features of a dictionary (see models.units). The indirect effect of one
is the change of the embedding under its intervention; later layers may compensate for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from clipviz.models.dictionaries.points import reading
from clipviz.models.forward_lock import turn
from clipviz.models.units import Place, Units, units_of

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel

Images = Tensor | Image.Image | Sequence[Image.Image]
COPIES = 512  # image-neuron pairs that run through the later layers together,
COPIES_BYTES = 1 << 29  # fewer if their activations in one MLP would exceed this size


@torch.no_grad()
def mean_activations(
    model: ClipModel, batches: Iterable[Images], place: Place
) -> Float[Tensor, "token unit"]:
    """Return the per-token mean activation of a layer's neurons, or of a dictionary's features, over a collection.

    batches: the collection's images, batch by batch.
    """
    units, total, count = units_of(model, place), torch.zeros(()), 0
    for images in batches:
        pixels = model.prepare(images)
        with turn(model.visual), _noting(model, units) as noted:
            model.encode_images(pixels)
        total, count = units.activations(noted[0]).sum(0) + total.to(pixels.device), count + len(pixels)
    if not count:
        raise ValueError("expected at least one batch of images, got none; pass batches of the collection")
    return total / count


@torch.no_grad()
def intervened_embeddings(
    model: ClipModel,
    images: Images,
    place: Place,
    mean: Float[Tensor, "token unit"],
    chosen: Sequence[int] | None = None,
) -> Float[Tensor, "image d_embed"]:
    """Return embeddings with the chosen units (all if None) set to their means together: "indirect" of Table 3.1."""
    return _replaced(model, model.prepare(images), units_of(model, place), mean, chosen)


@torch.no_grad()
def indirect_effects(
    model: ClipModel,
    images: Images,
    place: Place,
    mean: Float[Tensor, "token unit"],
    chosen: Sequence[int],
    normalize: bool = True,
) -> Float[Tensor, "image chosen d_embed"]:
    """Return the indirect effect of each chosen unit alone: the embedding minus the one with the unit at its mean.

    mean: from `mean_activations`, over the collection. The layers up to the units' own run once per batch of units;
    the later ones once per image and unit. normalize: divide by the undisturbed embedding's length (cosine units).
    """
    pixels, numbers, units = model.prepare(images), [int(one) for one in chosen], units_of(model, place)
    plain = model.encode_images(pixels)
    a_copy = 4 * model.weights.n_tokens * model.weights.n_neurons
    size = max(1, min(COPIES, COPIES_BYTES // a_copy) // len(pixels))
    parts = [
        _without(model, pixels, units, mean, numbers[start : start + size])
        for start in range(0, len(numbers), size)
    ]
    effects = plain[:, None] - torch.cat(parts, 1)
    return effects / plain.norm(dim=-1)[:, None, None] if normalize else effects


def _without(
    model: ClipModel, pixels: Tensor, units: Units, mean: Float[Tensor, "token unit"], chosen: list[int]
) -> Float[Tensor, "image chosen d_embed"]:
    """Return embeddings without each unit in turn: the block's output is branched, one branch per unit."""
    if units.point == "attention output":  # which the block's MLP reads before its output could be branched
        return torch.stack([_replaced(model, pixels, units, mean, [unit]) for unit in chosen], 1)
    writes, block = units.outputs(chosen), _block(model, units.layer)
    norm = block.mlp_norm if units.point == "mlp hidden" else None

    def branch(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        plain = output[0] if isinstance(output, tuple) else output
        gaps = units.activations(noted[0])[..., chosen].to(writes) - mean.to(writes)[:, chosen]
        if norm is None:
            changed = plain[:, None] - torch.einsum("itn,nd->intd", gaps, writes).to(plain)
        else:
            # the norm after the MLP sees the change: subtract its old output and normalise the rest
            weight = block.hidden.weight[:, chosen]
            left = summed[0][:, None] - torch.einsum("itn,dn->intd", gaps.to(weight), weight)
            changed = plain[:, None] - norm(summed[0])[:, None] + norm(left)
        found = changed.flatten(0, 1)
        return (found, *output[1:]) if isinstance(output, tuple) else found

    with turn(model.visual), _noting(model, units) as noted, _inputs_of(norm) as summed:
        handle = block.module.register_forward_hook(branch)
        try:
            embeddings = model.encode_images(pixels)
        finally:
            handle.remove()
    found: Tensor = embeddings.unflatten(0, (len(pixels), len(chosen)))
    return found


def _replaced(
    model: ClipModel, pixels: Tensor, units: Units, mean: Tensor, chosen: Sequence[int] | None
) -> Tensor:
    with reading(model, units.layer, units.point, lambda stream: units.replaced(stream, mean, chosen)):
        return model.encode_images(pixels)


@contextmanager
def _noting(model: ClipModel, units: Units) -> Iterator[list[Tensor]]:
    """What is at the units' point, pass by pass, the newest first."""
    noted: list[Tensor] = []
    with reading(model, units.layer, units.point, lambda stream: noted.insert(0, stream)):
        yield noted


@contextmanager
def _inputs_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Record the module's inputs, pass by pass, the newest first; record nothing if there is no module."""
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
    return model.tower.blocks[layer]
