"""open_clip's VisionTransformer: OpenAI, LAION, DataComp, MetaCLIP, DFN (class token), CLIPA (mean), CoCa (pooler)."""

from __future__ import annotations

from typing import Any

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
from clipviz.values import Readout, TowerWeights

FAMILY = "open_clip VisionTransformer"


def read(visual: nn.Module) -> Tower | None:
    """Return the tower, or None if the module belongs to another family."""
    tower: Any = visual
    if not all(hasattr(tower, part) for part in ("transformer", "ln_post", "class_embedding", "grid_size")):
        return None
    value, reader = _readout(tower)
    blocks = tuple(_block(block) for block in tower.transformer.resblocks)
    rows, cols = tower.grid_size
    layers = [_layer(block, read) for block, read in zip(tower.transformer.resblocks, blocks, strict=True)]
    size = tower.image_size
    return Tower(
        visual=visual,
        weights=TowerWeights(same_shapes(layers), value, (int(rows), int(cols))),
        blocks=blocks,
        readout=reader,
        activation=type(tower.transformer.resblocks[0].mlp.gelu).__name__,
        family=FAMILY,
        image_size=(int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1])),
    )


def _readout(tower: Any) -> tuple[Readout, ReadoutReader]:
    name = type(tower).__name__
    norm = check_norm(tower.ln_post, f"tower {name} with final norm")
    if getattr(tower, "proj", None) is None:
        raise unsupported(f"tower {name} without a projection")
    projection, pool = full(tower.proj), getattr(tower, "pool_type", "tok")
    if getattr(tower, "attn_pool", None) is not None:
        if getattr(tower, "attn_pool_contrastive", None) is not None or pool != "tok":
            raise unsupported(
                f"tower {name} with pooling {tower.attn_pool_type or pool!r} after its attention pool"
            )
        return _pooler(tower.attn_pool, norm, projection)
    gamma, beta = full(norm.weight), full(norm.bias)  # type: ignore[arg-type]
    if pool == "tok":
        return Readout.after_norm(gamma, beta, projection), ClassToken(norm)
    if pool != "avg":
        raise unsupported(f"tower {name} with pooling {pool!r}")
    if tower.final_ln_after_pool:
        return Readout.after_norm(gamma, beta, projection, "mean of tokens"), MeanThenNorm(norm, 1)
    return centred_readout(norm, projection, None), NormThenMean(norm, 1)


def _pooler(pool: Any, norm: Any, projection: Tensor) -> tuple[Readout, ReadoutReader]:
    """Return CoCa's pooler: the answer to its first query, LayerNormed and projected, is the embedding."""
    attention, before = pool.attn, check_norm(pool.ln_k, "an attention pool with key norm")
    n_heads, bias = attention.num_heads, full(attention.in_proj_bias)
    packed = attention.in_proj_weight
    matrices = (
        packed.chunk(3)
        if packed is not None
        else tuple(getattr(attention, f"{n}_proj_weight") for n in "qkv")
    )
    query_map, key, value = (full(matrix) for matrix in matrices)
    query_bias, _, value_bias = bias.chunk(3)
    first = full(pool.ln_q(pool.query[:1]))[0]
    heads = (n_heads, -1)
    query = (query_map @ first + query_bias).unflatten(0, heads)
    after = full(norm.weight)[:, None] * projection
    readout = pooling_readout(
        before,
        value.unflatten(0, heads),
        value_bias.unflatten(0, heads),
        full(attention.out_proj.weight).unflatten(1, heads).permute(1, 0, 2),
        bias_of(attention.out_proj),
        after - after.mean(0),
        scaled_after=True,
        constant=full(norm.bias) @ projection,
        has_tail=False,
    )
    reader = AttentionPool(
        norm=before,
        pool=None,
        query=query * query.shape[-1] ** -0.5,
        key=key.unflatten(0, heads),
        key_norm=None,
        first=0,
        post=norm,
    )
    return readout, reader


def _block(block: Any) -> Block:
    for part in ("ln_1", "attn", "ls_1", "ls_2", "mlp"):
        if not hasattr(block, part):
            raise unsupported(f"block {type(block).__name__} without {part}")
    own = hasattr(block.attn, "scaled_cosine")
    used = [name for name in ("scaled_cosine", "scale_heads") if getattr(block.attn, name, False)]
    if present(getattr(block, "ln_attn", None)) is not None:
        used.append("scale_attn")
    if used:
        raise unsupported(f"attention with {', '.join(used)}")
    return Block(
        module=block,
        norm=check_norm(block.ln_1, "block norm"),
        attention=block.attn,
        hidden=block.mlp.c_proj,
        mlp_write=block.ls_2,
        inner_norm=present(getattr(block.attn, "ln_inner", None)),
        reads="calls" if own and present(block.attn.ln_q) is not None else "weights",
    )


def _layer(block: Any, read: Block) -> Any:
    return layer_weights(
        attention_weights(block.attn),
        read.norm,
        block.mlp.c_proj,
        scale=_layer_scale(block.ls_1),
        mlp_scale=_layer_scale(block.ls_2),
        inner_norm=read.inner_norm,
    )


def _layer_scale(module: nn.Module) -> Tensor | None:
    gamma = getattr(module, "gamma", None)
    return None if gamma is None else full(gamma)
