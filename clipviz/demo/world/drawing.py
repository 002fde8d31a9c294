"""Draw scenes as pixels and masks, by integer randomness and plain arithmetic.

Sprites are scaled by Pillow, whose versions may differ: Pillow 13 scales some sprites differently from Pillow 12.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from clipviz.demo.world import sprites
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.scene import GLYPH, OBJECT, OWN_COLOUR, SHAPE, Scene, Thing

SIDE = words.IMAGE_SIZE
RGB = np.array(words.COLOUR_RGB, np.float32)
LUMINANCE = (np.float32(0.3), np.float32(0.59), np.float32(0.11))
_COLUMN_OF, _ROW_OF = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
MULTIPLE_SIZES = {2: (2, 1), 3: (2, 1), 4: (1, 0), 5: (1, 0), 6: (0, 0)}
"""For each count, the sprite sizes at which the copies are drawn."""
_TILT_DEGREES = 22


Alter = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""A function that changes an object's or glyph's premultiplied pixels [row, column, 4] uint8 before it is painted."""
Placed = tuple[np.ndarray, int, int]
"""A sprite and the positions of its left and top edges."""


def draw(
    scene: Scene, rng: np.random.Generator, unseen_views: bool = False, alter: Alter | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: image [row, column, 3] uint8 and mask [row, column] uint8 (0 background, k the k-th thing).

    unseen_views: tilt every sprite and use background tiles that do not occur in training. alter: changes
    sprites.
    """
    canvas = draw_background(scene, rng, unseen_views)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for index, (sprite, left, top) in enumerate(layout(scene, rng, unseen_views, alter)):
        paste(canvas, mask, sprite, left, top, index + 1)
    return treat(canvas, words.TREATMENTS[scene.treatment], rng), mask


def paste(canvas: np.ndarray, mask: np.ndarray, sprite: np.ndarray, left: int, top: int, label: int) -> None:
    """Blend a premultiplied float sprite [row, column, 4] over the canvas and mark it in the mask."""
    height, width = sprite.shape[:2]
    window = canvas[top : top + height, left : left + width]
    alpha = sprite[..., 3:]
    window *= 1 - alpha
    window += sprite[..., :3]
    mask[top : top + height, left : left + width][alpha[..., 0] > 0.5] = label


def layout(
    scene: Scene, rng: np.random.Generator, unseen_views: bool, alter: Alter | None = None
) -> list[Placed]:
    """Return (sprite, left, top) of every object in the scene."""
    if scene.thing is None:
        return []
    if scene.second is not None:
        return _pair(scene, scene.second, rng, unseen_views, alter)
    if scene.count > 1:
        return _several(scene, rng, unseen_views, alter)
    sprite = draw_thing(scene.subject, scene.sprite_size, rng, unseen_views, alter)
    height, width = sprite.shape[:2]
    return [(sprite, _placed(scene.column, width, rng), _placed(scene.row, height, rng))]


def _placed(third: int, length: int, rng: np.random.Generator) -> int:
    """Return the offset of a sprite in the first, middle or last third, with some variation."""
    free = SIDE - length
    play = int(rng.integers(-12, 13)) * free // 100
    inset = free * 6 // 100
    return int(np.clip((inset, free // 2, free - inset)[third] + play, 0, free))


def _pair(
    scene: Scene, second_thing: Thing, rng: np.random.Generator, unseen_views: bool, alter: Alter | None
) -> list[Placed]:
    size = (2, 2, 3)[rng.integers(3)]
    first, second = (
        draw_thing(thing, size, rng, unseen_views, alter) for thing in (scene.subject, second_thing)
    )
    along = (int(rng.integers(18, 31)), int(rng.integers(64, 79)))
    across = rng.integers(34, 63, 2)
    placed = []
    for sprite, near, side in zip((first, second), along, across, strict=True):
        x, y = (near, int(side)) if scene.relation == 0 else (int(side), near)
        height, width = sprite.shape[:2]
        left, top = np.clip(x - width // 2, 0, SIDE - width), np.clip(y - height // 2, 0, SIDE - height)
        placed.append((sprite, int(left), int(top)))
    return placed


def _several(scene: Scene, rng: np.random.Generator, unseen_views: bool, alter: Alter | None) -> list[Placed]:
    size = MULTIPLE_SIZES[scene.count][rng.integers(2)]
    corners = _scatter(scene.count, words.SPRITE_SIZES[size], rng)
    placed = []
    for left, top in corners:
        sprite = draw_thing(scene.subject, size, rng, unseen_views, alter)
        height, width = sprite.shape[:2]
        slack = words.SPRITE_SIZES[size]
        placed.append((sprite, left + (slack - width) // 2, top + (slack - height) // 2))
    return placed


def _scatter(count: int, side: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the corners of `count` boxes that do not overlap, on a grid if random positions fail."""
    for _ in range(6):
        corners: list[tuple[int, int]] = []
        for left, top in rng.integers(0, SIDE - side + 1, (80, 2)).tolist():
            if all(abs(left - x) >= side or abs(top - y) >= side for x, y in corners):
                corners.append((left, top))
                if len(corners) == count:
                    return corners
    cell = SIDE // 3 if side <= SIDE // 3 else SIDE // 2
    grid = [(x * cell, y * cell) for y in range(SIDE // cell) for x in range(SIDE // cell)]
    return [grid[i] for i in rng.permutation(len(grid))[:count].tolist()]


def near(colour: int, rng: np.random.Generator, spread: int = 14) -> np.ndarray:
    """Return a colour close to a named one, [3] float32."""
    play = rng.integers(-spread, spread + 1, (2, 3)).sum(0)
    found: np.ndarray = np.clip(RGB[colour] + play, 0, 255).astype(np.float32)
    return found


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance [row, column] of [row, column, 3 or more] pixels, in their unit."""
    red, green, blue = (pixels[..., channel] * weight for channel, weight in enumerate(LUMINANCE))
    return red + green + blue


def draw_thing(
    thing: Thing, size: int, rng: np.random.Generator, unseen_views: bool, alter: Alter | None = None
) -> np.ndarray:
    """Return a premultiplied sprite [row, column, 4] float32: colours 0-255, alpha 0-1."""
    if thing.kind == SHAPE:
        atlas = "shapes"
    else:
        atlas = (sprites.object_atlas if thing.kind == OBJECT else sprites.glyph_atlas)(thing.style)
    word = words.GLYPHS[thing.word] if thing.kind == GLYPH else thing.name
    variants = sprites.sizes(atlas, word)
    variant = int(rng.integers(len(variants)))
    if unseen_views:
        degrees = int(rng.integers(10, _TILT_DEGREES + 1)) * (1 if rng.random() < 0.5 else -1)
        pixels = tilted(atlas, word, variant, words.SPRITE_SIZES[size], degrees)
    else:
        pixels = variants[variant][size]
    if thing.kind == OBJECT and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if alter is not None and thing.kind != SHAPE:
        pixels = alter(pixels, rng)
    sprite = pixels.astype(np.float32)
    sprite[..., 3] /= 255
    if thing.kind == OBJECT:
        return sprite if thing.colour == OWN_COLOUR else tint(sprite, thing.colour, rng)
    return paint_mask(sprite[..., 3], thing, words.SPRITE_SIZES[size], rng)


def tilted(atlas: str, word: str, variant: int, longest: int, degrees: int) -> np.ndarray:
    picture = sprites.originals(atlas)[word][variant]
    turned = picture.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    return sprites.resized(turned.crop(turned.getbbox()), longest)


def tint(sprite: np.ndarray, colour: int, rng: np.random.Generator) -> np.ndarray:
    """Recolour a sprite: shadows darken the named colour, lights lift it towards white."""
    alpha = sprite[..., 3]
    light = (luminance(sprite) / np.maximum(alpha, 0.02) / 255)[..., None]
    target = near(colour, rng, 5)
    if words.COLOURS[colour] == "black":
        shaded = 20 + 90 * light
    elif words.COLOURS[colour] == "white":
        shaded = 140 + 125 * light
    else:
        shaded = np.where(
            light < 0.5, target * (0.3 + 1.4 * light), target + (255 - target) * (light - 0.5) * 0.9
        )
    sprite[..., :3] = np.clip(shaded, 0, 255) * alpha[..., None]
    return sprite


def paint_mask(alpha: np.ndarray, thing: Thing, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a glyph or shape filled with its colour, or with a pattern of it and white."""
    colours = np.broadcast_to(near(thing.colour, rng, 7), (*alpha.shape, 3))
    fill = words.FILLS[thing.fill]
    if fill != "solid":
        other = (60, 60, 60) if words.COLOURS[thing.colour] == "white" else (250, 250, 250)
        y, x = np.mgrid[0 : alpha.shape[0], 0 : alpha.shape[1]]
        marks = pattern(fill, x, y, max(4, size // 5))
        colours = np.where(marks[..., None], np.array(other, np.float32), colours)
    return np.concatenate([colours * alpha[..., None], alpha[..., None]], axis=-1)


def pattern(name: str, x: np.ndarray, y: np.ndarray, period: int) -> np.ndarray:
    """Return a boolean pattern over pixel coordinates: diagonal stripes, dots or checks."""
    if name == "striped":
        marked: np.ndarray = (x + y) % period * 2 < period
    elif name == "dotted":
        u, v = x % period * 2 - period, y % period * 2 - period
        marked = (u * u + v * v) * 25 < 10 * period * period
    else:
        marked = (x * 3 // (2 * period) + y * 3 // (2 * period)) % 2 == 0
    return marked


def draw_background(scene: Scene, rng: np.random.Generator, unseen_views: bool = False) -> np.ndarray:
    """Return the empty scene, [row, column, 3] float32 in 0-255."""
    name = words.BACKGROUNDS[scene.background]
    if name in words.PAINTED_BACKGROUNDS:
        return _painted(name, rng, unseen_views)
    first, second = (near(colour, rng) for colour in scene.background_colours)
    if name == "plain":
        return np.repeat(np.repeat(first[None, None], SIDE, 0), SIDE, 1)
    if name == "gradient":
        ramp = (_COLUMN_OF, _ROW_OF, (_COLUMN_OF + _ROW_OF) / 2)[rng.integers(3)].astype(np.float32) / (
            SIDE - 1
        )
        return first * (1 - ramp[..., None]) + second * ramp[..., None]
    marks = _background_marks(name, rng)
    return np.where(marks[..., None], first, second)


def _background_marks(name: str, rng: np.random.Generator) -> np.ndarray:
    x, y = _COLUMN_OF + int(rng.integers(20)), _ROW_OF + int(rng.integers(20))
    if name == "striped":
        period = int(rng.integers(8, 18))
        striped: np.ndarray = (x, y, x + y)[rng.integers(3)] % period * 2 < period
        return striped
    if name == "checkerboard":
        period = int(rng.integers(7, 15))
        checks: np.ndarray = (x // period + y // period) % 2 == 0
        return checks
    if name == "polka dot":
        period, radius = int(rng.integers(11, 20)), int(rng.integers(25, 37))
        x = x + y // period % 2 * (period // 2)
        u, v = x % period * 2 - period, y % period * 2 - period
        dots: np.ndarray = (u * u + v * v) * 2500 < (period * radius) ** 2
        return dots
    period = int(rng.integers(10, 18))
    return (y * 2 + np.abs(x % period * 2 - period)) % (2 * period) < period


def _painted(name: str, rng: np.random.Generator, unseen_views: bool) -> np.ndarray:
    tiles = sprites.background_tiles(name)
    n_seen = len(tiles) - sprites.UNSEEN_TILES
    tile = tiles[int(rng.integers(n_seen, len(tiles)) if unseen_views else rng.integers(n_seen))]
    top, left = rng.integers(0, tile.shape[0] - SIDE + 1, 2)
    window: np.ndarray = tile[top : top + SIDE, left : left + SIDE]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    painted: np.ndarray = window * np.float32(rng.integers(90, 109) / 100)
    return painted


def treat(canvas: np.ndarray, treatment: str, rng: np.random.Generator) -> np.ndarray:
    """Apply a treatment to the finished picture and round it to uint8."""
    if treatment in ("black and white", "sepia"):
        light = luminance(canvas)[..., None]
        canvas = light * np.ones(3, np.float32)
        if treatment == "sepia":
            canvas = light * np.array([1.07, 0.86, 0.62], np.float32) + 8
    elif treatment == "dark":
        canvas = canvas * np.float32(rng.integers(25, 41) / 100)
    elif treatment == "grainy":
        canvas = canvas + rng.integers(-39, 40, (2, SIDE, SIDE, 1), dtype=np.int16).sum(0)
    elif treatment == "pixelated":
        blocks = canvas.reshape(SIDE // 6, 6, SIDE // 6, 6, 3).mean((1, 3))
        canvas = blocks.repeat(6, 0).repeat(6, 1)
    pixels = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    if treatment == "blurry":
        pixels = np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2.6)))
    return pixels
