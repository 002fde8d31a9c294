"""Anything that is an image -> an upright 8-bit RGB picture, or a BrokenImage that says why not.

Limits, so that no file can exhaust the memory: a picture is decoded to at most MAX_PIXELS (240 MB as RGB);
a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, up to MAX_JPEG_PIXELS (a progressive one keeps its
coefficients, 6 bytes a pixel, while it is read); anything larger is refused.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

MAX_PIXELS = 80_000_000
MAX_JPEG_PIXELS = 500_000_000
MAX_ASPECT = 1_000
# Pillow reads more than these, but some of the others start programs (EPS) or are not pictures.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "TGA", "ICO", "AVIF")

_opening = threading.Lock()


class BrokenImage(ValueError):
    """One image cannot be used; the message is the reason, without the image's name."""


def read_image(source: Path | bytes, near: int | None = None) -> Image.Image:
    """The picture in a file or in bytes; `near` allows a JPEG to be decoded smaller, sides still >= near."""
    try:
        with open(source, "rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
            return _decode(stream, near)
    except BrokenImage:
        raise
    except FileNotFoundError as error:
        raise BrokenImage("there is no such file") from error
    except MemoryError as error:
        raise BrokenImage("it does not fit in memory") from error
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise BrokenImage(_reason(error, source)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright RGB: EXIF orientation applied, transparency on white, 16-bit and float scaled to 8 bits."""
    check_size(*image.size)
    image.load()
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image), 65535.0 if ";16" in image.mode else None))
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        image = Image.new("RGBA", above.size, "white")
        image.alpha_composite(above)
    return image.convert("RGB")


def from_array(array: Any) -> Image.Image:
    """A picture from an array or tensor: [rows, cols], [rows, cols, 1|3|4] or [1|3, rows, cols].

    uint8 (or whole numbers in 0..255), uint16, bool, or floats in 0..1. Where both layouts fit, numpy arrays
    are read channels last and tensors channels first (there also four channels).
    """
    values = as_numpy(array)
    pixels = _pixels(_channels_last(values, first=not isinstance(array, np.ndarray)))
    check_size(pixels.shape[1], pixels.shape[0])
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def as_numpy(array: Any) -> np.ndarray:
    """An array or tensor (on any device, with or without gradient) as numpy."""
    try:
        if hasattr(array, "detach"):
            array = array.detach().cpu()
            array = array.float() if "bfloat16" in str(array.dtype) else array
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BrokenImage(f"expected an array of numbers, got {type(array).__name__} ({error})") from error


def check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """BrokenImage for a picture too large to decode or too thin to resize."""
    if width * height > limit:
        raise BrokenImage(
            f"{width} x {height} is {width * height / 1e6:.0f} megapixels, over the limit of {limit / 1e6:.0f};"
            " save a smaller copy"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BrokenImage(f"{width} x {height} is too thin (over {MAX_ASPECT}:1); crop it")


def _decode(stream: Any, near: int | None) -> Image.Image:
    with _opening:  # Pillow's own limit is a global that warns; ours is checked below, before any decoding
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(stream, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        check_size(*image.size, limit=MAX_JPEG_PIXELS)
        image.draft(None, _draft_size(image.size, near))
    return to_rgb(image)


def _draft_size(size: tuple[int, int], near: int | None) -> tuple[int, int]:
    """The smallest size to ask of the JPEG reader, which then picks a scale of 1, 1/2, 1/4 or 1/8."""
    if near is not None:
        return (2 * near, 2 * near)
    shrink = 1
    while size[0] * size[1] > MAX_PIXELS * shrink**2:
        shrink *= 2
    return (max(size[0] // shrink, 1), max(size[1] // shrink, 1))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF is no reason to lose the picture
        return image


def _eight_bits(values: np.ndarray, top: float | None) -> np.ndarray:
    """Grey levels scaled (not clipped) to 0..255 from 0..top, or from the range that the values suggest."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise BrokenImage("it holds NaN or infinite values")
    peak = float(values.max())
    if top is None:
        top = 1.0 if peak <= 1 and (values % 1).any() else 65535.0 if peak > 255 else 255.0
    return np.clip(values * (255 / max(top, peak)) + 0.5, 0, 255).astype(np.uint8)


def _channels_last(values: np.ndarray, first: bool) -> np.ndarray:
    if values.ndim == 2 and values.size:
        return values[..., None]
    if values.ndim == 3 and values.size:
        for axis in (0, 2) if first else (2, 0):
            if values.shape[axis] in (1, 3) or (values.shape[axis] == 4 and (axis == 2) != first):
                return np.moveaxis(values, axis, 2)
    raise BrokenImage(
        f"expected an array of shape [rows, cols], [rows, cols, 3] or [3, rows, cols], got {list(values.shape)}"
    )


def _pixels(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise BrokenImage("expected finite numbers, got NaN or infinite values")
        if low < -1e-3 or high > 1 + 1e-3:
            raise BrokenImage(
                f"expected floats in 0..1, got {low:.3g}..{high:.3g}; divide by 255 or undo the normalisation"
            )
        values = np.clip(values.astype(np.float32), 0, 1) * 255 + 0.5
    elif values.dtype == np.uint16:
        values = values / 257 + 0.5
    elif values.dtype == bool:
        values = values * 255
    elif values.dtype.kind not in "iu":
        raise BrokenImage(f"expected uint8 or float numbers, got {values.dtype}")
    elif values.min() < 0 or values.max() > 255:
        raise BrokenImage(f"expected whole numbers in 0..255, got {values.min()}..{values.max()}")
    return np.ascontiguousarray(values.astype(np.uint8))


def _reason(error: Exception, source: Path | bytes) -> str:
    size = len(source) if isinstance(source, bytes) else _file_size(source)
    if isinstance(error, UnidentifiedImageError):
        if size == 0:
            return "the file is empty (0 bytes)"
        return "it is not an image that Pillow reads; convert it to JPEG, PNG or WebP"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return f"it is damaged: {str(error).strip() or type(error).__name__}"


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
