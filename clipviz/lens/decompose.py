"""Direct effects of heads, MLPs and tokens on the image embedding, in factored form (thesis Eq. 2.4-2.6, App. A).

Only what the readout reads reaches the embedding (values.Readout). For a class token that is one attention row: the
class query is pushed through W_K once per head and dotted with every token, and no [token, token] or
[token, head, d_embed] tensor is ever formed. Where all tokens are pooled, the attention is contracted with the
readout's weights as soon as it is formed. The forms are exact: the effects sum to the model's own output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.values import HeadBasis, LayerWeights, Readout, TowerWeights


def class_attention(
    tokens: Float[Tensor, "image token d_model"], weights: LayerWeights
) -> Float[Tensor, "image head token"]:
    """Return the class token's attention to every token: a_i = softmax_i((W_Q z_0 + b_Q) . W_K z_i / sqrt(d_head)).

    Args:
        tokens: The attention's input z after its LayerNorm, class token first, [image, token, d_model].
        weights: The layer's matrices.

    Returns:
        [image, head, token], which sums to 1 over tokens.
    """
    queries = torch.einsum("id,hed->ihe", tokens[:, 0], weights.query) + weights.query_bias
    keys = torch.einsum("ihe,hed->ihd", queries * weights.query.shape[1] ** -0.5, weights.key)
    return torch.softmax(keys @ tokens.transpose(1, 2), dim=-1)


def head_codes(
    tokens: Float[Tensor, "image token d_model"],
    attention: Float[Tensor, "image head token"],
    weights: LayerWeights,
) -> Float[Tensor, "image head d_head"]:
    """Return head codes u = sum_i a_i (W_V z_i + b_V), d_head numbers that determine a head's effect.

    Args:
        tokens: The attention's input z after its LayerNorm, [image, token, d_model].
        attention: a, [image, head, token].
        weights: The layer's matrices.

    Returns:
        [image, head, d_head].
    """
    contexts = attention @ tokens
    return torch.einsum("ihd,hed->ihe", contexts, weights.value) + weights.value_bias


def attention_paths(
    queries: Float[Tensor, "image head token d_key"],
    keys: Float[Tensor, "image head source d_key"],
    readout: Float[Tensor, "image readout_head token"],
    scale: float,
    mask: Tensor | None = None,
) -> Float[Tensor, "image head readout_head source"]:
    """Return the weights with which the readout reads each source token through a head: sum_q w[p, q] A[q, s].

    A = softmax(q k^T scale + mask) is held in memory for one image at a time.

    Args:
        queries: [image, head, token, d_key].
        keys: [image, head, source, d_key].
        readout: w, the weights of the readout's heads on tokens, [image, readout_head, token].
        scale: Factor of the products, usually 1 / sqrt(d_key).
        mask: Added, or boolean (True attends).

    Returns:
        [image, head, readout_head, source].
    """
    found = queries.new_empty(*queries.shape[:2], readout.shape[1], keys.shape[2])
    for image in range(len(queries)):
        scores = (queries[image] * scale) @ keys[image].transpose(-1, -2)
        if mask is not None:
            own = mask[image if mask.shape[0] > 1 else 0] if mask.ndim == 4 else mask
            scores = scores.masked_fill(~own, -torch.inf) if own.dtype == torch.bool else scores + own
        torch.matmul(readout[image], torch.softmax(scores, -1), out=found[image])
    return found


def path_codes(
    tokens: Float[Tensor, "image token d_model"],
    paths: Float[Tensor, "image head readout_head token"],
    weights: LayerWeights,
    tallies: Sequence[Float[Tensor, "image readout_head"]] = (),
) -> Float[Tensor, "image head d_code"]:
    """Return head codes u[p] = sum_s abar[p, s] (W_V z_s + b_V) of all readout heads side by side, then the tallies.

    Args:
        tokens: The attention's input z after its LayerNorm, [image, token, d_model].
        paths: abar, from `attention_paths`, [image, head, readout_head, token].
        weights: The layer's matrices.
        tallies: sum_q w[p, q], with which output biases are read; see TowerWeights.n_tallies.

    Returns:
        [image, head, d_code].
    """
    n_heads = paths.shape[1]
    contexts = (paths.flatten(1, 2) @ tokens).unflatten(1, (n_heads, -1))
    values = torch.einsum("ihpd,hed->ihpe", contexts, weights.value)
    values = values + paths.sum(-1, keepdim=True) * weights.value_bias[:, None]
    spread = [tally[:, None].expand(-1, n_heads, -1) for tally in tallies]
    return torch.cat([values.flatten(2), *spread], -1)


def tally_biases(weights: LayerWeights, readout: Readout) -> list[Float[Tensor, " d_model"]]:
    """Return the output biases that a head code's tallies multiply.

    Args:
        weights: The layer's matrices.
        readout: The tower's readout.

    Returns:
        Vectors [d_model], in the order of the tallies.
    """
    read_apart = [weights.output_bias] if readout.n_heads > 1 else []
    return read_apart if weights.scaled_bias is None else [*read_apart, weights.scaled_bias]


def head_basis(weights: TowerWeights, layers: Sequence[int] | None = None) -> HeadBasis:
    """Return the image-independent basis of head effects: B = W_O^T M[p] per readout head, and the shares of biases.

    The output bias b_O is split equally over a layer's heads; the readout's mean, bias and constant equally over
    the 2 L + 1 terms, then over heads (App. A.2; over the L attention terms with weights.thesis_shares).

    Args:
        weights: The tower.
        layers: Layers whose heads are wanted. None takes all.

    Returns:
        The basis, [layer, head, d_code, d_embed], and the shares.
    """
    layers = check_layers(weights, layers)
    basis = torch.stack([_layer_basis(weights.layers[k], weights.readout) for k in layers])
    return HeadBasis(basis, *_head_shares(weights, layers), layers)


def _head_shares(
    weights: TowerWeights, layers: Sequence[int]
) -> tuple[Float[Tensor, "layer d_embed"], Float[Tensor, " d_embed"], Float[Tensor, " d_embed"]]:
    """Return a head's shares of its layer's output bias, of the readout's mean and of its constant."""
    readout, shares = weights.readout, weights.n_terms * weights.n_heads
    common = torch.stack([weights.layers[k].output_bias for k in layers]) @ readout.matrices[0]
    if readout.n_heads > 1:  # a pooling tower has tallies instead
        common = torch.zeros_like(common)
    biases = common / weights.n_heads + readout.bias / shares
    return biases, readout.mean_matrix / shares, readout.constant / shares


