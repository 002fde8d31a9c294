"""Embeddings after one layer's second-order effects are replaced (thesis 3.3; Figures 3.3, 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.collection.reading import batches
from clipviz.lens import zeroshot
from clipviz.lens.neuron_stats import NeuronStats, RankOne, ablated, rebuilt
from clipviz.lens.neurons import SecondOrder
from clipviz.lens.zeroshot import Accuracy
from clipviz.values import Task

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.models.units import Place

NOTHING = "nothing changed"
CONDITIONS = ("w/o all neurons", "w/o small norm", "w/o large norm", "reconstruction from PC 1")


def replaced(
    second: SecondOrder,
    stats: NeuronStats,
    line: RankOne,
    large: Tensor,
    directions: Mapping[str, Tensor] | None = None,
) -> dict[str, Float[Tensor, "image d_embed"]]:
    """Return unit embeddings unchanged and after every condition of Figure 3.3.

    large: [image, neuron] whether a norm is large; directions: further replacements of r_n by name, such as its
    text codes in Figure 3.4.
    """
    return {
        NOTHING: normalize(second.embedding, dim=1),
        CONDITIONS[0]: ablated(second, stats),
        CONDITIONS[1]: ablated(second, stats, ~large),
        CONDITIONS[2]: ablated(second, stats, large),
        CONDITIONS[3]: rebuilt(second, line, stats=stats),
        **{name: rebuilt(second, line, rows, stats) for name, rows in (directions or {}).items()},
    }


def accuracies(
    model: ClipModel,
    images: Any,
    task: Task,
    classes: Tensor,
    chosen: Sequence[int],
    place: Place,
    stats: NeuronStats,
    line: RankOne,
    thresholds: Tensor,
    directions: Mapping[str, Tensor] | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Accuracy]:
    """Return zero-shot accuracy on some images of a task after every replacement of a layer's effects.

    classes: [class, d_embed]; place: the layer, or the dictionary whose features are replaced; thresholds: [neuron],
    above which a norm is large; directions: as in `replaced`. check: called after each batch; an exception that it
    raises ends the work. Raises ValueError if no image of the task can be read.
    """
    parts: dict[str, list[Tensor]] = {}
    rows: list[int] = []
    for some, pictures in batches(images, chosen):
        second = model.second_order(pictures, place)
        large = second.norms() > thresholds.to(second.embedding.device)
        for name, embeddings in replaced(second, stats, line, large, directions).items():
            parts.setdefault(name, []).append(embeddings)
        rows += some
        check()
    labels = [task.labels[row] for row in rows]
    if not any(label >= 0 for label in labels):
        raise ValueError(
            f"expected labelled images of {task.name!r} that can be read, got none; choose another task"
        )
    groups = [task.groups[row] for row in rows] if task.groups else None
    return {name: zeroshot.accuracy(torch.cat(made), classes, labels, groups) for name, made in parts.items()}
