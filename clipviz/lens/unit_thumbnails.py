"""Thumbnails of units: maps scaled from the unit's mean (dark) to its usual peak (bright), at one small size."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

SIDE = 24
"""Rows and columns of a thumbnail."""


def drawn(
    maps: Float[Tensor, "image unit rows cols"],
    floor: Float[Tensor, " unit"],
    peak: Float[Tensor, " unit"],
    side: int = SIDE,
) -> UInt8[Tensor, "image unit side side"]:
    """Return maps as bytes: 0 at `floor` and below, 255 at `peak` and above, resized bilinearly to side x side.

    floor, peak: activations, one per unit. A unit whose peak does not exceed its floor is drawn dark everywhere.
    """
    if maps.shape[2:] != (side, side):
        shrinks = min(maps.shape[2:]) > side
        maps = F.interpolate(maps, (side, side), mode="bilinear", align_corners=False, antialias=shrinks)
    span = (peak - floor)[:, None, None]
    share = torch.where(span > 0, (maps - floor[:, None, None]) / span.clamp_min(1e-30), 0.0)
    return (share.clamp(0, 1) * 255).round().to(torch.uint8)


class Range:
    """Running mean and strongest peaks of units over batches of images, as `drawn` needs them.

    n_units: number of units; n_peaks: number of images whose peaks are averaged.
    """

    def __init__(self, n_units: int, n_peaks: int) -> None:
        self._sum = torch.zeros(n_units, dtype=torch.float64)
        self._n_images = 0
        self._peaks = torch.zeros(0, n_units)
        self._n_peaks = n_peaks

    def update(self, maps: Float[Tensor, "image unit rows cols"]) -> Float[Tensor, "image unit"]:
        """Add a batch; return each image's peaks."""
        peaks = maps.amax((2, 3)).float().cpu()
        self._sum += maps.mean((2, 3)).double().sum(0).cpu()
        self._n_images += len(maps)
        both = torch.cat([self._peaks, peaks])
        self._peaks = both.topk(min(self._n_peaks, len(both)), dim=0).values
        return peaks

    def floor(self) -> Float[Tensor, " unit"]:
        """Return the mean over images and positions."""
        return (self._sum / max(1, self._n_images)).float()

    def peak(self) -> Float[Tensor, " unit"]:
        """Return the mean of the peaks of the strongest images."""
        return self._peaks.mean(0)
