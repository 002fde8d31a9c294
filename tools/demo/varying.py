"""Sprites that differ from one drawing to the next, so that no class is known by the lines of three pictures."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter


def vary(pixels: np.ndarray, rng: np.random.Generator, share: float = 0.5) -> np.ndarray:
    """[row, column, 4] uint8, premultiplied, changed on a canvas of the same size, or as it was.

    share: how often a sprite is changed; it then gets another form, and other colours or a coarser drawing now and
    then.
    """
    if rng.random() >= share:
        return pixels
    pixels = _form(pixels, rng)
    chance = rng.random()
    if chance < 0.5:
        return _colours(pixels, rng)
    return _coarser(pixels, rng) if chance < 0.75 else pixels


def _form(pixels: np.ndarray, rng) -> np.ndarray:
    """Turned by at most 8 degrees, stretched and slanted. Larger tilts are kept for the test of unseen views."""
    height, width = pixels.shape[:2]
    angle, slant = math.radians(rng.uniform(-8, 8)), rng.uniform(-0.15, 0.15)
    wide, high = rng.uniform(1.0, 1.3, 2)
    a, b = wide * math.cos(angle), wide * (math.sin(angle) + slant)
    c, d = -high * math.sin(angle), high * math.cos(angle)
    x, y = width / 2, height / 2
    how = (a, b, x - a * x - b * y, c, d, y - c * x - d * y)
    # Four plain channels: PIL would premultiply RGBA a second time.
    picture = Image.fromarray(np.ascontiguousarray(pixels), "CMYK")
    return np.asarray(
        picture.transform((width, height), Image.Transform.AFFINE, how, Image.Resampling.BILINEAR)
    )


def _colours(pixels: np.ndarray, rng) -> np.ndarray:
    """Another saturation and contrast, and a hue close by."""
    saturation, contrast, lift = rng.uniform(0.5, 1.3), rng.uniform(0.7, 1.2), rng.uniform(-25, 40)
    turn = rng.uniform(-0.2, 0.2)
    gray = np.full((3, 3), 1 / 3)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    hue = gray + math.cos(turn) * (np.eye(3) - gray) + math.sin(turn) * axis
    change = contrast * (gray + saturation * (hue - gray))
    alpha = pixels[..., 3:].astype(np.float32)
    colours = pixels[..., :3] @ change.astype(np.float32) + lift * alpha / 255
    return np.concatenate([np.clip(colours, 0, alpha), alpha], -1).astype(np.uint8)


def _coarser(pixels: np.ndarray, rng) -> np.ndarray:
    """Fewer shades, or softer lines."""
    if rng.random() < 0.5:
        step = int(rng.integers(40, 90))
        colours = np.minimum(pixels[..., :3] // step * step + step // 2, pixels[..., 3:])
        return np.concatenate([colours, pixels[..., 3:]], -1).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels), "CMYK")
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1))))
