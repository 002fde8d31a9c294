"""The embedded networks as Rosetta partners: which layers are read, and how pictures come in."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipviz.demo import world
from clipviz.demo.partners import ASSETS, load_net
from clipviz.models.bundle import BundledPartner
from clipviz.models.generator import ModuleGenerator
from clipviz.models.preprocess import Preprocess
from clipviz.models.zoo import Partner

SIDE = 96
PIXELS = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PLAIN_PIXELS = Preprocess(SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def cnn(weights: Path, device: torch.device | str) -> Partner:
    """The supervised CNN, read at its stem and after the ReLUs of its stages."""
    layers = ("stem.2", "stages.*.relu", "stages.*.relu_out")
    return Partner("cnn", load_net("cnn", weights).to(device), PIXELS, layers, loss="class-supervised")


def vit(weights: Path, device: torch.device | str) -> Partner:
    """The masked autoencoder, read at its encoder's MLP units."""
    layers = ("encoder.blocks.*.mlp.act",)
    return Partner("vit", load_net("vit", weights).to(device), PIXELS, layers, loss="masked autoencoder")


class Reconstruction(nn.Module):
    """A VAE as a network of images: encode, then decode at the mean latent; its units are the decoder's."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor) -> Tensor:
        """Images in 0..1 to their reconstructions."""
        return self.vae(self.vae.encode(images)[0])  # type: ignore[operator]


def generator(weights: Path, device: torch.device | str) -> Partner:
    """The VAE as a network of images, read at its decoder's ReLUs."""
    network = Reconstruction(load_net("generator", weights)).to(device)
    layers = ("vae.relu", "vae.blocks.*.relu")
    return Partner("generator", network, PLAIN_PIXELS, layers, loss="generative (VAE)")


PARTNERS = MappingProxyType(
    {
        build.__name__: BundledPartner(ASSETS / f"{build.__name__}.safetensors", build)
        for build in (cnn, vit, generator)
    }
)


class SceneGenerator(ModuleGenerator):
    """The VAE's decoder, whose latents are those of random scenes: its prior alone paints textures."""

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "image latent"]:
        """Latents of n scenes of the demo world, drawn from a seed."""
        scenes = world.render(n, seed, n_captions=1).images
        parameter = next(self.module.parameters())
        images = torch.from_numpy(scenes).to(parameter.device).permute(0, 3, 1, 2).float() / 255
        return self.module.encode(images.to(parameter.dtype))[0]  # type: ignore[operator]


def scene_generator(checkpoint: str | Path | None = None) -> SceneGenerator:
    """The shipped VAE decoder of the demo world: 864 numbers to 96 x 96 px."""
    vae: Any = load_net("generator", checkpoint)
    return SceneGenerator(
        "generator", vae, vae, ("relu", "blocks.*.relu"), vae.n_latent, loss="generative (VAE)"
    )
