"""Classifiers from prompts and from examples, used by the ablation desk and the reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.collection.reading import batches
from clipviz.lens import zeroshot
from clipviz.values import Task

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel


def from_prompts(model: ClipModel, prompts: Iterable[Sequence[str]]) -> Float[Tensor, "class d_embed"]:
    """Return unit class directions, the mean of each class's prompts; classes may have different numbers of prompts."""
    texts = [list(own) for own in prompts]
    encoded = model.encode_texts([text for own in texts for text in own])
    return zeroshot.of_prompts(encoded, list(map(len, texts)))


def from_examples(
    examples: Sequence[Sequence[int]],
    images: Sequence[int],
    embeddings: Float[Tensor, "image d_embed"],
) -> Float[Tensor, "class d_embed"]:
    """Return unit class directions, the mean of each class's examples (zeroshot.prototypes).

    examples: [class] images; images: the image of each row of embeddings. Examples that are not among them could
    not be read and do not count. Raises ValueError for a class without any example.
    """
    label_of = {image: label for label, chosen in enumerate(examples) for image in chosen}
    labels = [label_of.get(image, -1) for image in images]
    return zeroshot.prototypes(embeddings, labels, len(examples))


def from_pictures(
    model: ClipModel, images: Any, examples: Sequence[Sequence[int]]
) -> Float[Tensor, "class d_embed"]:
    """Return the same from pictures that have not been embedded yet; unreadable ones are excluded."""
    wanted = [image for chosen in examples for image in chosen]
    rows: list[int] = []
    parts: list[Tensor] = []
    for some, pictures in batches(images, wanted):
        rows += some
        parts.append(model.encode_images(pictures))
    if not parts:
        raise ValueError(f"expected examples that can be read, got none of {len(wanted)}; check the files")
    return from_examples(examples, rows, torch.cat(parts))


def by_name(model: ClipModel, task: Task) -> Task:
    """Return the task with the classifier of its classes' prompts."""
    return replace(task, classifiers={**task.classifiers, "names": from_prompts(model, task.prompts)})


def of_shortcut(model: ClipModel, task: Task) -> Float[Tensor, "2 d_embed"]:
    """Return the two directions whose difference is the task's shortcut. Raises ValueError if it has none."""
    if not task.shortcut:
        raise ValueError(f"expected a task with a shortcut, got {task.name!r}, which has none")
    return from_prompts(model, [texts for _, texts in task.shortcut])
