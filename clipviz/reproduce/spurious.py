"""Spurious cues (thesis 2.4, Tables 2.3 and A.7-A.10): heads that carry a background, and what ablating them repairs.

Measured for every classifier of Groups, classes by their names and by the mean of examples, and for heads found in
two ways, neither of which looks at a group or a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from clipviz.lens import roles, spurious
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.roles import Role
from clipviz.lens.spurious import SpuriousCue
from clipviz.reproduce.chapter2_pictures import name_of
from clipviz.reproduce.evaluation import Groups
from clipviz.reproduce.report import Report
from clipviz.values import Ablation, Head

FAMILIES = frozenset({"background", "place"})
"""Broad families of texts that name a background: the spurious cue of birds."""

HOWS = ("TextSpan label", "text query")


class Way(NamedTuple):
    """How a measurement was made: what the classes are made of, and how the heads were found."""

    classes: str
    heads: str


def spurious_cues(
    data: Groups, kept: list[int], birds: Terms, late: Terms, found: Mapping[Head, Role], means: Means
) -> dict[Way, SpuriousCue]:
    """Accuracy by group before and after ablating the background heads, beside 5 draws of as many late heads.

    birds: terms of the images of `data` that could be read, `kept`; late: terms of the general images' last layers;
    found: role of each late head. Ways for which no head qualifies are left out.
    """
    labels, groups = [data.labels[i] for i in kept], [data.groups[i] for i in kept]
    by_label = roles.heads_with(found, FAMILIES)
    measured = {}
    for classes, directions in data.classifiers.items():
        directions = directions.cpu()
        by_query = spurious.cue_heads(late, data.cue.cpu(), directions, len(by_label) or len(found) // 4)
        for how, heads in zip(HOWS, (by_label, by_query), strict=True):
            if heads:
                measured[Way(classes, how)] = spurious.compare(
                    birds,
                    directions,
                    labels,
                    groups,
                    Ablation(heads=heads),
                    draw_from=list(found),
                    means=means,
                )
    return measured


def best_of(found: Mapping[Way, SpuriousCue]) -> dict[str, SpuriousCue]:
    """What the classes are made of -> the measurement whose worst group gains most."""
    best: dict[str, SpuriousCue] = {}
    for way, cue in found.items():
        if way.classes not in best or cue.gain > best[way.classes].gain:
            best[way.classes] = cue
    return best


def shown_groups(
    cue: SpuriousCue,
) -> tuple[dict[str, tuple[float, float, float]], tuple[float, float, float]]:
    """Accuracy before, in the best random draw, after: of each group, and of the worst group of each."""
    assert cue.best_random is not None
    best = cue.best_random
    rows = {
        name: (value, best.groups[name][0], cue.after.groups[name][0])
        for name, (value, _) in cue.before.groups.items()
    }
    return rows, (cue.before.worst_accuracy, best.worst_accuracy, cue.after.worst_accuracy)


def add_table(report: Report, found: Mapping[Way, SpuriousCue]) -> None:
    """One row a way: worst group before, in the best random draw and after; all images; which heads.

    Says for which ways of finding heads there are none.
    """
    for how in HOWS:
        if how not in {way.heads for way in found}:
            report.text(f"By {how}: no late head qualifies.")
    rows = []
    for way, cue in found.items():
        _, worst = shown_groups(cue)
        heads = ", ".join(map(name_of, sorted(cue.ablation.heads)))
        rows.append([*way, len(cue.ablation.heads), *worst, cue.before.top1, cue.after.top1, heads])
    report.table(
        [
            *("classes by", "heads found by", "heads", "worst group", "best of 5 random draws"),
            *("worst group, ablated", "all", "all, ablated", "which"),
        ],
        rows,
    )
