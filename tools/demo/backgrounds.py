"""Paint the places and surfaces of the demo world with a few lines of numpy each.

paint(name, generator) -> [SIDE, SIDE, 3] uint8. Only tools/demo/sprites.py uses this: the package ships the
painted tiles, so that a render never depends on how a machine rounds a sine.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 160
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


def paint(name: str, rng: np.random.Generator) -> np.ndarray:
    pixels = PAINTERS[name](rng)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, octaves=(4, 8, 16, 32), amplitudes=(1, 0.6, 0.4, 0.25)) -> np.ndarray:
    """Smooth noise in [0, 1], [SIDE, SIDE]: random grids of growing resolution, enlarged and added."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for octave, amplitude in zip(octaves, amplitudes, strict=True):
        grid = Image.fromarray(rng.random((octave, octave)).astype(np.float32))
        total += amplitude * np.asarray(grid.resize((SIDE, SIDE), Image.BICUBIC))
    total -= total.min()
    return total / total.max()


def mix(first, second, weight: np.ndarray) -> np.ndarray:
    return first * (1 - weight[..., None]) + second * weight[..., None]


def near(rng: np.random.Generator, *colour: int) -> np.ndarray:
    """Return a colour close to the one given."""
    return np.array(colour, np.float32) + rng.normal(0, 10, 3)


def sky_band(rng, pixels: np.ndarray, *colour: int, chance: float = 0.4) -> np.ndarray:
    """Sometimes cover the top with a band of sky."""
    if rng.random() < chance:
        pixels[: int(rng.uniform(10, 45))] = near(rng, *colour)
    return pixels


def water(rng):
    swell = noise(rng)
    pixels = mix(near(rng, 25, 95, 150), near(rng, 70, 165, 205), swell)
    phase, frequency = rng.random() * 6, rng.uniform(0.18, 0.4)
    crest = np.sin(Y * frequency + 2.2 * np.sin(X * 0.09 + phase) + 3 * swell) > 0.72
    pixels[crest] = pixels[crest] * 0.45 + near(rng, 205, 232, 240) * 0.55
    return sky_band(rng, pixels, 180, 220, 240, chance=0.5)


def forest(rng):
    leaves = noise(rng, (8, 16, 32, 64), (0.6, 0.8, 1, 1))
    pixels = mix(near(rng, 18, 60, 28), near(rng, 60, 115, 45), leaves)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(8, 14)):
        left, width, shade = rng.integers(-5, SIDE), rng.integers(3, 9), rng.integers(-15, 15)
        draw.rectangle((left, 0, left + width, SIDE), fill=(75 + shade, 50 + shade, 30 + shade))
    for _ in range(rng.integers(25, 45)):
        (x, y), size, green = rng.integers(0, SIDE, 2), rng.integers(8, 20), int(rng.integers(50, 125))
        crown = [(x - size * 0.7, y + size), (x + size * 0.7, y + size), (x, y - size)]
        draw.polygon(crown, fill=(int(green * 0.3), green, int(green * 0.35)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.7))).astype(np.float32)


def meadow(rng):
    pixels = mix(near(rng, 75, 150, 45), near(rng, 140, 200, 70), noise(rng))
    pixels += (np.sin(X * 1.3 + 20 * noise(rng, (64, SIDE), (1, 1.2))) * 18)[..., None]
    petals = [(250, 230, 80), (250, 250, 250), (240, 120, 170)]
    for _ in range(rng.integers(15, 40)):
        x, y = rng.integers(2, SIDE - 2, 2)
        pixels[y - 1 : y + 2, x - 1 : x + 2] = petals[rng.integers(3)]
    return sky_band(rng, pixels, 165, 215, 245)


def desert(rng):
    dunes = np.sin(Y * rng.uniform(0.1, 0.2) + 4 * noise(rng) + X * 0.03) * 0.5 + 0.5
    pixels = mix(near(rng, 225, 185, 115), near(rng, 195, 150, 85), dunes)
    return sky_band(rng, pixels + rng.normal(0, 5, (SIDE, SIDE, 1)), 245, 215, 165)


def sky(rng):
    clouds = np.clip((noise(rng) - 0.5) * 4, 0, 1)
    blue = mix(near(rng, 90, 165, 235), near(rng, 175, 215, 245), Y / SIDE)
    return mix(blue, np.array([250, 250, 252], np.float32), clouds)


def night(rng):
    pixels = mix(near(rng, 8, 10, 35), near(rng, 35, 30, 80), noise(rng))
    for _ in range(rng.integers(60, 120)):
        (x, y), light = rng.integers(1, SIDE - 2, 2), rng.uniform(0.5, 1)
        side = 1 + (light > 0.85)
        pixels[y : y + side, x : x + side] = 255 * light
    return pixels


