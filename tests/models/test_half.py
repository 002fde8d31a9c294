"""open_clip's models in half precision, family by family: open_clip keeps some of their parts in float32."""

from __future__ import annotations

import json
import warnings

import naive
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import clipviz

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 3, "width": 48, "head_width": 24, "patch_size": 8}
TIMM = {"image_size": 224, "timm_model_pretrained": False}
FAMILIES = {
    "class token": VISION,
    "CLIPA": {**VISION, "pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
    "CoCa": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2},
    "EVA-02": {**TIMM, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None},
    "SigLIP": {**TIMM, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none"},
    "mean of tokens": {
        **TIMM,
        "timm_model_name": "vit_tiny_patch16_224",
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
}


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request, tmp_path_factory):
    """`opened(precision)`: a small architecture of the family, from one checkpoint file."""
    import open_clip

    folder = tmp_path_factory.mktemp("family")
    name = f"tiny-{list(FAMILIES).index(request.param)}"  # a telling name would choose another tokenizer
    config = {"embed_dim": 192 if request.param == "SigLIP" else 32, "vision_cfg": FAMILIES[request.param]}
    config |= {"text_cfg": TEXT, "custom_text": "timm_model_name" in FAMILIES[request.param]}
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = open_clip.create_model(name)
    naive.perturb(network, 3)
    save_file({k: t.contiguous() for k, t in network.state_dict().items()}, folder / "weights.safetensors")
    return lambda precision: clipviz.load(
        name, pretrained=str(folder / "weights.safetensors"), device="cpu", precision=precision
    )


def test_every_family_opens_and_traces_in_half_precision(opened):
    noise = torch.randint(0, 255, (50, 60, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    picture, expected = Image.fromarray(noise.numpy()), None
    for precision, limit in (("fp32", 1e-5), ("fp16", 4e-3), ("bf16", 3e-2)):
        model = opened(precision)
        image, text = model.trace(picture).embedding, model.encode_texts("a dog", normalize=False)
        expected = (image, text) if expected is None else expected
        for found, plain in zip((image, text), expected, strict=True):
            assert float((found - plain).norm() / plain.norm()) < limit
        assert model.sum_check < limit
        assert model.second_order(picture, 1).norms().isfinite().all()
        assert (
            model.prepare(picture).dtype
            == model.dtype
            == {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)
        )
