"""Embedded Rosetta partners: small models of other kinds, trained on the demo world and included in the package.

Two files beside this one, matrices in eight bits, 96 x 96 px images: a supervised CNN and a masked autoencoder ViT. In
a checkout, `python -m tools.demo.partners cnn|vit` trains them again. The generator is in `clipviz.demo.generator`.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from clipviz.demo.partners.nets import MaskedViT, SmallResNet
from clipviz.models.checksummed import narrowed, open_network, write_weights

ASSETS = Path(__file__).parent / "assets"
NETS: dict[str, type[nn.Module]] = {"cnn": SmallResNet, "vit": MaskedViT}


def load_net(name: str, checkpoint: str | Path | None = None) -> nn.Module:
    """Return the embedded network `name` ("cnn" or "vit") in float32, eval mode, its weights frozen.

    checkpoint: a file written by the training script; default the embedded one. Raises ValueError for an unknown
    name, and for a file that is missing, damaged, or of another network.
    """
    if name not in NETS:
        raise ValueError(
            f"expected an embedded network among {', '.join(NETS)}, got {name!r}; choose one of them"
        )
    path = Path(checkpoint) if checkpoint is not None else ASSETS / f"{name}.safetensors"
    return open_network(NETS[name], path, f"weights of the embedded network {name!r}", "reinstall clipviz")


def save_net(net: nn.Module, path: str | Path, eight_bits: bool = False) -> None:
    """Write a network's weights atomically in half precision, with its `config` in the file's metadata.

    eight_bits: write large matrices in eight bits with a step per row, see models.checksummed.narrowed.
    """
    state = net.state_dict()
    halved = {key: w.half() if w.is_floating_point() else w for key, w in state.items()}
    weights = narrowed(state) if eight_bits else halved
    config = json.dumps(net.config)
    write_weights(path, weights, {"config": config, "torch": torch.__version__})
