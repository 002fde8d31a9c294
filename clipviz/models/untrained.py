"""A network with the architecture of another and new random weights, as a control."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from clipviz.models.forward_lock import turn
from clipviz.models.zoo import Partner


def untrained_copy(partner: Partner, seed: int = 0) -> Partner:
    """Return the same architecture with new random weights; the original network stays unchanged."""
    return replace(partner, module=untrained_module(partner.module, seed))


def untrained_module(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with new random weights, drawn as each layer initialises itself.

    Parameters that belong to no such layer, for instance position embeddings, are drawn as ViTs draw them.
    """
    with turn(module):  # without the hooks of a pass in another thread
        network = copy.deepcopy(module)
    fresh: set[int] = set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in network.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()  # type: ignore[operator]
                fresh |= {id(parameter) for parameter in layer.parameters(recurse=False)}
        for parameter in network.parameters():
            if id(parameter) not in fresh:
                nn.init.normal_(parameter, std=0.02)
    return network
