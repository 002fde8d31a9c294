"""Generators as Rosetta partners: they turn a latent into an image and the maps of their units.

generator = stylegan2(your_module)                   # or stylegan_xl, biggan: modules you already have
latents = generator.sample(64, seed=0)
matches = match(generator, clipviz.load_partner("cnn"), latents)
clipviz.lens.invert.invert(generator.generate, latents[:1], target_images=...)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from clipviz.data.paths import path_of
from clipviz.models.hooks import Maps, activation_maps
from clipviz.models.numbers import check_default_device, check_weights
from clipviz.models.stylegan2 import StyleGan2
from clipviz.models.zoo import load_weights, open_weights


def as_image(picture: Float[Tensor, "3 rows cols"]) -> Image.Image:
    """Return a picture in 0..1 as a PIL image."""
    pixels = (picture.detach().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


@runtime_checkable
class Sampler(Protocol):
    """The methods that matching needs of a generator. Latents are a tensor, or Latents with classes."""

    @property
    def name(self) -> str: ...

    def sample(self, n: int, seed: int = 0) -> Any:
        """Return random latents.

        Args:
            n: The number of latents.
            seed: Seed of the draws.

        Returns:
            [image, ...].
        """

    def images(self, latents: Any) -> Tensor:
        """Return images [image, 3, rows, cols] in 0..1, without gradients."""

    def maps(self, latents: Any, layers: Sequence[str] | None = None) -> Maps:
        """Return activation maps, without gradients.

        Args:
            latents: [image, ...].
            layers: Names or patterns. None takes all.

        Returns:
            Layer -> [image, unit, rows, cols].
        """


@runtime_checkable
class Generator(Sampler, Protocol):
    """The further methods that inversion and edits need of a generator."""

    def generate(self, latents: Any) -> tuple[Tensor, Maps]:
        """Return images and maps together, differentiable in the latents."""


@dataclass(frozen=True, eq=False)
class ModuleGenerator:
    """A generator around a torch module.

    name: shown by panels; module: the network that hooks read, run once by each call of `paint`; paint: latents
    -> images in 0..1; draw: standard normal [n, latent] -> latents (the identity, or a mapping network); layers:
    module names or patterns whose outputs are units; latent: numbers per latent.
    """

    name: str
    module: nn.Module
    paint: Callable[[Tensor], Tensor]
    layers: tuple[str, ...]
    latent: int
    draw: Callable[[Tensor], Tensor] | None = None
    loss: str = "generative"

    def __post_init__(self) -> None:
        check_weights(self.module, f"generator {self.name!r}")

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "image ..."]:
        """Return random latents, drawn on the CPU so that every device gets the same.

        Args:
            n: The number of latents.
            seed: Seed of the draws.

        Returns:
            [image, ...].
        """
        parameter = next(self.module.parameters())
        normal = torch.randn(n, self.latent, generator=torch.Generator().manual_seed(seed))
        normal = normal.to(parameter.device, parameter.dtype)
        if self.draw is None:
            return normal
        with torch.no_grad():
            return self.draw(normal)

    @torch.no_grad()
    def images(self, latents: Float[Tensor, "image ..."]) -> Float[Tensor, "image 3 rows cols"]:
        """Return images in 0..1."""
        return self.paint(latents).clamp(0, 1)

    @torch.no_grad()
    def maps(self, latents: Float[Tensor, "image ..."], layers: Sequence[str] | None = None) -> Maps:
        """Return activation maps, without gradients.

        Args:
            latents: [image, ...].
            layers: Names or patterns. None takes all.

        Returns:
            Layer -> [image, unit, rows, cols].
        """
        with activation_maps(self.module, tuple(layers) if layers is not None else self.layers) as maps:
            self.paint(latents)
        return dict(maps)

    def generate(
        self, latents: Float[Tensor, "image ..."]
    ) -> tuple[Float[Tensor, "image 3 rows cols"], Maps]:
        """Return images and maps, differentiable in the latents."""
        with activation_maps(self.module, self.layers, detach=False) as maps:
            images = self.paint(latents)
        return images, dict(maps)


@dataclass(frozen=True, eq=False)
class AtLatents:
    """A generator in the form of a model that reads latents, so that two generators with the same latents can be
    matched.

    match(AtLatents(one), AtLatents(other), one.sample(1600))
    """

    generator: Generator

    @property
    def name(self) -> str:
        """The generator's name."""
        return self.generator.name

    def maps(self, latents: Any, layers: Sequence[str] | None = None) -> Maps:
        """Return activation maps of the pictures painted from some latents.

        Args:
            latents: [image, ...].
            layers: Names or patterns. None takes all.

        Returns:
            Layer -> [image, unit, rows, cols].
        """
        return self.generator.maps(latents, layers)


