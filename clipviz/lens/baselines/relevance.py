"""Layer-wise relevance propagation through a CLIP tower: LRP, partial LRP, and the method of Chefer et al.

Relevance starts as 1 on the score and is passed back layer by layer. Every rule except "apart" keeps its sum:
    linear z+ rule (alpha = 1, beta = 0; Bach et al. 2015, Eq. 60): R_j = sum_i (x_j w_ij)^+ / (sum_j' (x_j'
    w_ij')^+) R_i; the same "apart", once over the positive and once over the negative inputs, each with a
    denominator of its own, so that the sum doubles (what the published rows "LRP" and "partial LRP" were made
    with); or the epsilon rule (Eq. 58): R_j = sum_i x_j w_ij / (z_i + eps sign z_i) R_i, z_i the output with its
    bias
    a + b        R_a = a / (a + b) R, R_b = b / (a + b) R, then (normalise=True) rescaled to the shares
                 |sum R_a| : |sum R_b|, which keeps opposite signs from blowing up (Chefer et al. 2021, sec. 3.1)
    A V, Q K^T   both operands by the same rule, half each (the normalisation of Chefer et al. for a product, whose
                 two relevances have equal sums)
    LayerNorm, activation function, softmax: identity (Binder et al. 2016 pass a local renormalisation through to
                 first order in the same way)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.baselines.attention import FIRST_LAYER, TokenMap, weighted_rollout
from clipviz.lens.baselines.record import LayerRecord, Record

EPSILON = 1e-9
Rule = Literal["alpha1beta0", "apart", "epsilon"]


@dataclass(frozen=True, eq=False)
class Relevance:
    """Relevance of the score for every token at the input of the first layer, and for every attention weight."""

    tokens: Tensor  # [image, token, d_model]
    attention: Tensor  # [image, layer, head, token, token]


def lrp(record: Record) -> TokenMap:
    """Return LRP (Binder et al. 2016, the thesis's [8]) as published: rule "apart", residual branches not rescaled.

    The relevance of a token is the sum over its d_model entries; the split of a token over its positional embedding
    and the pixels of its patch is left out, as maps are compared at the size of the token grid.
    """
    return propagate(record, "apart", normalise=False).tokens.sum(-1)[:, 1:]


def partial_lrp(record: Record) -> TokenMap:
    """Return partial LRP (Voita et al. 2019, the thesis's [86]) as published: relevance stops at the last layer's
    attention.

    Mean over heads of the positive relevance of the class token's attention weights; rules as in `lrp`.
    """
    last = len(record.layers) - 1
    relevance = propagate(record, "apart", normalise=False, first_layer=last).attention
    return relevance[:, -1, :, 0, 1:].clamp_min(0).mean(1)


def chefer(record: Record, start: int = FIRST_LAYER) -> TokenMap:
    """Return Chefer et al. 2021 (the thesis's [12], Eq. 13-14): rollout of I + E_h (grad A * R)^+, z+ rule.

    Args:
        record: The recorded pass.
        start: First layer of the product.

    Returns:
        [image, image_token].
    """
    first = min(start, len(record.layers) - 1)
    return weighted_rollout(propagate(record, first_layer=first).attention, record.gradients[:, first:])


def conserving_lrp(record: Record, rule: Rule = "alpha1beta0") -> TokenMap:
    """Return LRP in which every rule keeps the sum of relevance, residual branches rescaled.

    Args:
        record: The recorded pass.
        rule: Rule for linear layers, see the module.

    Returns:
        [image, image_token].
    """
    return propagate(record, rule).tokens.sum(-1)[:, 1:]


def conserving_partial_lrp(record: Record, rule: Rule = "alpha1beta0") -> TokenMap:
    """Return partial LRP by the rules of `conserving_lrp`: mean over heads, negative relevance included.

    Args:
        record: The recorded pass.
        rule: Rule for linear layers, see the module.

    Returns:
        [image, image_token].
    """
    return propagate(record, rule, first_layer=len(record.layers) - 1).attention[:, -1, :, 0, 1:].mean(1)


def propagate(
    record: Record, rule: Rule = "alpha1beta0", normalise: bool = True, first_layer: int = 0
) -> Relevance:
    """Return the score's relevance at the input of a layer.

    Args:
        record: The recorded pass.
        rule: Rule for linear layers, see the module.
        normalise: Rescale the two branches of a residual connection.
        first_layer: The layer.

    Returns:
        Relevance, which sums to 1 unless the rule is "apart".

    Raises:
        ValueError: The rule is unknown.
    """
    if rule not in ("alpha1beta0", "apart", "epsilon"):
        raise ValueError(f"expected rule 'alpha1beta0', 'apart' or 'epsilon', got {rule!r}")
    relevance = torch.zeros_like(record.layers[0].residual)
    start = torch.ones_like(record.score)[:, None]
    relevance[:, 0] = _final(record, start, rule)
    attention = []
    for layer in reversed(record.layers[first_layer:]):
        relevance, weights = _through_layer(layer, relevance, rule, normalise)
        attention.append(weights)
    return Relevance(relevance, torch.stack(attention[::-1], 1))


def linear(
    inputs: Float[Tensor, "*item d_in"],
    weights: Float[Tensor, "d_out d_in"],
    relevance: Float[Tensor, "*item d_out"],
    rule: Rule = "alpha1beta0",
    outputs: Float[Tensor, "*item d_out"] | None = None,
) -> Float[Tensor, "*item d_in"]:
    """Relevance of a linear layer's inputs. outputs: z with its bias, for the epsilon rule (default W x)."""
    if rule == "epsilon":
        ratio = divide(relevance, inputs @ weights.T if outputs is None else outputs)
        return inputs * (ratio @ weights)
    positive, negative = inputs.clamp_min(0), inputs.clamp_max(0)
    up, down = weights.clamp_min(0), weights.clamp_max(0)
    if rule == "apart":
        ratios = divide(relevance, positive @ up.T), divide(relevance, negative @ down.T)
        return positive * (ratios[0] @ up) + negative * (ratios[1] @ down)
    ratio = divide(relevance, positive @ up.T + negative @ down.T)
    return positive * (ratio @ up) + negative * (ratio @ down)


def residual(
    left: Float[Tensor, "image token d_model"],
    right: Float[Tensor, "image token d_model"],
    relevance: Float[Tensor, "image token d_model"],
    normalise: bool = True,
) -> tuple[Float[Tensor, "image token d_model"], Float[Tensor, "image token d_model"]]:
    """Relevance of the two branches of a residual connection; their sum keeps the relevance's, image by image."""
    ratio = divide(relevance, left + right)
    parts = left * ratio, right * ratio
    if not normalise:
        return parts
    sums = [part.sum((1, 2), keepdim=True) for part in parts]
    whole = divide(relevance.sum((1, 2), keepdim=True), sums[0].abs() + sums[1].abs())
    scaled = [part * divide(total.abs() * whole, total) for part, total in zip(parts, sums, strict=True)]
    return scaled[0], scaled[1]


def product(
    left: Float[Tensor, "*item row inner"],
    right: Float[Tensor, "*item inner col"],
    relevance: Float[Tensor, "*item row col"],
    outputs: Float[Tensor, "*item row col"] | None = None,
) -> tuple[Float[Tensor, "*item row inner"], Float[Tensor, "*item inner col"]]:
    """Relevance of both operands of a matrix product, half each."""
    ratio = divide(relevance, left @ right if outputs is None else outputs)
    return 0.5 * left * (ratio @ right.transpose(-1, -2)), 0.5 * right * (left.transpose(-1, -2) @ ratio)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / (denominator + eps sign(denominator)), 0 / 0 = 0."""
    sign = torch.where(denominator < 0, -1.0, 1.0).to(denominator)
    return numerator / (denominator + EPSILON * sign)


def _final(record: Record, relevance: Tensor, rule: Rule) -> Float[Tensor, "image d_model"]:
    """Return relevance from the score <final, P t> to the class token: one output, with weights per image."""
    parts = record.final * record.final_weights
    if rule == "epsilon":
        return parts * divide(relevance, parts.sum(-1, keepdim=True))
    parts = parts.clamp_min(0)
    if rule == "alpha1beta0":
        return parts * divide(relevance, parts.sum(-1, keepdim=True))
    sides = parts * (record.final > 0), parts * (record.final < 0)
    return sum(
        (side * divide(relevance, side.sum(-1, keepdim=True)) for side in sides), torch.zeros_like(parts)
    )


def _through_layer(
    layer: LayerRecord, relevance: Tensor, rule: Rule, normalise: bool
) -> tuple[Float[Tensor, "image token d_model"], Float[Tensor, "image head token token"]]:
    middle = layer.residual + layer.attention_output
    skipped, written = residual(middle, layer.mlp_output, relevance, normalise)
    neurons = linear(layer.activation, layer.weights.mlp_output, written, rule, layer.mlp_output)
    relevance = skipped + linear(layer.mlp_input, layer.mlp_hidden, neurons, rule, layer.hidden)
    skipped, written = residual(layer.residual, layer.attention_output, relevance, normalise)
    inputs, attention = _through_attention(layer, written, rule)
    return skipped + inputs, attention


def _through_attention(
    layer: LayerRecord, relevance: Tensor, rule: Rule
) -> tuple[Float[Tensor, "image token d_model"], Float[Tensor, "image head token token"]]:
    weights = layer.weights
    n_heads, d_head = weights.query.shape[:2]
    output = weights.output.permute(1, 0, 2).flatten(1)
    context = linear(_merge(layer.context), output, relevance, rule, layer.attention_output)
    context = context.unflatten(-1, (n_heads, d_head)).transpose(1, 2)
    attention, value = product(layer.attention, layer.value, context, layer.context)
    query, key = product(layer.query, layer.key.transpose(-1, -2), attention)
    stacked = torch.cat([weights.query.flatten(0, 1), weights.key.flatten(0, 1), weights.value.flatten(0, 1)])
    inputs = linear(
        layer.attention_input,
        stacked,
        torch.cat([_merge(query), _merge(key.transpose(-1, -2)), _merge(value)], -1),
        rule,
        torch.cat([_merge(layer.query), _merge(layer.key), _merge(layer.value)], -1),
    )
    return inputs, attention


def _merge(heads: Float[Tensor, "image head token d_head"]) -> Float[Tensor, "image token head_d_head"]:
    return heads.transpose(1, 2).flatten(2)
