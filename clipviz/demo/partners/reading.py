"""The embedded networks as Rosetta partners: the layers to read, and the preprocessing of pictures."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import torch

from clipviz.demo.partners import ASSETS, load_net
from clipviz.models.bundle import BundledPartner
from clipviz.models.preprocess import Preprocess
from clipviz.models.zoo import Partner

SIDE = 96
PIXELS = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def cnn(weights: Path, device: torch.device | str) -> Partner:
    """Return the supervised CNN, read at its stem and after the ReLUs of its stages."""
    layers = ("stem.2", "stages.*.relu", "stages.*.relu_out")
    return Partner("cnn", load_net("cnn", weights).to(device), PIXELS, layers, loss="class-supervised")


def vit(weights: Path, device: torch.device | str) -> Partner:
    """Return the masked autoencoder, read at its encoder's MLP units."""
    layers = ("encoder.blocks.*.mlp.act",)
    return Partner("vit", load_net("vit", weights).to(device), PIXELS, layers, loss="masked autoencoder")


PARTNERS = MappingProxyType(
    {build.__name__: BundledPartner(ASSETS / f"{build.__name__}.safetensors", build) for build in (cnn, vit)}
)
