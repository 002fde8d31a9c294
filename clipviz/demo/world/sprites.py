"""The pictures of which scenes are composed, read once from assets/sprites.zip."""

from __future__ import annotations

import functools
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipviz.demo.world import vocabulary as words

ARCHIVE = Path(__file__).resolve().parent.parent / "assets" / "sprites.zip"
UNSEEN_TILES = 6
"""The last tiles of every painted background are only used for unseen views."""

Sizes = tuple[np.ndarray, ...]
"""One sprite at every size of SPRITE_SIZES: [rows, columns, 4] uint8, colours premultiplied by alpha."""


@functools.cache
def _archive() -> tuple[dict[str, Any], dict[str, bytes]]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(files["manifest.json"]), files


def _decode(name: str) -> Image.Image:
    return Image.open(io.BytesIO(_archive()[1][name]))


@functools.cache
def originals(atlas: str) -> dict[str, list[Image.Image]]:
    """Return the sprites of one atlas at their largest size, by word; several where a word has several pictures."""
    manifest, _ = _archive()
    tile, columns = manifest["tile"], manifest["columns"]
    sheet = _decode(manifest["atlases"][atlas]["file"]).convert("RGBA").convert("RGBa")
    found: dict[str, list[Image.Image]] = {}
    for index, (word, width, height) in enumerate(manifest["atlases"][atlas]["tiles"]):
        left, top = index % columns * tile, index // columns * tile
        found.setdefault(word, []).append(sheet.crop((left, top, left + width, top + height)))
    return found


def pixels_of(picture: Image.Image) -> np.ndarray:
    """Return [rows, columns, 4] uint8 of a premultiplied picture."""
    return np.frombuffer(picture.tobytes(), np.uint8).reshape(picture.height, picture.width, 4)


def resized(picture: Image.Image, longest: int) -> np.ndarray:
    """Return the picture with its longer side scaled to `longest` pixels."""
    scale = longest / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    size = (width, height)
    return pixels_of(picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS))


def object_atlas(style: int) -> str:
    return f"objects_{(*words.STYLES, words.UNSEEN_STYLE)[style]}"


def glyph_atlas(font: int) -> str:
    return f"glyphs_{font}" if font < len(words.STYLES) else "glyphs_unseen"


@functools.cache
def sizes(atlas: str, word: str) -> tuple[Sizes, ...]:
    """Return every picture of a word in an atlas, at all sizes."""
    return tuple(
        tuple(resized(picture, longest) for longest in words.SPRITE_SIZES)
        for picture in originals(atlas)[word]
    )


@functools.cache
def background_tiles(name: str) -> np.ndarray:
    """Return the painted tiles of a background, [tile, side, side, 3] uint8."""
    sheet = np.asarray(_decode(_archive()[0]["backgrounds"][name]).convert("RGB"))
    side = sheet.shape[1]
    return sheet.reshape(-1, side, side, 3)


def has_unseen_style(name: str) -> bool:
    """Return whether the object is also available in the style kept out of training."""
    return name in originals(f"objects_{words.UNSEEN_STYLE}")