def snow(rng):
    pixels = mix(near(rng, 205, 220, 235), near(rng, 245, 248, 252), noise(rng))
    for _ in range(rng.integers(60, 110)):
        (x, y), side = rng.integers(1, SIDE - 4, 2), rng.integers(1, 4)
        pixels[y : y + side, x : x + side] = 255
    for _ in range(rng.integers(2, 6)):
        x, y, size = rng.integers(0, SIDE), rng.integers(20, SIDE), rng.integers(10, 22)
        for step in range(size):
            half, row = step // 2, max(y - size + step, 0)
            pixels[row, max(x - half, 0) : x + half + 1] = (95 + step * 4, 130 + step * 3, 135 + step * 3)
    return pixels


def city(rng):
    pixels = mix(near(rng, 150, 185, 215), near(rng, 215, 215, 220), Y / SIDE)
    left = 0
    while left < SIDE:
        width, height, shade = int(rng.integers(14, 30)), int(rng.integers(60, 150)), rng.uniform(60, 140)
        pixels[SIDE - height :, left : left + width] = np.array([shade, shade, shade + 8]) + rng.normal(
            0, 8, 3
        )
        lit = (245, 225, 140) if rng.random() < 0.6 else (50, 60, 80)
        for top in range(SIDE - height + 4, SIDE - 4, 8):
            for window in range(left + 3, min(left + width - 4, SIDE - 4), 6):
                if rng.random() < 0.75:
                    pixels[top : top + 4, window : window + 3] = lit
        left += width + int(rng.integers(0, 3))
    return pixels


def sunset(rng):
    height = np.clip(Y / SIDE + 0.15 * (noise(rng) - 0.5), 0, 1)
    glow = near(rng, 240, 110, 80)
    upper = mix(near(rng, 70, 50, 120), glow, height * 2)
    lower = mix(glow, near(rng, 255, 205, 100), height * 2 - 1)
    pixels = np.where((height < 0.5)[..., None], upper, lower)
    x, y, radius = rng.integers(20, 140), rng.integers(70, 130), rng.integers(10, 20)
    pixels[((X - x) ** 2 + (Y - y) ** 2) < radius**2] = (255, 240, 180)
    pixels[SIDE - int(rng.integers(4, 22)) :] = near(rng, 50, 30, 50)
    return pixels


def mountains(rng):
    pixels = mix(near(rng, 150, 195, 235), near(rng, 220, 235, 245), Y / SIDE)
    for ridge, colour in enumerate([(130, 135, 155), (100, 105, 120), (75, 95, 75)]):
        peaks = np.abs(((np.arange(SIDE) + rng.integers(0, 60)) % 60) - 30) * 0.9
        outline = 40 + 28 * ridge + rng.integers(-8, 8) + (60 - 10 * ridge) * (noise(rng)[10] - 0.5) + peaks
        below = outline[None] < Y
        pixels[below] = np.array(colour) + rng.normal(0, 8, 3)
        if ridge < 2:
            pixels[below & (outline[None] + 7 > Y)] = (245, 248, 252)
    return pixels


def road(rng):
    pixels = mix(near(rng, 85, 85, 90), near(rng, 110, 110, 115), noise(rng, (32, 64, SIDE), (1, 1, 1)))
    line = rng.integers(20, 140)
    for start in range(0, SIDE, 22):
        pixels[start : start + 12, line : line + 5] = (240, 235, 220)
    pixels[:, : rng.integers(8, 18)] = near(rng, 120, 160, 80)
    return pixels if rng.random() < 0.5 else pixels.transpose(1, 0, 2)


def brick_wall(rng):
    pixels = np.zeros((SIDE, SIDE, 3), np.float32) + near(rng, 205, 195, 185)
    height, clay = rng.integers(7, 12), near(rng, 165, 75, 55)
    width = 2 * height
    for course, top in enumerate(range(0, SIDE, height)):
        for left in range(-(width // 2) * (course % 2), SIDE, width):
            brick = slice(max(left, 0), max(left + width - 1, 0))
            pixels[top : top + height - 1, brick] = clay + rng.normal(0, 12, 3)
    return pixels


def wood(rng):
    grain = np.sin(Y * 1.1 + 6 * noise(rng, (3, 40), (2, 0.3)).T) * 0.5 + 0.5
    pixels = mix(near(rng, 150, 100, 55), near(rng, 190, 140, 85), grain)
    plank = rng.integers(16, 32)
    for top in range(0, SIDE, plank):
        pixels[top] *= 0.5
        pixels[top : top + plank] *= rng.uniform(0.88, 1.1)
    return pixels if rng.random() < 0.5 else pixels.transpose(1, 0, 2)


def grid(rng):
    pixels = np.zeros((SIDE, SIDE, 3), np.float32) + near(rng, 240, 242, 245)
    step, line = rng.integers(7, 13), near(rng, 120, 160, 210)
    pixels[::step] = line
    pixels[:, ::step] = line
    return pixels


_PLACES = (water, forest, meadow, desert, sky, night, snow, city, sunset, mountains, road)
_SURFACES = (brick_wall, wood, grid)
PAINTERS = {painter.__name__.replace("_", " "): painter for painter in (*_PLACES, *_SURFACES)}
