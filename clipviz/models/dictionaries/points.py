"""The points that a dictionary reads at, in a tower: which module, and how what is read is noted or replaced."""

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
"""Told what is at a point, [image, token, d_in]; what it returns, if anything, takes its place."""


def width(tower: Tower, layer: int, point: Point) -> int:
    """d_in of a dictionary for a point."""
    return int(tower.weights.layers[layer].mlp_output.shape[1 if point == "mlp hidden" else 0])


def check_point(tower: Tower, layer: int, point: Point, found: str) -> None:
    """Raise ValueError for a point whose output is not what the tower adds to the stream."""
    block = tower.blocks[layer]
    if point != "residual" and (block.mlp_norm is not None or block.write_norm is not None):
        raise ValueError(
            "expected a dictionary of the residual stream for a tower whose blocks norm what they write, got "
            f"{found}"
        )
    scaled = not isinstance(getattr(block.module, "ls_1", nn.Identity()), nn.Identity)
    if point == "attention output" and scaled:
        raise ValueError(
            "expected a dictionary of the residual stream for a tower with layer scale, whose attention's output is "
            f"not what it adds, got {found}"
        )


def hook(tower: Tower, layer: int, point: Point, reader: Reader) -> Any:
    """Return a handle of the hook that calls the reader in every pass."""
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
    """While open, the reader is called in every pass of the model."""
    with turn(model.visual):
        handle = hook(model.tower, layer, point, reader)
        try:
            yield
        finally:
            handle.remove()


@torch.no_grad()
def read_point(model: Opened, pixels: Tensor, layer: int, point: Point) -> tuple[Tensor, Tensor]:
    """Return what is at a point for some images, [image, token, d_in] in float32 or float64, and their embeddings."""
    kept: list[Tensor] = []

    def keep(stream: Tensor) -> None:
        kept.append(full(stream))

    with reading(model, layer, point, keep):
        embeddings = model.encode_images(pixels)
    return kept[0], embeddings
