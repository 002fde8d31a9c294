"""Held-out scenes of the demo world as an evaluation: tasks by family of attributes, birds and places, true masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipviz import demo
from clipviz.analysis.collection import classifiers
from clipviz.data.images import Images, open_images
from clipviz.data.segmentation import MaskedImages
from clipviz.demo.model import evaluate
from clipviz.demo.model.evaluate import HELD_OUT_SEEDS, Encoder
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS
from clipviz.demo.world.scene import OBJECT
from clipviz.demo.world.scenes import Scenes, bird_examples, join, render, spurious
from clipviz.models.clip import ClipModel
from clipviz.reproduce.evaluation import (
    Evaluation,
    spaced,
)
from clipviz.values import Task

FAMILIES = ("object", "shape", "glyph", "colour", "count", "background", "treatment")
"""The families whose accuracy is tracked through ablations."""
BATCH = 100


@dataclass(frozen=True)
class HeldOutSizes:
    """Number of images for each measurement and seed: held-out scenes, large plain shapes and glyphs, traced scenes,
    scenes with masks, birds in each group, scenes for neurons; also the total number of generated pictures, the
    pictures of each adversarial attack, and the number of pooled seeds.
    """

    scenes: int = 2000
    large: int = 720
    traced: int = 1000
    masks: int = 60
    birds: int = 100
    neurons: int = 240
    generated: int = 1000
    attacked: int = 60
    n_seeds: int = len(HELD_OUT_SEEDS)

    @property
    def seeds(self) -> tuple[int, ...]:
        return HELD_OUT_SEEDS[: self.n_seeds]

    @classmethod
    def within(cls, limit: int | None) -> HeldOutSizes:
        """Return the usual sizes, or proportionally smaller ones for at most `limit` held-out scenes in all."""
        if limit is None:
            return cls()
        if limit < 40:
            raise ValueError(
                f"expected a limit of at least 40 held-out scenes, got {limit}; use a larger one"
            )
        n_seeds = min(cls.n_seeds, max(1, limit // 40))
        share = min(1.0, limit / n_seeds / cls.scenes)
        least = {"scenes": 40, "large": 36, "traced": 40, "masks": 6, "birds": 5, "neurons": 40}
        least |= {"generated": 50, "attacked": 4}
        per_seed = {name: max(size, round(share * getattr(cls, name))) for name, size in least.items()}
        return cls(**per_seed, n_seeds=n_seeds)


def encoder_of(model: ClipModel) -> Encoder:
    """Return a model's towers in the form that the world's tests use: uint8 arrays and sentences to unit vectors."""

    def encode_images(images: np.ndarray) -> Tensor:
        parts = [
            model.encode_images([Image.fromarray(pixels) for pixels in images[start : start + BATCH]])
            for start in range(0, len(images), BATCH)
        ]
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1).cpu()

    def encode_texts(texts: Sequence[str]) -> Tensor:
        return model.encode_texts(texts).cpu()

    return Encoder(encode_images, encode_texts)


def held_out(model: ClipModel, encoder: Encoder, sizes: HeldOutSizes) -> tuple[Evaluation, Scenes]:
    """Return an evaluation on scenes that do not occur in training, of all seeds together, and the scenes
    themselves.

    encoder: that of the model, from `encoder_of`.
    """
    scenes = join([render(sizes.traced, seed) for seed in sizes.seeds])
    birds = bird_groups(model, sizes.birds, sizes.seeds)
    return Evaluation(
        name="held-out scenes of the demo world",
        images=open_images(_pictures(scenes.images)),
        tasks=family_tasks(encoder, scenes),
        pools={"descriptions": demo.texts()},
        birds=birds,
        shortcut=classifiers.of_shortcut(model, birds[1]),
        masks=masked_objects(scenes, sizes.masks * sizes.n_seeds),
        pairs=paired_objects(scenes, sizes.masks * sizes.n_seeds),
        class_prompts=dict(zip(words.OBJECT_NAMES, map(list, FACTS["object"]), strict=True)),
    ), scenes


def family_tasks(encoder: Encoder, scenes: Scenes) -> list[Task]:
    """Return one task per family of FAMILIES; count is judged on 2 to 6 copies."""
    tasks = []
    for family in FAMILIES:
        first = 1 if family == "count" else 0
        labels = [-1 if value is None else value - first for value in evaluate.truths(family, scenes)]
        prompts = tuple(tuple(sentences) for sentences in FACTS[family])[first:]
        names, classifier = tuple(own[0] for own in prompts), {"names": encoder.directions[family][first:]}
        tasks.append(Task(family, names, prompts, tuple(labels), classifiers=classifier))
    return tasks


def bird_groups(model: ClipModel, n_per_group: int, seeds: Sequence[int]) -> tuple[Images, Task]:
    """Return lone birds over water and in a forest, n_per_group per group and seed, and their task (thesis 2.4)."""
    birds = join([spurious(n_per_group, seed) for seed in seeds])
    examples = join([bird_examples(n_per_group, seed) for seed in seeds])
    landbird = examples.groups >= 2
    shown = [np.flatnonzero(~landbird).tolist(), np.flatnonzero(landbird).tolist()]
    task = Task(
        name="birds",
        classes=("waterbird", "landbird"),
        prompts=tuple(tuple(prompts) for prompts in FACTS["bird"]),
        labels=tuple(int(group >= 2) for group in birds.groups),
        groups=tuple(words.BIRD_GROUP_PHRASES[group] for group in birds.groups),
        by="bird and background",
        note=f"learnt from {len(examples):,} pictures in their own colours, 80% in their usual habitat",
        shortcut=tuple((place, tuple(words.BACKGROUND_PHRASES[place])) for place in ("water", "forest")),
    )
    learnt = classifiers.from_pictures(model, _pictures(examples.images), shown)
    known = classifiers.by_name(model, task)
    return open_images(_pictures(birds.images)), replace(
        known, classifiers={**known.classifiers, "examples": learnt}
    )


def _pictures(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(one) for one in pixels]


def masked_objects(scenes: Scenes, n: int) -> MaskedImages:
    """Return up to `n` untreated scenes with one kind of object, with the true mask of all its copies."""
    fitting = [
        i
        for i, scene in enumerate(scenes.scenes)
        if scene.thing is not None
        and scene.thing.kind == OBJECT
        and scene.second is None
        and scene.treatment == 0
    ]
    rows = [fitting[i] for i in spaced(len(fitting), n)]

    def read(i: int) -> tuple[Image.Image, np.ndarray]:
        return Image.fromarray(scenes.images[rows[i]]), scenes.masks[rows[i]]

    return MaskedImages([f"scene {i}" for i in rows], [scenes.scenes[i].subject.name for i in rows], read)


def two_objects(scenes: Scenes) -> list[int]:
    """Return the untreated scenes of two different objects."""
    return [
        i
        for i, scene in enumerate(scenes.scenes)
        if scene.treatment == 0
        and all(thing is not None and thing.kind == OBJECT for thing in (scene.thing, scene.second))
    ]


def paired_objects(scenes: Scenes, n: int) -> MaskedImages | None:
    """Return untreated scenes of two different objects, up to `n` of their objects, each with its own true mask."""
    fitting = two_objects(scenes)
    rows = [fitting[i] for i in spaced(len(fitting), n // 2)]
    things = [(i, thing) for i in rows for thing in (scenes.scenes[i].thing, scenes.scenes[i].second)]

    def read(place: int) -> tuple[Image.Image, np.ndarray]:
        i = rows[place // 2]
        return Image.fromarray(scenes.images[i]), scenes.masks[i] == 1 + place % 2

    names, labels = (
        [f"scene {i}" for i, _ in things],
        [thing.name for _, thing in things if thing is not None],
    )
    return MaskedImages(names, labels, read) if rows else None
