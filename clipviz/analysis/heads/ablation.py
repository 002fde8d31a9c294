"""The effect of an ablation on one image and on a collection, computed linearly from codes without re-running the
model.

`desk` is one image's class scores under any set of heads, which the browser toggles by itself. `outcome` is the
accuracy before, after, and with as many other heads of the same layers removed, drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.collection.reading import batches
from clipviz.lens import ablate, intervals, spurious, subsets, zeroshot
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.intervals import Estimate
from clipviz.lens.subsets import SubsetLogits
from clipviz.lens.zeroshot import Accuracy
from clipviz.values import Ablation, Codes, Head, HeadBasis, Progress, Task, unwatched
from clipviz.values.tables import Columns, Table

if TYPE_CHECKING:
    from clipviz.data.images import Images
    from clipviz.models.clip import ClipModel

N_DRAWS = 20
MIN_GROUP = 8  # images; the accuracy of a smaller group is too uncertain to show
SHORTCUT_SHARE = 5  # one in this many late heads is removed with a shortcut
MOST_TRACED = 1024  # images traced again for an ablation of single MLPs or tokens
LARGE = 1 << 29  # larger unablated logits are recomputed for each ablation


@dataclass(frozen=True, eq=False, repr=False)
class Desk(Table):
    """One image and one task, ready for toggling (lens.subsets): mean and zero ablation of every kept head and of
    the rest, and of every MLP if they are separate. logits, squared_norm: those of the whole embedding, even if tokens
    can be removed too. label: the image's class, -1 if it has none; n_images: number of images
    averaged for the means.
    """

    mean: SubsetLogits
    zero: SubsetLogits
    logits: Tensor
    squared_norm: Tensor
    scale: float
    # set for a model trained with a sigmoid loss: one sigmoid per class instead of a softmax
    bias: float | None
    label: int
    n_images: int

    def _columns(self) -> Columns:
        chances = self.probabilities(Ablation())
        return {"class": range(len(chances)), "logit": self.logits.cpu().numpy(), "probability": chances}

    def _title(self) -> str:
        return f"Classes of an image before any head is removed (its label: {self.label})"

    def probabilities(self, ablation: Ablation) -> np.ndarray:
        """Return zero-shot class probabilities after an ablation, [class]."""
        side = self.mean if ablation.how == "mean" else self.zero
        logits, length = side.after(ablation)
        scaled = self.scale * logits / length
        found = torch.softmax(scaled, 0) if self.bias is None else torch.sigmoid(scaled + self.bias)
        return found.cpu().numpy()


class Row(NamedTuple):
    """Accuracy of a group of images (or all): before, after, in each random draw, and the change (95% interval)."""

    name: str
    n_images: int
    before: float
    after: float
    random: tuple[float, ...]
    change: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Table):
    """A collection before and after an ablation, and under random draws of as many other heads.

    drawn_from: the layers from which heads are drawn, which are those of the removed heads if these layers have enough
    other heads.

    change: the change of the accuracy over all images, from pairs; changes: the change by group.
    """

    before: Accuracy
    after: Accuracy
    change: Estimate
    changes: dict[str, Estimate]
    random: tuple[Accuracy, ...]
    n_heads: int
    drawn_from: tuple[int, ...]

    def _columns(self) -> Columns:
        rows = [self.everything, *self.groups]
        return {
            "images": [row.name for row in rows],
            "n_images": [row.n_images for row in rows],
            "before": [row.before for row in rows],
            "after": [row.after for row in rows],
            "random_heads": [float(np.mean(row.random)) if row.random else None for row in rows],
            "change": [row.change.value for row in rows],
            "change_low": [row.change.low for row in rows],
            "change_high": [row.change.high for row in rows],
        }

    def _title(self) -> str:
        heads = "1 head" if self.n_heads == 1 else f"{self.n_heads} heads"
        return f"Accuracy before and after removing {heads}, beside random heads"

    @property
    def everything(self) -> Row:
        draws = tuple(draw.top1 for draw in self.random)
        return Row("all images", self.before.n_images, self.before.top1, self.after.top1, draws, self.change)

    @property
    def groups(self) -> list[Row]:
        """Every group of at least MIN_GROUP images, the worst before first; all groups if none is that large."""
        counts = {name: n for name, (_, n) in self.before.groups.items() if name}
        names = [name for name, n in counts.items() if n >= MIN_GROUP] or list(counts)
        rows = [
            Row(
                name,
                counts[name],
                self.before.groups[name][0],
                self.after.groups[name][0],
                tuple(draw.groups[name][0] for draw in self.random),
                self.changes[name],
            )
            for name in names
        ]
        return sorted(rows, key=lambda row: row.before)

    @property
    def worst(self) -> Row | None:
        """The worst group of each column, which may be different groups.

        Its change is paired if it is one group, and otherwise the difference between two groups. The interval
        does not account for choosing the groups as the worst.
        """
        rows = self.groups
        if not rows:
            return None
        draws = tuple(min(values) for values in zip(*(row.random for row in rows), strict=True))
        before, after = min(rows, key=lambda row: row.before), min(rows, key=lambda row: row.after)
        change = before.change
        if before.name != after.name:
            shares = [
                intervals.share(round(value * row.n_images), row.n_images)
                for row, value in ((before, before.before), (after, after.after))
            ]
            change = intervals.difference(*shares)
        return Row(before.name, before.n_images, before.before, after.after, draws, change)


@dataclass(frozen=True, eq=False)
class Left:
    """What remains of one image after an ablation, unnormalised: its embedding [d_embed], and the replacements of
    removed terms.

    heads: the removed heads; instead: [head, d_embed], their means, or 0; rest: [d_embed], the same for
    everything that is not a kept head, None if that is not removed.
    """

    embedding: Tensor
    heads: list[Head]
    instead: Tensor
    rest: Tensor | None

    @property
    def norm(self) -> Tensor:
        found: Tensor = self.embedding.norm().clamp_min(1e-12)
        return found


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one task: terms, labels, groups, class directions, and the unablated logits if they are small;
    also the predictions before any ablation and their accuracy.
    """

    terms: Terms
    labels: Tensor
    groups: list[str]
    directions: Tensor
    logits: Tensor | None
    predicted: Tensor
    before: Accuracy


