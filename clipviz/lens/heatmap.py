"""Token effects on a text direction, and heatmaps (thesis 2.5, Fig. 2.6, A.2), in factored form.

<c_{i,l,h}, t> = (a_i (z_i . q_{l,h} + const) + shares) / std with q = W_V^T W_O^T M t (M: the readout's matrix): one
product [token, d_model] x [d_model, head] per layer gives the maps of ALL heads, and no token has a vector of d_embed.
Where the readout has several heads, each has its own a and q, and the scores add up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.decompose import check_heads, check_layers, tally_biases
from clipviz.lens.recorded import Recorded
from clipviz.values import LayerWeights, Readout, TowerWeights

SCORES_BYTES = 1 << 29
"""Memory bound for the scores of all heads when only their sum is needed."""


def token_scores(
    trace: Recorded,
    directions: Float[Tensor, "text d_embed"],
    layers: Sequence[int] | None = None,
    normalize: bool = False,
) -> Float[Tensor, "text image layer head token"]:
    """Return the direct effect of every token through every head on every direction (Eq. 2.6), biases distributed.

    Summed over tokens the scores equal <head effect, direction> exactly.

    Args:
        trace: The forward pass of some images, with tokens.
        directions: Unit text vectors, differences of two, or TextSpan directions, [text, d_embed].
        layers: Layers whose heads are read. None takes all.
        normalize: Divide by the embedding's length (cosine units when the directions are unit vectors).

    Returns:
        [text, image, layer, head, token].

    Raises:
        ValueError: The trace kept no tokens, or a direction has another d_embed.
    """
    layers = check_layers(trace.weights, layers)
    tokens, paths = _kept(trace)
    weights, readout = trace.weights, trace.weights.readout
    directions = check_directions(directions, weights).to(trace.codes)
    back = torch.einsum("xk,pdk->xpd", directions, readout.matrices)
    tallies = trace.codes[..., weights.d_code - weights.n_tallies :]
    scores = torch.stack(
        [
            _layer_scores(tokens[k], paths[:, k], tallies[:, k], back, weights.layers[k], readout)
            for k in layers
        ],
        2,
    )
    n_shares = weights.n_terms * weights.n_heads * paths.shape[-1]
    taken = (directions @ readout.mean_matrix)[:, None] * trace.mean - (directions @ readout.bias)[:, None]
    scores = (scores - _spread(taken / n_shares)) / trace.std[:, None, None, None]
    scores = scores + _spread((directions @ readout.constant)[:, None] / n_shares)
    return scores / trace.norm[:, None, None, None] if normalize else scores


def pool_scores(
    trace: Recorded, directions: Float[Tensor, "text d_embed"], normalize: bool = False
) -> Float[Tensor, "text image token"]:
    """Return the effect of each final token on every direction, <sum_p w[p, q] centre(x_q) M[p] / std, t>.

    token_scores attributes effects to the tokens that heads read from; pool_scores attributes them to the tokens that
    the readout reads. Summed over tokens it is <embedding - tail, t>; bias and constant are shared equally over tokens.

    Args:
        trace: The forward pass of some images, with tokens.
        directions: [text, d_embed].
        normalize: Divide by the embedding's length.

    Returns:
        [text, image, token].

    Raises:
        ValueError: The tower reads a class token, which is a single token, or the trace kept no tokens.
    """
    readout = trace.weights.readout
    if not readout.pools:
        raise ValueError(
            "expected a tower that pools its tokens, got one that reads a class token; use token_scores"
        )
    _kept(trace)
    assert trace.final is not None
    assert trace.reads is not None
    directions = check_directions(directions, trace.weights).to(trace.final)
    back = torch.einsum("xk,pdk->xpd", directions, readout.matrices)
    centred = trace.final - trace.final.mean(-1, keepdim=True)
    bias, constant = (
        (directions @ part / centred.shape[1])[:, None, None] for part in (readout.bias, readout.constant)
    )
    read = torch.einsum("itd,xpd->xpit", centred, back)
    scores = ((trace.reads.transpose(0, 1) * read).sum(1) + bias) / trace.std[:, None] + constant
    return scores / trace.norm[:, None] if normalize else scores


def heatmap(
    trace: Recorded,
    directions: Float[Tensor, "text d_embed"],
    layers: Sequence[int] | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    normalize: bool = False,
) -> Float[Tensor, "text image rows cols"]:
    """Return token scores summed over layers and heads, on the grid of image tokens (thesis 2.5).

    Args:
        trace: The forward pass of some images, with tokens.
        directions: [text, d_embed].
        layers: Layers to sum over. None takes all.
        heads: (layer, head) pairs to sum over. None takes every head of `layers`.
        normalize: Divide by the embedding's length.

    Returns:
        [text, image, rows, cols], without the tokens that have no place in the image.
    """
    layers = check_layers(trace.weights, layers)
    mask = check_heads(trace.weights, heads, layers)
    n_scores = len(directions) * len(trace.codes) * mask.numel() * trace.weights.n_tokens
    if n_scores * trace.codes.element_size() > SCORES_BYTES:
        summed = _summed_scores(trace, directions, layers, mask, normalize)
    else:
        scores = token_scores(trace, directions, layers, normalize)
        summed = torch.einsum("xilht,lh->xit", scores, mask.to(scores))
    found: Tensor = summed[..., trace.weights.prefix :].unflatten(-1, trace.weights.grid)
    return found


def _summed_scores(
    trace: Recorded,
    directions: Float[Tensor, "text d_embed"],
    layers: Sequence[int],
    mask: Float[Tensor, "layer head"],
    normalize: bool,
) -> Float[Tensor, "text image token"]:
    """Return token scores summed over the heads of a mask, for many texts. Every token is carried forward to the one
    vector that the readout reads, instead of carrying every text back through every head, so no head has scores of
    its own.
    """
    tokens, paths = _kept(trace)
    weights, readout = trace.weights, trace.weights.readout
    directions = check_directions(directions, weights).to(trace.codes)
    back = torch.einsum("xk,pdk->xpd", directions, readout.matrices)
    tallies = trace.codes[..., weights.d_code - weights.n_tallies :]
    summed = back.new_zeros(())
    written = back.new_zeros(())  # [readout_head, image, token, d_model]
    for chosen, k in zip(mask.to(back), layers, strict=True):
        layer, n_shares = weights.layers[k], paths.shape[2] * paths.shape[-1]
        codes = torch.einsum("itd,hed->iteh", tokens[k], layer.value) + layer.value_bias.T
        ways = paths[:, k] * chosen[:, None, None]  # [image, head, readout_head, token]
        read = torch.einsum("iteh,ihpt->pithe", codes, ways).flatten(3)
        written = written + read @ layer.output.transpose(1, 2).flatten(0, 1)
        biases = [back @ bias for bias in tally_biases(layer, readout)]
        if biases:
            told = torch.einsum("ihj,h->ij", tallies[:, k], chosen)
            summed = summed + (torch.cat(biases, -1) @ told.T)[..., None] / n_shares
        if readout.n_heads == 1:
            summed = summed + (back[:, 0] @ layer.output_bias)[:, None, None] * chosen.sum() / n_shares
    summed = summed + torch.einsum("pitd,xpd->xit", written, back)
    share = float(mask.sum()) / (weights.n_terms * weights.n_heads * paths.shape[-1])
    taken = (directions @ readout.mean_matrix)[:, None] * trace.mean - (directions @ readout.bias)[:, None]
    summed = (summed - share * taken[..., None]) / trace.std[:, None]
    summed = summed + share * (directions @ readout.constant)[:, None, None]
    return summed / trace.norm[:, None] if normalize else summed


def one_placeless(scores: Float[Tensor, "*axes token"], prefix: int) -> Float[Tensor, "*axes shown"]:
    """Return scores in which all tokens without a position in the image are merged into the first entry.

    Args:
        scores: [..., token].
        prefix: The number of such tokens, which come first.

    Returns:
        [..., 1 + tokens with a position]; the first entry is the sum of the others, or 0.
    """
    if prefix == 1:
        return scores
    return torch.cat([scores[..., :prefix].sum(-1, keepdim=True), scores[..., prefix:]], -1)


def check_directions(directions: Tensor, weights: TowerWeights) -> Float[Tensor, "text d_embed"]:
    """Return directions whose shape fits a tower.

    Args:
        directions: [text, d_embed].
        weights: The tower.

    Returns:
        The directions.

    Raises:
        ValueError: The width is wrong; the message says how to encode texts.
    """
    if directions.ndim != 2 or directions.shape[-1] != weights.d_embed:
        raise ValueError(
            f"text directions have shape {list(directions.shape)} but the model embeds to "
            f"[text, {weights.d_embed}]; encode them with model.encode_texts(...)"
        )
    return directions


def _layer_scores(
    tokens: Float[Tensor, "image token d_model"],
    paths: Float[Tensor, "image head readout_head token"],
    tallies: Float[Tensor, "image head tally"],
    back: Float[Tensor, "text readout_head d_model"],
    weights: LayerWeights,
    readout: Readout,
) -> Float[Tensor, "text image head token"]:
    """sum_p a_pi (z_i . q_p + const) + the output biases' share, before the final LayerNorm's statistics."""
    readers = torch.einsum("xpd,hde->xhpe", back, weights.output)
    queries = torch.einsum("xhpe,hed->xhpd", readers, weights.value)
    constants = torch.einsum("xhpe,he->xhp", readers, weights.value_bias)
    projected = (tokens @ queries.flatten(0, 2).T).unflatten(-1, queries.shape[:3])
    projected = projected.permute(2, 0, 3, 4, 1) + constants[:, None, ..., None]
    if readout.n_heads == 1:
        scores = paths[:, :, 0] * projected[:, :, :, 0]
    else:
        scores = (paths * projected).sum(3)
    n_shares = paths.shape[1] * paths.shape[-1]
    biases = [back @ bias for bias in tally_biases(weights, readout)]
    if biases:
        scores = scores + torch.einsum("xj,ihj->xih", torch.cat(biases, -1), tallies)[..., None] / n_shares
    if readout.n_heads == 1:
        scores = scores + (back[:, 0] @ weights.output_bias)[:, None, None, None] / n_shares
    found: Tensor = scores
    return found


def _spread(shares: Float[Tensor, "text image_or_one"]) -> Float[Tensor, "text image_or_one 1 1 1"]:
    return shares[:, :, None, None, None]


def _kept(trace: Recorded) -> tuple[tuple[Tensor, ...], Tensor]:
    if trace.tokens is None or trace.paths is None:
        raise ValueError(
            "token scores need the token inputs, but this trace was taken with tokens=False; "
            "trace the image again with model.trace(images)"
        )
    return trace.tokens, trace.paths
