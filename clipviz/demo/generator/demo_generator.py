"""The embedded generator in the form that Rosetta matching, inversion and edits use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.demo.generator import judging
from clipviz.demo.generator.network import LAYERS, LayoutGenerator
from clipviz.demo.generator.scenes import KINDS, N_LATENT, SIDE, TrueScenes, true_scenes
from clipviz.models.checksummed import open_network
from clipviz.models.hooks import Maps, activation_maps
from clipviz.values import Latents

WEIGHTS = Path(__file__).parent / "assets" / "generator.safetensors"


@dataclass(frozen=True, eq=False)
class DemoGenerator:
    """The embedded, class-conditional generator of the demo world, its weights frozen.

    module: the network that hooks read; layers: modules whose outputs, after their ReLU, are units with maps in
    picture coordinates. Latents are Latents(z, label): 24 standard normal numbers and the index of a kind.
    """

    module: LayoutGenerator
    name: str = "demo generator"
    layers: tuple[str, ...] = LAYERS
    classes: tuple[str, ...] = KINDS
    n_latent: int = N_LATENT
    side: int = SIDE
    loss: str = "regression onto the demo world's renderer"

    @property
    def device(self) -> torch.device:
        return self.module.to_rgb.weight.device

    def sample(self, n: int, seed: int = 0, label: str | int | None = None) -> Latents:
        """Return n latents from the standard normal prior, the same for the same seed on every device.

        label: a kind by name or index; by default kinds are drawn uniformly. Raises ValueError for an unknown
        one.
        """
        if n < 1:
            raise ValueError(f"expected at least one sample, got {n}; ask for n >= 1")
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.n_latent, generator=generator)
        labels = torch.randint(len(self.classes), (n,), generator=generator)
        if label is not None:
            labels = torch.full((n,), self.label(label))
        return Latents(z.to(self.device), labels.to(self.device))

    def label(self, kind: str | int) -> int:
        """Return the index of a kind. Raises ValueError for an unknown one."""
        if isinstance(kind, str) and kind in self.classes:
            return self.classes.index(kind)
        if isinstance(kind, int) and not isinstance(kind, bool) and 0 <= kind < len(self.classes):
            return kind
        raise ValueError(
            f"expected a label among {', '.join(self.classes)} or 0..{len(self.classes) - 1}, got {kind!r}; "
            "choose one of them"
        )

    def images(self, latents: Latents) -> Float[Tensor, "image 3 side side"]:
        """Return pictures in 0..1, differentiable in latents.z. Raises ValueError for invalid latents."""
        self.check(latents)
        found: Tensor = self.module(latents.z, latents.label)
        return found

    @torch.no_grad()
    def maps(self, latents: Latents, layers: Sequence[str] | None = None) -> Maps:
        """Return layer -> maps [image, unit, rows, cols], without gradients; layers: names or patterns, default all."""
        self.check(latents)
        with activation_maps(self.module, tuple(layers) if layers is not None else self.layers) as maps:
            self.module(latents.z, latents.label)
        return dict(maps)

    def generate(self, latents: Latents) -> tuple[Float[Tensor, "image 3 side side"], Maps]:
        """Return pictures and maps of one forward pass, differentiable in latents.z."""
        self.check(latents)
        with activation_maps(self.module, self.layers, detach=False) as maps:
            images = self.module(latents.z, latents.label)
        return images, dict(maps)

    def true_scenes(self, latents: Latents) -> TrueScenes:
        """Return the latents' scenes: what the teacher would paint, even for latents found by an edit."""
        self.check(latents)
        return true_scenes(latents.z, latents.label)

    def judged(
        self, before: Latents, after: Latents, change: str, right: float, down: float, factor: float
    ) -> judging.Parts | None:
        """Return which parts of an edit are right according to the true scenes; None for changes that they cannot
        judge (see judging.judged): other changes, or a copy of anything but one object.
        """
        source = self.true_scenes(before)
        if change not in judging.EDITS or (change == "copy" and (source.count != 1).any()):
            return None
        return judging.judged(source, self.true_scenes(after), change, right, down, factor)

    def described(self, latents: Latents) -> dict[str, str]:
        """Return the true scene of the first latent in words: kind, colour, background."""
        return judging.described(self.true_scenes(latents), 0)

    def check(self, latents: Latents) -> None:
        """Raise TypeError or ValueError, with advice, for latents that this generator cannot paint."""
        if not isinstance(latents, Latents):
            raise TypeError(
                f"expected Latents, got {type(latents).__name__}; take generator.sample(n), or build "
                f"Latents(z [n, {self.n_latent}], label [n])"
            )
        latents.check(self.n_latent, len(self.classes))


def open_demo_generator(
    checkpoint: str | Path | None = None, device: torch.device | str = "cpu"
) -> DemoGenerator:
    """Return the embedded generator, or one written by the training script.

    Raises ValueError for a file that is missing, damaged, or of another network.
    """
    path = Path(checkpoint) if checkpoint is not None else WEIGHTS
    remedy = "reinstall clipviz"
    network = open_network(LayoutGenerator, path, "the generator's weights", remedy)
    return DemoGenerator(network.to(device))
