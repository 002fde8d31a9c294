"""One picture in 42 files: every EXIF orientation in four formats, transparency, 16 bits, floats and one bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def scene() -> Image.Image:
    """A picture without any symmetry."""
    rows, cols = np.mgrid[:80, :120]
    red = np.where((rows < 30) & (cols < 40), 255, cols)
    return Image.fromarray(np.stack([red, 2 * rows, np.where(cols > 90, 220, 30)], -1).astype(np.uint8))


def write_all(folder: Path) -> list[Path]:
    """The files, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = scene()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix, options in (
            ("jpg", {"quality": 95}),
            ("png", {}),
            ("webp", {"lossless": True}),
            ("tif", {}),
        ):
            picture.save(folder / f"orientation{orientation}.{suffix}", exif=exif, **options)
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 120).astype(np.uint8), (80, 1)))
    clear = picture.copy()
    clear.putalpha(alpha)
    clear.save(folder / "alpha.png")
    clear.save(folder / "alpha.webp", lossless=True)
    clear.convert("LA").save(folder / "grey_alpha.png")
    few = picture.quantize(16)
    few.save(folder / "palette.png", transparency=3)
    few.save(folder / "palette.gif", transparency=5)
    grey = np.asarray(picture.convert("L"))
    deep = grey.astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    Image.fromarray(grey.astype(np.float32) / 255).save(folder / "float1.tif")
    Image.fromarray(grey.astype(np.float32)).save(folder / "float255.tif")
    picture.convert("1").save(folder / "bit.png")
    return sorted(folder.iterdir())