def _layer_basis(weights: LayerWeights, readout: Readout) -> Float[Tensor, "head d_code d_embed"]:
    values = torch.einsum("hde,pdk->hpek", weights.output, readout.matrices).flatten(1, 2)
    return torch.cat([values, _tally_rows(weights, readout).expand(len(values), -1, -1)], 1)


def _tally_rows(weights: LayerWeights, readout: Readout) -> Float[Tensor, "tally d_embed"]:
    """Return what one unit of each tally of a head code writes."""
    biases = tally_biases(weights, readout)
    rows = [bias @ readout.matrices / len(weights.output) for bias in biases]
    return torch.cat(rows) if rows else readout.bias.new_empty(0, len(readout.bias))


def effects_from_codes(
    codes: Float[Tensor, "image layer head d_code"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    basis: HeadBasis,
) -> Float[Tensor, "image layer head d_embed"]:
    """Return head effects c = (u B + b - mean m) / std + k (Eq. 2.6 summed over tokens).

    Args:
        codes: Head codes u, [image, layer, head, d_code].
        mean: Mean that the final LayerNorm subtracts, [image].
        std: Deviation by which it divides, [image].
        basis: B and the shares of the same layers.

    Returns:
        [image, layer, head, d_embed], in unnormalised embedding units.
    """
    writes = torch.einsum("ilhe,lhek->ilhk", codes, basis.basis)
    return _read(writes, mean, std, basis.output_bias, basis.mean_share, basis.constant)


def head_effects(
    codes: Float[Tensor, "image layer head d_code"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    weights: TowerWeights,
    layers: Sequence[int],
) -> Float[Tensor, "image layer head d_embed"]:
    """Return the same as `effects_from_codes`, for few images by (u W_O^T) M, which costs less than the basis W_O^T M.

    Args:
        codes: Head codes u, [image, layer, head, d_code].
        mean: Mean that the final LayerNorm subtracts, [image].
        std: Deviation by which it divides, [image].
        weights: The tower.
        layers: The layers of the codes.

    Returns:
        [image, layer, head, d_embed], in unnormalised embedding units.
    """
    n, (d_head, d_model, d_embed) = len(codes), (weights.d_head, weights.d_model, weights.d_embed)
    if n * (d_head + d_embed) * d_model > (d_model + n) * d_head * d_embed:
        return effects_from_codes(codes, mean, std, head_basis(weights, layers))
    readout, n_values = weights.readout, weights.d_code - weights.n_tallies
    writes = []
    for code, k in zip(codes.unbind(1), layers, strict=True):
        values = code[..., :n_values].unflatten(-1, (readout.n_heads, d_head))
        written = torch.einsum("ihpe,hde->ihpd", values, weights.layers[k].output)
        told = code[..., n_values:] @ _tally_rows(weights.layers[k], readout)
        writes.append(written.flatten(2) @ readout.flat + told)
    return _read(torch.stack(writes, 1), mean, std, *_head_shares(weights, layers))


def _read(
    writes: Float[Tensor, "image layer head d_embed"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    output_bias: Float[Tensor, "layer d_embed"],
    mean_share: Float[Tensor, " d_embed"],
    constant: Float[Tensor, " d_embed"],
) -> Float[Tensor, "image layer head d_embed"]:
    taken = mean[:, None, None, None] * mean_share
    return (writes + output_bias[:, None] - taken) / std[:, None, None, None] + constant


def mlp_effects(
    writes: Float[Tensor, "image term read_model"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    weights: TowerWeights,
) -> Float[Tensor, "image term d_embed"]:
    """Return direct effects of the input term (entry 0) and the MLPs (entry 1 + layer), Eq. 2.4 with App. A.2.

    The readout's mean, bias and constant are shared over the 2 L + 1 terms; with weights.thesis_shares these terms have
    no share.

    Args:
        writes: What each term adds to the residual stream, as each readout head reads it, side by side,
            [image, term, readout_head * d_model].
        mean: Mean that the final LayerNorm subtracts, [image].
        std: Deviation by which it divides, [image].
        weights: The tower.

    Returns:
        [image, term, d_embed], in unnormalised embedding units.
    """
    share, readout = weights.mlp_share, weights.readout
    centred = (writes - mean[:, None, None] * share) / std[:, None, None]
    shared = readout.bias / std[:, None, None] + readout.constant
    return centred @ readout.flat + shared * share


def check_layers(weights: TowerWeights, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers as a tuple.

    Args:
        weights: The tower.
        layers: Layers, counted from 0. None takes all.

    Returns:
        Indices of layers.

    Raises:
        ValueError: A layer is unknown, or there is none.
    """
    if layers is None:
        return tuple(range(weights.n_layers))
    chosen = list[int]()
    for layer in layers:
        chosen.append(int(layer))
        if not 0 <= chosen[-1] < weights.n_layers:
            break
    if not chosen or not 0 <= chosen[-1] < weights.n_layers:
        raise ValueError(
            f"expected layers within 0..{weights.n_layers - 1} (counted from 0), got {chosen[-1:] or 'none'}; "
            "leave layers=None for all"
        )
    return tuple(chosen)


def check_heads(
    weights: TowerWeights, heads: Sequence[tuple[int, int]] | None, layers: tuple[int, ...]
) -> Float[Tensor, "layer head"]:
    """Return a mask over the heads of some layers.

    Args:
        weights: The tower.
        heads: (layer, head) pairs. None takes all.
        layers: The layers of the mask.

    Returns:
        [layer, head], 1 for a chosen head and 0 for others.

    Raises:
        ValueError: A head is unknown or not in these layers.
    """
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
