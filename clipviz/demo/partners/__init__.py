"""Embedded Rosetta partners: small models of other kinds, trained on the demo world and shipped with the package.

Three files beside this one, half precision, 96 x 96 px images: a supervised CNN, a masked autoencoder ViT and a
VAE generator. `python -m clipviz.demo.partners.train cnn|vit|generator` makes them again.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from clipviz.demo.partners.nets import MaskedViT, SmallResNet, Vae

ASSETS = Path(__file__).parent / "assets"
NETS: dict[str, type[nn.Module]] = {"cnn": SmallResNet, "vit": MaskedViT, "generator": Vae}


def load_net(name: str, checkpoint: str | Path | None = None) -> nn.Module:
    """The embedded network `name` ("cnn", "vit" or "generator") in float32, eval mode, its weights frozen.

    checkpoint: a file written by the training script; default the shipped one.
    Raises ValueError for an unknown name or a file that is not there.
    """
    from safetensors import safe_open

    if name not in NETS:
        raise ValueError(
            f"expected an embedded network among {', '.join(NETS)}, got {name!r}; choose one of them"
        )
    path = Path(checkpoint) if checkpoint is not None else ASSETS / f"{name}.safetensors"
    if not path.is_file():
        raise ValueError(
            f"no weights at {path}; run `python -m clipviz.demo.partners.train {name}` or reinstall clipviz"
        )
    with safe_open(str(path), "pt") as file:
        config = json.loads((file.metadata() or {}).get("config", "{}"))
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118, not a mapping
    net = NETS[name](**config)
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def save_net(net: nn.Module, path: str | Path) -> None:
    """Write a network's weights as half precision with its `config` in the file's metadata; atomic."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        key: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for key, value in net.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    config = json.dumps(net.config)  # type: ignore[arg-type]
    save_file(weights, str(partial), metadata={"config": config, "torch": torch.__version__})
    partial.replace(path)
