"""Verdicts on whether an edit did what was requested. They come from the true scene if a generator knows it, from a
locator on the pictures if a bundle brings one, and otherwise from the maps alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

NEAR, ALIKE = 0.1, 1.5
"""By the locator: the largest allowed distance of a centre from its target, in sides, and change of area."""
ENOUGH = 0.5
"""By the maps alone: an edit counts as done if it made at least this share of the way to the requested maps."""
TRUTH, LOCATOR, MAPS = "true scene", "locator", "maps"
WRONG = {
    "number": "the number of objects has changed",
    "place": "the object is not where it was requested",
    "size": "its size is not as requested",
    "ground": "the background has changed",
}
OTHERWISE = {
    ("copy", "number"): "there are not two objects",
    ("copy", "place"): "the two objects are not side by side where requested",
    ("remove", "number"): "the object, or part of it, is still there",
}


class Verdict(NamedTuple):
    """The verdict on an edit. done: whether it did everything that was requested; by: the source of the verdict
    (TRUTH, LOCATOR or MAPS); wrong: what is not as requested, in words; reached: how much of the way to the
    requested maps was made, 1 for all of it.
    """

    done: bool
    by: str
    wrong: tuple[str, ...]
    reached: float

    @property
    def words(self) -> str:
        """The verdict as one sentence."""
        if self.by == MAPS:
            way = f"The maps came {max(0.0, self.reached):.0%} of the way to the requested ones."
            return way if self.done else f"Not done. {way}"
        if self.done:
            return f"Done, according to the {self.by}."
        return f"Not done, according to the {self.by}: {' and '.join(self.wrong)}."


def of_parts(parts: Mapping[str, Any], change: str, by: str, reached: float) -> Verdict:
    """Return one image's verdict. parts: "number", "place", ... -> whether it is right, arrays of length 1."""
    failed = [part for part, right in parts.items() if not bool(np.asarray(right).all())]
    wrong = tuple(OTHERWISE.get((change, part), WRONG[part]) for part in failed)
    return Verdict(not wrong, by, wrong, reached)


def by_maps(reached: float) -> Verdict:
    """Return the verdict when nothing is known about the content of the pictures."""
    return Verdict(reached >= ENOUGH, MAPS, (), reached)


def by_locator(
    before: Any, after: Any, change: str, right: float, down: float, factor: float
) -> dict[str, bool] | None:
    """Return which parts of an edit are right on one picture; None for parts that cannot be seen there.

    before, after: a locator's count [image], centroid [image, 2] of all objects, in sides, and area [image].
    """
    count, now = int(before.count[0]), int(after.count[0])
    if change == "remove":
        return {"number": now == 0}
    if count == 0 or change not in ("copy", "zoom", "shift"):
        return None
    if change == "copy":
        return {"number": now == 2} if count == 1 else None
    wanted = 0.5 + factor * (np.asarray(before.centroid[0]) - 0.5) + np.array([right, down])
    area = float(after.area[0]) / float(before.area[0]) / factor**2
    return {
        "number": now == count,
        "place": bool((np.abs(np.asarray(after.centroid[0]) - wanted.clip(0.1, 0.9)) <= NEAR).all()),
        "size": 1 / ALIKE < area < ALIKE,
    }
