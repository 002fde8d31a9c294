"""A tower that runs with one added token, a test-time register that takes over the activations of some neurons.

Large norms that appear at a few image tokens come from a few neurons (Jiang, Dravid, Efros and Gandelsman 2025,
"Vision transformers don't need trained registers"). The added token enters the first block as zeros, after the
tokens that have no position in the image. In every chosen neuron it takes the largest activation over all tokens,
and all others take zero. The readout does not read the token: it is removed after the last block. A pass is read
at the same modules as before, so that lenses see the tower with its added token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from clipviz.models.forward_lock import share_turn, turn
from clipviz.models.towers.anatomy import Reading, ReadoutReader, Tower

Neurons = Mapping[int, Sequence[int]]
"""Neurons by layer, both counted from 0."""


def with_register(tower: Tower, neurons: Neurons) -> Tower:
    """Return the tower with an added token that takes the chosen neurons' activations; modules are shared."""
    at = tower.weights.prefix
    return dataclasses.replace(
        tower,
        visual=Registered(tower, neurons),
        weights=dataclasses.replace(tower.weights, prefix=at + 1),
        readout=WithoutRegister(tower.readout, at),
    )


class Registered(nn.Module):
    """The vision tower of a Tower, run with the added token."""

    def __init__(self, tower: Tower, neurons: Neurons) -> None:
        super().__init__()
        self.visual = tower.visual
        self.training = False
        self.blocks = [(block.module, block.attention, block.hidden) for block in tower.blocks]
        self.at = tower.weights.prefix
        self.neurons = {layer: list(chosen) for layer, chosen in neurons.items()}
        share_turn(self, tower.visual)

    def forward(self, pixels: Tensor) -> Any:
        with turn(self.visual), self._added():
            return self.visual(pixels)

    @contextmanager
    def _added(self) -> Iterator[None]:
        """Hook one pass. These hooks run before those that read the pass, but the token is removed after them."""
        with ExitStack() as stack:
            first, last = self.blocks[0][0], self.blocks[-1][0]
            stack.callback(first.register_forward_pre_hook(self._insert, prepend=True).remove)
            for layer, chosen in self.neurons.items():
                moving = partial(self._move, chosen)
                hidden = self.blocks[layer][2]
                stack.callback(hidden.register_forward_pre_hook(moving, prepend=True).remove)
            stack.callback(last.register_forward_hook(self._remove).remove)
            for _, attention, _ in self.blocks:  # rotary positions start after the tokens without a position
                if hasattr(attention, "num_prefix_tokens"):
                    stack.callback(setattr, attention, "num_prefix_tokens", attention.num_prefix_tokens)
                    attention.num_prefix_tokens += 1  # type: ignore[assignment, operator]
            yield

    def _insert(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return with_gap(inputs[0], self.at, 1), *inputs[1:]

    def _move(self, chosen: list[int], _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        moved = inputs[0].clone()
        largest = moved[..., chosen].amax(-2)
        moved[..., chosen] = 0
        moved[:, self.at, chosen] = largest
        return moved, *inputs[1:]

    def _remove(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return without_gap(output[0], self.at, 1), *output[1:]
        return without_gap(output, self.at, 1)


@dataclass(frozen=True, eq=False)
class WithoutRegister:
    """A readout that gives the added token at `at` the weight 0; `inner` never sees it."""

    inner: ReadoutReader
    at: int

    @property
    def early(self) -> bool:
        return self.inner.early

    def modules(self) -> dict[str, nn.Module]:
        return self.inner.modules()

    def weights_before(self, tokens: Tensor) -> Tensor | None:
        weights = self.inner.weights_before(without_gap(tokens, self.at, 1))
        return None if weights is None else with_gap(weights, self.at, 2)

    def reading(self, seen: dict[str, Tensor]) -> Reading:
        reading = self.inner.reading(seen)
        weights = reading.weights
        return reading if weights is None else reading._replace(weights=with_gap(weights, self.at, 2))


def with_gap(tokens: Tensor, at: int, axis: int) -> Tensor:
    """Return the tokens along an axis with zeros inserted at one index."""
    before, after = tokens.tensor_split([at], axis)
    shape = list(tokens.shape)
    shape[axis] = 1
    return torch.cat([before, tokens.new_zeros(shape), after], axis)


def without_gap(tokens: Tensor, at: int, axis: int) -> Tensor:
    """Return the tokens along an axis without the one at an index."""
    before, after = tokens.tensor_split([at], axis)
    return torch.cat([before, after.narrow(axis, 1, after.shape[axis] - 1)], axis)
