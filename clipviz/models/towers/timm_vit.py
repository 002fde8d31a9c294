"""timm's transformers inside open_clip: EVA-01, EVA-02, SigLIP, SigLIP 2, PE-Core, MobileCLIP B, ViTamin, GAP ViTs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clipviz.models.towers.anatomy import (
    AttentionPool,
    Block,
    ClassToken,
    MeanThenNorm,
    NormThenMean,
    ReadoutReader,
    Tower,
    centred_readout,
    check_norm,
    full,
    pooling_readout,
    present,
    unsupported,
)
from clipviz.models.towers.matrices import attention_weights, bias_of, layer_weights, same_shapes
from clipviz.values import LayerWeights, Readout, TowerWeights

_TRUNKS = ("VisionTransformer", "Eva")
_BLOCKS = ("Block", "EvaBlock", "EvaBlockPostNorm")
_ATTENTION = ("Attention", "EvaAttention", "AttentionRope")


def read(visual: nn.Module) -> Tower | None:
    """Return the tower, or None for another family. Raises ValueError for unsupported timm trunks."""
    tower: Any = visual
    if not hasattr(tower, "trunk") or not hasattr(tower, "head"):
        return None
    trunk = tower.trunk
    check_trunk(trunk)
    blocks = tuple(_block(block) for block in trunk.blocks)
    layers = [_layer(block, read) for block, read in zip(trunk.blocks, blocks, strict=True)]
    value, reader = _readout(trunk, *_projection(tower))
    rows, cols = trunk.patch_embed.grid_size
    size = tower.image_size
    return Tower(
        visual=visual,
        weights=TowerWeights(
            same_shapes(layers), value, (int(rows), int(cols)), prefix=int(trunk.num_prefix_tokens)
        ),
        blocks=blocks,
        readout=reader,
        activation=_activation(trunk.blocks[0].mlp),
        family=f"timm {type(trunk).__name__}",
        image_size=(int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1])),
    )


def check_trunk(trunk: Any) -> None:
    """Raise ValueError, naming the trunk, unless it is a transformer whose blocks are known."""
    name = type(trunk).__name__
    if name.startswith("NaFlex"):
        raise unsupported(
            f"timm tower {name}, whose grid of patches depends on each image's shape, so that two "
            "images have different token grids, which one index cannot hold",
            "open a checkpoint of fixed resolution instead",
        )
    if name not in _TRUNKS or not hasattr(trunk, "blocks"):
        raise unsupported(f"timm tower {name}")
    if not hasattr(trunk.patch_embed, "grid_size") or getattr(trunk, "dynamic_img_size", False):
        raise unsupported(f"timm tower {name} of variable resolution")
    for block in trunk.blocks:
        if type(block).__name__ not in _BLOCKS:
            raise unsupported(f"timm tower {name} with blocks {type(block).__name__}")
        attention = block.attn
        if type(attention).__name__ not in _ATTENTION or getattr(attention, "gate", None) is not None:
            gated = " with a gate" if getattr(attention, "gate", None) is not None else ""
            raise unsupported(f"attention {type(attention).__name__}{gated}")


def _block(block: Any) -> Block:
    attention, post = block.attn, type(block).__name__ == "EvaBlockPostNorm"
    inner = present(attention.norm)
    if inner is not None:
        check_norm(inner, "attention with inner norm")
    if post and inner is not None:
        raise unsupported("a post-norm block with a norm inside its attention")
    first, second = (check_norm(norm, "block norm") for norm in (block.norm1, block.norm2))
    turned = type(attention).__name__ != "Attention" or present(attention.q_norm) is not None
    return Block(
        module=block,
        norm=None if post else first,
        attention=attention,
        hidden=_last(block.mlp),
        mlp_write=block.drop_path2,
        inner_norm=inner,
        write_norm=first if post else None,
        mlp_norm=second if post else None,
        reads="calls" if turned else "either" if attention.fused_attn else "weights",
    )


def _layer(block: Any, read: Block) -> LayerWeights:
    return layer_weights(
        attention_weights(block.attn),
        read.norm,
        read.hidden,
        scale=_scale(block, "ls1", "gamma_1"),
        mlp_scale=_scale(block, "ls2", "gamma_2"),
        inner_norm=read.inner_norm,
        write_norm=read.write_norm,
        mlp_norm=read.mlp_norm,
    )


def _last(mlp: Any) -> nn.Linear:
    """Return the MLP's output matrix."""
    last = getattr(mlp, "fc2", None) or getattr(mlp, "w2", None)
    if not isinstance(last, nn.Linear):
        raise unsupported(f"MLP {type(mlp).__name__}")
    return last


