"""Small pictures as bytes and files, for the tests of what can be opened."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(size=(8, 6), colour=RED, mode="RGB"):
    return Image.new(mode, size, colour)


def near(colour, other, tolerance=3):
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= tolerance


def broken_files(folder):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    jpeg = encoded(noise, "JPEG")
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "cut.png").write_bytes(encoded(noise)[:3000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("<script>not an image</script>")
    (folder / "notes.txt").write_text("hello")


def noise(size=(96, 96)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
