"""Hugging Face's CLIP, MetaCLIP 2 (class token) and SigLIP (attention pooling) vision models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clipviz.models.towers.anatomy import (
    AttentionPool,
    Block,
    ClassToken,
    ReadoutReader,
    Tower,
    check_norm,
    full,
    pooling_readout,
    unsupported,
)
from clipviz.models.towers.matrices import attention_weights, bias_of, layer_weights, same_shapes
from clipviz.values import Readout, TowerWeights


def read(visual: nn.Module) -> Tower | None:
    """Return the tower of a models.hf.HfTower, or None if the module belongs to another family."""
    tower: Any = visual
    vision = getattr(tower, "vision_model", None)
    if vision is None:
        return None
    name = type(vision).__name__
    vision = getattr(vision, "vision_model", vision)  # transformers 4 has one more wrapper around the tower
    layers = getattr(getattr(vision, "encoder", None), "layers", None)
    if layers is None or not hasattr(vision, "post_layernorm"):
        raise unsupported(f"Hugging Face vision model {name}")
    config = vision.config
    blocks = tuple(_block(layer, config) for layer in layers)
    value, reader, prefix = _readout(vision, getattr(tower, "visual_projection", None), name)
    side = config.image_size // config.patch_size
    return Tower(
        visual=visual,
        weights=TowerWeights(
            same_shapes(
                [
                    layer_weights(attention_weights(block.attention), block.norm, block.hidden)
                    for block in blocks
                ]
            ),
            value,
            (side, side),
            prefix=prefix,
        ),
        blocks=blocks,
        readout=reader,
        activation=type(layers[0].mlp.activation_fn).__name__,
        family=f"Hugging Face {name}",
        image_size=(config.image_size, config.image_size),
    )


def _block(layer: Any, config: Any) -> Block:
    for part in ("layer_norm1", "self_attn", "mlp"):
        if not hasattr(layer, part):
            raise unsupported(f"block {type(layer).__name__} without {part}")
    pooled = not hasattr(config, "projection_dim") or "siglip" in config.model_type
    fused = getattr(config, "_attn_implementation", "") == "sdpa"
    return Block(
        module=layer,
        norm=check_norm(layer.layer_norm1, "block norm"),
        attention=layer.self_attn,
        hidden=layer.mlp.fc2,
        mlp_write=layer.mlp,
        reads="either" if fused and pooled else "weights",
    )


def _readout(vision: Any, projection: Any, name: str) -> tuple[Readout, ReadoutReader, int]:
    norm = check_norm(vision.post_layernorm, "final norm")
    head = getattr(vision, "head", None)
    if head is not None:
        return *_pooling_head(head, norm), 0
    if not hasattr(vision, "pre_layrnorm") or not isinstance(projection, nn.Linear):
        raise unsupported(f"Hugging Face vision model {name} without a class token and a projection")
    readout = Readout.after_norm(
        full(norm.weight),  # type: ignore[arg-type]
        full(norm.bias),  # type: ignore[arg-type]
        full(projection.weight).T,
        bias=None if projection.bias is None else full(projection.bias),
    )
    return readout, ClassToken(norm), 1


def _pooling_head(head: Any, norm: nn.Module) -> tuple[Readout, ReadoutReader]:
    """Return SigLIP's probe, which attends to the tokens; an MLP follows it, which is the readout's tail."""
    attention = head.attention
    if not isinstance(attention, nn.MultiheadAttention) or head.probe.shape[1] != 1:
        raise unsupported(f"pooling head {type(head).__name__}")
    weights = attention_weights(attention)
    heads = (weights.n_heads, -1)
    query = weights.query @ full(head.probe)[0, 0] + weights.query_bias
    query = query.unflatten(0, heads)
    last: Any = head.mlp.fc2
    identity = torch.eye(len(weights.output), dtype=weights.output.dtype, device=weights.output.device)
    readout = pooling_readout(
        norm,
        weights.value.unflatten(0, heads),
        weights.value_bias.unflatten(0, heads),
        weights.output.unflatten(1, heads).permute(1, 0, 2),
        weights.output_bias,
        identity,
        scaled_after=False,
        constant=0 * identity[0],
        has_tail=True,
    )
    tail_map: Tensor = full(last.weight).T
    reader = AttentionPool(
        norm=norm,
        pool=head,
        query=query * query.shape[-1] ** -0.5,
        key=weights.key.unflatten(0, heads),
        key_norm=None,
        first=0,
        tail=last,
        tail_map=tail_map,
        tail_bias=bias_of(last),
    )
    return readout, reader
