"""Training batches of the demo world, drawn in a process of their own."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipviz.demo.model.network import tokenize
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS, caption, facts
from clipviz.demo.world.drawing import draw
from clipviz.demo.world.sampling import Theme, counting_theme, sample_scene, sample_theme, spotlight_theme
from clipviz.demo.world.scene import attributes
from clipviz.demo.world.truth import TRUE, UNKNOWN, truths
from tools.demo.texts import pool
from tools.demo.varying import vary

_GROUPS = 4
N_POOL = 300
"""Texts of the demo's pool that a batch is compared with."""

REFERENCE_SEED = 9


@dataclass(frozen=True)
class Batch:
    """images: [image, row, column, 3] uint8; things: [image, row, column] bool, where things are; caption_ids:
    [image, 24]; same: [image, image], 1 where two captions are the same sentence; fact_images, fact_values: for each
    family of facts the images it applies to and their values, [fact] each; prompt_ids: [prompt, 24], one sentence
    for every value of every family in order, then sentences of the demo's pool; truth: [image, prompt + caption]
    uint8, what each of these sentences and of the captions is of each image; frequency: [prompt + caption], the share
    of free scenes that a sentence is true of.
    """

    images: Tensor
    things: Tensor
    caption_ids: Tensor
    same: Tensor
    fact_images: dict[str, Tensor]
    fact_values: dict[str, Tensor]
    prompt_ids: Tensor
    truth: Tensor
    frequency: Tensor


@dataclass(frozen=True)
class Mixture:
    """What the groups of a batch are, as shares of all groups; the rest are free scenes.

    spotlight: single large shapes or glyphs on a plain background; counting: several copies on one; themed, a share
    of the groups that are neither: scenes that agree in kind, background and more, so that only details tell them
    apart. altered: share of the sprites that are drawn a little differently. n_reference: free scenes by which it is
    known how common a sentence is.
    """

    themed: float = 0.6
    spotlight: float = 0.0
    counting: float = 0.0
    altered: float = 0.5
    n_reference: int = 6000

    def theme(self, rng: np.random.Generator) -> Theme:
        draw = rng.random() if self.spotlight or self.counting else 1.0
        if draw < self.spotlight:
            return spotlight_theme(rng)
        if draw < self.spotlight + self.counting:
            return counting_theme(rng)
        return sample_theme(rng) if rng.random() < self.themed else Theme()


def make_batch(seed: int, step: int, size: int, mixture: Mixture = Mixture()) -> Batch:
    """Return the batch of one training step; depends on nothing but its arguments."""
    rng = np.random.default_rng([seed, step])
    scenes = []
    for group in np.array_split(np.arange(size), _GROUPS):
        theme = mixture.theme(rng)
        scenes += [sample_scene(rng, theme) for _ in group]
    images = torch.empty(size, words.IMAGE_SIZE, words.IMAGE_SIZE, 3, dtype=torch.uint8)
    things = torch.empty(images.shape[:3], dtype=torch.bool)
    for index, scene in enumerate(scenes):
        image, mask = draw(scene, rng, alter=functools.partial(vary, share=mixture.altered))
        images[index], things[index] = torch.from_numpy(image), torch.from_numpy(mask > 0)
    captions = [caption(scene, rng) for scene in scenes]
    first = {text: index for index, text in reversed(list(enumerate(captions)))}
    twins = torch.tensor([first[text] for text in captions])
    pairs: dict[str, list[tuple[int, int]]] = {family: [] for family in FACTS}
    for index, scene in enumerate(scenes):
        for family, value in facts(scene):
            pairs[family].append((index, value))
    found = {family: torch.tensor(listed) for family, listed in pairs.items() if listed}
    prompts = [choices[rng.integers(len(choices))] for values in FACTS.values() for choices in values]
    prompts += _some_of_the_pool(rng)
    sentences = [*prompts, *captions]
    table = np.array([attributes(scene) for scene in scenes], np.int16)
    return Batch(
        images,
        things,
        tokenize(captions),
        (twins[:, None] == twins[None]).float(),
        {family: listed[:, 0] for family, listed in found.items()},
        {family: listed[:, 1] for family, listed in found.items()},
        tokenize(prompts),
        torch.from_numpy(truths(sentences, table)),
        torch.tensor([frequency(text, mixture.n_reference) for text in sentences]),
    )


@functools.cache
def _pool() -> tuple[str, ...]:
    return tuple(pool())


def _some_of_the_pool(rng: np.random.Generator) -> list[str]:
    return [_pool()[index] for index in rng.permutation(len(_pool()))[:N_POOL]]


@functools.cache
def _reference(n: int) -> np.ndarray:
    """Return attributes of free scenes."""
    rng = np.random.default_rng([REFERENCE_SEED, 7])
    return np.array([attributes(sample_scene(rng)) for _ in range(n)], np.int16)


@functools.lru_cache(maxsize=20_000)
def frequency(text: str, n_scenes: int) -> float:
    """Return the share of free scenes that a sentence is true of, never 0; what is unknown of a scene does not
    count.
    """
    truth = truths([text], _reference(n_scenes))
    known = (truth != UNKNOWN).sum()
    return (float((truth == TRUE).sum()) + 0.3) / (float(known) + 0.6)


def stream(
    seed: int, first_step: int, size: int, mixture: Mixture = Mixture(), ahead: int = 3
) -> Generator[Batch, None, None]:
    """Batches from `first_step` on, up to `ahead` of them prepared by another process (0: by this one)."""
    if not ahead:
        for step in itertools.count(first_step):
            yield make_batch(seed, step, size, mixture)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(ahead)
    worker = context.Process(
        target=_produce, args=(queue, seed, first_step, size, mixture, os.getpid()), daemon=True
    )
    worker.start()
    try:
        while True:
            yield queue.get()
    finally:
        worker.terminate()


def _produce(queue, seed: int, step: int, size: int, mixture: Mixture, parent: int) -> None:
    torch.set_num_threads(1)
    while os.getppid() == parent:
        queue.put(make_batch(seed, step, size, mixture))
        step += 1