def biggan(module: nn.Module, class_index: int | None = None, truncation: float = 0.4) -> ModuleGenerator:
    """Return a class-conditional BigGAN as a generator. Units: the generator's ReLUs, several in each block.

    Args:
        module: It has forward(z, class_label, truncation), .config.z_dim and .config.num_classes.
        class_index: The class to paint, which must exist.
        truncation: Truncation of the latents.

    Returns:
        The generator.
    """
    _needs(module, "biggan", ("config", "generator"))
    config: Any = module.config
    one_hot = _one_hot(class_index, int(config.num_classes), next(module.parameters()))
    assert one_hot is not None  # every BigGAN has classes

    def paint(latents: Tensor) -> Tensor:
        found: Tensor = (module(latents, one_hot.expand(len(latents), -1), truncation) + 1) / 2
        return found

    return ModuleGenerator(
        "biggan",
        module,
        paint,
        ("generator.layers.*.relu", "generator.relu"),
        int(config.z_dim),
        lambda z: z * truncation,
        "generative (GAN)",
    )


def stylegan2(module: nn.Module, class_index: int | None = None, truncation: float = 0.7) -> ModuleGenerator:
    """Return a StyleGAN2 as a generator; latents are w. Units: its convolutions.

    Args:
        module: It has .mapping(z, c) and .synthesis(w).
        class_index: The class to paint, where it has classes.
        truncation: Truncation of w.

    Returns:
        The generator.
    """
    return _stylegan("stylegan2", module, class_index, truncation, ("b*.conv*",))


def stylegan3(module: nn.Module, class_index: int | None = None, truncation: float = 0.7) -> ModuleGenerator:
    """Return a StyleGAN3 as a generator; latents are w. Units: its layers `L*`.

    Args:
        module: It has .mapping(z, c) and .synthesis(w).
        class_index: The class to paint, where it has classes.
        truncation: Truncation of w.

    Returns:
        The generator.
    """
    return _stylegan("stylegan3", module, class_index, truncation, ("L*",))


def stylegan_xl(module: nn.Module, class_index: int, truncation: float = 0.7) -> ModuleGenerator:
    """Return a class-conditional StyleGAN-XL as a generator; latents are w. Units: its layers `L*`.

    Args:
        module: It has .mapping(z, c) and .synthesis(w).
        class_index: The class to paint.
        truncation: Truncation of w.

    Returns:
        The generator.
    """
    return _stylegan("stylegan_xl", module, class_index, truncation, ("L*",))


def _stylegan(
    name: str, module: nn.Module, class_index: int | None, truncation: float, layers: tuple[str, ...]
) -> ModuleGenerator:
    _needs(module, name, ("mapping", "synthesis", "z_dim"))
    mapping, synthesis = module.get_submodule("mapping"), module.get_submodule("synthesis")
    n_classes = int(getattr(module, "c_dim", 0) or 0)
    label = _one_hot(class_index, n_classes, next(module.parameters()))

    def draw(normal: Tensor) -> Tensor:
        labels = None if label is None else label.expand(len(normal), -1)
        found: Tensor = mapping(normal, labels, truncation_psi=truncation)
        return found

    def paint(latents: Tensor) -> Tensor:
        found: Tensor = (synthesis(latents, noise_mode="const") + 1) / 2
        return found

    return ModuleGenerator(
        name,
        synthesis,
        paint,
        layers,
        int(module.z_dim),  # type: ignore[arg-type]
        draw,
        "generative (GAN)",
    )


def _needs(module: nn.Module, name: str, attributes: tuple[str, ...]) -> None:
    missing = [attribute for attribute in attributes if not hasattr(module, attribute)]
    if missing:
        raise ValueError(
            f"expected a {name} module with .{', .'.join(attributes)}, got {type(module).__name__} without "
            f".{missing[0]}; build a ModuleGenerator with your own paint function"
        )


