"""Attention weights of any tower as tensors with gradients, for the baselines that need nothing else.

During a pass every attention is computed explicitly (softmax, then the product with the values), so that its
weights exist and have gradients. The model's own modules compute everything else, all hooks are removed, and no
parameter's .grad is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from clipviz.lens.baselines.readouts import AttentionRecord, readout_rows
from clipviz.models.forward_lock import turn
from clipviz.models.towers.anatomy import MeanThenNorm, NormThenMean, ReadoutReader, unsupported
from clipviz.models.towers.registered import WithoutRegister, with_gap

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel


def attend(
    model: ClipModel,
    images: Tensor | Image.Image | Sequence[Image.Image],
    directions: Float[Tensor, "image d_embed"],
) -> AttentionRecord:
    """Return one pass of some images: all attention, and its gradients of each image's cosine with its own
    direction.

    Keeps [token, token] attention of every head: use small batches. Raises ValueError if a tower's attention
    cannot be observed.
    """
    pixels = model.prepare(images)
    if directions.ndim != 2 or directions.shape[0] != pixels.shape[0]:
        raise ValueError(
            f"expected one direction per image ({pixels.shape[0]}), got {list(directions.shape)}; index the class "
            "directions with the images' labels"
        )
    n_layers = model.n_layers
    with turn(model.visual), torch.enable_grad(), WrittenOut() as written:
        output = model.visual(pixels.detach().requires_grad_(True))
        embedding = (output[0] if isinstance(output, tuple) else output).float()
    attention = written.attention
    pooling = model.weights.readout.kind == "attention pooling"
    if len(attention) != n_layers + pooling:
        raise unsupported(
            f"model {model.name!r}, where only {len(attention)} of {n_layers + pooling} attentions "
            "can be observed",
            "its baselines cannot be computed, but its token decomposition can",
        )
    score = functional.cosine_similarity(embedding, directions.to(embedding))
    gradients = [g.detach().float() for g in torch.autograd.grad(score.sum(), attention)]
    weights = [w.detach().float() for w in attention]
    pool, pool_gradients = _of_pool(model, weights[-1], gradients[-1]) if pooling else (None, None)
    rows, weighted = readout_rows(pool, pool_gradients, _even(model, weights[0]))
    return AttentionRecord(
        attention=torch.stack(weights[:n_layers], 1),
        gradients=torch.stack(gradients[:n_layers], 1),
        rows=rows,
        weighted_rows=weighted,
        pool=pool,
        pool_gradients=pool_gradients,
        score=score.detach(),
        prefix=model.weights.prefix,
    )


class WrittenOut(TorchFunctionMode):
    """While entered, computes attention explicitly and appends its weights to `attention` at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.attention: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        return func(*args, **kwargs)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *_: Any,
        **options: Any,
    ) -> Tensor:
        scale = options.get("scale") or query.shape[-1] ** -0.5
        scores = query @ key.transpose(-1, -2) * scale
        if attn_mask is not None:
            scores = scores + attn_mask
        weights = torch.softmax(scores, -1)
        self.attention.append(weights)
        return weights @ value

    def _multi_head(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _width: int,
        n_heads: int,
        in_weight: Tensor | None,
        in_bias: Tensor | None,
        *rest: Any,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """Compute nn.MultiheadAttention on [token, image, d_model], without masks or dropout."""
        if in_weight is not None:
            matrices = in_weight.chunk(3)
        else:
            matrices = tuple(options[f"{name}_proj_weight"] for name in "qkv")
        biases = (None, None, None) if in_bias is None else in_bias.chunk(3)
        parts = [
            functional.linear(x, matrix, bias).unflatten(-1, (n_heads, -1)).permute(1, 2, 0, 3)
            for x, matrix, bias in zip((query, key, value), matrices, biases, strict=True)
        ]
        mixed = self._attend(*parts).permute(2, 0, 1, 3).flatten(2)
        out_weight, out_bias = rest[4], rest[5]
        return functional.linear(mixed, out_weight, out_bias), None


def _of_pool(model: ClipModel, weights: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Return a pool's attention and gradients [image, readout_head, token] of its first query, over all tokens."""
    reader, n_tokens = model.tower.readout, model.weights.n_tokens
    added = isinstance(reader, WithoutRegister)
    missing = n_tokens - added - weights.shape[-1]
    pair = [functional.pad(found[:, :, 0], (missing, 0)) for found in (weights, gradients)]
    if isinstance(reader, WithoutRegister):
        pair = [with_gap(found, reader.at, 2) for found in pair]
    return pair[0], pair[1]


def _even(model: ClipModel, like: Tensor) -> Float[Tensor, "image token"]:
    """Return a class token's row, or a uniform one over the tokens that are averaged."""
    reader = model.tower.readout
    if isinstance(reader, WithoutRegister):
        return with_gap(_even_of(reader.inner, like, model.weights.n_tokens - 1), reader.at, 1)
    return _even_of(reader, like, model.weights.n_tokens)


def _even_of(reader: ReadoutReader, like: Tensor, n_tokens: int) -> Float[Tensor, "image token"]:
    rows = like.new_zeros(like.shape[0], n_tokens)
    if isinstance(reader, MeanThenNorm | NormThenMean):
        rows[:, reader.first :] = 1 / (n_tokens - reader.first)
    else:
        rows[:, 0] = 1
    return rows
