"""Towers that are not what they seem are refused by name or read right, never silently wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import clipviz
from tests.models.families import FAMILIES, images


class Doubled(nn.Module):
    """An attention that multiplies its queries, behind the names of nn.MultiheadAttention."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.inner, self.num_heads, self.out_proj = attention, attention.num_heads, attention.out_proj
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias

    def forward(self, query, key, value, **_):
        return self.inner(2 * query, key, value, need_weights=False)[0], None


class ImagesOnly(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.visual = network.visual


def scaled_queries() -> nn.Module:
    network = FAMILIES["class token"]()
    block = network.visual.transformer.resblocks[1]
    block.attn = Doubled(block.attn)
    return network


def unknown_attention() -> nn.Module:
    from timm.models.vision_transformer import DiffAttention

    network = FAMILIES["GAP"]()
    network.visual.trunk.blocks[1].attn = DiffAttention(36, num_heads=2)
    return network


def naflex() -> nn.Module:
    import timm

    network = FAMILIES["GAP"]()
    network.visual.trunk = timm.create_model("naflexvit_base_patch16_gap", embed_dim=36, depth=2, num_heads=3)
    return network


def varying_size() -> nn.Module:
    network = FAMILIES["SigLIP"]()
    network.visual.trunk.dynamic_img_size = True
    return network


def no_texts() -> nn.Module:
    return ImagesOnly(FAMILIES["class token"]())


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (scaled_queries, r"model 'odd', whose terms miss its output by"),
        (unknown_attention, "attention DiffAttention"),
        (naflex, "timm tower NaFlexVit"),
        (varying_size, "timm tower VisionTransformer of variable resolution"),
        (no_texts, r"with \.visual and \.encode_text, got ImagesOnly"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(build, named):
    with pytest.raises(ValueError, match=named):
        clipviz.wrap(build(), name="odd")


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("family", ["SigLIP", "EVA-02", "CLIPA"])
def test_half_precision_on_the_cpu_is_read_in_float32(family, dtype, limit):
    model = clipviz.wrap(FAMILIES[family]().to(dtype))
    trace = model.trace(images(model))
    assert trace.sum_check() < limit
    kept = (trace.codes, trace.mean, trace.std, trace.paths, trace.embedding)
    assert all(tensor.dtype == torch.float32 for tensor in kept)


def test_a_tokenizer_and_a_preprocess_the_wrong_way_round_are_named():
    model = clipviz.load("demo")
    with pytest.raises(
        ValueError, match=r"expected a tokenizer that turns a list of texts into token ids .* raises"
    ):
        clipviz.wrap(model.network, tokenizer=model.preprocess, preprocess=model.tokenizer)
    with pytest.raises(ValueError, match=r"expected a preprocess that turns a PIL image into pixels"):
        clipviz.wrap(model.network, tokenizer=model.tokenizer, preprocess=model.tokenizer)
    with pytest.raises(ValueError, match="got function, which gives list; pass tokenizer="):
        clipviz.wrap(model.network, tokenizer=lambda texts: [0], preprocess=model.preprocess)
