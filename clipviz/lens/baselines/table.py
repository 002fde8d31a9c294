"""The rows of Table 2.4 from one record."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from clipviz.lens.baselines.attention import grad_cam, on_grid, raw_attention, rollout
from clipviz.lens.baselines.record import Record
from clipviz.lens.baselines.relevance import chefer, lrp, partial_lrp

METHODS = ("LRP", "partial LRP", "rollout", "raw attention", "Grad-CAM", "Chefer et al.")
"""The thesis's rivals, in the order of Table 2.4."""


def all_maps(record: Record, grid: tuple[int, int]) -> dict[str, Float[Tensor, "image rows cols"]]:
    """The map of every rival on the grid of image tokens, in the order of METHODS."""
    attention = record.attention
    maps = (
        lrp(record),
        partial_lrp(record),
        rollout(attention),
        raw_attention(attention),
        grad_cam(attention, record.gradients),
        chefer(record),
    )
    return {name: on_grid(tokens, grid) for name, tokens in zip(METHODS, maps, strict=True)}
