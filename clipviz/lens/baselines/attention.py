"""Baselines that read attention and its gradients: raw attention, rollout, Grad-CAM, and Chefer's generic form.

attention[image, layer, head, i, j] is the weight with which token i reads token j; token 0 is the class token.
Each method returns one number per image token (the class token left out), in its own unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

FIRST_LAYER = 1  # where the published segmentation run starts its products over layers

Attention = Float[Tensor, "image layer head token token"]
TokenMap = Float[Tensor, "image image_token"]


def raw_attention(attention: Attention, layers: Sequence[int] = (-1,)) -> TokenMap:
    """Return the class token's attention, mean over heads and layers.

    Args:
        attention: [image, layer, head, token, token].
        layers: Layers to average over, by default the last.

    Returns:
        [image, image_token].
    """
    _check(attention)
    return attention[:, list(layers), :, 0, 1:].mean((1, 2))


def rollout(attention: Attention, start: int = 0) -> TokenMap:
    """Return attention rollout (Abnar and Zuidema 2020, Eq. 1): A~(l) = A(l) A~(l-1), A = 0.5 W + 0.5 I.

    W is the mean over heads; 0.5 I stands for the residual connection.

    Args:
        attention: [image, layer, head, token, token].
        start: First layer of the product.

    Returns:
        The class token's row, [image, image_token]; rows of the product sum to 1.
    """
    _check(attention)
    identity = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    return _product(0.5 * attention[:, start:].mean(2) + 0.5 * identity)[:, 0, 1:]


def traced_back(
    effects: Float[Tensor, "image chosen token"], attention: Attention, layers: Sequence[int]
) -> TokenMap:
    """Return token effects (thesis 2.5) at the tokens whose contents were read, with the same sum over all tokens.

    A token's effect through layer l goes to where its contents came from by the rollout of the layers before l
    (Abnar and Zuidema 2020): sum_l A~(l-1)^T effects(l), whose rows of A~ sum to 1. Layer 0 reads the tokens
    themselves, so that its effects stay.

    Args:
        effects: Effects of all tokens, the class token first, summed over the heads of each of `layers`.
        attention: Weights of every layer of the model, [image, layer, head, token, token].
        layers: The layer of each row of `effects`, counted from 0.

    Returns:
        Effects of the image tokens, [image, token], in the units of `effects`.
    """
    _check(attention)
    identity = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    read = identity.expand(len(attention), -1, -1)
    found = torch.zeros_like(effects[:, 0])
    for layer in range(max(layers) + 1):
        for row in [row for row, one in enumerate(layers) if one == layer]:
            found = found + (effects[:, row, None] @ read.to(effects))[:, 0]
        read = (0.5 * attention[:, layer].mean(1) + 0.5 * identity) @ read
    return found[:, 1:]


def grad_cam(attention: Attention, gradients: Attention, layer: int = -1) -> TokenMap:
    """Return the map of Grad-CAM (Selvaraju et al. 2017, Eq. 1-2) with the heads of one layer as its channels.

    The feature map of head k is its class row over the image tokens, A_k; its weight is the mean gradient,
    alpha_k = mean_j dy/dA_kj; the map is ReLU(sum_k alpha_k A_k) (mean over heads here: the same up to scale).

    Args:
        attention: [image, layer, head, token, token].
        gradients: dy/dA, of the same shape.
        layer: The layer.

    Returns:
        [image, image_token].
    """
    _check(attention, gradients)
    maps, slopes = attention[:, layer, :, 0, 1:], gradients[:, layer, :, 0, 1:]
    return (slopes.mean(-1, keepdim=True) * maps).mean(1).clamp_min(0)


def chefer_generic(attention: Attention, gradients: Attention, start: int = 0) -> TokenMap:
    """Return Chefer et al. 2021 (ICCV, "Generic Attention-model Explainability", Eq. 5-6), self-attention only.

    A_bar = E_h (grad A * A)^+ ;  R <- R + A_bar R from R = I, layer by layer.

    Args:
        attention: [image, layer, head, token, token].
        gradients: dy/dA, of the same shape.
        start: First layer of the product.

    Returns:
        The class token's row, [image, image_token].
    """
    _check(attention, gradients)
    identity = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    weighted = (gradients * attention)[:, start:].clamp_min(0).mean(2)
    return _product(identity + weighted)[:, 0, 1:]


def weighted_rollout(relevance: Attention, gradients: Attention, start: int = 0) -> TokenMap:
    """Chefer et al. 2021 (CVPR, the thesis's [12], Eq. 13-14): C = A_bar(1) ... A_bar(L) with
    A_bar = I + E_h (grad A * R)^+, R the relevance of the attention weights; the class token's row.

    The last layer is the leftmost factor here, because row i of an attention says what token i reads.
    """
    return chefer_generic(relevance, gradients, start)


def on_grid(token_map: TokenMap, grid: tuple[int, int]) -> Float[Tensor, "image rows cols"]:
    """Return values of image tokens on the grid that they came from."""
    rows, cols = grid
    if token_map.shape[-1] != rows * cols:
        raise ValueError(
            f"expected {rows} x {cols} image tokens, got {token_map.shape[-1]}; pass the tower's grid"
        )
    found: Tensor = token_map.unflatten(-1, (rows, cols))
    return found


def _product(layers: Float[Tensor, "image layer token token"]) -> Float[Tensor, "image token token"]:
    """Return the matrices multiplied, the last layer leftmost."""
    product = layers[:, 0]
    for layer in range(1, layers.shape[1]):
        product = layers[:, layer] @ product
    return product


def _check(attention: Tensor, gradients: Tensor | None = None) -> None:
    if attention.ndim != 5 or attention.shape[-1] != attention.shape[-2]:
        raise ValueError(
            f"expected attention [image, layer, head, token, token], got {list(attention.shape)}; the class row "
            "alone is not enough, record the full attention with clipviz.models.attribution.record"
        )
    if gradients is not None and gradients.shape != attention.shape:
        raise ValueError(
            f"expected gradients of the attention's shape {list(attention.shape)}, got {list(gradients.shape)}"
        )
