"""A small network that measures objects on pictures: their position, the area that they cover, and their number.

It was trained with the true outlines of the teacher's pictures (tools/demo/locator.py), so that pictures of a
generator or an edit can be measured independently of the latent.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from clipviz.demo.generator.scenes import SIDE
from clipviz.models.checksummed import open_network

WEIGHTS = Path(__file__).parent / "assets" / "locator.safetensors"
LEAST_AREA = 0.004
"""An object counts if it covers at least this share of the picture."""


@dataclass(frozen=True, eq=False)
class Located:
    """The locator's result. centroid: [image, (x, y)] in sides, of all objects together, NaN if there is none; area:
    [image], share of the picture; count: [image], 0, 1 or 2; outline: [image, rows, cols], opacity in 0..1.
    """

    centroid: Float[Tensor, "image 2"]
    area: Float[Tensor, " image"]
    count: Int[Tensor, " image"]
    outline: Float[Tensor, "image rows cols"]


class Locator(nn.Module):
    """Maps pictures [image, 3, 64, 64] in 0..1 to logits of outline [image, 32, 32] and number [image, 3]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.config = {"width": width}
        self.down1, self.down2 = _layer(3, width, 2), _layer(width, 2 * width, 2)
        self.down3 = nn.Sequential(_layer(2 * width, 3 * width, 2), _layer(3 * width, 3 * width))
        self.middle, self.fine = _layer(5 * width, 2 * width), _layer(3 * width, width)
        self.outline = nn.Conv2d(width, 1, 3, padding=1)
        self.number = nn.Sequential(_layer(1 + 2 * width, 2 * width), _layer(2 * width, 2 * width, 2))
        self.to_number = nn.Linear(4 * width, 3)

    def forward(self, images: Float[Tensor, "image 3 64 64"]) -> tuple[Tensor, Tensor]:
        half = self.down1(images - 0.5)
        quarter = self.down2(half)
        deep = self.middle(torch.cat([_up(self.down3(quarter)), quarter], 1))
        outline = self.outline(self.fine(torch.cat([_up(deep), half], 1)))
        seen = self.number(torch.cat([F.avg_pool2d(outline.sigmoid(), 2), deep], 1))
        number = self.to_number(torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1))
        return outline[:, 0], number


def _layer(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


def _up(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


@torch.no_grad()
def locate(images: Float[Tensor, "image 3 rows cols"], batch: int = 128) -> Located:
    """Measure the objects on pictures in 0..1, of any size. Raises ValueError for anything but RGB pictures."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"expected pictures [image, 3, rows, cols] in 0..1, got {images.dtype} {list(images.shape)}"
        )
    network = _shipped()
    images = images.detach().float().cpu()
    if images.shape[-2:] != (SIDE, SIDE):
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    parts = [network(chunk) for chunk in images.split(batch)]
    outline = torch.cat([part[0] for part in parts]).sigmoid()
    number = torch.cat([part[1] for part in parts])
    sure = torch.where(outline > 0.25, outline, 0)  # a faint haze over the background is not an object
    line = (torch.arange(outline.shape[-1]) + 0.5) / outline.shape[-1]
    total = sure.sum((1, 2))
    centroid = torch.stack([(sure.sum(1) * line).sum(1), (sure.sum(2) * line).sum(1)], 1) / total[:, None]
    area = sure.mean((1, 2))
    count = torch.where(area < LEAST_AREA, 0, number.argmax(1))
    return Located(centroid, area, count, outline)


@functools.cache
def _shipped() -> Locator:
    return open_locator()


def open_locator(checkpoint: str | Path | None = None) -> Locator:
    """Return the embedded locator, or one written by training."""
    path = Path(checkpoint) if checkpoint is not None else WEIGHTS
    return open_network(Locator, path, "the locator's weights", "reinstall clipviz")
