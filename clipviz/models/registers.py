"""Register neurons, the few neurons that write the large norms of outlier tokens, and a model that runs without
outliers.

Vision transformers give a few image tokens norms many times those of the others, and maps at these tokens say
little about the patch (Jiang, Dravid, Efros and Gandelsman 2025, "Vision transformers don't need trained
registers"). There, neurons are ranked by their mean activation at outlier tokens. Here they are ranked by their
share of the outliers' excess: with u the unit direction from the mean of the other tokens to the mean of the
outliers, x their means in the stream, share of a neuron = (mean activation at outliers - at others) <w, u> /
<x_outliers - x_others, u>,
w the neuron's output weights. The shares of all neurons up to the layer, of the attention and of the input sum to 1.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.models.forward_lock import turn
from clipviz.models.opened import Model, Opened, Pictures
from clipviz.models.towers import unsupported
from clipviz.models.towers.anatomy import full
from clipviz.models.towers.registered import with_register

RATIO = 3.0
"""A token is an outlier if its norm is at least this many times the median of its layer's image tokens."""
LEAST_SHARE = 0.02
"""A neuron counts as a register neuron if it writes at least this share of the outliers' excess."""
MOST_TOKENS = 0.2
"""If more than this share of tokens have large norms, these are not outliers: the distribution has a long tail."""
BATCH = 32


@dataclass(frozen=True)
class TokenNorms:
    """Norms of the image tokens in the residual stream after each layer, over some images.

    median, largest: one per layer; n_outliers: number of tokens with at least `ratio` times their layer's median.
    """

    median: tuple[float, ...]
    largest: tuple[float, ...]
    n_outliers: tuple[int, ...]
    n_tokens: int
    ratio: float

    @property
    def excess(self) -> tuple[float, ...]:
        """The largest norm as a multiple of the median, one per layer."""
        return tuple(
            top / middle if middle else 1.0 for top, middle in zip(self.largest, self.median, strict=True)
        )


@dataclass(frozen=True)
class Registers:
    """Register neurons found on some images, and the token norms before and after their activations are moved.

    neurons: (layer, neuron) pairs counted from 0, those of the largest share first; shares: of the outliers'
    excess after `layer`, the first layer with outliers; null: the largest share of any neuron when as many other
    tokens of the same images take the outliers' place. Without outliers, neurons are empty and `layer` and
    `after` are None. Printing the value describes it in words.
    """

    neurons: tuple[tuple[int, int], ...]
    shares: tuple[float, ...]
    layer: int | None
    null: float
    before: TokenNorms
    after: TokenNorms | None
    n_images: int

    def __bool__(self) -> bool:
        return bool(self.neurons)

    def __repr__(self) -> str:
        excess = self.before.excess
        seen = f"{self.before.n_tokens:,} image tokens of {self.n_images} images"
        top = max(range(len(excess)), key=excess.__getitem__)
        if self.layer is None:
            return (
                f"No outlier tokens: the largest norm is {excess[top]:.1f} times the median (layer {top}, {seen}), and "
                f"{self.before.n_outliers[top]} tokens reach {self.before.ratio:g} times."
            )
        there = (
            f"{self.before.n_outliers[self.layer]} of {seen} are outliers after layer {self.layer}, up to "
            f"{excess[self.layer]:.1f} times the median norm."
        )
        if self.after is None:
            return (
                f"{there} No single neuron writes at least {LEAST_SHARE:.0%} of their excess and "
                f"more than chance ({self.null:.1%}), so there is nothing to move."
            )
        named = ", ".join(f"layer {layer} neuron {neuron}" for layer, neuron in self.neurons[:5])
        more = f" and {len(self.neurons) - 5} more" if len(self.neurons) > 5 else ""
        return (
            f"{there} {len(self.neurons)} register neurons write {sum(self.shares):.0%} of the "
            f"excess: {named}{more}. With their activations moved to an added token, "
            f"{self.after.n_outliers[self.layer]} outliers remain, up to "
            f"{self.after.excess[self.layer]:.1f} times the median."
        )


