"""The true scene of every latent: what the embedded generator was trained to paint.

A latent of 24 standard normal numbers, rotated by a fixed rotation, gives 24 independent factors f; a label gives
the kind. The position, size, number and colour of the object and its background follow from f by the formulas of
`factors` and `true_scene`. The teacher draws this scene with the demo world's own sprites, tints and backgrounds.
The truth is therefore known for any latent, even for one found by an edit or an inversion.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from clipviz.demo.world import drawing, sprites
from clipviz.demo.world import vocabulary as words

KINDS = (
    *("flamingo", "duck", "owl", "penguin", "fox", "ladybug", "turtle", "snail", "apple", "strawberry"),
    *("mushroom", "cactus", "car", "bus", "sailboat", "house", "castle", "guitar"),
)
"""Kinds of object, by label."""
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
"""Named colours of painted objects, around the hue circle."""
GROUNDS = ("water", "forest", "sky", "meadow", "night", "desert", "plain", "gradient")
N_LATENT = 24
SIDE = 64
"""Side of a generated picture in pixels."""
UNSEEN = f"objects_{words.UNSEEN_STYLE}"
"""Sprites in a drawing style on which no model of the demo world was trained."""
TWO_ABOVE, NONE_BELOW = 0.67449, -2.0537
"""Thresholds of the factor that sets the number of objects: a quarter of all latents show two, one in fifty none."""
TAIL = 0.06
"""Share of an opacity that changes slowly with the number's factor. The trace stays far below 2%, but gives an edit
a gradient towards a second object, or towards none, from any start.
"""
_MIDDLE, _REACH, _STEEP = 0.5, 0.38, 0.6
_PAD = 48
_PALETTE = np.array([words.COLOUR_RGB[words.COLOURS.index(name)] for name in COLOURS], np.float64) / 255


@functools.cache
def rotation() -> Float[Tensor, "factor latent"]:
    """Return the fixed rotation from latents to factors, float64."""
    generator = torch.Generator().manual_seed(5)
    found: Tensor = torch.linalg.qr(
        torch.randn(N_LATENT, N_LATENT, generator=generator, dtype=torch.float64)
    )[0]
    return found


@dataclass(frozen=True, eq=False)
class TrueScenes:
    """The scenes that latents determine, one row per latent.

    label: index in KINDS. centre: [image, 2 objects, (x, y)] in sides, centres of the sprites' boxes. size:
    longest side of a sprite in sides. number: the factor that determines how many objects there are. opacity:
    [image, 2 objects] in 0..1. rgb: the paint, 0..1; painted: 0 (own colours) to 1. ground: index in GROUNDS;
    ground_rgb: [image, (top, bottom), 3] of plain and gradient grounds; light: brightness of the others.
    """

    label: Int[np.ndarray, " image"]
    centre: Float[np.ndarray, "image 2 2"]
    size: Float[np.ndarray, " image"]
    number: Float[np.ndarray, " image"]
    opacity: Float[np.ndarray, "image 2"]
    rgb: Float[np.ndarray, "image 3"]
    painted: Float[np.ndarray, " image"]
    ground: Int[np.ndarray, " image"]
    ground_rgb: Float[np.ndarray, "image 2 3"]
    light: Float[np.ndarray, " image"]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def count(self) -> Int[np.ndarray, " image"]:
        """The number of objects that are more than half opaque: 0, 1 or 2."""
        found: np.ndarray = (self.opacity > 0.5).sum(1)
        return found

    @property
    def colour(self) -> Int[np.ndarray, " image"]:
        """Index in COLOURS of the paint, or -1 for an object in its own colours."""
        nearest = np.square(self.rgb[:, None] - _PALETTE).sum(-1).argmin(1)
        return np.where(self.painted > 0.5, nearest, -1)

    def kinds(self) -> list[str]:
        return [KINDS[label] for label in self.label]


@dataclass(frozen=True, eq=False)
class Shown:
    """The visible part of the objects in the teacher's pictures.

    area: [image, 2 objects], share of the picture; centroid: [image, 2 objects, (x, y)] in sides, NaN if nothing
    is visible.
    """

    area: Float[np.ndarray, "image 2"]
    centroid: Float[np.ndarray, "image 2 2"]


def true_scenes(z: Float[Tensor, "image latent"], label: Int[Tensor, " image"]) -> TrueScenes:
    """Return the scenes that latents and labels determine."""
    f = (z.detach().double().cpu() @ rotation().T).numpy()
    size = np.clip(0.42 * np.exp(0.22 * f[:, 2]), 0.18, 0.85)
    first, second = (_MIDDLE + _REACH * np.tanh(_STEEP * f[:, a:b]) for a, b in ((0, 2), (4, 6)))
    apart = second - first
    distance = np.sqrt(np.square(apart).sum(1, keepdims=True)) + 1e-9
    least = 0.9 * size[:, None]
    second = np.clip(first + apart * np.sqrt(1 + np.square(least / distance)), 0.08, 0.92)
    return TrueScenes(
        label=label.cpu().numpy().astype(int),
        centre=np.stack([first, second], 1),
        size=size,
        number=f[:, 3],
        opacity=opacities(torch.from_numpy(f[:, 3])).numpy(),
        rgb=hue(np.arctan2(f[:, 7], f[:, 6]) / (2 * math.pi)),
        painted=_sigmoid(16 * f[:, 8]),
        ground=f[:, 9:17].argmax(1),
        ground_rgb=(0.35 + 0.65 * _phi(f[:, 17:23])).reshape(-1, 2, 3),
        light=0.85 + 0.3 * _phi(f[:, 23]),
    )


def opacities(number: Float[Tensor, " image"]) -> Float[Tensor, "image 2"]:
    """Return the opacities of the first and second object: two sigmoids of one factor, steep except for a slow tail."""
    above = torch.stack([number - NONE_BELOW, number - TWO_ABOVE], 1)
    steep = torch.tensor([3.0, 8.0], dtype=number.dtype, device=number.device)
    return (1 - TAIL) * (steep * above).sigmoid() + TAIL * (1.2 * above).sigmoid()


def hue(turn: Float[np.ndarray, " image"]) -> Float[np.ndarray, "image 3"]:
    """Return a colour of the circle of named colours: constant near each name, with a short passage to the next."""
    place = turn % 1.0 * len(COLOURS)
    index = np.floor(place).astype(int) % len(COLOURS)
    share = np.clip((place % 1.0 - 0.5) / 0.15 + 0.5, 0, 1)[:, None]
    found: np.ndarray = _PALETTE[index] * (1 - share) + _PALETTE[(index + 1) % len(COLOURS)] * share
    return found


def _sigmoid(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return found


def _phi(x: np.ndarray) -> np.ndarray:
    """Return the distribution function of the standard normal."""
    found: np.ndarray = torch.special.ndtr(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return found


def paint(scenes: TrueScenes, index: int, atlas: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the teacher's picture of one scene, [96, 96, 3] float32 in 0..255, and the opacity of each object [2,
    96, 96].

    The first object lies over the second; both may reach beyond the frame. atlas: sprites in another style, such
    as UNSEEN, for a kind available in it (see `kinds_in`).
    """
    side = drawing.SIDE
    wide = np.zeros((side + 2 * _PAD, side + 2 * _PAD, 3), np.float32)
    inner = slice(_PAD, _PAD + side)
    wide[inner, inner] = _ground(scenes, index)
    sprite = _sprite(scenes, index, atlas)
    height, width = sprite.shape[:2]
    layers = np.zeros((2, *wide.shape[:2]), np.float32)
    for which in (1, 0):
        opacity = np.float32(scenes.opacity[index, which])
        if opacity < 0.004:
            continue
        x, y = scenes.centre[index, which] * side + _PAD
        left, top = round(x - width / 2), round(y - height / 2)
        alpha = sprite[..., 3:] * opacity
        window = wide[top : top + height, left : left + width]
        window *= 1 - alpha
        window += sprite[..., :3] * opacity
        layers[1, top : top + height, left : left + width] *= 1 - alpha[..., 0]
        layers[which, top : top + height, left : left + width] = alpha[..., 0]
    return wide[inner, inner].clip(0, 255), layers[:, inner, inner]


