"""Zero-shot classification (thesis 2.3, Eq. 2.1): classifiers from texts, accuracy by group, and likely causes of
errors.

The prediction for an image is the class whose text direction has the highest cosine with the embedding; an
image's length does not change its best class, so embeddings are taken unnormalised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.lens import intervals
from clipviz.lens.intervals import Estimate
from clipviz.values.tables import Columns, Table

IMAGES_AT_ONCE = 8192
AT_CHANCE = 3.0
"""An accuracy within this many standard errors of chance counts as chance."""


@dataclass(frozen=True, eq=False, repr=False)
class Accuracy(Table):
    """Accuracy of one evaluation: top1 in 0..1 over n_images, and by group if groups were given.

    groups: name -> (accuracy, images). worst: name of the worst group, worst_accuracy its accuracy. warnings:
    likely causes when the accuracy is at chance, empty otherwise.
    """

    top1: float
    n_images: int
    n_classes: int
    groups: dict[str, tuple[float, int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def _columns(self) -> Columns:
        rows = {"all images": (self.top1, self.n_images), **self.groups}
        accuracies, counts = zip(*rows.values(), strict=True)
        return {"images": list(rows), "accuracy": accuracies, "n_images": counts}

    def _row(self) -> dict[str, Any]:
        worst = {"worst": self.worst, "worst_accuracy": self.worst_accuracy}
        return {"accuracy": self.top1, "n_images": self.n_images, **worst}

    @property
    def worst(self) -> str | None:
        return min(self.groups, key=lambda name: self.groups[name][0]) if self.groups else None

    @property
    def worst_accuracy(self) -> float:
        """Accuracy of the worst group, or overall accuracy if there are no groups."""
        return self.groups[self.worst][0] if self.worst is not None else self.top1

    @property
    def chance(self) -> float:
        return 1 / self.n_classes


def classifier(encoded: Float[Tensor, "class template d_embed"]) -> Float[Tensor, "class d_embed"]:
    """Return one unit direction per class: the normalised mean of its prompts' unit vectors.

    Raises:
        ValueError: The prompts are not [class, template, d_embed].
    """
    if encoded.ndim != 3:
        raise ValueError(
            f"expected encoded prompts [class, template, d_embed], got {list(encoded.shape)}; encode "
            "the prompts of each class, see clipviz.data.texts.class_texts"
        )
    unit = torch.nn.functional.normalize(encoded, dim=-1)
    return torch.nn.functional.normalize(unit.mean(1), dim=-1)


def prototypes(
    embeddings: Float[Tensor, "image d_embed"], labels: Int[Tensor, " image"] | Sequence[int], n_classes: int
) -> Float[Tensor, "class d_embed"]:
    """Return a classifier from labelled examples: the normalised mean unit embedding of each class.

    The nearest class mean (Mensink et al. 2013; prototypes of Snell et al. 2017).

    Args:
        embeddings: [image, d_embed].
        labels: The class of every image; images labelled -1 are left out.
        n_classes: The number of classes.

    Returns:
        Unit directions, [class, d_embed].

    Raises:
        ValueError: The numbers of labels and images differ, or a class has no example.
    """
    labels = torch.as_tensor(labels).to(embeddings.device)
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"expected a label for each of {len(embeddings)} embeddings, got {list(labels.shape)}; use -1 for none"
        )
    empty = sorted({*range(n_classes)} - {*labels.tolist()})
    if empty:
        raise ValueError(f"expected examples of all {n_classes} classes, got none of {empty}; add some")
    known = labels >= 0
    unit = torch.nn.functional.normalize(embeddings[known], dim=-1)
    sums = unit.new_zeros(n_classes, unit.shape[-1]).index_add(0, labels[known], unit)
    return torch.nn.functional.normalize(sums, dim=-1)


def of_prompts(
    encoded: Float[Tensor, "prompt d_embed"], n_prompts: Sequence[int]
) -> Float[Tensor, "class d_embed"]:
    """Return a classifier from the encoded prompts of all classes in order.

    Args:
        encoded: [prompt, d_embed].
        n_prompts: The number of prompts of each class.

    Returns:
        Unit directions, [class, d_embed].
    """
    labels = torch.repeat_interleave(torch.arange(len(n_prompts)), torch.tensor(list(n_prompts)))
    return prototypes(encoded, labels, len(n_prompts))


def predict(
    embeddings: Float[Tensor, "image d_embed"], class_directions: Float[Tensor, "class d_embed"]
) -> Int[Tensor, " image"]:
    """Return the class of highest cosine for every image, computed a few thousand images at a time.

    Args:
        embeddings: [image, d_embed].
        class_directions: [class, d_embed].

    Returns:
        [image], indices of classes.

    Raises:
        ValueError: The widths differ.
    """
    if embeddings.shape[-1] != class_directions.shape[-1]:
        raise ValueError(
            f"class directions have d_embed={class_directions.shape[-1]} but the embeddings have "
            f"{embeddings.shape[-1]}; encode both with the same model"
        )
    texts = class_directions.to(embeddings).T
    return torch.cat([(part @ texts).argmax(1) for part in embeddings.split(IMAGES_AT_ONCE)])


def accuracy(
    embeddings: Float[Tensor, "image d_embed"],
    class_directions: Float[Tensor, "class d_embed"],
    labels: Int[Tensor, " image"] | Sequence[int],
    groups: Sequence[str] | None = None,
) -> Accuracy:
    """Return top-1, per-group and worst-group zero-shot accuracy.

    Args:
        embeddings: [image, d_embed].
        class_directions: [class, d_embed].
        labels: The class of every image; images labelled -1 are left out.
        groups: The group of every image (for Waterbirds, class and background).

    Returns:
        The accuracies. At chance, `warnings` names likely causes.
    """
    labels = torch.as_tensor(labels).to(embeddings.device)
    n_classes = class_directions.shape[0]
    _check_labels(labels, embeddings, n_classes, groups)
    predicted = predict(embeddings, class_directions)
    found = accuracy_of(predicted, labels, n_classes, groups)
    known = labels >= 0
    causes = likely_causes(embeddings[known], predicted[known], labels[known], n_classes)
    return dataclasses.replace(found, warnings=tuple(causes))


def accuracy_of(
    predicted: Int[Tensor, " image"],
    labels: Int[Tensor, " image"],
    n_classes: int,
    groups: Sequence[str] | None = None,
) -> Accuracy:
    """Return top-1, per-group and worst-group accuracy of predictions.

    Args:
        predicted: The predicted class of every image.
        labels: The class of every image; images labelled -1 are left out.
        n_classes: The number of classes.
        groups: The group of every image.

    Returns:
        The accuracies.
    """
    known = labels >= 0
    hits = (predicted == labels)[known]
    named = (
        [] if groups is None else [group for group, keep in zip(groups, known.tolist(), strict=True) if keep]
    )
    return Accuracy(float(hits.float().mean()), int(known.sum()), n_classes, _by_group(hits, named))


def changes_of(
    before: Int[Tensor, " image"],
    after: Int[Tensor, " image"],
    labels: Int[Tensor, " image"],
    groups: Sequence[str],
) -> tuple[Estimate, dict[str, Estimate]]:
    """Return the change of the accuracy between two predictions for the same images.

    The comparison is paired: it counts images that are right only before and only after.

    Args:
        before: The predicted class of every image.
        after: The same after the change.
        labels: The class of every image; images labelled -1 are left out.
        groups: The group of every image.

    Returns:
        The change overall, and by group.
    """
    known = labels >= 0
    hits = torch.stack([before == labels, after == labels])[:, known].cpu()
    lost, gained = hits[0] & ~hits[1], hits[1] & ~hits[0]
    members: dict[str, list[int]] = {}
    for place, row in enumerate(known.nonzero().flatten().tolist()):
        members.setdefault(str(groups[row]), []).append(place)

    def change(chosen: list[int] | slice) -> Estimate:
        return intervals.paired(int(lost[chosen].sum()), int(gained[chosen].sum()), len(lost[chosen]))

    return change(slice(None)), {name: change(members[name]) for name in sorted(members)}


def above_chance(top1: float, n_images: int, n_classes: int) -> bool:
    """Return whether an accuracy exceeds 1 / n_classes by more than chance explains.

    Args:
        top1: The accuracy, 0..1.
        n_images: The number of images.
        n_classes: The number of classes.

    Returns:
        Whether it exceeds it by AT_CHANCE standard errors.
    """
    chance = 1 / n_classes
    found: bool = top1 > chance + AT_CHANCE * (chance * (1 - chance) / max(1, n_images)) ** 0.5
    return found


def likely_causes(
    embeddings: Float[Tensor, "image d_embed"],
    predicted: Int[Tensor, " image"],
    labels: Int[Tensor, " image"],
    n_classes: int,
) -> list[str]:
    """Return why an evaluation may be at chance: label order, preprocessing, activation function.

    Args:
        embeddings: [image, d_embed].
        predicted: The predicted class of every image.
        labels: The class of every image.
        n_classes: The number of classes.

    Returns:
        Sentences; none if it is not at chance.
    """
    n_images = len(labels)
    top1 = float((predicted == labels).float().mean())
    chance = 1 / n_classes
    error = (chance * (1 - chance) / n_images) ** 0.5
    if above_chance(top1, n_images, n_classes) or n_images < 2 * n_classes:
        return []
    head = f"accuracy {top1:.3f} is no better than chance ({chance:.3f} for {n_classes} classes)"
    causes = [head]
    if _relabelled(predicted, labels, n_classes) > 2 * chance + AT_CHANCE * error:
        causes.append(
            "the predictions match the labels under a different numbering of the classes: check the "
            "order of the class names against the label indices (folders sort alphabetically, not in "
            "ImageNet's order)"
        )
        return causes
    if _spread(embeddings) < 0.05:
        causes.append(
            "all images have nearly the same embedding: check the preprocessing (pixel range, mean and std, size)"
        )
    if float(torch.bincount(predicted, minlength=n_classes).max()) > 0.9 * n_images:
        causes.append(
            "nearly all images are assigned to one class: check the preprocessing, and that each "
            "text is encoded once"
        )
    causes.append(
        "otherwise check the activation function (OpenAI weights need QuickGELU) and that images, "
        "texts and weights belong to one model"
    )
    return causes


def _relabelled(predicted: Tensor, labels: Tensor, n_classes: int) -> float:
    """Return the accuracy under the best renaming of the classes, matched greedily so that no two share a name."""
    table = torch.bincount(labels * n_classes + predicted, minlength=n_classes**2).view(n_classes, n_classes)
    confusion, hits = table.cpu().numpy().astype(np.int64), 0
    for _ in range(n_classes):
        row, column = np.unravel_index(confusion.argmax(), confusion.shape)
        if confusion[row, column] <= 0:
            break
        hits += int(confusion[row, column])
        confusion[row], confusion[:, column] = -1, -1
    return hits / len(labels)


def _spread(embeddings: Tensor) -> float:
    """Return 1 minus the mean cosine with the mean embedding, which is near 0 if all images look alike to the model."""
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    return 1 - float((unit @ torch.nn.functional.normalize(unit.mean(0), dim=0)).mean())


def _by_group(hits: Tensor, groups: Sequence[str]) -> dict[str, tuple[float, int]]:
    counts: dict[str, list[bool]] = {}
    for hit, group in zip(hits.tolist(), groups, strict=False):
        counts.setdefault(str(group), []).append(hit)
    return {group: (sum(found) / len(found), len(found)) for group, found in sorted(counts.items())}


def _check_labels(labels: Tensor, embeddings: Tensor, n_classes: int, groups: Sequence[str] | None) -> None:
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"expected one label per image ({len(embeddings)}), got {list(labels.shape)}")
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"expected one group per image ({len(labels)}), got {len(groups)}")
    if not bool((labels >= 0).any()):
        raise ValueError("expected at least one labelled image (label >= 0), got none")
    if int(labels.max()) >= n_classes:
        raise ValueError(
            f"expected labels below {n_classes}, the number of class directions, got {int(labels.max())}; "
            "give every class a name"
        )