def _activation(mlp: Any) -> str:
    act = type(mlp.act).__name__
    gated = hasattr(mlp, "fc1_g") or hasattr(mlp, "w1") or type(mlp).__name__ == "GluMlp"
    return f"gated {act}" if gated else act


def _scale(block: Any, module: str, parameter: str) -> Tensor | None:
    gamma = getattr(block, parameter, None)
    gamma = getattr(getattr(block, module, None), "gamma", None) if gamma is None else gamma
    return None if gamma is None else full(gamma)


def _projection(tower: Any) -> tuple[Tensor, Tensor | None]:
    """Return the projection after the pool, [d_model, d_embed] with its bias: the trunk's head, then open_clip's."""
    trunk, matrix, bias = tower.trunk, None, None
    for linear in (present(trunk.head), *tower.head.children()):
        if linear is None or isinstance(linear, nn.Dropout | nn.Identity):
            continue
        if not isinstance(linear, nn.Linear):
            raise unsupported(f"timm tower {type(trunk).__name__} with a head {type(linear).__name__}")
        weight = full(linear.weight).T
        bias = None if bias is None else bias @ weight
        if linear.bias is not None:
            bias = full(linear.bias) if bias is None else bias + full(linear.bias)
        matrix = weight if matrix is None else matrix @ weight
    if matrix is None:
        like = full(next(trunk.parameters()))
        matrix = torch.eye(trunk.embed_dim, dtype=like.dtype, device=like.device)
    return matrix, bias


def _readout(trunk: Any, projection: Tensor, bias: Tensor | None) -> tuple[Readout, ReadoutReader]:
    before, after, pool = present(trunk.norm), present(trunk.fc_norm), trunk.global_pool
    if (before is None) == (after is None):
        raise unsupported(
            f"timm tower {type(trunk).__name__} with {'no' if before is None else 'two'} final norms"
        )
    norm = check_norm(before if before is not None else after, "final norm")  # type: ignore[arg-type]
    gamma, beta = full(norm.weight), full(norm.bias)  # type: ignore[arg-type]
    first = 0 if getattr(trunk, "pool_include_prefix", False) else int(trunk.num_prefix_tokens)
    if pool == "token":
        return Readout.after_norm(gamma, beta, projection, bias=bias), ClassToken(norm)
    if pool == "avg" and after is not None:
        return Readout.after_norm(gamma, beta, projection, "mean of tokens", bias), MeanThenNorm(norm, first)
    if pool == "avg":
        return centred_readout(norm, projection, bias), NormThenMean(norm, first)
    if pool == "map" and after is None and type(trunk.attn_pool).__name__ == "AttentionPoolLatent":
        first = 0 if type(trunk).__name__ == "Eva" else first
        return _latent_pool(trunk.attn_pool, norm, projection, bias, first)
    raise unsupported(f"timm tower {type(trunk).__name__} with pooling {pool!r}")


def _latent_pool(
    pool: Any, norm: nn.Module, projection: Tensor, bias: Tensor | None, first: int
) -> tuple[Readout, ReadoutReader]:
    """Return a learnt query that attends to the tokens; an MLP follows it, which is the readout's tail."""
    if pool.latent_len != 1 or pool.pos_embed is not None:
        raise unsupported("an attention pool with several queries or positions of its own")
    heads = (pool.num_heads, -1)
    query = pool.q_norm(pool.q(pool.latent[0]).unflatten(-1, heads))[0]
    key, value = full(pool.kv.weight).chunk(2)
    key_bias, value_bias = bias_of(pool.kv).chunk(2)
    has_projection = isinstance(pool.proj, nn.Linear)
    identity = torch.eye(len(value), dtype=value.dtype, device=value.device)
    output = full(pool.proj.weight) if has_projection else identity
    constant = projection.new_zeros(projection.shape[1]) if bias is None else bias
    readout = pooling_readout(
        norm,
        value.unflatten(0, heads),
        value_bias.unflatten(0, heads),
        output.unflatten(1, heads).permute(1, 0, 2),
        bias_of(pool.proj) if has_projection else 0 * identity[0],
        projection,
        scaled_after=False,
        constant=constant,
        has_tail=pool.mlp is not None,
    )
    last = None if pool.mlp is None else _last(pool.mlp)
    reader = AttentionPool(
        norm=norm,
        pool=pool,
        query=full(query) * query.shape[-1] ** -0.5,
        key=key.unflatten(0, heads),
        key_norm=present(pool.k_norm),
        key_bias=key_bias.unflatten(0, heads),
        first=first,
        tail=last,
        tail_map=None if last is None else full(last.weight).T @ projection,
        tail_bias=None if last is None else bias_of(last) @ projection,
    )
    return readout, reader
