"""The order in which the concepts of a dictionary are listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clipviz.values import Concepts

SORTS = ("named", "heldout", "correlation", "size", "layer")


def ordered(concepts: Concepts, sort: str, named: Sequence[bool]) -> list[int]:
    """Return the rows of a dictionary in order.

    sort: "named" (those that `named` says have a name or a hint first), "heldout" or "correlation" (mean over the
    partners), "size" (units of the pivot that share the concept) or "layer" (from the pivot's first to its last).
    Raises ValueError for an unknown sort.
    """
    if sort not in SORTS:
        raise ValueError(f"expected a sort among {', '.join(SORTS)}, got {sort!r}")
    by = concepts.correlation if sort == "correlation" else concepts.heldout
    # the most important key comes last
    keys: list[np.ndarray] = [np.arange(len(concepts)), -_mean_over_partners(concepts, by)]
    if sort == "named":
        keys.append(~np.asarray(named, bool))
    elif sort == "size":
        keys.append(-sizes(concepts))
    elif sort == "layer":
        keys.append(pivot_layers(concepts))
    order: list[int] = np.lexsort(keys).tolist()
    return order


def sizes(concepts: Concepts) -> np.ndarray:
    """Return [concept], how many pivot units share the concept of this row."""
    _, inverse, counts = np.unique(np.asarray(concepts.cluster), return_inverse=True, return_counts=True)
    return counts[inverse]


def pivot_layers(concepts: Concepts) -> np.ndarray:
    """Return [concept], the index of the pivot unit's layer among the pivot's layers."""
    ends = np.cumsum([n for _, n in concepts.layers[0]])
    return np.searchsorted(ends, np.asarray(concepts.units)[:, 0], side="right")


def one_a_cluster(concepts: Concepts, rows: Sequence[int]) -> list[int]:
    """Return the first row of every cluster in this order."""
    cluster = np.asarray(concepts.cluster).tolist()
    first = {cluster[row]: row for row in reversed(rows)}
    return [row for row in rows if first[cluster[row]] == row]


def _mean_over_partners(concepts: Concepts, values: Any) -> np.ndarray:
    """Return [concept], the mean over the partners that have a unit."""
    there = np.asarray(concepts.units)[:, 1:] >= 0
    found: np.ndarray = np.where(there, np.asarray(values)[:, 1:], 0).sum(1) / there.sum(1).clip(1)
    return found
