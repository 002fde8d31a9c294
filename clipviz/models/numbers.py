"""Checks, at every entry point, that a network's weights and the tensors that torch creates are finite."""

from __future__ import annotations

import torch
from torch import nn

_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_weights(network: nn.Module, name: str) -> None:
    """Raise ValueError for the first weight that is NaN, infinite or on the meta device.

    Buffers may hold infinities, as masks do, but no NaN.
    """
    check_default_device()
    buffers = ((which, buffer, _is_number) for which, buffer in network.named_buffers())
    weights = ((which, weight, torch.isfinite) for which, weight in network.named_parameters())
    for which, weight, fits in (*weights, *buffers):
        if weight.is_meta:
            raise ValueError(
                f"expected weights that hold numbers, got {which!r} of {name} on the meta device; load its weights "
                "first, with load_state_dict(..., assign=True)"
            )
        if weight.dtype in _KINDS and not bool(fits(weight.detach()).all()):
            raise ValueError(
                f"expected weights that are finite numbers, got NaN or infinity in {which!r} of {name}; the file is "
                "damaged, or its training diverged: load another checkpoint"
            )


def check_default_device() -> None:
    """Raise ValueError if torch creates new tensors on the meta device, where they hold no numbers."""
    if torch.empty(0).is_meta:
        raise ValueError(
            "expected new tensors to hold numbers, got torch's default device 'meta'; set it back with "
            "torch.set_default_device('cpu'), or leave the block `with torch.device('meta')`"
        )


def _is_number(values: torch.Tensor) -> torch.Tensor:
    return ~torch.isnan(values)
