"""Reading an open_clip vision tower: its weights as values, and one forward pass as a trace.

Every difference between open_clip's layer classes ends here; the lenses see only TowerWeights and Trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clipviz.lens.decompose import class_attention, head_codes
from clipviz.lens.trace import Trace
from clipviz.models.forward_lock import turn
from clipviz.values import LayerWeights, TowerWeights

SUPPORTED = "open_clip VisionTransformer towers with a class token (OpenAI, LAION, DataComp, MetaCLIP, DFN)"


class AttentionWeights(NamedTuple):
    """Projection matrices [d_out, d_in] and biases [d_out] of one attention module, float32."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    value: Tensor
    value_bias: Tensor
    output: Tensor
    output_bias: Tensor
    n_heads: int


def attention_weights(attention: nn.Module) -> AttentionWeights:
    """The weights of an attention module: nn.MultiheadAttention, open_clip's Attention, or q/k/v_proj triples."""
    module: Any = attention
    if getattr(module, "in_proj_weight", None) is not None:
        query, key, value = module.in_proj_weight.detach().float().chunk(3)
        packed = module.in_proj_bias
        biases = torch.zeros_like(query[:, 0]).repeat(3) if packed is None else packed.detach().float()
        query_bias, _, value_bias = biases.chunk(3)
    elif all(hasattr(module, name) for name in ("q_proj", "k_proj", "v_proj")):
        query, key, value = (
            getattr(module, name).weight.detach().float() for name in ("q_proj", "k_proj", "v_proj")
        )
        query_bias, value_bias = (_bias(getattr(module, name)) for name in ("q_proj", "v_proj"))
    else:
        raise ValueError(unsupported(f"attention module {type(module).__name__}"))
    n_heads = int(getattr(module, "num_heads", 0) or getattr(module, "n_heads", 0))
    output = module.out_proj.weight.detach().float()
    return AttentionWeights(
        query, query_bias, key, value, value_bias, output, _bias(module.out_proj), n_heads
    )


def read_tower(visual: nn.Module) -> TowerWeights:
    """The tower's weights as the lenses read them, float32 (views of the model's own where it is float32).

    Raises ValueError naming the tower when its embedding is not a sum of class-token terms.
    """
    check_supported(visual)
    tower: Any = visual
    return TowerWeights(
        layers=tuple(_read_layer(block) for block in tower.transformer.resblocks),
        gamma=tower.ln_post.weight.detach().float(),
        beta=tower.ln_post.bias.detach().float(),
        eps=tower.ln_post.eps,
        projection=tower.proj.detach().float(),
        grid=(int(tower.grid_size[0]), int(tower.grid_size[1])),
    )


def check_supported(visual: nn.Module) -> None:
    """ValueError naming the tower and what is supported, unless `visual` can be decomposed exactly."""
    tower: Any = visual
    name = type(tower).__name__
    if not all(hasattr(tower, part) for part in ("transformer", "ln_post", "class_embedding", "grid_size")):
        raise ValueError(unsupported(f"tower {name}"))
    if getattr(tower, "attn_pool", None) is not None:
        raise ValueError(unsupported(f"tower {name} with attention pooling (CoCa, SigLIP)"))
    if getattr(tower, "pool_type", "tok") != "tok" or getattr(tower, "global_average_pool", False):
        raise ValueError(unsupported(f"tower {name} with pooling {getattr(tower, 'pool_type', 'avg')!r}"))
    if getattr(tower, "proj", None) is None:
        raise ValueError(unsupported(f"tower {name} without a projection"))
    if not isinstance(tower.ln_post, nn.LayerNorm):
        raise ValueError(unsupported(f"tower {name} with final norm {type(tower.ln_post).__name__}"))
    for block in tower.transformer.resblocks:
        _check_block(block)


def unsupported(what: str) -> str:
    return f"expected a tower whose embedding is a sum over its class token's terms, got {what}; supported: {SUPPORTED}"


@contextmanager
def recording(visual: nn.Module, weights: TowerWeights, tokens: bool) -> Iterator[_Recorder]:
    """Hooks on the tower for one forward pass; always removed, and nothing else of the model is touched."""
    tower: Any = visual
    recorder = _Recorder(weights, tokens)
    blocks = list(tower.transformer.resblocks)
    with turn(visual):
        handles = [
            blocks[0].register_forward_pre_hook(recorder.note_input),
            tower.ln_post.register_forward_pre_hook(recorder.note_statistics),
        ]
        for layer, block in enumerate(blocks):
            handles.append(block.ln_1.register_forward_hook(partial(recorder.note_attention, layer)))
            handles.append(block.ls_2.register_forward_hook(recorder.note_mlp))
        try:
            yield recorder
        finally:
            for handle in handles:
                handle.remove()


