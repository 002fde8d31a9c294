"""Decode any image into an upright 8-bit RGB picture, or raise a BrokenImage that says why not.

Limits keep any file from exhausting the memory. A picture is decoded to at most MAX_PIXELS, half as many in the
formats of HUNGRY. Decoding takes about 10 bytes per pixel (0.8 GB), or 20 in those formats, and the result 4 (320
MB). Pictures above LARGE pixels are decoded one at a time in each process. A larger JPEG is decoded at 1/2, 1/4
or 1/8 of its size, up to MAX_JPEG_PIXELS, unless it is progressive and would need 6 bytes per pixel. Anything
larger is refused.

Detectable damage is an error: a PNG chunk that fails its checksum, or a JPEG without an end marker. Other
formats, and the data inside a JPEG, have no checksums, so damage that still decodes is not detected there.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

MAX_PIXELS = 80_000_000
MAX_JPEG_PIXELS = 500_000_000
MAX_ASPECT = 1_000
LARGE = 8_000_000
HUNGRY = ("WEBP", "JPEG2000", "AVIF")
_ROWS = 256  # pixels of a picture that are converted at a time
# Pillow reads further formats, but some of them start programs (EPS) or are not pictures.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "TGA", "ICO", "AVIF")

_opening = threading.Lock()
_decoding_large = threading.Lock()


def _after_fork() -> None:
    """Reset the locks after a fork: a worker must not wait for a lock that another thread held at that moment."""
    global _opening, _decoding_large
    _opening, _decoding_large = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class BrokenImage(ValueError):
    """Raised for an image that cannot be used; the message is the reason, without the image's name."""


