"""The points of a tower at which a dictionary reads: each one's module, and how values are recorded or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipviz.models.dictionaries.kinds import Point
from clipviz.models.forward_lock import turn
from clipviz.models.towers.anatomy import Tower, full

if TYPE_CHECKING:
    from clipviz.models.opened import Opened

Reader = Callable[[Tensor], Tensor | None]
"""Called with the values at a point, [image, token, d_in]; what it returns, if anything, replaces them."""


def width(tower: Tower, layer: int, point: Point) -> int:
    """Return d_in of a dictionary for a point."""
    return int(tower.weights.layers[layer].mlp_output.shape[1 if point == "mlp hidden" else 0])


def check_point(tower: Tower, layer: int, point: Point, found: str) -> None:
    """Raise ValueError for a point whose output differs from what the tower adds to the residual stream."""
    block = tower.blocks[layer]
    if point != "residual" and (block.mlp_norm is not None or block.write_norm is not None):
        raise ValueError(
            "expected a dictionary of the residual stream for a tower whose blocks normalise what "
            f"they write, got {found}"
        )
    scaled = not isinstance(getattr(block.module, "ls_1", nn.Identity()), nn.Identity)
    if point == "attention output" and scaled:
        raise ValueError(
            "expected a dictionary of the residual stream for a tower with layer scale, which "
            f"rescales the attention's output before adding it, got {found}"
        )


def hook(tower: Tower, layer: int, point: Point, reader: Reader) -> Any:
    """Return the handle of a hook that calls the reader in every pass."""
    block = tower.blocks[layer]
    if point == "mlp hidden":

        def before(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            replaced = reader(inputs[0])
            return None if replaced is None else (replaced, *inputs[1:])

        return block.hidden.register_forward_pre_hook(before)

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        replaced = reader(output[0] if isinstance(output, tuple) else output)
        if replaced is None or not isinstance(output, tuple):
            return replaced
        return replaced, *output[1:]

    module = {"residual": block.module, "mlp output": block.mlp_write, "attention output": block.attention}[
        point
    ]
    return module.register_forward_hook(after)


@contextmanager
def reading(model: Opened, layer: int, point: Point, reader: Reader) -> Iterator[None]:
    """Call the reader in every pass of the model while the block runs."""
    with turn(model.visual):
        handle = hook(model.tower, layer, point, reader)
        try:
            yield
        finally:
            handle.remove()


@torch.no_grad()
def read_point(model: Opened, pixels: Tensor, layer: int, point: Point) -> tuple[Tensor, Tensor]:
    """Return values at a point for some images, [image, token, d_in] in float32 or float64, and their embeddings."""
    kept: list[Tensor] = []

    def keep(stream: Tensor) -> None:
        kept.append(full(stream))

    with reading(model, layer, point, keep):
        embeddings = model.encode_images(pixels)
    return kept[0], embeddings
