"""Rendered scenes with all their true attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import caption
from clipviz.demo.world.drawing import SIDE, draw
from clipviz.demo.world.language import parse
from clipviz.demo.world.sampling import bird_scene, sample_scene
from clipviz.demo.world.scene import ATTRIBUTE_COLUMNS, VOCABULARIES, Scene, attributes


@dataclass(frozen=True)
class Scenes:
    """Pictures of the demo world and their true answers.

    images: [image, row, column, 3] uint8. masks: [image, row, column] uint8, 0 the background, k the k-th thing.
    captions: a list of sentences for each image. attributes: [image, attribute] int16, columns as in `columns`;
    -1 where an attribute does not apply. groups: [image] int8, index in BIRD_GROUPS or -1. scenes: the scenes
    that were drawn, which determine every other field.
    """

    images: np.ndarray
    masks: np.ndarray
    captions: list[list[str]]
    attributes: np.ndarray
    scenes: tuple[Scene, ...]
    columns: tuple[str, ...] = ATTRIBUTE_COLUMNS

    def __len__(self) -> int:
        return len(self.images)

    @property
    def groups(self) -> np.ndarray:
        return self.attribute("bird group").astype(np.int8)

    def attribute(self, column: str) -> np.ndarray:
        """Return one column of the attribute table as indices, [image]."""
        if column not in self.columns:
            raise ValueError(
                f"expected one of {', '.join(self.columns)}, got {column!r}; choose a listed column"
            )
        return self.attributes[:, self.columns.index(column)]

    def words(self, column: str) -> list[str | int | None]:
        """Return one column of the attribute table in words; None where it does not apply."""
        values: list[int] = self.attribute(column).tolist()
        if column not in VOCABULARIES:
            return list(values)
        return [VOCABULARIES[column][value] if value >= 0 else None for value in values]


def join(parts: Sequence[Scenes]) -> Scenes:
    """Return the scenes of several renderings, one after the other."""
    return Scenes(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.masks for part in parts]),
        [captions for part in parts for captions in part.captions],
        np.concatenate([part.attributes for part in parts]),
        tuple(scene for part in parts for scene in part.scenes),
    )


def render(
    n: int, seed: int, *, unseen_views: bool = False, correlation: float = 0.8, n_captions: int = 2
) -> Scenes:
    """Render `n` random scenes; the same arguments give the same bytes in every process with one version of Pillow.

    Another version may scale some sprites differently: Pillow 13 changes 5 of the 1,500 pictures of seed 0 that
    Pillow 12.3 draws, by up to 7 of 255 levels.

    unseen_views: draw with the style, font, tilts and background tiles that do not occur in training.
    correlation: share of birds over the place they belong to. n_captions: sentences for each image.
    """
    rng = np.random.default_rng([seed, 0])
    drawn = [sample_scene(rng, correlation=correlation, unseen_views=unseen_views) for _ in range(n)]
    return compose(drawn, seed, unseen_views=unseen_views, n_captions=n_captions)


def spurious(n_per_group: int, seed: int, painted: bool = True) -> Scenes:
    """Render equally many lone birds in each of the four groups BIRD_GROUPS, in their order.

    painted: paint each in a random colour, which makes it hard to recognise; else it has its own colours.
    """
    rng = np.random.default_rng([seed, 1])
    drawn = [
        bird_scene(group, rng, painted) for group in range(len(words.BIRD_GROUPS)) for _ in range(n_per_group)
    ]
    return compose(drawn, seed)


def bird_examples(n_per_class: int, seed: int, correlation: float = 0.8) -> Scenes:
    """Render lone birds in their own colours as examples of "waterbird" and "landbird", waterbirds first.

    correlation: share of birds in their own place, as in a biased training set; a classifier learnt from them
    treats the place as part of the class.
    """
    if not 0 <= correlation <= 1:
        raise ValueError(f"expected a correlation of 0 to 1, got {correlation}")
    rng = np.random.default_rng([seed, 6])
    at_home = round(correlation * n_per_class)
    groups = [0] * at_home + [1] * (n_per_class - at_home) + [3] * at_home + [2] * (n_per_class - at_home)
    return compose([bird_scene(group, rng, painted=False) for group in groups], seed)


def scene(text: str, seed: int = 0, n: int = 1) -> Scenes:
    """Render `n` pictures of what a text describes; what it leaves open is drawn from the seed.

    Understands the world's own captions, such as "two red apples on a striped background" or
    "a blurry photo of a duck to the left of a circle at night".
    Raises ValueError with the words that are understood when the text has others.
    """
    rng = np.random.default_rng([seed, 2])
    return compose([parse(text, rng) for _ in range(n)], seed, first_caption=text)


def compose(
    scenes: list[Scene],
    seed: int,
    *,
    unseen_views: bool = False,
    n_captions: int = 2,
    first_caption: str | None = None,
) -> Scenes:
    """Draw and describe given scenes."""
    rng = np.random.default_rng([seed, 3])
    images = np.empty((len(scenes), SIDE, SIDE, 3), np.uint8)
    masks = np.empty((len(scenes), SIDE, SIDE), np.uint8)
    captions = []
    for index, one in enumerate(scenes):
        images[index], masks[index] = draw(one, rng, unseen_views)
        written = [caption(one, rng) for _ in range(n_captions)]
        captions.append(written if first_caption is None else [first_caption, *written[1:]])
    table = np.array([attributes(one) for one in scenes], np.int16).reshape(
        len(scenes), len(ATTRIBUTE_COLUMNS)
    )
    return Scenes(images, masks, captions, table, tuple(scenes))
