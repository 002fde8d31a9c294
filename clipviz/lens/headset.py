"""The summed effect of any set of heads over a whole collection, as one matrix product of codes.

A head effect is linear in the augmented code v = [u / std, 1 / std, mean / std]: c = v [B; b; -m] + k (see
values.HeadBasis). The last two entries of v do not depend on the head, so a set S of heads shares them:
    sum_S c = V_S M_S + |S| k,   V_S = [u_s1 / std, u_s2 / std, ..., 1 / std, mean / std],
                                 M_S = [B_s1; B_s2; ...; sum_S b; -|S| m].
Ablation, retrieval and TextSpan's reconstruction all rest on this product; it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.values import Codes, Head, HeadBasis


def set_codes(codes: Codes, heads: Iterable[Head]) -> Float[Tensor, "image code"]:
    """Return V_S: the codes of the heads side by side, then 1 / std and mean / std.

    Args:
        codes: The collection.
        heads: (layer, head) pairs.

    Returns:
        [image, |S| * d_head + 2].

    Raises:
        ValueError: There is no head, or one is not among the layers that the codes keep.
    """
    positions = head_positions(codes, heads)
    if not positions:
        raise ValueError("expected at least one (layer, head) pair, got none; name the heads to sum over")
    inverse = 1 / as_float(codes.std)
    chosen = gather_heads(codes.codes, positions)
    return with_statistics(chosen.flatten(1) * inverse[:, None], inverse, as_float(codes.mean) * inverse)


def set_map(basis: HeadBasis, heads: Iterable[Head]) -> Float[Tensor, "code d_embed"]:
    """Return M_S: the bases of the heads stacked, then their output biases' sum and minus |S| mean shares.

    Args:
        basis: The basis of the heads' layers.
        heads: (layer, head) pairs.

    Returns:
        [|S| * d_head + 2, d_embed].

    Raises:
        ValueError: There is no head, or one is not in the basis.
    """
    heads = list(heads)
    if not heads:
        raise ValueError("expected at least one (layer, head) pair, got none; name the heads to sum over")
    unknown = [head for head in heads if head[0] not in basis.layers]
    if unknown:
        raise ValueError(
            f"expected heads in the basis's layers {list(basis.layers)}, got {unknown}; make it with "
            "model.head_basis(layers) for the layers of the codes"
        )
    layers = [basis.layers.index(layer) for layer, _ in heads]
    stacked = as_float(basis.basis)[layers, [head for _, head in heads]].flatten(0, 1)
    bias = as_float(basis.output_bias)[layers].sum(0)
    return torch.cat([stacked, bias[None], -len(heads) * as_float(basis.mean_share)[None]])


def summed_effects(codes: Codes, basis: HeadBasis, heads: Iterable[Head]) -> Float[Tensor, "image d_embed"]:
    """Return the sum of the direct effects of a set of heads (thesis Eq. 2.6).

    Args:
        codes: The collection.
        basis: The basis of the heads' layers.
        heads: (layer, head) pairs.

    Returns:
        [image, d_embed], in unnormalised embedding units.
    """
    heads = list(heads)
    return set_codes(codes, heads) @ set_map(basis, heads) + len(heads) * as_float(basis.constant)


def all_heads(codes: Codes) -> list[Head]:
    """Return every (layer, head) that the codes keep, in order."""
    n_heads = codes.codes.shape[2]
    return [(layer, head) for layer in codes.layers for head in range(n_heads)]


def head_positions(codes: Codes, heads: Iterable[Head]) -> list[tuple[int, int]]:
    """Return where heads stand in the codes.

    Args:
        codes: The collection.
        heads: (layer, head) pairs.

    Returns:
        Indices into the codes' axes of layers and heads.

    Raises:
        ValueError: The codes do not keep a head.
    """
    n_heads = codes.codes.shape[2]
    positions = []
    for layer, head in heads:
        if layer not in codes.layers or not 0 <= head < n_heads:
            raise ValueError(
                f"expected heads as (layer, head) with layer in {list(codes.layers)} and head in "
                f"0..{n_heads - 1}, got {(layer, head)}; other layers need codes that keep them"
            )
        positions.append((codes.layers.index(layer), head))
    return positions


def gather_heads(
    codes: Float[Tensor, "image layer head d_head"], positions: list[tuple[int, int]]
) -> Float[Tensor, "image set d_head"]:
    """Return a copy of the codes of some heads, in full precision.

    Args:
        codes: [image, layer, head, d_head].
        positions: From `head_positions`.

    Returns:
        [image, set, d_head].
    """
    layers = [layer for layer, _ in positions]
    heads = [head for _, head in positions]
    return as_float(torch.as_tensor(codes)[:, layers, heads])


def with_statistics(
    scaled: Float[Tensor, "image code"], inverse: Float[Tensor, " image"], shifted: Float[Tensor, " image"]
) -> Float[Tensor, "image augmented"]:
    """Return scaled codes with the two columns that all heads share.

    Args:
        scaled: u / std, [image, code].
        inverse: 1 / std, [image].
        shifted: mean / std, [image].

    Returns:
        [image, code + 2].
    """
    return torch.cat([scaled, inverse[:, None], shifted[:, None]], 1)


def as_float(array: Tensor) -> Tensor:
    """Return an array of any library as a tensor, with half precision converted to float32."""
    tensor = torch.as_tensor(array)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
