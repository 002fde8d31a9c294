"""The demo's preprocessing in Pillow and torch, in the steps of open_clip's but without importing torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Resize:
    """Bring the shorter side to `size` pixels, in proportion."""

    size: int
    interpolation: str

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        short = min(width, height)
        if short == self.size:
            return image
        sides = [self.size if side == short else int(self.size * side / short) for side in (width, height)]
        return image.resize((sides[0], sides[1]), Image.Resampling[self.interpolation.upper()])


@dataclass(frozen=True)
class CenterCrop:
    """Cut out the middle, [rows, cols]."""

    size: tuple[int, int]

    def __call__(self, image: Image.Image) -> Image.Image:
        rows, cols = self.size
        top, left = round((image.height - rows) / 2), round((image.width - cols) / 2)
        return image.crop((left, top, left + cols, top + rows))


class ToTensor:
    """Turn a picture into three channels of floats in 0..1."""

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 rows cols"]:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
        return pixels.permute(2, 0, 1).contiguous().float().div(255)


@dataclass(frozen=True)
class Normalize:
    """Subtract the mean of each channel and divide by its standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Float[Tensor, "3 rows cols"]) -> Float[Tensor, "3 rows cols"]:
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True)
class Preprocessing:
    """A picture to the model's pixels [3, rows, cols], one step after the other."""

    transforms: tuple[Callable[[Any], Any], ...]

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 rows cols"]:
        made: Any = image
        for step in self.transforms:
            made = step(made)
        found: Tensor = made
        return found


def preprocessing(size: int, mean: list[float], std: list[float], interpolation: str) -> Preprocessing:
    """Return the preprocessing with the settings of the model's configuration."""
    crop = CenterCrop((size, size))
    return Preprocessing((Resize(size, interpolation), crop, ToTensor(), Normalize(tuple(mean), tuple(std))))