def shown(scenes: TrueScenes) -> Shown:
    """Return areas and centroids of the objects' opacity in the teacher's pictures."""
    line = (np.arange(drawing.SIDE) + 0.5) / drawing.SIDE
    area, centroid = np.zeros((len(scenes), 2)), np.full((len(scenes), 2, 2), np.nan)
    for index in range(len(scenes)):
        layers = paint(scenes, index)[1].astype(np.float64)
        area[index] = layers.mean((1, 2))
        for which in np.flatnonzero(area[index] > 0):
            weights = layers[which] / layers[which].sum()
            centroid[index, which] = (weights.sum(0) * line).sum(), (weights.sum(1) * line).sum()
    return Shown(area, centroid)


def kinds_in(atlas: str) -> list[int]:
    """Return the labels of the kinds that are also available in a style."""
    return [label for label, name in enumerate(KINDS) if name in sprites.originals(atlas)]


@functools.cache
def _original(label: int, atlas: str | None = None) -> Image.Image:
    return sprites.originals(atlas or sprites.object_atlas(0))[KINDS[label]][0]


@functools.lru_cache(maxsize=4096)
def _scaled(label: int, longest: int, atlas: str | None = None) -> np.ndarray:
    sprite = sprites.resized(_original(label, atlas), longest).astype(np.float32)
    sprite[..., 3] /= 255
    return sprite