class _Recorder:
    """Collects one forward pass; everything kept is float32, whatever the model's precision."""

    def __init__(self, weights: TowerWeights, keep_tokens: bool) -> None:
        self.weights = weights
        self.keep_tokens = keep_tokens
        self.tokens: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.codes: list[Tensor] = []
        self.mlp_writes: list[Tensor] = []
        self.mean: Tensor | None = None
        self.std: Tensor | None = None

    def note_input(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.mlp_writes.append(inputs[0][:, 0].float())

    def note_attention(self, layer: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        tokens = output.float()
        weights = self.weights.layers[layer]
        attention = class_attention(tokens, weights)
        self.codes.append(head_codes(tokens, attention, weights))
        if self.keep_tokens:
            self.tokens.append(tokens)
            self.attention.append(attention)

    def note_mlp(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self.mlp_writes.append(output[:, 0].float())

    def note_statistics(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        final = inputs[0].float()
        final = final[:, 0] if final.ndim == 3 else final
        self.mean = final.mean(-1)
        self.std = (final.var(-1, unbiased=False) + self.weights.eps).sqrt()

    def trace(self, embedding: Tensor) -> Trace:
        assert self.mean is not None
        assert self.std is not None
        return Trace(
            weights=self.weights,
            embedding=embedding.float(),
            codes=torch.stack(self.codes, 1),
            mlp_writes=torch.stack(self.mlp_writes, 1),
            mean=self.mean,
            std=self.std,
            tokens=tuple(self.tokens) if self.keep_tokens else None,
            attention=torch.stack(self.attention, 1) if self.keep_tokens else None,
        )


def _read_layer(block: nn.Module) -> LayerWeights:
    layer: Any = block
    weights = attention_weights(layer.attn)
    heads = (weights.n_heads, -1)
    scale_1, scale_2 = _layer_scale(layer.ls_1), _layer_scale(layer.ls_2)
    output = weights.output if scale_1 is None else scale_1[:, None] * weights.output
    mlp_output = layer.mlp.c_proj.weight.detach().float()
    mlp_bias = _bias(layer.mlp.c_proj)
    return LayerWeights(
        query=weights.query.unflatten(0, heads),
        query_bias=weights.query_bias.unflatten(0, heads),
        key=weights.key.unflatten(0, heads),
        value=weights.value.unflatten(0, heads),
        value_bias=weights.value_bias.unflatten(0, heads),
        output=output.unflatten(1, heads).permute(1, 0, 2),
        output_bias=weights.output_bias if scale_1 is None else scale_1 * weights.output_bias,
        ln_gamma=layer.ln_1.weight.detach().float(),
        ln_beta=layer.ln_1.bias.detach().float(),
        ln_eps=layer.ln_1.eps,
        mlp_output=mlp_output if scale_2 is None else scale_2[:, None] * mlp_output,
        mlp_output_bias=mlp_bias if scale_2 is None else scale_2 * mlp_bias,
    )


def _check_block(block: nn.Module) -> None:
    layer: Any = block
    for part in ("ln_1", "attn", "ls_1", "ls_2", "mlp"):
        if not hasattr(layer, part):
            raise ValueError(unsupported(f"block {type(layer).__name__} without {part}"))
    if not isinstance(layer.ln_1, nn.LayerNorm):
        raise ValueError(unsupported(f"block norm {type(layer.ln_1).__name__}"))
    extras = {
        "scale_attn": not isinstance(getattr(layer, "ln_attn", nn.Identity()), nn.Identity),
        "scale_fc": not isinstance(getattr(layer.mlp, "ln", nn.Identity()), nn.Identity),
        "scaled_cosine": getattr(layer.attn, "scaled_cosine", False),
        "scale_heads": getattr(layer.attn, "scale_heads", False),
        "inner_norm": not isinstance(getattr(layer.attn, "ln_inner", nn.Identity()), nn.Identity),
        "qk_norm": not isinstance(getattr(layer.attn, "ln_q", nn.Identity()), nn.Identity),
    }
    used = [name for name, present in extras.items() if present]
    if used:
        raise ValueError(unsupported(f"attention with {', '.join(used)}"))


def _layer_scale(module: nn.Module) -> Tensor | None:
    gamma = getattr(module, "gamma", None)
    return None if gamma is None else gamma.detach().float()


def _bias(linear: Any) -> Tensor:
    bias = linear.bias
    return (
        torch.zeros(linear.weight.shape[0], device=linear.weight.device)
        if bias is None
        else bias.detach().float()
    )
