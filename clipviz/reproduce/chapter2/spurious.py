"""Shortcuts (thesis 2.4, Tables 2.3 and A.7-A.10): heads that carry a background, and what ablating them repairs.

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
from clipviz.lens.spurious import ShortcutRemoval
from clipviz.lens.zeroshot import Accuracy
from clipviz.reproduce.chapter2.pictures import name_of
from clipviz.reproduce.report import Report
from clipviz.values import Ablation, Head, Task

FAMILIES = frozenset({"background", "place"})
"""Broad families of texts that describe a background, the shortcut for birds."""

HOWS = ("TextSpan label", "text query")
MEDIAN = "other heads, median draw"


class Way(NamedTuple):
    """How a measurement was made: how the classes are defined, and how the heads were found."""

    classes: str
    heads: str


N_DRAWS, N_THESIS_DRAWS = 200, 5
"""Number of draws of other heads; the thesis reports the best of five."""


def shortcuts(
    task: Task,
    shortcut: Tensor,
    kept: list[int],
    birds: Terms,
    late: Terms,
    found: Mapping[Head, Role],
    means: Means,
    n_draws: int = N_DRAWS,
    only_others: bool = True,
) -> dict[Way, ShortcutRemoval]:
    """Return accuracy by group before and after ablating the background heads, beside draws of as many late heads.

    shortcut: the two directions whose difference is the background; birds: terms of the task's readable images,
    `kept`; late: terms of the general images' last layers; found: role of each late head. Ways for which no head
    qualifies are left out. only_others: False also draws the ablated heads, a stricter null.
    """
    labels, groups = [task.labels[i] for i in kept], [task.groups[i] for i in kept]
    by_label = roles.heads_with(found, FAMILIES)
    measured = {}
    for classes, directions in task.classifiers.items():
        directions = directions.cpu()
        by_query = spurious.shortcut_heads(late, shortcut.cpu(), directions, len(by_label) or len(found) // 4)
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


def best_of(found: Mapping[Way, ShortcutRemoval]) -> dict[str, ShortcutRemoval]:
    """Return how the classes are defined -> the measurement whose worst group gains most."""
    best: dict[str, ShortcutRemoval] = {}
    for way, shortcut in found.items():
        if way.classes not in best or shortcut.gain > best[way.classes].gain:
            best[way.classes] = shortcut
    return best


def worst_of(accuracy: Accuracy) -> Estimate:
    """Return the worst group's accuracy, with the interval of a group of its size."""
    value, n = min(accuracy.groups.values(), key=lambda group: group[0])
    return share(round(value * n), n)


def random_worst(shortcut: ShortcutRemoval) -> Estimate:
    """Return the worst group under other heads of the same layers: the median draw, and 95% of the draws' range."""
    return spread([draw.worst_accuracy for draw in shortcut.random])


def median_draw(shortcut: ShortcutRemoval) -> Accuracy:
    """Return the draw of other heads with the median worst group."""
    return sorted(shortcut.random, key=lambda draw: draw.worst_accuracy)[len(shortcut.random) // 2]


def draws_as_good(shortcut: ShortcutRemoval) -> float:
    """Return the share of draws whose worst group is at least as good as after ablating the background heads (a
    p-value, which counts the observation).
    """
    as_good = sum(draw.worst_accuracy >= shortcut.after.worst_accuracy for draw in shortcut.random)
    return (1 + as_good) / (1 + len(shortcut.random))


def shown_groups(
    shortcut: ShortcutRemoval,
) -> tuple[dict[str, tuple[float, float, float]], tuple[float, float, float]]:
    """Return accuracy by group, and of the worst, before, under other heads (the median draw) and after."""
    median = median_draw(shortcut)
    rows = {
        name: (value, median.groups[name][0], shortcut.after.groups[name][0])
        for name, (value, _) in shortcut.before.groups.items()
    }
    return rows, (shortcut.before.worst_accuracy, median.worst_accuracy, shortcut.after.worst_accuracy)


def add_table(report: Report, found: Mapping[Way, ShortcutRemoval]) -> None:
    """Add a table with one row per way: the worst group before, under random heads and after, with intervals; all
    images; and the heads.

    If a way of finding heads found none, a sentence says so.
    """
    for how in HOWS:
        if how not in {way.heads for way in found}:
            report.text(f"By {how}: no late head qualifies.")
    rows = []
    for way, shortcut in found.items():
        before, after, random = worst_of(shortcut.before), worst_of(shortcut.after), random_worst(shortcut)
        best = max(draw.worst_accuracy for draw in shortcut.random[:N_THESIS_DRAWS])
        heads = ", ".join(map(name_of, sorted(shortcut.ablation.heads)))
        rows.append(
            [
                *(*way, len(shortcut.ablation.heads), f"{before} ({before.interval})"),
                *(
                    f"{after} ({after.interval})",
                    f"{random} ({random.interval})",
                    draws_as_good(shortcut),
                    best,
                ),
                *(shortcut.before.top1, shortcut.after.top1, heads),
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