def _one_hot(class_index: int | None, n_classes: int, like: Tensor) -> Tensor | None:
    """Return one-hot classes for every picture, or None for a generator without classes."""
    if class_index is None and not n_classes:
        return None
    if not n_classes:
        raise ValueError(
            f"expected no class for a generator without classes, got {class_index}; leave class_index out"
        )
    if class_index is None or not 0 <= class_index < n_classes:
        raise ValueError(
            f"expected a class in 0..{n_classes - 1}, got {class_index}; pass another class_index"
        )
    one_hot = torch.zeros(1, n_classes, device=like.device, dtype=like.dtype)
    one_hot[0, class_index] = 1
    return one_hot


ADAPTERS: dict[str, Callable[..., ModuleGenerator]] = {
    "biggan": biggan,
    "stylegan2": stylegan2,
    "stylegan3": stylegan3,
    "stylegan_xl": stylegan_xl,
}


PICKLES = (".pkl", ".pickle")


def open_generator(
    source: nn.Module | str | Path,
    kind: str | None,
    checkpoint: str | Path | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> ModuleGenerator:
    """Return a user's own generator.

    Args:
        source: A module of a known kind, or a file of a StyleGAN2's or BigGAN's weights.
        kind: A key of ADAPTERS. None detects it from the names of the file's weights.
        checkpoint: Weights for a module, safetensors or a torch file of weights alone.
        device: Where it runs.
        options: Options of the kind (class_index, truncation).

    Returns:
        The generator.

    Raises:
        ValueError: The kind is unknown, the file is a pickle, weights do not fit, or the file is another StyleGAN's
            and its module is missing.
    """
    check_default_device()
    if not isinstance(source, str | os.PathLike | nn.Module):
        raise ValueError(
            f"expected 'demo', a generator's module, or a file of its weights, got {type(source).__name__}"
        )
    for file in (source, checkpoint):
        if isinstance(file, str | Path) and Path(file).suffix in PICKLES:
            raise ValueError(
                f"{Path(file).name} is a pickle, which can run any code when it is opened; if you "
                "trust it, open it with its own library and keep the weights: "
                'safetensors.torch.save_file(network.state_dict(), "g.safetensors")'
            )
    if not isinstance(source, nn.Module):
        source = path_of(source, "a file of a generator's weights")
    if kind is None and not isinstance(source, nn.Module) and Path(source).is_file():
        kind = _kind_of(Path(source))
    if kind not in ADAPTERS:
        raise ValueError(
            f"expected the kind of generator ({', '.join(ADAPTERS)}), got {kind!r}; pass kind=..., or build a "
            "models.generator.ModuleGenerator with your own paint function"
        )
    if isinstance(source, nn.Module):
        module = source
        if checkpoint is not None:
            load_weights(module, checkpoint, kind)
    elif kind == "biggan":
        module = _biggan_of(Path(source))
    elif kind == "stylegan2":
        module = StyleGan2.of(open_weights(Path(source)))
    else:
        raise ValueError(
            f"{Path(source).name} holds only weights; pass the {kind} network that they belong to, "
            f"built by its own library: load_generator(network, kind={kind!r}, "
            f"checkpoint={str(source)!r})"
        )
    module = module.float().eval().requires_grad_(False).to(device)
    return ADAPTERS[kind](module, **options)


def _kind_of(path: Path) -> str | None:
    """Return the kind of generator whose weight names match a file, or None if no kind matches."""
    names = set(open_weights(path))
    if "synthesis.b4.const" in names:
        return "stylegan2"
    return "biggan" if any(name.startswith("generator.gen_z.") for name in names) else None


def _biggan_of(path: Path) -> nn.Module:
    """Return a BigGAN of pytorch_pretrained_biggan; its config.json lies beside the weights (default 128 px)."""
    try:
        from pytorch_pretrained_biggan import BigGAN, BigGANConfig
    except ImportError as error:
        raise ImportError('BigGAN is an extra, pip install "clipviz[biggan]"') from error
    described = path.with_name("config.json")
    network = BigGAN(BigGANConfig.from_json_file(str(described)) if described.is_file() else BigGANConfig())
    load_weights(network, path, "biggan")
    found: nn.Module = network
    return found
