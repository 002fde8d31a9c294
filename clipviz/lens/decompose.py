"""Direct effects of heads, MLPs and tokens on the image embedding, in factored form (thesis Eq. 2.4-2.6, App. A).

Only the class token reaches the embedding, so only its attention row is needed: the class query is pushed
through W_K once a head and dotted with every token, and no [token, token] or [token, head, d_embed] tensor is
ever formed. The forms are exact: the effects sum to the model's own output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.values import HeadBasis, LayerWeights, TowerWeights


def class_attention(
    tokens: Float[Tensor, "image token d_model"], weights: LayerWeights
) -> Float[Tensor, "image head token"]:
    """Attention of the class token to every token, a head: a_i = softmax_i((W_Q z_0 + b_Q) . W_K z_i / sqrt(d_head)).

    tokens: the attention's input z after its LayerNorm, class token first.
    """
    queries = torch.einsum("id,hed->ihe", tokens[:, 0], weights.query) + weights.query_bias
    keys = torch.einsum("ihe,hed->ihd", queries * weights.query.shape[1] ** -0.5, weights.key)
    return torch.softmax(keys @ tokens.transpose(1, 2), dim=-1)


def head_codes(
    tokens: Float[Tensor, "image token d_model"],
    attention: Float[Tensor, "image head token"],
    weights: LayerWeights,
) -> Float[Tensor, "image head d_head"]:
    """Head codes u = sum_i a_i (W_V z_i + b_V): all that an image leaves in a head, d_head numbers."""
    contexts = attention @ tokens
    return torch.einsum("ihd,hed->ihe", contexts, weights.value) + weights.value_bias


def head_basis(weights: TowerWeights, layers: Sequence[int] | None = None) -> HeadBasis:
    """The image-independent basis of head effects: B = (gamma * W_O)^T P and the shares of biases.

    The output bias b_O is split equally over a layer's heads; the LayerNorm's mean and beta equally over the
    2 L + 1 terms that write the class token, then over heads (App. A.2).
    """
    layers = check_layers(weights, layers)
    scaled = weights.gamma[:, None] * weights.projection
    shares = weights.n_terms * weights.n_heads
    return HeadBasis(
        basis=torch.stack([torch.einsum("hde,dk->hek", weights.layers[k].output, scaled) for k in layers]),
        output_bias=torch.stack([weights.layers[k].output_bias @ scaled / weights.n_heads for k in layers]),
        mean_share=scaled.sum(0) / shares,
        constant=weights.beta @ weights.projection / shares,
        layers=layers,
    )


def effects_from_codes(
    codes: Float[Tensor, "image layer head d_head"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    basis: HeadBasis,
) -> Float[Tensor, "image layer head d_embed"]:
    """Head effects c = (u B + b - mean m) / std + k, unnormalised embedding units (Eq. 2.6 summed over tokens)."""
    writes = torch.einsum("ilhe,lhek->ilhk", codes, basis.basis) + basis.output_bias[:, None]
    return (writes - mean[:, None, None, None] * basis.mean_share) / std[:, None, None, None] + basis.constant


def mlp_effects(
    writes: Float[Tensor, "image term d_model"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    weights: TowerWeights,
) -> Float[Tensor, "image term d_embed"]:
    """Direct effects of the input term (entry 0) and the MLPs (entry 1 + layer): (gamma (w - mean/n)/std + beta/n) P.

    writes: what each term adds to the class token's residual stream; n = 2 L + 1.
    """
    n_terms = weights.n_terms
    centred = (writes - mean[:, None, None] / n_terms) / std[:, None, None]
    return (weights.gamma * centred + weights.beta / n_terms) @ weights.projection


def check_layers(weights: TowerWeights, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers as a tuple (all when None); ValueError names an unknown one."""
    if layers is None:
        return tuple(range(weights.n_layers))
    chosen = tuple(int(layer) for layer in layers)
    unknown = [layer for layer in chosen if not 0 <= layer < weights.n_layers]
    if unknown or not chosen:
        raise ValueError(
            f"expected layers within 0..{weights.n_layers - 1} (counted from 0), got {list(layers)}; "
            "leave layers=None for all"
        )
    return chosen


def check_heads(
    weights: TowerWeights, heads: Sequence[tuple[int, int]] | None, layers: tuple[int, ...]
) -> Float[Tensor, "layer head"]:
    """A 0/1 mask over [layer, head] of the chosen layers; heads are (layer, head) pairs, None for all."""
    mask = torch.zeros(len(layers), weights.n_heads)
    if heads is None:
        return mask + 1
    for pair in heads:
        layer, head = (int(index) for index in pair)
        if layer not in layers or not 0 <= head < weights.n_heads:
            raise ValueError(
                f"expected heads as (layer, head) with layer in {list(layers)} and head in "
                f"0..{weights.n_heads - 1}, got {(layer, head)}"
            )
        mask[layers.index(layer), head] = 1
    return mask