def read_image(source: Path | bytes, near: int | None = None) -> Image.Image:
    """Return the picture in a file or bytes. near: a JPEG may be decoded at a smaller size, with sides >= near."""
    try:
        with _opened(source) as stream:
            _check_whole(stream)
            return _decode(stream, near)
    except BrokenImage:
        raise
    except FileNotFoundError as error:
        raise BrokenImage("the file does not exist") from error
    except MemoryError as error:
        raise BrokenImage("it does not fit in memory") from error
    except Exception as error:  # damaged files make Pillow raise almost any error
        raise BrokenImage(_reason(error, source)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to upright RGB: EXIF orientation applied, transparency on white, 16-bit and float scaled to 8 bits."""
    check_size(*image.size)
    image.load()
    orientation = _orientation(image)
    return _turned(_as_rgb(image), orientation)


def from_array(array: Any) -> Image.Image:
    """Return a picture from an array or tensor: [rows, cols], [rows, cols, 1|3|4] or [1|3, rows, cols].

    uint8 (or whole numbers in 0..255), uint16, bool, or floats in 0..1. If both layouts fit, NumPy arrays are
    read as channels last and tensors as channels first (which then may have four channels).
    """
    values = as_numpy(array)
    pixels = _pixels(_channels_last(values, first=not isinstance(array, np.ndarray)))
    check_size(pixels.shape[1], pixels.shape[0])
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def as_numpy(array: Any) -> np.ndarray:
    """Return an array or tensor (on any device, with or without gradient) as a NumPy array."""
    try:
        if hasattr(array, "detach"):
            array = array.detach().cpu()
            array = array.float() if "bfloat16" in str(array.dtype) else array
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BrokenImage(f"expected an array of numbers, got {type(array).__name__} ({error})") from error


def check_size(width: int, height: int, limit: int = MAX_PIXELS) -> None:
    """Raise BrokenImage for a picture that is too large to decode or too thin to resize."""
    if width * height > limit:
        raise BrokenImage(
            f"{width} x {height} is {width * height / 1e6:.0f} megapixels, over the limit of {limit / 1e6:.0f};"
            " save a smaller copy"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BrokenImage(f"{width} x {height} is too thin (over {MAX_ASPECT}:1); crop it")


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Any]:
    """Open a stream of a file or of bytes. Raises BrokenImage for anything but a regular file, which could block."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    mode = os.stat(source).st_mode
    if not stat.S_ISREG(mode):
        raise BrokenImage("it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
    with open(source, "rb") as stream:
        yield stream


@contextmanager
def _one_at_a_time(pixels: int) -> Iterator[None]:
    """Let large pictures be decoded only one at a time."""
    if pixels <= LARGE:
        yield
        return
    with _decoding_large:
        yield


def _check_whole(stream: Any) -> None:
    """Raise BrokenImage for damage that decoding would not notice; the stream is rewound."""
    head = stream.read(8)
    if head == b"\x89PNG\r\n\x1a\n":
        _check_png(stream)
    elif head[:3] == b"\xff\xd8\xff":
        _check_jpeg(stream)
    stream.seek(0)


def _check_png(stream: Any) -> None:
    """Check all chunks up to the end of the picture; a truncated file is left to its decoder."""
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        checksum = zlib.crc32(kind)
        while length:
            block = stream.read(min(length, 1 << 20))
            if not block:
                return
            checksum, length = zlib.crc32(block, checksum), length - len(block)
        stored = stream.read(4)
        if len(stored) == 4 and int.from_bytes(stored, "big") != checksum:
            raise BrokenImage(
                f"it is damaged: the checksum of its {kind.decode('latin-1')!r} chunk does not match"
            )
        if kind == b"IEND":
            return


def _check_jpeg(stream: Any) -> None:
    """Check that an end-of-image marker follows the first scan; truncated and zero-filled files have none."""
    stream.seek(2)
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF and head[1] not in (0xD8, 0xD9):
        kind, length = head[1], int.from_bytes(head[2:], "big")
        if kind == 0xFF or length < 2:  # fill bytes and unusual files are left to the decoder
            return
        stream.seek(length - 2, 1)
        if kind == 0xDA:
            break
    else:
        return
    last = b""
    while block := stream.read(1 << 20):
        if b"\xff\xd9" in last + block:
            return
        last = block[-1:]
    raise BrokenImage("it is damaged: the file is truncated or overwritten (no end marker)")


def _decode(stream: Any, near: int | None) -> Image.Image:
    with (
        _opening
    ):  # Pillow's own limit is a global setting that only warns; ours is checked below, before decoding
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(stream, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        check_size(*image.size, limit=MAX_PIXELS if image.info.get("progressive") else MAX_JPEG_PIXELS)
        image.draft(None, _draft_size(image.size, near))
    check_size(*image.size, limit=MAX_PIXELS // 2 if image.format in HUNGRY else MAX_PIXELS)
    with _one_at_a_time(image.width * image.height):
        image.load()
        orientation = _orientation(image)
        rgb = _as_rgb(image)
        image.close()  # free half the memory before the picture is rotated
        return _turned(rgb, orientation)


def _draft_size(size: tuple[int, int], near: int | None) -> tuple[int, int]:
    """Return the smallest size to request from the JPEG reader, which then picks a scale of 1, 1/2, 1/4 or 1/8."""
    shrink = 1
    while size[0] * size[1] > MAX_PIXELS * shrink**2:
        shrink *= 2
    width, height = max(size[0] // shrink, 1), max(size[1] // shrink, 1)
    return (width, height) if near is None else (min(width, 2 * near), min(height, 2 * near))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the picture upright, by its EXIF orientation."""
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF is no reason to reject the picture
        return None


def _as_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded picture as RGB, converted a few rows at a time so that no second full copy is made."""
    grey = image.mode.startswith(("I", "F"))
    clear = image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info
    if image.mode == "RGB" and not clear:
        return image.convert("RGB")
    top = _grey_top(image) if grey else 0.0
    made = Image.new("RGB", image.size, "white")
    for start in range(0, image.height, _ROWS):
        strip = image.crop((0, start, image.width, min(start + _ROWS, image.height)))
        if grey:
            strip = Image.fromarray(_eight_bits(np.asarray(strip), top))
        if clear:
            above = strip.convert("RGBA")
            made.paste(above, (0, start), above)
        else:
            made.paste(strip.convert("RGB"), (0, start))
    return made


def _turned(image: Image.Image, orientation: Image.Transpose | None) -> Image.Image:
    """Return the upright picture without its metadata, which would rotate it again."""
    image = image if orientation is None else image.transpose(orientation)
    image.info = {}
    return image


def _grey_top(image: Image.Image) -> float:
    """Return the value that maps to 255: the format's maximum, or one inferred from the range of the values."""
    peak, whole = 0.0, True
    for start in range(0, image.height, _ROWS):
        values = np.asarray(image.crop((0, start, image.width, min(start + _ROWS, image.height))))
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise BrokenImage("it holds NaN or infinite values")
        peak, whole = max(peak, float(values.max())), whole and not (values % 1).any()
    if ";16" in image.mode:
        return max(65535.0, peak)
    return max(1.0 if peak <= 1 and not whole else 65535.0 if peak > 255 else 255.0, peak)


def _eight_bits(values: np.ndarray, top: float) -> np.ndarray:
    """Return grey levels scaled (not clipped) from 0..top to 0..255."""
    return np.clip(values.astype(np.float64) * (255 / top) + 0.5, 0, 255).astype(np.uint8)


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
        return "it is not an image format that Pillow reads; convert it to JPEG, PNG or WebP"
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    return f"it is damaged: {str(error).strip() or type(error).__name__}"


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