def centred_sprite(label: int, longest: int, side: int) -> Float[np.ndarray, "side side 4"]:
    """Return a kind's premultiplied sprite in its own colours, in the middle of an empty square."""
    sprite = _scaled(label, longest)
    height, width = sprite.shape[:2]
    top, left = round((side - height) / 2), round((side - width) / 2)
    square = np.zeros((side, side, 4), np.float32)
    square[top : top + height, left : left + width] = sprite
    return square


def _sprite(scenes: TrueScenes, index: int, atlas: str | None) -> np.ndarray:
    """Return the premultiplied sprite, painted to the degree that the scene specifies."""
    own = _scaled(int(scenes.label[index]), round(float(scenes.size[index]) * drawing.SIDE), atlas)
    share = np.float32(scenes.painted[index])
    if share < 0.004:
        return own
    alpha = own[..., 3]
    light = (drawing.luminance(own) / np.maximum(alpha, 0.02) / 255)[..., None]
    target = (scenes.rgb[index] * 255).astype(np.float32)
    shaded = np.where(
        light < 0.5, target * (0.3 + 1.4 * light), target + (255 - target) * (light - 0.5) * 0.9
    )
    sprite = own.copy()
    sprite[..., :3] += share * (np.clip(shaded, 0, 255) * alpha[..., None] - own[..., :3])
    return sprite


@functools.cache
def ground_tile(name: str) -> Float[np.ndarray, "96 96 3"]:
    """Return the world's tile from which a painted background is cut, 0..255."""
    tile = sprites.background_tiles(name)[0]
    start = (tile.shape[0] - drawing.SIDE) // 2
    found: np.ndarray = tile[start : start + drawing.SIDE, start : start + drawing.SIDE].astype(np.float32)
    return found


def _ground(scenes: TrueScenes, index: int) -> np.ndarray:
    name = GROUNDS[scenes.ground[index]]
    top, bottom = (scenes.ground_rgb[index] * 255).astype(np.float32)
    if name == "plain":
        return np.broadcast_to(top, (drawing.SIDE, drawing.SIDE, 3))
    if name == "gradient":
        ramp = np.linspace(0, 1, drawing.SIDE, dtype=np.float32)[:, None, None]
        return np.broadcast_to(top * (1 - ramp) + bottom * ramp, (drawing.SIDE, drawing.SIDE, 3))
    return ground_tile(name) * np.float32(scenes.light[index])
