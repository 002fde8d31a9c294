"""Tiny random towers of every family, with strongly perturbed norms and biases."""

from __future__ import annotations

from collections.abc import Callable

import naive
import torch
from torch import nn

from clipviz.models import wrap
from clipviz.models.clip import ClipModel
from clipviz.models.hf import HfNetwork
from clipviz.models.towers import read_tower
from tests.models import hf_models

OPEN_CLIP = {
    "class token": {},
    "CLIPA": {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
    "norm, then mean": {"pool_type": "avg"},
    "CoCa": {
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 5,
        "output_tokens": True,
    },
    "query and key norms": {"block_type": "custom", "qk_norm": True},
    "inner norms": {"block_type": "custom", "scale_attn_inner": True, "scale_fc": True, "ls_init_value": 0.5},
    "inner norms, mean": {"block_type": "custom", "scale_attn_inner": True, "pool_type": "avg"},
}


def open_clip_tower(**vision) -> Callable[[], nn.Module]:
    return lambda: naive.small_clip(3, **vision)


def timm_tower(
    build: str, proj: str = "none", pool: str = "map", embed: int = 36, **model
) -> Callable[[], nn.Module]:
    """A tiny timm trunk in open_clip's wrapper, beside a text tower."""

    def made() -> nn.Module:
        from open_clip.timm_model import TimmModel
        from timm.models import eva, vision_transformer

        torch.manual_seed(5)
        shape = {"img_size": 32, "patch_size": 8, "embed_dim": 36, "depth": 3, "num_heads": 3} | model
        extra = proj == "linear"
        n_classes = 0 if proj == "none" or extra else embed
        trunk = {"vit": vision_transformer.VisionTransformer, "eva": eva.Eva}[build](
            num_classes=n_classes, global_pool=pool, **shape
        )
        visual = TimmModel.__new__(TimmModel)
        nn.Module.__init__(visual)
        visual.image_size, visual.trunk = (32, 32), trunk
        visual.head = nn.Sequential()
        if extra:
            visual.head.add_module("drop", nn.Dropout(0.0))
            visual.head.add_module("proj", nn.Linear(36, embed, bias=True))
        network = naive.small_clip(3)
        network.visual = visual.eval()
        with torch.no_grad():  # timm's first weights are so small that images hardly differ
            for parameter in visual.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, parameter[0].numel() ** -0.5)
        naive.perturb(network, 7)
        return network

    return made


TIMM = {
    "SigLIP": timm_tower("vit", class_token=False),
    "SigLIP 2, query and key norms": timm_tower("vit", class_token=False, qk_norm=True, scale_attn_norm=True),
    "PE-Core": timm_tower(
        "eva",
        proj="trunk",
        embed=20,
        attn_type="rope",
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        attn_pool_num_heads=4,
    ),
    "PE without class token": timm_tower(
        "eva", proj="trunk", embed=20, attn_type="rope", use_rot_pos_emb=True, class_token=False
    ),
    "EVA-01": timm_tower("eva", proj="trunk", pool="token", embed=20, init_values=0.4, mlp_ratio=3.0),
    "EVA-02": timm_tower(
        "eva",
        proj="trunk",
        pool="token",
        embed=20,
        use_rot_pos_emb=True,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        qkv_fused=False,
        mlp_ratio=2.5,
    ),
    "EVA-02-E, post-norm": timm_tower(
        "eva", proj="trunk", pool="token", embed=20, use_post_norm=True, mlp_ratio=3.0
    ),
    "post-norm, pooled": timm_tower("eva", use_post_norm=True, use_rot_pos_emb=True, attn_type="rope"),
    "post-norm, mean": timm_tower("eva", pool="avg", use_post_norm=True, use_fc_norm=False),
    "MobileCLIP-B": timm_tower("vit", proj="trunk", pool="token", embed=20),
    "GAP": timm_tower("vit", proj="linear", pool="avg", embed=20, class_token=False),
    "norm, GAP, registers": timm_tower("vit", pool="avg", fc_norm=False, reg_tokens=3, init_values=0.3),
}

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    name: open_clip_tower(**vision) for name, vision in OPEN_CLIP.items()
} | TIMM


def hf_network(build: Callable[[], tuple]) -> Callable[[], nn.Module]:
    return lambda: HfNetwork(build()[0])


FAMILIES |= {
    "Hugging Face CLIP": hf_network(hf_models.clip),
    "Hugging Face SigLIP": hf_network(hf_models.siglip),
}


def with_texts(family: str) -> ClipModel:
    """A tiny model of the family whose texts have the width of its images, SigLIP with a bias beside its scale."""
    network = FAMILIES[family]()
    torch.manual_seed(0)
    width = read_tower(network.visual).weights.d_embed
    network.text_projection = nn.Parameter(torch.randn(32, width) / 6)
    if family == "SigLIP":
        network.logit_bias = nn.Parameter(torch.tensor(-3.0))
    return wrap(network, name=family)


def with_an_unknown_tokenizer(model: ClipModel) -> ClipModel:
    """The model with a tokenizer that no page has, so that its text tower is not exported, which takes seconds."""
    known = model.tokenizer
    model.tokenizer = lambda texts: known(texts)
    return model


def convolutional(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """A small open_clip model with a tower that is no sum of heads, and which of its modules are units."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    text = CLIPTextCfg(context_length=8, vocab_size=49408, width=16, heads=2, layers=1)
    if name == "ModifiedResNet":
        vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, head_width=16, image_size=32)
        return CLIP(20, vision, text).eval(), ("layer[1-4].*.act3",)
    vision = CLIPVisionCfg(
        timm_model_name="convnext_atto", timm_pool="", timm_proj="linear", timm_drop=0.0, image_size=32
    )
    return CLIP(20, vision, text).eval(), ("trunk.stages.*.blocks.*.mlp.act",)


def images(model, n_images: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_images, 3, *model.image_size, generator=generator)
