"""Pictures and titles of images, as every panel sends them to the browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from clipviz.session.answers import Images
    from clipviz.session.topics.images import ImageTopic


SMALL = 128  # pictures up to this many pixels per side are sent without loss


def title(images: Images, image: int) -> str:
    """An image's caption, else its name."""
    captions, names = images.captions, images.names
    return captions[image] if captions and image < len(captions) else names[image]


def picture(images: ImageTopic, image: int, size: int | None = None) -> bytes:
    """An image as the model sees it, as a file's bytes, at most `size` pixels per side."""
    made = Image.fromarray(images.picture(image))
    if size is not None:
        made.thumbnail((size, size))
    return encoded(made)


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    """PNG for small pictures, JPEG for others."""
    stream = io.BytesIO()
    if max(picture.size) <= SMALL:
        picture.save(stream, "PNG")
    else:
        picture.convert("RGB").save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def pixels(picture: Image.Image) -> np.ndarray:
    """Red, green, blue and opacity of a picture, at most SMALL a side: for many in a second, which nobody decodes."""
    small = picture.convert("RGBA")
    small.thumbnail((SMALL, SMALL))
    return np.asarray(small)


def sheet(pictures: Sequence[Image.Image], tile: int, columns: int) -> bytes:
    """A JPEG of square pictures, row by row."""
    rows = max(1, -(-len(pictures) // columns))
    made = Image.new("RGB", (columns * tile, rows * tile), "white")
    for place, one in enumerate(pictures):
        small = one.convert("RGB").resize((tile, tile), Image.Resampling.BICUBIC)
        made.paste(small, (place % columns * tile, place // columns * tile))
    stream = io.BytesIO()
    made.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def cut(sheet: bytes, tile: int, columns: int, n: int) -> list[np.ndarray]:
    """The first n tiles of a sheet, uint8 [tile, tile, 3] each."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    places = (divmod(i, columns) for i in range(n))
    return [pixels[row * tile : (row + 1) * tile, col * tile : (col + 1) * tile] for row, col in places]
