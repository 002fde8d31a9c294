"""Joint decomposition: which regions write a head's texts (thesis 2.5, Fig. 2.6, A.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.heatmap import check_directions
from clipviz.lens.trace import Trace


@dataclass(frozen=True, eq=False)
class JointMaps:
    """The texts that agree most and least with one head on one image, and the image regions that these scores come
    from.

    positive, negative: positions in the head's texts, strongest first; coefficients: <c_head, t> of all the
    head's texts [text]; positive_maps, negative_maps: [k, rows, cols], summing (with the class token's share)
    to the coefficients.
    """

    positive: Tensor
    negative: Tensor
    coefficients: Tensor
    positive_maps: Tensor
    negative_maps: Tensor


def joint_maps(
    trace: Trace,
    image: int,
    layer: int,
    head: int,
    text_directions: Float[Tensor, "text d_embed"],
    background: Float[Tensor, "text_background d_embed"] | None = None,
    k: int = 1,
) -> JointMaps:
    """Return the TextSpan texts of a head that are most and least similar to an image, with their maps (Fig. 2.6).

    Args:
        trace: The forward pass of some images, with tokens.
        image: Index of the image in the trace.
        layer: The head's layer.
        head: The head.
        text_directions: The encoded texts that TextSpan chose for this head, [text, d_embed].
        background: Texts whose mean direction is subtracted, the bias removal of Fig. 2.6. It is applied to maps and
            coefficients alike, so that maps still sum to coefficients.
        k: Texts on each side.

    Returns:
        The texts, their coefficients and maps.

    Raises:
        ValueError: k is not within 1..texts.
    """
    directions = check_directions(text_directions, trace.weights).to(trace.codes)
    if not 1 <= k <= len(directions):
        raise ValueError(f"expected k within 1..{len(directions)} (the head's texts), got {k}")
    if background is not None:
        directions = directions - background.to(directions).mean(0)
    one = trace[image]
    coefficients = one.head_effects([layer])[0, 0, head] @ directions.T
    ranked = coefficients.argsort(descending=True)
    positive, negative = ranked[:k], ranked.flip(0)[:k]
    maps = one.heatmap(directions[torch.cat([positive, negative])], [layer], [(layer, head)])[:, 0]
    return JointMaps(positive, negative, coefficients, maps[:k], maps[k:])
