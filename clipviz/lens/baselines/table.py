"""The rows of Table 2.4, computed from one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from clipviz.lens.baselines.attention import FIRST_LAYER, TokenMap, grad_cam, on_grid, raw_attention, rollout
from clipviz.lens.baselines.record import Record
from clipviz.lens.baselines.relevance import (
    chefer,
    conserving_lrp,
    conserving_partial_lrp,
    lrp,
    partial_lrp,
)

_MAPS: dict[str, Callable[[Record], TokenMap]] = {
    "LRP": lrp,
    "partial LRP": partial_lrp,
    "rollout": lambda record: rollout(record.attention, min(FIRST_LAYER, len(record.layers) - 1)),
    "raw attention": lambda record: raw_attention(record.attention),
    "Grad-CAM": lambda record: grad_cam(record.attention, record.gradients),
    "Chefer et al.": chefer,
    "LRP, sum kept": conserving_lrp,
    "partial LRP, sum kept": conserving_partial_lrp,
    "rollout, every layer": lambda record: rollout(record.attention),
    "Chefer et al., every layer": lambda record: chefer(record, start=0),
}
METHODS = ("LRP", "partial LRP", "rollout", "raw attention", "Grad-CAM", "Chefer et al.")
"""The methods of Table 2.4, in its order and in their published forms."""
VARIANTS = ("LRP, sum kept", "partial LRP, sum kept", "rollout, every layer", "Chefer et al., every layer")
"""Other forms: rules that keep the sum of relevance, and products over all layers."""


def all_maps(
    record: Record, grid: tuple[int, int], methods: Sequence[str] = METHODS
) -> dict[str, Float[Tensor, "image rows cols"]]:
    """Return the map of every method on the grid of image tokens.

    Args:
        record: The recorded pass.
        grid: Rows and columns of image tokens.
        methods: Names among METHODS and VARIANTS.

    Returns:
        Name -> [image, rows, cols].

    Raises:
        ValueError: A method is unknown.
    """
    unknown = [name for name in methods if name not in _MAPS]
    if unknown:
        raise ValueError(f"expected methods among {', '.join(_MAPS)}, got {unknown[0]!r}; choose one of them")
    return {name: on_grid(_MAPS[name](record), grid) for name in methods}
