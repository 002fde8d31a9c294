"""Forward and backward passes of a ClipModel recorded for the explainability baselines (thesis Table 2.4).

The tower's blocks are run step by step with the model's own LayerNorms, matrices and activation function, so that
attention weights exist as tensors with gradients. All hooks are removed, and no parameter's .grad is touched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from clipviz.lens.baselines.record import LayerRecord, Record
from clipviz.models.clip import ClipModel
from clipviz.models.forward_lock import turn
from clipviz.models.towers.anatomy import full, unmixed, unsupported
from clipviz.values import LayerWeights


def record(
    model: ClipModel,
    images: Tensor | Image.Image | Sequence[Image.Image],
    directions: Float[Tensor, "image d_embed"],
) -> Record:
    """Record one pass of some images, with gradients of each image's cosine with its own direction.

    Half-precision models are stepped through in float32, float64 models in float64, without autocast. [token, token]
    attention and every activation are kept: use small batches (8 images of ViT-B/16 take about 1 GB).

    Args:
        model: The model, which has a class token.
        images: As in `ClipModel.trace`.
        directions: One unit text direction per image, [image, d_embed].

    Returns:
        What clipviz.lens.baselines reads.

    Raises:
        ValueError: The tower is of another kind, or there are not as many directions as images.
    """
    if not steps_through(model):
        raise unsupported(
            f"model {model.name!r} ({model.tower.family}, {model.weights.readout.kind})",
            "LRP is available for open_clip's class-token towers only; models.attending has the "
            "baselines for other towers",
        )
    pixels = model.prepare(images)
    if directions.ndim != 2 or directions.shape[0] != pixels.shape[0]:
        raise ValueError(
            f"expected one direction per image ({pixels.shape[0]}), got {list(directions.shape)}; index the class "
            "directions with the images' labels"
        )
    stream = full(_first_input(model, pixels)).requires_grad_(True)
    with turn(model.visual), torch.enable_grad(), unmixed(stream.device):
        layers = []
        for block, weights in zip(model.tower.blocks, model.weights.layers, strict=True):
            layers.append(_run_layer(block.module, weights, stream))
            stream = layers[-1].residual + layers[-1].attention_output + layers[-1].mlp_output
        final = _normed(model.visual.ln_post, stream[:, 0])
        projection = full(model.visual.proj)
        embedding = final @ projection
        score = torch.nn.functional.cosine_similarity(embedding, directions.to(embedding))
        gradients = torch.autograd.grad(score.sum(), [layer.attention for layer in layers])
    return Record(
        layers=tuple(_detached(layer) for layer in layers),
        gradients=torch.stack(gradients, 1),
        score=score.detach(),
        final=final.detach(),
        final_weights=(directions.to(embedding) @ projection.T).detach(),
    )


def steps_through(model: ClipModel) -> bool:
    """Return whether `record` can run the model's blocks step by step: a plain open_clip model with a class token."""
    plain = all(block.scaling_norm is None and block.reads == "weights" for block in model.tower.blocks)
    return model.weights.readout.kind == "class token" and hasattr(model.visual, "transformer") and plain


class _Reached(Exception):
    """Raised when a pass reaches the first block; args: the block's input."""


def _first_input(model: ClipModel, pixels: Tensor) -> Float[Tensor, "image token d_model"]:
    """Return the residual stream that enters the first block, taken from a normal pass that is stopped there."""

    def stop(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Reached(inputs[0])

    with turn(model.visual):
        handle = model.tower.blocks[0].module.register_forward_pre_hook(stop)
        try:
            with torch.no_grad():
                model.visual(pixels)
        except _Reached as reached:
            found: Tensor = reached.args[0].detach().clone()
            return found
        finally:
            handle.remove()
    raise RuntimeError("expected a pass through the first block, got one that skips it")


def _run_layer(block: Any, weights: LayerWeights, stream: Tensor) -> LayerRecord:
    normed = _normed(block.ln_1, stream)
    query = torch.einsum("itd,hed->ihte", normed, weights.query) + weights.query_bias[:, None]
    key = torch.einsum("itd,hed->ihte", normed, weights.key) + _key_bias(block, weights)[:, None]
    value = torch.einsum("itd,hed->ihte", normed, weights.value) + weights.value_bias[:, None]
    attention = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, -1)
    context = attention @ value
    written = torch.einsum("ihte,hde->itd", context, weights.output) + weights.output_bias
    mlp_input = _normed(block.ln_2, stream + written)
    hidden_weights, hidden_bias = block.mlp.c_fc.weight.to(mlp_input), block.mlp.c_fc.bias
    hidden = mlp_input @ hidden_weights.T + (0 if hidden_bias is None else hidden_bias.to(mlp_input))
    activation = block.mlp.gelu(hidden)
    mlp_output = activation @ weights.mlp_output.T + weights.mlp_output_bias
    return LayerRecord(
        residual=stream,
        attention_input=normed,
        query=query,
        key=key,
        value=value,
        attention=attention,
        context=context,
        attention_output=written,
        mlp_input=mlp_input,
        hidden=hidden,
        activation=activation,
        mlp_output=mlp_output,
        weights=weights,
        mlp_hidden=hidden_weights,
    )


def _key_bias(block: Any, weights: LayerWeights) -> Float[Tensor, "head d_head"]:
    """Return the bias of the keys, which the tower's weights omit because attention does not depend on it."""
    bias = block.attn.in_proj_bias
    if bias is None:
        return torch.zeros_like(weights.query_bias)
    return full(bias).chunk(3)[1].to(weights.query_bias).view_as(weights.query_bias)


def _normed(norm: Any, inputs: Tensor) -> Tensor:
    """Return the output of a LayerNorm in the precision of its inputs, whatever the precision of its weights."""
    gamma, beta = norm.weight.to(inputs), norm.bias.to(inputs)
    return torch.nn.functional.layer_norm(inputs, norm.normalized_shape, gamma, beta, norm.eps)


def _detached(layer: LayerRecord) -> LayerRecord:
    names = [field.name for field in dataclasses.fields(layer) if field.name != "weights"]
    return dataclasses.replace(layer, **{name: getattr(layer, name).detach() for name in names})
