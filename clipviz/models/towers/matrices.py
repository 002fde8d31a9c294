"""Attention and MLP weights of any implementation as float32 (or float64) matrices."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from clipviz.models.towers.anatomy import full, unsupported
from clipviz.values import LayerWeights


class AttentionWeights(NamedTuple):
    """Projection matrices [d_out, d_in] and biases [d_out] of one attention module."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    value: Tensor
    value_bias: Tensor
    output: Tensor
    output_bias: Tensor
    n_heads: int


def attention_weights(attention: nn.Module) -> AttentionWeights:
    """Return the weights of an attention module, packed (in_proj, qkv) or separate (q_proj, k_proj, v_proj).

    Raises ValueError for a module of any other form.
    """
    module: Any = attention
    if getattr(module, "in_proj_weight", None) is not None:
        query, key, value = full(module.in_proj_weight).chunk(3)
        query_bias, _, value_bias = _packed(module.in_proj_bias, query).chunk(3)
    elif isinstance(getattr(module, "qkv", None), nn.Linear):
        query, key, value = full(module.qkv.weight).chunk(3)
        if getattr(module, "q_bias", None) is not None:
            query_bias, value_bias = full(module.q_bias), full(module.v_bias)
        else:
            query_bias, _, value_bias = _packed(module.qkv.bias, query).chunk(3)
    elif all(isinstance(getattr(module, name, None), nn.Linear) for name in ("q_proj", "k_proj", "v_proj")):
        query, key, value = (full(getattr(module, name).weight) for name in ("q_proj", "k_proj", "v_proj"))
        query_bias, value_bias = bias_of(module.q_proj), bias_of(module.v_proj)
    else:
        raise unsupported(f"attention module {type(module).__name__}")
    if key.shape != query.shape or value.shape != query.shape:
        raise unsupported(f"attention {type(module).__name__} with fewer key than query heads")
    out = getattr(module, "out_proj", None) or module.proj
    n_heads = int(getattr(module, "num_heads", 0) or getattr(module, "n_heads", 0))
    return AttentionWeights(
        query, query_bias, key, value, value_bias, full(out.weight), bias_of(out), n_heads
    )


def layer_weights(
    attention: AttentionWeights,
    norm: nn.Module | None,
    mlp_output: Any,
    scale: Tensor | None = None,
    mlp_scale: Tensor | None = None,
    inner_norm: Any = None,
    write_norm: Any = None,
    mlp_norm: Any = None,
) -> LayerWeights:
    """Return one layer in the form that lenses need.

    norm: the LayerNorm before the attention, None where there is none; mlp_output: the MLP's second matrix, a
    Linear; scale, mlp_scale: layer scales; inner_norm: a LayerNorm over the heads' outputs; write_norm, mlp_norm:
    LayerNorms of what the attention and the MLP write.
    """
    output, output_bias = attention.output, attention.output_bias
    if inner_norm is not None:
        folded = output * full(inner_norm.weight)
        output_bias = output_bias + output @ full(inner_norm.bias)
        output = folded - folded.mean(1, keepdim=True)
    mlp, mlp_bias = full(mlp_output.weight), bias_of(mlp_output)
    scaled_bias = mlp_scaled_bias = None
    if write_norm is not None:
        output, scaled_bias, output_bias = _normed(output, output_bias, write_norm)
        mlp, mlp_scaled_bias, mlp_bias = _normed(mlp, mlp_bias, mlp_norm)
    if scale is not None:
        output, output_bias = scale[:, None] * output, scale * output_bias
        scaled_bias = None if scaled_bias is None else scale * scaled_bias
    if mlp_scale is not None:
        mlp, mlp_bias = mlp_scale[:, None] * mlp, mlp_scale * mlp_bias
        mlp_scaled_bias = None if mlp_scaled_bias is None else mlp_scale * mlp_scaled_bias
    heads, d_model = (attention.n_heads, -1), attention.query.shape[1]
    blank = attention.query.new_ones(d_model)
    return LayerWeights(
        query=attention.query.unflatten(0, heads),
        query_bias=attention.query_bias.unflatten(0, heads),
        key=attention.key.unflatten(0, heads),
        value=attention.value.unflatten(0, heads),
        value_bias=attention.value_bias.unflatten(0, heads),
        output=output.unflatten(1, heads).permute(1, 0, 2),
        output_bias=output_bias,
        ln_gamma=blank if norm is None else full(norm.weight),  # type: ignore[arg-type]
        ln_beta=0 * blank if norm is None else full(norm.bias),  # type: ignore[arg-type]
        ln_eps=0.0 if norm is None else norm.eps,  # type: ignore[arg-type]
        mlp_output=mlp,
        mlp_output_bias=mlp_bias,
        scaled_bias=scaled_bias,
        mlp_scaled_bias=mlp_scaled_bias,
    )


def bias_of(linear: Any) -> Tensor:
    """Return the bias, or zeros if there is none."""
    return full(linear.weight).new_zeros(linear.weight.shape[0]) if linear.bias is None else full(linear.bias)


def _packed(bias: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(3 * len(like)) if bias is None else full(bias)


def _normed(matrix: Tensor, bias: Tensor, norm: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return a matrix and its bias with a LayerNorm folded in: both centred and times gamma; beta remains undivided."""
    gamma = full(norm.weight)
    centred = gamma[:, None] * (matrix - matrix.mean(0, keepdim=True))
    return centred, gamma * (bias - bias.mean()), full(norm.bias)


def same_shapes(layers: list[LayerWeights]) -> tuple[LayerWeights, ...]:
    """Return the layers as a tuple after checking that they agree on heads and widths."""
    shapes = {(layer.value.shape, layer.post_norm) for layer in layers}
    if len(shapes) != 1:
        raise unsupported("layers of different heads or widths")
    return tuple(layers)
