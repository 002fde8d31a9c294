"""Spurious cues (thesis 2.4, Tables 2.3 and A.7-A.10): heads that carry a background, and what ablating them repairs.

Measured for every classifier of the task, classes by their names and by the mean of examples, and for heads found in
two ways, neither of which looks at a group or a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from clipviz.lens import roles, spurious
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.intervals import Estimate, share, spread
from clipviz.lens.roles import Role
from clipviz.lens.spurious import SpuriousCue
from clipviz.lens.zeroshot import Accuracy
from clipviz.reproduce.chapter2.pictures import name_of
from clipviz.reproduce.report import Report
from clipviz.values import Ablation, Head, Task

FAMILIES = frozenset({"background", "place"})
"""Broad families of texts that name a background: the spurious cue of birds."""

HOWS = ("TextSpan label", "text query")
MEDIAN = "other heads, median draw"


class Way(NamedTuple):
    """How a measurement was made: what the classes are made of, and how the heads were found."""

    classes: str
    heads: str


N_DRAWS, N_THESIS_DRAWS = 200, 5
"""Draws of other heads; the thesis reports the best of five."""


def spurious_cues(
    task: Task,
    cue: Tensor,
    kept: list[int],
    birds: Terms,
    late: Terms,
    found: Mapping[Head, Role],
    means: Means,
    n_draws: int = N_DRAWS,
    only_others: bool = True,
) -> dict[Way, SpuriousCue]:
    """Accuracy by group before and after ablating the background heads, beside draws of as many late heads.

    cue: the two directions whose difference is the background; birds: terms of the images of the task that could be
    read, `kept`; late: terms of the general images' last layers;
    found: role of each late head. Ways for which no head qualifies are left out. only_others: False also draws the
    ablated heads, a stricter null.
    """
    labels, groups = [task.labels[i] for i in kept], [task.groups[i] for i in kept]
    by_label = roles.heads_with(found, FAMILIES)
    measured = {}
    for classes, directions in task.classifiers.items():
        directions = directions.cpu()
        by_query = spurious.cue_heads(late, cue.cpu(), directions, len(by_label) or len(found) // 4)
        for how, heads in zip(HOWS, (by_label, by_query), strict=True):
            if heads:
                measured[Way(classes, how)] = spurious.compare(
                    birds,
                    directions,
                    labels,
                    groups,
                    Ablation(heads=heads),
                    n_draws=n_draws,
                    draw_from=list(found),
                    means=means,
                    only_others=only_others,
                )
    return measured


def best_of(found: Mapping[Way, SpuriousCue]) -> dict[str, SpuriousCue]:
    """Return what the classes are made of -> the measurement whose worst group gains most."""
    best: dict[str, SpuriousCue] = {}
    for way, cue in found.items():
        if way.classes not in best or cue.gain > best[way.classes].gain:
            best[way.classes] = cue
    return best


def worst_of(accuracy: Accuracy) -> Estimate:
    """Return the worst group's accuracy, with the interval of a group of its size."""
    value, n = min(accuracy.groups.values(), key=lambda group: group[0])
    return share(round(value * n), n)


def random_worst(cue: SpuriousCue) -> Estimate:
    """Return the worst group under other heads of the same layers: the median draw, and the range of 95% of the
    draws.
    """
    return spread([draw.worst_accuracy for draw in cue.random])


def median_draw(cue: SpuriousCue) -> Accuracy:
    """Return the draw of other heads whose worst group is in the middle."""
    return sorted(cue.random, key=lambda draw: draw.worst_accuracy)[len(cue.random) // 2]


def draws_as_good(cue: SpuriousCue) -> float:
    """Share of the draws whose worst group is at least as good as after ablating the background heads (a p-value:
    the observation is counted in)."""
    as_good = sum(draw.worst_accuracy >= cue.after.worst_accuracy for draw in cue.random)
    return (1 + as_good) / (1 + len(cue.random))


def shown_groups(
    cue: SpuriousCue,
) -> tuple[dict[str, tuple[float, float, float]], tuple[float, float, float]]:
    """Accuracy before, under other heads (the median draw), after: of each group, and of the worst group of each."""
    median = median_draw(cue)
    rows = {
        name: (value, median.groups[name][0], cue.after.groups[name][0])
        for name, (value, _) in cue.before.groups.items()
    }
    return rows, (cue.before.worst_accuracy, median.worst_accuracy, cue.after.worst_accuracy)


def add_table(report: Report, found: Mapping[Way, SpuriousCue]) -> None:
    """One row per way: worst group before, under random heads and after, with intervals; all images; which heads.

    Says for which ways of finding heads there are none.
    """
    for how in HOWS:
        if how not in {way.heads for way in found}:
            report.text(f"By {how}: no late head qualifies.")
    rows = []
    for way, cue in found.items():
        before, after, random = worst_of(cue.before), worst_of(cue.after), random_worst(cue)
        best = max(draw.worst_accuracy for draw in cue.random[:N_THESIS_DRAWS])
        heads = ", ".join(map(name_of, sorted(cue.ablation.heads)))
        rows.append(
            [
                *(*way, len(cue.ablation.heads), f"{before} ({before.interval})"),
                *(f"{after} ({after.interval})", f"{random} ({random.interval})", draws_as_good(cue), best),
                *(cue.before.top1, cue.after.top1, heads),
            ]
        )
    report.table(
        [
            *("classes by", "heads found by", "heads", "worst group (95%)", "ablated (95%)"),
            *(
                "other heads of the same layers: median (95% of draws)",
                "p",
                f"best of {N_THESIS_DRAWS} draws",
            ),
            *("all", "all, ablated", "which"),
        ],
        rows,
    )
