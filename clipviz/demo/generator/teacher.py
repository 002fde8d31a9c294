"""The teacher's pictures of random latents, on which the embedded generator and its locator are trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipviz.demo.generator.scenes import KINDS, N_LATENT, SIDE, paint, true_scenes


@dataclass(frozen=True)
class Batch:
    """Latents, labels, the teacher's pictures [image, 3, 64, 64] in 0..1, and the objects' joint opacity."""

    z: Tensor
    label: Tensor
    images: Tensor
    alpha: Tensor


def draw_latents(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return standard normal latents and uniform labels."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, N_LATENT, generator=generator)
    return z, torch.randint(len(KINDS), (n,), generator=generator)


def render(z: Tensor, label: Tensor) -> Batch:
    """Return the teacher's pictures of latents, at the generator's size."""
    scenes = true_scenes(z, label)
    painted = [paint(scenes, index) for index in range(len(scenes))]
    images = torch.from_numpy(np.stack([picture for picture, _ in painted])).permute(0, 3, 1, 2) / 255
    alpha = torch.from_numpy(np.stack([layers.sum(0) for _, layers in painted]))[:, None]
    return Batch(z, label, F.interpolate(images, SIDE, mode="area"), F.interpolate(alpha, SIDE, mode="area"))