def with_registers(model: Model, registers: Registers | Sequence[tuple[int, int]]) -> Model:
    """Return the model with registers; see ClipModel.with_registers."""
    pairs = registers.neurons if isinstance(registers, Registers) else registers
    chosen = _checked(model, pairs, registers)
    by_layer: dict[int, list[int]] = {}
    for layer, neuron in chosen:
        by_layer.setdefault(layer, []).append(neuron)
    other = copy.copy(model)
    other.registers = chosen
    other.tower = with_register(model.tower, by_layer)
    named = f"{model.fingerprint} registers {sorted(chosen)}"
    other.fingerprint = hashlib.sha256(named.encode()).hexdigest()[:12]
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(1, 3, *model.image_size, generator=generator)
    other.sum_check = other.trace(probe, tokens=False).sum_check()
    if not other.sum_check <= other.limit:
        raise unsupported(
            f"model {model.name!r}, whose terms miss its output by {other.sum_check:.1e} with an added token"
        )
    return other


def token_norms(model: Opened, images: Pictures, ratio: float = RATIO) -> TokenNorms:
    """Return the norms of the image tokens after every layer, over some images."""
    norms = _norms(model, model.prepare(images))
    return _summary(norms, ratio)


def find_registers(
    model: Opened, images: Pictures, ratio: float = RATIO, least: float = LEAST_SHARE
) -> Registers:
    """Find the neurons that write the large norms of outlier tokens on some images, and the result of moving them.

    images: a few dozen. ratio: see RATIO; tokens are examined after the first layer that has at least half as
    many outliers as any other. least: the least share of the outliers' excess for a neuron to count; it also has
    to exceed the share of any neuron for as many other tokens of the same images. Raises ValueError for a tower
    that normalises its MLPs' output before adding it.
    """
    if not ratio > 1:
        raise ValueError(
            f"expected a ratio above 1, got {ratio!r}; with 3, a norm of at least 3 medians is an outlier"
        )
    if not 0 < least < 1:
        raise ValueError(f"expected a least share within 0..1, got {least!r}")
    if any(block.mlp_norm is not None for block in model.tower.blocks):
        raise unsupported(
            f"model {model.name!r}, which normalises its MLPs' output before adding it",
            "name the neurons instead: model.with_registers([(layer, neuron), ...])",
        )
    pixels = model.prepare(images)
    norms = _norms(model, pixels)
    before = _summary(norms, ratio)
    nothing = Registers((), (), None, 0.0, before, None, len(pixels))
    most = max(before.n_outliers)
    layer = next(k for k, count in enumerate(before.n_outliers) if 2 * count >= most)
    outliers = norms[:, layer] >= ratio * before.median[layer]
    if not most or outliers.double().mean() > MOST_TOKENS:
        return nothing
    shares, null = _shares(model, pixels, layer, outliers)
    floor = max(least, null)
    order = shares.flatten().argsort(descending=True)
    order = order[shares.flatten()[order] > floor]
    n_neurons = shares.shape[1]
    neurons = tuple((int(place) // n_neurons, int(place) % n_neurons) for place in order)
    found = replace(nothing, layer=layer, null=null)
    if not neurons:
        return found
    moved = with_registers(model, neurons)
    return replace(
        found,
        neurons=neurons,
        shares=tuple(float(share) for share in shares.flatten()[order]),
        after=_summary(_norms(moved, pixels), ratio, before.median),
    )


@torch.no_grad()
def _norms(model: Opened, pixels: Tensor) -> Float[Tensor, "image layer place"]:
    """Return the norms of the image tokens in the stream after every layer, in float64."""
    prefix, parts = model.weights.prefix, []
    for batch in pixels.split(BATCH):
        streams: dict[int, Tensor] = {}

        def note(layer: int, output: Any, streams: dict[int, Tensor] = streams) -> None:
            streams[layer] = full(output)[:, prefix:].norm(dim=-1).double().cpu()

        _run(model, batch, dict.fromkeys(range(model.n_layers), note), {})
        parts.append(torch.stack([streams[layer] for layer in range(model.n_layers)], 1))
    return torch.cat(parts)


@torch.no_grad()
def _shares(
    model: Opened, pixels: Tensor, layer: int, outliers: Tensor
) -> tuple[Float[Tensor, "layer neuron"], float]:
    """Return each neuron's share of the outliers' excess after a layer, and the largest share under the null."""
    prefix, weights = model.weights.prefix, model.weights
    groups = torch.stack([outliers, _as_many_others(outliers), ~outliers]).double()  # [group, image, place]
    activations = torch.zeros(3, layer + 1, weights.n_neurons, dtype=torch.float64)
    stream = torch.zeros(3, weights.d_model, dtype=torch.float64)
    for start in range(0, len(pixels), BATCH):
        members = groups[:, start : start + BATCH]

        def note(k: int, inputs: Any, members: Tensor = members) -> None:
            seen = full(inputs)[:, prefix:].cpu().double()
            activations[:, k] += torch.einsum("git,itn->gn", members, seen)

        def note_stream(_: int, output: Any, members: Tensor = members) -> None:
            nonlocal stream
            seen = full(output)[:, prefix:].cpu().double()
            stream = stream + torch.einsum("git,itd->gd", members, seen)

        _run(
            model, pixels[start : start + BATCH], {layer: note_stream}, dict.fromkeys(range(layer + 1), note)
        )
    counts = groups.sum((1, 2)).clamp_min(1)
    stream, activations = stream / counts[:, None], activations / counts[:, None, None]
    apart = stream[0] - stream[2]
    excess = apart.norm()
    directions = torch.stack(
        [weights.layers[k].mlp_output.cpu().double().T @ apart for k in range(layer + 1)]
    )
    written = (activations[:2] - activations[2]) * directions / excess.square().clamp_min(1e-300)
    return written[0], float(written[1].max())


def _as_many_others(outliers: Tensor) -> Tensor:
    """Choose as many tokens of each image as it has outliers among its other tokens, reproducibly."""
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(outliers.shape, generator=generator, dtype=torch.float64)
    order[outliers] = 2
    ranks = order.argsort(-1).argsort(-1)
    return (ranks < outliers.sum(-1, keepdim=True)) & ~outliers


def _run(model: Opened, pixels: Tensor, streams: dict[int, Any], hidden: dict[int, Any]) -> None:
    """Run one pass with listeners: `streams` receives a block's output, `hidden` the input of its MLP's last matrix."""

    def hear(note: Any, layer: int, _module: Any, _inputs: Any, output: Any) -> None:
        note(layer, output[0] if isinstance(output, tuple) else output)

    def hear_input(note: Any, layer: int, _module: Any, inputs: Any) -> None:
        note(layer, inputs[0])

    with turn(model.visual), ExitStack() as stack:
        for layer, note in streams.items():
            module = model.tower.blocks[layer].module
            stack.callback(module.register_forward_hook(partial(hear, note, layer)).remove)
        for layer, note in hidden.items():
            module = model.tower.blocks[layer].hidden
            stack.callback(module.register_forward_pre_hook(partial(hear_input, note, layer)).remove)
        model.encode_images(pixels)


def _summary(norms: Tensor, ratio: float, medians: Sequence[float] | None = None) -> TokenNorms:
    """Summarise norms over images and tokens. medians: those of another model, if norms are compared with it."""
    by_layer = norms.transpose(0, 1).flatten(1)
    middle = by_layer.median(1).values if medians is None else torch.tensor(medians, dtype=torch.float64)
    return TokenNorms(
        tuple(map(float, middle)),
        tuple(map(float, by_layer.max(1).values)),
        tuple(int(n) for n in (by_layer >= ratio * middle[:, None]).sum(1)),
        int(by_layer.shape[1]),
        ratio,
    )


def _checked(model: Opened, pairs: Iterable[Any], given: Any) -> tuple[tuple[int, int], ...]:
    if model.registers:
        raise ValueError(
            f"expected a model without registers, got one with {len(model.registers)}; pass all "
            "neurons to the original model"
        )
    chosen: list[tuple[int, int]] = []
    for pair in pairs:
        try:
            layer, neuron = (int(number) for number in pair)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected (layer, neuron) pairs, got {pair!r}") from error
        if not (0 <= layer < model.n_layers and 0 <= neuron < model.weights.n_neurons):
            raise ValueError(
                f"expected layers within 0..{model.n_layers - 1} and neurons within 0..{model.weights.n_neurons - 1}, "
                f"got {(layer, neuron)}"
            )
        if (layer, neuron) not in chosen:
            chosen.append((layer, neuron))
    if not chosen:
        found = f" {given}" if isinstance(given, Registers) else ""
        raise ValueError(f"expected at least one register neuron, got none.{found}")
    return tuple(chosen)
