"""Adapters of the package peft (LoRA and others) merged into the weights that they adapt, on a copy."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from clipviz.models.forward_lock import turn
from clipviz.models.towers.anatomy import full


def merged(network: Any) -> Any:
    """Return a copy of the network with its peft adapters merged, or the network itself if it has none.

    Raises ValueError, naming them, for adapters that cannot be merged into weights.
    """
    wrapped = [name for name, module in network.named_modules() if _is_adapter(module)]
    outer = type(network).__module__.startswith("peft.")
    if not wrapped and not outer:
        return network
    try:
        plain = copy.deepcopy(network)
        if outer:
            return plain.merge_and_unload()
        for name in wrapped:
            module: Any = plain.get_submodule(name)
            module.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, module.get_base_layer())
        return plain
    except Exception as error:
        kind = type(network.get_submodule(wrapped[0]) if wrapped else network).__name__
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"expected adapters that can be merged into the weights, got {kind} at "
            f"{', '.join(wrapped[:3]) or 'the top'} ({reason}); merge or remove them with peft first"
        ) from error


def check_merged(network: Any, model: Any) -> None:
    """Raise ValueError if the merged model differs from the model that runs with adapters.

    torch's MultiheadAttention reads the weights of its output projection directly and bypasses an adapter there.
    """
    pixels = torch.randn(1, 3, *model.image_size, generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(model.device, model.dtype)
    tokens = model.tokenizer(["a photo of a dog"]).to(model.device)
    asked = (
        ("encode_image", "get_image_features", "pixel_values", pixels),
        ("encode_text", "get_text_features", "input_ids", tokens),
    )
    with torch.no_grad(), turn(network):
        for name, theirs, argument, value in asked:
            one = getattr(network, name)(value) if hasattr(network, name) else None
            one = getattr(network, theirs)(**{argument: value}) if one is None else one
            other = getattr(model.network, name)(value)
            one = full(one if isinstance(one, torch.Tensor) else one.pooler_output)
            differ = float((one - full(other)).norm() / one.norm())
            if not differ <= model.limit:
                raise ValueError(
                    "expected merged adapters to give the same output, got a relative difference of "
                    f"{differ:.2g} in {name}; adapters at {_where(network)} are bypassed when the "
                    "model runs, so remove them and open it again"
                )


def _where(network: Any) -> str:
    passed_by = [
        name for name, module in network.named_modules() if _is_adapter(module) and name.endswith("out_proj")
    ]
    return ", ".join(passed_by[:3]) or "some layers"


def _is_adapter(module: nn.Module) -> bool:
    """Return whether a module is a peft adapter around a layer of the network."""
    return (
        type(module).__module__.startswith("peft.")
        and hasattr(module, "base_layer")
        and hasattr(module, "merge")
    )