def terms_of_codes(codes: Codes, basis: HeadBasis) -> Terms:
    """Return a collection's terms, with everything but the kept heads as one; codes may stay in a file."""
    return ablate.with_rest(Terms(codes, basis.to(codes.embedding.device, codes.embedding.dtype)))


def part_of(
    terms: Terms, means: Means, rows: Sequence[int], task: Task, classes: Float[Tensor, "class d_embed"]
) -> Part | None:
    """Return the task's labelled images among those of `terms`, whose images are `rows`; None if there are none."""
    place = [i for i, row in enumerate(rows) if row < len(task.labels) and task.labels[row] >= 0]
    if not place:
        return None
    own = terms if len(place) == len(rows) else terms.select(place)
    classes = classes.to(own.embedding)
    labels = torch.tensor([task.labels[rows[i]] for i in place], device=classes.device)
    groups = [task.groups[rows[i]] for i in place]
    small = 4 * len(place) * len(classes) <= LARGE
    logits = own.embedding @ classes.T if small else None
    predicted = ablate.predict_after(own, Ablation(), classes, means, logits)
    before = zeroshot.accuracy_of(predicted, labels, len(classes), groups)
    return Part(own, labels, groups, classes, logits, predicted, before)


def worth_tracing(task: Task, n_images: int) -> list[int]:
    """Return the images to trace again: the task's labelled ones, or all; at most MOST_TRACED, evenly spaced."""
    labelled = [i for i, label in enumerate(task.labels[:n_images]) if label >= 0] or list(range(n_images))
    return labelled[:: -(-len(labelled) // MOST_TRACED) or 1]


def traced_terms(
    model: ClipModel,
    images: Images,
    chosen: Sequence[int],
    tokens: Iterable[int] = (),
    progress: Progress = unwatched,
) -> tuple[list[int], Terms] | None:
    """Trace images again for terms that codes do not keep: every MLP, every layer and some tokens; unreadable images
    are skipped.

    progress: called before each batch with the number of images done; it may raise to end the work. Returns None
    if no image can be read.
    """
    tokens, parts = tuple(tokens), []
    rows: list[int] = []
    for some, pictures in batches(images, chosen):
        progress(len(rows))
        rows += some
        parts.append(ablate.terms_of(model.trace(pictures, tokens=bool(tokens)), tokens=tokens))
    return (rows, ablate.join(parts)) if parts else None


def desk(
    terms: Terms,
    means: Means,
    classes: Float[Tensor, "class d_embed"],
    scale: float,
    bias: float | None,
    label: int,
) -> Desk:
    """Return everything that toggling needs for the first image of `terms`; means: those of the collection."""
    mean, zero = (
        subsets.subset_logits(terms, 0, classes, mlps=(0,), means=means, how=how) for how in ("mean", "zero")
    )
    return Desk(mean, zero, mean.logits, mean.squared_norm, scale, bias, label, means.n_images)


def desk_apart(
    terms: Terms,
    means: Means,
    classes: Float[Tensor, "class d_embed"],
    layers: Sequence[int],
    without_tokens: bool,
    scale: float,
    bias: float | None,
    label: int,
) -> Desk:
    """Return the desk with every MLP separate, optionally without tokens; terms and means come from traces."""
    mean, zero = (
        subsets.subset_logits_apart(terms, 0, classes, layers, means, how, without_tokens)
        for how in ("mean", "zero")
    )
    embedding = terms.embedding[0]
    logits = classes.to(embedding) @ embedding
    return Desk(mean, zero, logits, embedding @ embedding, scale, bias, label, means.n_images)


def left(terms: Terms, ablation: Ablation, means: Means | None) -> Left:
    """Return the first image of `terms` after an ablation: rep' of lens.ablate, and the resulting head effects."""
    embedding = ablate.embedding_after(terms, ablation, means)[0]
    heads = ablate.heads_of(terms.codes, ablation)
    instead = embedding.new_zeros(len(heads), len(embedding))
    rest = torch.zeros_like(embedding) if ablation.mlps else None
    if means is not None:
        if heads:
            instead = ablate.mean_effects(means, terms.basis, heads).to(embedding)
        if rest is not None and means.mlp_effects is not None:
            rest = means.mlp_effects[0].to(embedding)
    return Left(embedding, heads, instead, rest)


def embeddings_after(
    terms: Terms,
    ablation: Ablation,
    means: Means | None,
    progress: Progress = unwatched,
) -> Float[Tensor, "image d_embed"]:
    """Return embeddings after an ablation, some images at a time; progress: called before each part with the number
    of images done; it may raise to end the work.
    """
    parts = []
    for start in range(0, len(terms.embedding), ablate.IMAGES_AT_ONCE):
        progress(start)
        part = terms.select(slice(start, start + ablate.IMAGES_AT_ONCE))
        parts.append(ablate.embedding_after(part, ablation, means))
    return torch.cat(parts)


def outcome(part: Part, means: Means, ablation: Ablation, progress: Progress = unwatched) -> Outcome:
    """Return accuracy before and after an ablation, and under up to N_DRAWS draws of as many other heads of its
    layers.

    progress: called before each draw with the number done; it may raise to end the work.
    """
    draws = spurious.random_draws(part.terms, ablation, N_DRAWS)
    layers = sorted({layer for draw in draws for layer, _ in draw.heads})
    predictions: list[Tensor] = []
    for step in (ablation, *draws):
        progress(len(predictions))
        if step.tokens:
            predicted = zeroshot.predict(ablate.embedding_after(part.terms, step, means), part.directions)
        else:
            predicted = ablate.predict_after(part.terms, step, part.directions, means, part.logits)
        predictions.append(predicted)
    n_heads = len(ablate.heads_of(part.terms.codes, ablation))
    found = [zeroshot.accuracy_of(one, part.labels, len(part.directions), part.groups) for one in predictions]
    changes = zeroshot.changes_of(part.predicted, predictions[0], part.labels, part.groups)
    return Outcome(part.before, found[0], *changes, tuple(found[1:]), n_heads, tuple(layers))


def shortcut_heads(
    terms: Terms,
    shortcut: Float[Tensor, "2 d_embed"],
    classes: Float[Tensor, "class d_embed"],
    layers: Sequence[int],
) -> tuple[Head, ...]:
    """Return a fifth of the heads of `layers`: those that a text query finds to vary most with a shortcut."""
    n_heads = max(1, len(layers) * terms.codes.codes.shape[2] // SHORTCUT_SHARE)
    shortcut = shortcut.to(terms.embedding)
    return tuple(sorted(spurious.shortcut_heads(terms, shortcut, classes.to(shortcut), n_heads, layers)))


def largest(scores: Float[np.ndarray, "layer head"], layers: Sequence[int], k: int) -> tuple[Head, ...]:
    """Return the k heads of `layers` with the largest scores."""
    best = np.argsort(-scores[list(layers)], axis=None)[:k]
    return tuple(sorted((layers[i // scores.shape[1]], int(i % scores.shape[1])) for i in best.tolist()))
