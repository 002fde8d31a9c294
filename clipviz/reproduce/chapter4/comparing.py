"""Measures of image similarity: by pixels, by a network's features, and by the position of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from clipviz.demo.generator.locator import locate
from clipviz.models.hooks import activation_maps
from clipviz.models.zoo import Partner


def psnr(images: Float[Tensor, "image 3 rows cols"], targets: Tensor) -> Float[Tensor, " image"]:
    """Return the peak signal-to-noise ratio, in dB, of images in 0..1."""
    return -10 * ((images - targets) ** 2).mean((1, 2, 3)).clamp_min(1e-12).log10()


def ssim(
    images: Float[Tensor, "image 3 rows cols"], targets: Tensor, window: int = 7
) -> Float[Tensor, " image"]:
    """Return the structural similarity (Wang et al. 2004) of images in 0..1, uniform window, unbiased variances."""
    n = window**2
    mean_a, mean_b = (F.avg_pool2d(x, window, 1) for x in (images, targets))
    scale = n / (n - 1)
    var_a = scale * (F.avg_pool2d(images**2, window, 1) - mean_a**2)
    var_b = scale * (F.avg_pool2d(targets**2, window, 1) - mean_b**2)
    cov = scale * (F.avg_pool2d(images * targets, window, 1) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    index = (
        (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return index.mean((1, 2, 3))


@dataclass(frozen=True, eq=False)
class Perceptual:
    """A distance of pictures in a partner's maps, differentiable (Zhang et al. 2018, with equal weights for all
    channels).

    d(a, b) = mean over layers and positions of the squared difference of the channels' vectors, each of length 1.
    """

    partner: Partner

    def __call__(
        self, images: Float[Tensor, "image 3 rows cols"], targets: Tensor
    ) -> Float[Tensor, " image"]:
        """Return the distance of each image to its target, both in 0..1."""
        return self.towards(targets)(images, targets)

    def towards(self, targets: Float[Tensor, "image 3 rows cols"]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the distance to fixed targets, whose maps are computed once for all steps of a search."""
        with torch.no_grad():
            wanted = self._units(targets)

        def distance(images: Tensor, _: Tensor) -> Tensor:
            own = self._units(images)
            parts = [(own[name] - wanted[name]).square().sum(1).mean((1, 2)) for name in own]
            return torch.stack(parts).mean(0)

        return distance

    def _units(self, images: Tensor) -> dict[str, Tensor]:
        partner = self.partner
        with activation_maps(partner.module, partner.layers, grid=partner.grid, detach=False) as maps:
            partner.module(partner.preprocess(images))
        return {name: F.normalize(found, dim=1, eps=1e-6) for name, found in maps.items()}


def overlap(pictures: Tensor, alpha: Float[Tensor, "image rows cols"]) -> np.ndarray:
    """Return the intersection over union of the object that the locator finds on each picture and the target object."""
    seen = locate(pictures).outline > 0.5
    wanted = F.interpolate(alpha[:, None], seen.shape[-1], mode="area")[:, 0] > 0.5
    both, either = (seen & wanted).sum((1, 2)), (seen | wanted).sum((1, 2))
    return (both / either.clamp_min(1)).numpy()


def centroids(alpha: Float[Tensor, "image rows cols"]) -> Float[Tensor, "image 2"]:
    """Return the centres (x, y) of masks, in sides."""
    line = (torch.arange(alpha.shape[-1]) + 0.5) / alpha.shape[-1]
    total = alpha.sum((1, 2))
    return torch.stack([(alpha.sum(1) * line).sum(1), (alpha.sum(2) * line).sum(1)], 1) / total[:, None]


def as_bytes(images: Tensor) -> np.ndarray:
    return (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
