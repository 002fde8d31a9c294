"""Rebuild clipviz/demo/assets/sprites.zip: every picture the demo world is composed of.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/fluent-emoji-flat@1.2.6 \
        @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 emojibase-data@17.0.0
    for f in *.tgz; do mkdir ${f%.tgz}; tar xzf $f -C ${f%.tgz}; done
    python -m tools.demo.sprites FOLDER clipviz/demo/assets/sprites.zip

The archive holds lossless WebP atlases of 72-pixel tiles (objects by drawing style, letters by font, shapes),
WebP atlases of painted backgrounds, and manifest.json. Nothing of it depends on the fonts or the image libraries
of the machine that later renders scenes. Needs resvg_py and matplotlib (for its DejaVu font files).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
import resvg_py
from PIL import Image, ImageDraw, ImageFont

from clipviz.demo.world import vocabulary as words
from tools.demo.backgrounds import paint

TILE = words.SPRITE_SIZES[-1]
ATLAS_COLUMNS = 16
EMOJI_LABELS = {
    "monkey": ["monkey", "monkey face"],
    "dog": ["dog", "dog face"],
    "cat": ["cat", "cat face", "black cat"],
    "tiger": ["tiger", "tiger face"],
    "horse": ["horse", "horse face"],
    "cow": ["cow", "cow face"],
    "pig": ["pig", "pig face"],
    "rabbit": ["rabbit", "rabbit face"],
    "dragon": ["dragon", "dragon face"],
    "whale": ["whale", "spouting whale"],
    "ice cream": ["ice cream", "soft ice cream"],
    "moon": ["full moon", "crescent moon"],
    "car": ["automobile", "sport utility vehicle"],
    "apple": ["red apple", "green apple"],
    "hen": ["chicken"],
    "chick": ["baby chick"],
    "robin": ["bird"],
    "crow": ["black bird"],
    "dinosaur": ["T-Rex"],
    "pufferfish": ["blowfish"],
    "bee": ["honeybee"],
    "ladybug": ["lady beetle"],
    "pine tree": ["evergreen tree"],
    "kiwi": ["kiwi fruit"],
    "corn": ["ear of corn"],
    "coffee cup": ["hot beverage"],
    "cocktail": ["cocktail glass"],
    "fork": ["fork and knife"],
    "fire truck": ["fire engine"],
    "traffic light": ["horizontal traffic light"],
    "ufo": ["flying saucer"],
    "hourglass": ["hourglass done"],
    "lightning bolt": ["high voltage"],
    "christmas tree": ["Christmas tree"],
    "gift box": ["wrapped gift"],
    "tennis racket": ["tennis"],
    "dice": ["game die"],
    "book": ["closed book"],
    "sneaker": ["running shoe"],
    "piano": ["musical keyboard"],
    "phone": ["mobile phone"],
}
FONTS = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")
UNSEEN_FONT = "DejaVuSerif-BoldItalic"
BACKGROUND_TILES = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the unpacked npm packages")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    manifest: dict = {"tile": TILE, "columns": ATLAS_COLUMNS, "atlases": {}, "backgrounds": {}}
    files: dict[str, bytes] = {}
    for style, entries in object_sprites(arguments.folder).items():
        add_atlas(manifest, files, f"objects_{style}", entries)
    for font in (*FONTS, UNSEEN_FONT):
        name = "glyphs_unseen" if font == UNSEEN_FONT else f"glyphs_{FONTS.index(font)}"
        add_atlas(manifest, files, name, [(glyph, draw_glyph(glyph, font)) for glyph in words.GLYPHS])
    add_atlas(manifest, files, "shapes", [(shape, draw_shape(shape)) for shape in words.SHAPES])
    generator = np.random.default_rng(0)
    for name in words.PAINTED_BACKGROUNDS:
        tiles = [paint(name, generator) for _ in range(BACKGROUND_TILES)]
        file = f"background_{name.replace(' ', '_')}.webp"
        manifest["backgrounds"][name] = file
        files[file] = encode(Image.fromarray(np.concatenate(tiles)), quality=78, method=6)
    write(arguments.output, manifest, files)


def write(output: Path, manifest: dict, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(output, "w") as archive:
        for name, blob in sorted({"manifest.json": json.dumps(manifest).encode(), **files}.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), blob)
    print(output, output.stat().st_size, "bytes")
    for name, atlas in manifest["atlases"].items():
        print(name, len(atlas["tiles"]), "tiles", len(files[atlas["file"]]), "bytes")
    print("backgrounds", sum(len(files[file]) for file in manifest["backgrounds"].values()), "bytes")


def encode(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def add_atlas(manifest: dict, files: dict, name: str, entries: list[tuple[str, Image.Image]]) -> None:
    """Put the pictures, each at the top left of its tile, into one lossless image."""
    rows = math.ceil(len(entries) / ATLAS_COLUMNS)
    atlas = Image.new("RGBA", (ATLAS_COLUMNS * TILE, rows * TILE))
    tiles = []
    for index, (word, picture) in enumerate(entries):
        tile = fit(picture)
        atlas.paste(tile, (index % ATLAS_COLUMNS * TILE, index // ATLAS_COLUMNS * TILE))
        tiles.append([word, *tile.size])
    files[f"{name}.webp"] = encode(atlas, lossless=True, exact=True, method=6, quality=100)
    manifest["atlases"][name] = {"file": f"{name}.webp", "tiles": tiles}


def fit(picture: Image.Image) -> Image.Image:
    """Crop to what is visible and scale the longer side to TILE."""
    rows, columns = np.nonzero(np.asarray(picture)[..., 3] > 8)
    picture = picture.crop((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    scale = TILE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize(size, Image.LANCZOS if scale < 1 else Image.BICUBIC)


def object_sprites(folder: Path) -> dict[str, list[tuple[str, Image.Image]]]:
    """Return pictures of every object in every drawing style, several where the sets have several."""
    listed = json.loads((folder / "emojibase-data-17.0.0/package/en/data.json").read_text())
    codes = {entry["label"]: entry["hexcode"].lower().replace("-fe0f", "") for entry in listed}
    readers = {
        "3d": RasterSet(folder / "lobehub-fluent-emoji-3d-1.1.0/package/assets"),
        "flat": VectorSet(folder / "iconify-json-fluent-emoji-flat-1.2.6/package"),
        "cartoon": VectorSet(folder / "iconify-json-noto-1.2.9/package"),
        words.UNSEEN_STYLE: VectorSet(folder / "iconify-json-noto-v1-1.2.5/package"),
    }
    sprites: dict[str, list[tuple[str, Image.Image]]] = {style: [] for style in readers}
    for name in words.OBJECT_NAMES:
        for label in EMOJI_LABELS.get(name, [name]):
            for style, reader in readers.items():
                picture = reader.get(codes[label], label)
                if picture is not None:
                    sprites[style].append((name, picture))
                elif style != words.UNSEEN_STYLE:
                    print("missing", style, label)
    return sprites


class RasterSet:
    """A folder of WebP files named by code point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, code: str, label: str) -> Image.Image | None:
        for stem in (code, f"{code}-fe0f"):
            path = self.folder / f"{stem}.webp"
            if path.exists():
                return Image.open(path).convert("RGBA")
        return None


