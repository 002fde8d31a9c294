"""Conversion of pictures of any kind to the pixels that a network was trained on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from clipviz.data.decode import to_rgb
from clipviz.values import Latents

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side, crop the centre, and normalise; this works on tensors, so that a batch is one
    operation.

    size: side of the square crop, px; mean, std: of each channel, for images in 0..1; resize: shorter side before the
    crop, default `size`; interpolation: "bilinear" or "bicubic", antialiased.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resize: int | None = None
    interpolation: str = "bicubic"

    def __call__(self, images: Any) -> Float[Tensor, "image 3 rows cols"]:
        """Return pictures (see `as_tensors`) as normalised pixels [image, 3, size, size]."""
        tensors = as_tensors(images)
        if isinstance(tensors, Tensor):
            return self._prepare(tensors)
        return torch.cat([self._prepare(one[None]) for one in tensors])

    def _prepare(self, images: Tensor) -> Tensor:
        from torchvision.transforms import functional

        side = self.resize or self.size
        if min(images.shape[2:]) != side:
            mode = functional.InterpolationMode(self.interpolation)
            images = functional.resize(images, [side], mode, antialias=True).clamp(0, 1)
        if images.shape[2:] != (self.size, self.size):
            images = functional.center_crop(images, [self.size, self.size])
        mean, std = (images.new_tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (images - mean) / std


def as_tensors(images: Any) -> Tensor | list[Tensor]:
    """Return pictures as float tensors in 0..1: one [image, 3, rows, cols] if sizes agree, else a list of [3, rows,
    cols].

    images: a float tensor [image, 3, rows, cols] in 0..1, a uint8 array [image, rows, cols, 3], or PIL images.
    Raises ValueError for anything else.
    """
    if (
        isinstance(images, Tensor)
        and images.ndim == 4
        and images.shape[1] == 3
        and images.is_floating_point()
    ):
        return images
    if isinstance(images, Tensor | np.ndarray):
        array = torch.as_tensor(images)
        if array.ndim == 4 and array.shape[3] == 3 and array.dtype == torch.uint8:
            return array.permute(0, 3, 1, 2).float() / 255
        raise ValueError(
            f"expected floats [image, 3, rows, cols] in 0..1 or bytes [image, rows, cols, 3], got {array.dtype} "
            f"{list(array.shape)}; pass one of them or a list of PIL images"
        )
    if hasattr(images, "convert"):
        images = [images]
    if not isinstance(images, Sequence) or not len(images) or not hasattr(images[0], "convert"):
        raise ValueError(
            f"expected PIL images, a tensor or an array, got {type(images).__name__}; pass a list of images"
        )
    tensors = [torch.from_numpy(np.array(to_rgb(one))).permute(2, 0, 1).float() / 255 for one in images]
    return torch.stack(tensors) if len({one.shape for one in tensors}) == 1 else tensors


def take(images: Any, rows: Sequence[int]) -> Any:
    """Return some pictures of a collection, or latents, in the given order, as the type that `as_tensors` reads."""
    if isinstance(images, Latents):
        return images.take(rows)
    if isinstance(images, Tensor | np.ndarray):
        return images[list(rows)]
    return [images[i] for i in rows]


def signature(preprocess: Any) -> list[float]:
    """Return numbers that characterise a preprocessing, computed from a wide and a tall picture and equal up to 1e-3
    on any machine.

    Means of two gradients and the deviation of a fine pattern in the quarters of the output are returned. Another
    size, crop, interpolation or normalisation changes them. The list is empty without a preprocessing.
    """
    found: list[float] = []
    for picture in _probes() if preprocess is not None else ():
        pixels = torch.as_tensor(preprocess(picture)).detach().cpu().float()
        rows, cols = pixels.shape[1] // 2, pixels.shape[2] // 2
        quarters = [
            (r, c) for r in (slice(rows), slice(rows, None)) for c in (slice(cols), slice(cols, None))
        ]
        parts = [pixels[:, r, c] for r, c in quarters]
        found += [float(v) for part in parts for v in (part[0].mean(), part[1].mean(), part[2].std())]
    return [round(value, 4) for value in found]


@functools.cache
def _probes() -> tuple[Image.Image, Image.Image]:
    """Return a wide and a tall picture: gradients along both sides and a fine pattern."""
    pictures = []
    for width, height in ((157, 101), (120, 211)):
        y, x = np.mgrid[:height, :width]
        pattern = (3 * x + 5 * y) ** 2 % 251
        channels = [255 * x // (width - 1), 255 * y // (height - 1), pattern]
        pictures.append(Image.fromarray(np.stack(channels, -1).astype(np.uint8)))
    return pictures[0], pictures[1]


def normalization(preprocess: Any, visual: Any = None) -> tuple[list[float], list[float]]:
    """Return mean and std of a preprocessing or its last Normalize step, or else the tower's own, or else OpenAI's."""
    for step in (preprocess, *reversed(getattr(preprocess, "transforms", []))):
        if hasattr(step, "mean") and hasattr(step, "std"):
            return [float(v) for v in step.mean], [float(v) for v in step.std]
    mean, std = getattr(visual, "image_mean", None), getattr(visual, "image_std", None)
    if mean is not None and std is not None:
        return list(mean), list(std)
    return list(CLIP_MEAN), list(CLIP_STD)
