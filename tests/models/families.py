"""Tiny random towers of every family, with strongly perturbed norms and biases."""

from __future__ import annotations

from collections.abc import Callable

import naive
import torch
from torch import nn

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


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    name: open_clip_tower(**vision) for name, vision in OPEN_CLIP.items()
}


def images(model, n_images: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_images, 3, *model.image_size, generator=generator)
