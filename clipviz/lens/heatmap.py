"""Token effects on a text direction, and heatmaps (thesis 2.5, Fig. 2.6, A.2), in factored form.

<c_{i,l,h}, t> = (a_i (z_i . q_{l,h} + const) + shares) / std with q = W_V^T W_O^T (gamma * P t): one product
[token, d_model] x [d_model, head] a layer gives the maps of ALL heads; nothing of size d_embed a token exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.decompose import check_heads, check_layers
from clipviz.values import LayerWeights, TowerWeights

if TYPE_CHECKING:
    from clipviz.lens.trace import Trace


def token_scores(
    trace: Trace,
    directions: Float[Tensor, "text d_embed"],
    layers: Sequence[int] | None = None,
    normalize: bool = False,
) -> Float[Tensor, "text image layer head token"]:
    """Direct effect of every token through every head on every direction (Eq. 2.6), biases shared out.

    directions: rows in embedding space (a unit text vector, a difference of two, a TextSpan direction).
    normalize: divide by the embedding's length (cosine units when the directions are unit vectors).
    Summed over tokens the scores equal <head effect, direction> exactly.
    Raises ValueError when the trace kept no tokens, or a direction has another d_embed.
    """
    layers = check_layers(trace.weights, layers)
    tokens, attention = _kept(trace)
    directions = check_directions(directions, trace.weights).to(trace.codes)
    back = trace.weights.gamma * (directions @ trace.weights.projection.T)
    scores = torch.stack(
        [_layer_scores(tokens[k], attention[:, k], back, trace.weights.layers[k]) for k in layers], 2
    )
    n_shares = trace.weights.n_terms * attention.shape[2] * attention.shape[3]
    mean_share = back.sum(-1)[:, None] * trace.mean / n_shares
    beta_share = directions @ (trace.weights.beta @ trace.weights.projection) / n_shares
    scores = (scores - _spread(mean_share)) / trace.std[:, None, None, None] + _spread(beta_share[:, None])
    return scores / trace.norm[:, None, None, None] if normalize else scores


def heatmap(
    trace: Trace,
    directions: Float[Tensor, "text d_embed"],
    layers: Sequence[int] | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    normalize: bool = False,
) -> Float[Tensor, "text image rows cols"]:
    """Token scores summed over layers and heads, on the token grid, class token left out (thesis 2.5).

    heads: (layer, head) pairs, None for every head of `layers`.
    """
    layers = check_layers(trace.weights, layers)
    mask = check_heads(trace.weights, heads, layers)
    scores = token_scores(trace, directions, layers, normalize)[..., 1:]
    return torch.einsum("xilht,lh->xit", scores, mask.to(scores)).unflatten(-1, trace.weights.grid)


def remove_class_mean(maps: Float[Tensor, " text *rest"]) -> Float[Tensor, " text *rest"]:
    """Maps minus their mean over the class texts: the bias removal of the thesis' segmentation (Fig. 2.6)."""
    return maps - maps.mean(0, keepdim=True)


def check_directions(directions: Tensor, weights: TowerWeights) -> Float[Tensor, "text d_embed"]:
    """Directions as [text, d_embed]; ValueError says how to encode texts when the width is another."""
    if directions.ndim != 2 or directions.shape[-1] != weights.d_embed:
        raise ValueError(
            f"text directions have shape {list(directions.shape)} but the model embeds to "
            f"[text, {weights.d_embed}]; encode them with model.encode_texts(...)"
        )
    return directions


def _layer_scores(
    tokens: Float[Tensor, "image token d_model"],
    attention: Float[Tensor, "image head token"],
    back: Float[Tensor, "text d_model"],
    weights: LayerWeights,
) -> Float[Tensor, "text image head token"]:
    """a_i (z_i . q + const) + the output bias's share, before the final LayerNorm's statistics."""
    readers = torch.einsum("xd,hde->xhe", back, weights.output)
    queries = torch.einsum("xhe,hed->xhd", readers, weights.value)
    constants = torch.einsum("xhe,he->xh", readers, weights.value_bias)
    n_texts, n_heads, _ = queries.shape
    projected = (tokens @ queries.flatten(0, 1).T).unflatten(-1, (n_texts, n_heads)).permute(2, 0, 3, 1)
    bias = back @ weights.output_bias / (n_heads * tokens.shape[1])
    return attention * (projected + constants[:, None, :, None]) + bias[:, None, None, None]


def _spread(shares: Float[Tensor, "text image_or_one"]) -> Float[Tensor, "text image_or_one 1 1 1"]:
    return shares[:, :, None, None, None]


def _kept(trace: Trace) -> tuple[tuple[Tensor, ...], Tensor]:
    if trace.tokens is None or trace.attention is None:
        raise ValueError(
            "token scores need the token inputs, but this trace was taken with tokens=False; "
            "trace the image again with model.trace(images)"
        )
    return trace.tokens, trace.attention
