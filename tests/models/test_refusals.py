"""Towers that are not what they seem are refused by name or read right, never silently wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import clipviz
from clipviz.demo.partners import ASSETS
from clipviz.models.checksummed import read_weights, write_weights
from clipviz.models.generator import ModuleGenerator
from clipviz.models.zoo import Partner
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
        (
            naflex,
            r"timm tower NaFlexVit, whose grid of patches depends on each image's shape.*fixed resolution",
        ),
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


WEIGHTS = [
    "token_embedding.weight",
    "text_projection",
    "logit_scale",
    "visual.transformer.resblocks.0.mlp.c_fc.bias",
]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_that_is_no_number_is_named(name, number):
    network = FAMILIES["class token"]()
    weight = network.get_parameter(name).data
    weight.view(-1)[-1] = number
    with pytest.raises(ValueError, match=rf"finite numbers, got NaN or infinity in '{name}' of model 'odd'"):
        clipviz.wrap(network, name="odd")


def test_partners_and_generators_are_made_of_numbers(tmp_path):
    spoilt = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    spoilt[0].bias.data[1] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in '0\.bias' of partner 'odd'"):
        Partner("odd", spoilt, lambda images: images, ("1",))
    with pytest.raises(ValueError, match=r"NaN or infinity in '0\.bias' of generator 'odd'"):
        ModuleGenerator("odd", spoilt, spoilt, ("1",), 3)
    tensors, about = read_weights(ASSETS / "cnn.safetensors", "a network", "")
    spoiled = {
        name: tensor.fill_(torch.nan) for name, tensor in tensors.items() if tensor.is_floating_point()
    }
    write_weights(tmp_path / "cnn.safetensors", {**tensors, **spoiled}, about)
    with pytest.raises(ValueError, match="finite numbers, got NaN or infinity in"):
        clipviz.load_partner("cnn", tmp_path / "cnn.safetensors")
    norm = nn.BatchNorm2d(4)
    norm.running_var.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN or infinity in 'running_var'"):
        Partner("odd", norm, lambda images: images, ("",))


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: clipviz.load("demo"),
        lambda model: clipviz.wrap(model.network, model.tokenizer, model.preprocess),
        lambda model: clipviz.Session(model, clipviz.demo.images().subset(range(2))),
        lambda model: clipviz.load_partner("cnn"),
        lambda model: clipviz.load_partner("resnet50"),
        lambda model: clipviz.load_generator("demo"),
        lambda model: clipviz.load_generator("file.safetensors", kind="stylegan2"),
    ],
)
def test_tensors_without_numbers_are_refused_at_every_way_in(model, ask):
    with torch.device("meta"), pytest.raises(ValueError, match="torch's default device 'meta'; set it back"):
        ask(model)


def test_weights_without_numbers_are_refused():
    with torch.device("meta"):
        network = FAMILIES["class token"]()
    with pytest.raises(ValueError, match="of model 'odd' on the meta device; load its weights first"):
        clipviz.wrap(network, name="odd")
    with pytest.raises(ValueError, match="device that holds numbers, got 'meta'"):
        clipviz.load("demo", device="meta")