class VectorSet:
    """An Iconify package: icons.json with SVG bodies, chars.json (empty in old sets) from code points to names."""

    def __init__(self, folder: Path) -> None:
        self.collection = json.loads((folder / "icons.json").read_text())
        self.names = json.loads((folder / "chars.json").read_text())

    def get(self, code: str, label: str) -> Image.Image | None:
        slug = label.lower().replace(" ", "-")
        name = self.names.get(code) or self.names.get(f"{code}-fe0f") or slug
        icon = self.collection["icons"].get(name)
        if icon is None:
            return None
        side = icon.get("width", self.collection.get("width", 128))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {side} {side}" width="144" height="144">{icon["body"]}</svg>'
        )
        return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")


def white_with_alpha(alpha: Image.Image) -> Image.Image:
    picture = Image.new("RGBA", alpha.size, "white")
    picture.putalpha(alpha)
    return picture


def draw_glyph(glyph: str, font: str) -> Image.Image:
    path = Path(matplotlib.get_data_path()) / f"fonts/ttf/{font}.ttf"
    alpha = Image.new("L", (400, 400))
    ImageDraw.Draw(alpha).text((100, 60), glyph.upper(), font=ImageFont.truetype(str(path), 220), fill=255)
    return white_with_alpha(alpha)


def draw_shape(shape: str) -> Image.Image:
    alpha = Image.new("L", (512, 512))
    draw, middle, radius = ImageDraw.Draw(alpha), 256, 200
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    corners = {"triangle": (3, -90), "pentagon": (5, -90), "hexagon": (6, 0)}
    if shape in corners:
        draw.polygon(polygon(*corners[shape]), fill=255)
    elif shape == "star":
        draw.polygon(polygon(10, -90, inner=0.42), fill=255)
    elif shape == "circle":
        draw.ellipse(box, fill=255)
    elif shape == "square":
        draw.rectangle(box, fill=255)
    elif shape == "heart":
        draw.polygon(heart(), fill=255)
    elif shape == "diamond":
        wide = radius * 0.68
        draw.polygon([(256, 56), (256 + wide, 256), (256, 456), (256 - wide, 256)], fill=255)
    elif shape == "cross":
        draw.rectangle((190, 56, 322, 456), fill=255)
        draw.rectangle((56, 190, 456, 322), fill=255)
    elif shape == "ring":
        draw.ellipse(box, fill=255)
        draw.ellipse((146, 146, 366, 366), fill=0)
    elif shape == "crescent":
        draw.ellipse(box, fill=255)
        draw.ellipse((186, 46, 586, 446), fill=0)
    elif shape == "arrow":
        draw.polygon(
            [(56, 186), (276, 186), (276, 96), (456, 256), (276, 416), (276, 326), (56, 326)], fill=255
        )
    return white_with_alpha(alpha)


def polygon(n_corners: int, first_degrees: float, inner: float = 1.0) -> list[tuple[float, float]]:
    """Return corners around (256, 256); every second one is pulled in to `inner` of the radius."""
    points = []
    for corner in range(n_corners):
        radius = 200 * (inner if corner % 2 else 1.0)
        angle = math.radians(first_degrees + 360 * corner / n_corners)
        points.append((256 + radius * math.cos(angle), 256 + radius * math.sin(angle)))
    return points


def heart() -> list[tuple[float, float]]:
    points = []
    for t in np.linspace(0, 2 * np.pi, 200):
        height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        points.append((256 + 192 * np.sin(t) ** 3, 256 - 12 * height))
    return points


if __name__ == "__main__":
    main()
