"""Pictures and titles of images in the form in which all panels send them to the browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from clipviz.session.answers import Images
    from clipviz.session.topics.images import ImageTopic


WEBP_SIDE = 16383  # most pixels per side of a WebP picture
SMALL = 128  # pictures with at most this many pixels per side are sent without loss


def title(images: Images, image: int) -> str:
    """Return an image's caption, else its name."""
    captions, names = images.captions, images.names
    return captions[image] if captions and image < len(captions) else names[image]


def picture(images: ImageTopic, image: int, size: int | None = None) -> bytes:
    """Return an image as the model sees it, as a file's bytes, with at most `size` pixels per side."""
    made = Image.fromarray(images.picture(image))
    if size is not None:
        made.thumbnail((size, size))
    return encoded(made)


def file_of(pixels: np.ndarray) -> bytes:
    """Return pixels, uint8 [rows, cols, 3], as a file's bytes."""
    return encoded(Image.fromarray(pixels))


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    """Encode small pictures as PNG and others as JPEG."""
    stream = io.BytesIO()
    if max(picture.size) <= SMALL:
        picture.save(stream, "PNG")
    else:
        picture.convert("RGB").save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def pixels(picture: Image.Image) -> np.ndarray:
    """Return red, green, blue and opacity of a picture, at most SMALL pixels per side: for many frames per second,
    without decoding.
    """
    small = picture.convert("RGBA")
    small.thumbnail((SMALL, SMALL))
    return np.asarray(small)


def sheet(pictures: Sequence[Image.Image], tile: int, columns: int) -> bytes:
    """Return a JPEG of square pictures, row by row."""
    rows = max(1, -(-len(pictures) // columns))
    made = Image.new("RGB", (columns * tile, rows * tile), "white")
    for place, one in enumerate(pictures):
        small = one.convert("RGB").resize((tile, tile), Image.Resampling.BICUBIC)
        made.paste(small, (place % columns * tile, place // columns * tile))
    stream = io.BytesIO()
    made.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def compact(sheet: bytes) -> bytes:
    """Return a sheet in about half as many bytes, for saved pages; one that is too large for WebP stays as it is."""
    with Image.open(io.BytesIO(sheet)) as opened:
        if max(opened.size) > WEBP_SIDE:
            return sheet
        stream = io.BytesIO()
        opened.save(stream, "WEBP", quality=60, method=6)
    return stream.getvalue()


def cut(sheet: bytes, tile: int, columns: int, n: int) -> list[np.ndarray]:
    """Return the first n tiles of a sheet, uint8 [tile, tile, 3] each."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    places = (divmod(i, columns) for i in range(n))
    return [pixels[row * tile : (row + 1) * tile, col * tile : (col + 1) * tile] for row, col in places]
