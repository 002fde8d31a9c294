"""Removing a shortcut by ablating the heads that carry it (thesis 2.4, Table 2.3, A.7-A.10)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.lens import ablate, headset, retrieve, zeroshot
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.zeroshot import Accuracy
from clipviz.values import Ablation, Head


@dataclass(frozen=True, eq=False)
class ShortcutRemoval:
    """Worst-group accuracy before and after an ablation, and after ablations of as many other heads of the same layers.

    random: one accuracy per draw (lens.ablate.matched_heads); the thesis's baseline is the best worst group of five
    draws from all late heads. gain: the accuracy of the worst group after the ablation minus that before it.
    """

    ablation: Ablation
    before: Accuracy
    after: Accuracy
    random: tuple[Accuracy, ...]

    @property
    def gain(self) -> float:
        return self.after.worst_accuracy - self.before.worst_accuracy


def shortcut_heads(
    terms: Terms,
    shortcut: Float[Tensor, "2 d_embed"],
    class_directions: Float[Tensor, "class d_embed"],
    n_heads: int,
    layers: Sequence[int] | None = None,
) -> frozenset[Head]:
    """Return the heads whose score varies most along the shortcut and least along the classes.

    Two variances of <c, t> over the images are compared, each as a share of all heads. For the shortcut, t is the
    difference of its two texts. For the classes, t is each class's direction minus the mean of all (half the
    difference, for two classes), and the variances are summed. Groups and labels are not used.

    Args:
        terms: The collection.
        shortcut: Two encoded texts ("on the water", "in a forest"), [2, d_embed].
        class_directions: [class, d_embed].
        n_heads: How many heads to return.
        layers: The layers from which heads are taken. None takes all that the terms keep.

    Returns:
        (layer, head) pairs.
    """
    differences = torch.cat([shortcut[:1] - shortcut[1:], class_directions - class_directions.mean(0)])
    variance = retrieve.text_variance(terms.codes, terms.basis, differences).flatten(1)
    along = torch.stack([variance[0], variance[1:].sum(0)])
    excess = (along / along.sum(1, keepdim=True)).diff(dim=0)[0].neg()
    heads = headset.all_heads(terms.codes)
    if layers is not None:
        excess = excess.masked_fill(
            torch.tensor([layer not in layers for layer, _ in heads], device=excess.device), -torch.inf
        )
        n_heads = min(n_heads, sum(layer in layers for layer, _ in heads))
    return frozenset(heads[i] for i in excess.topk(min(n_heads, len(heads))).indices.tolist())


def compare(
    terms: Terms,
    class_directions: Float[Tensor, "class d_embed"],
    labels: Int[Tensor, " image"] | Sequence[int],
    groups: Sequence[str],
    ablation: Ablation,
    n_draws: int = 5,
    seed: int = 0,
    draw_from: Sequence[Head] | None = None,
    means: Means | None = None,
    only_others: bool = True,
) -> ShortcutRemoval:
    """Return zero-shot accuracy by group before and after an ablation, and after random ablations of as many heads.

    Args:
        terms: The collection.
        class_directions: [class, d_embed].
        labels: The class of every image, -1 where unknown.
        groups: The group of every image.
        ablation: What is removed.
        n_draws: Random ablations. A draw replaces only the heads; MLPs and tokens are ablated as in the original.
        seed: Seed of the draws.
        draw_from: The heads from which draws are made. None takes all that the terms keep.
        means: The images whose means are used. None takes the evaluated ones.
        only_others: False also draws heads of the ablation itself, which is a stricter null.

    Returns:
        The accuracies.
    """
    means = ablate.means_of(terms) if means is None and ablation.how == "mean" else means

    def evaluate(chosen: Ablation) -> Accuracy:
        return zeroshot.accuracy(
            ablate.embedding_after(terms, chosen, means), class_directions, labels, groups
        )

    draws = random_draws(terms, ablation, n_draws, seed, draw_from, only_others)
    return ShortcutRemoval(
        ablation, evaluate(Ablation()), evaluate(ablation), tuple(evaluate(draw) for draw in draws)
    )


def random_draws(
    terms: Terms,
    ablation: Ablation,
    n_draws: int = 5,
    seed: int = 0,
    draw_from: Sequence[Head] | None = None,
    only_others: bool = True,
) -> list[Ablation]:
    """Return ablations with as many other heads in place of the original ones (lens.ablate.matched_heads).

    Args:
        terms: The collection.
        ablation: What is removed.
        n_draws: The number of draws.
        seed: Seed of the draws.
        draw_from: The heads from which draws are made. None takes all that the terms keep.
        only_others: False also draws heads of the ablation itself.

    Returns:
        The ablations.
    """
    pool = headset.all_heads(terms.codes) if draw_from is None else list(draw_from)
    removed = ablate.heads_of(terms.codes, ablation)
    draws = ablate.matched_heads(removed, pool, n_draws, seed, ablation.how, only_others)
    return [dataclasses.replace(draw, mlps=ablation.mlps, tokens=ablation.tokens) for draw in draws]
