"""Whether an edit did what was asked: by the true scene where a generator knows it, by a locator on the pictures where
a bundle brings one, and else by the maps alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

NEAR, ALIKE = 0.1, 1.5
"""By a locator: how far, in sides, a centre may be from where it was asked, and the most that an area may differ."""
ENOUGH = 0.5
"""By the maps alone: the share of the way to those asked from which on an edit counts as done."""
TRUTH, LOCATOR, MAPS = "true scene", "locator", "maps"
WRONG = {
    "number": "the number of objects is not as before",
    "place": "the object is not where it was asked",
    "size": "its size is not as asked",
    "ground": "the ground has changed",
}
OTHERWISE = {
    ("copy", "number"): "there are not two objects",
    ("copy", "place"): "the two objects are not side by side where asked",
    ("remove", "number"): "the object, or a trace of it, is still there",
}


class Verdict(NamedTuple):
    """done: whether an edit did all that was asked; by: who says so (TRUTH, LOCATOR or MAPS); wrong: what is not as
    asked, in words; reached: how much of the way to the maps asked was made, 1 for all of it."""

    done: bool
    by: str
    wrong: tuple[str, ...]
    reached: float

    @property
    def words(self) -> str:
        """The verdict as one sentence."""
        if self.by == MAPS:
            way = f"The maps came {max(0.0, self.reached):.0%} of the way to those asked."
            return way if self.done else f"Not done. {way}"
        if self.done:
            return f"Done, by the {self.by}."
        return f"Not done, by the {self.by}: {' and '.join(self.wrong)}."


def of_parts(parts: Mapping[str, Any], change: str, by: str, reached: float) -> Verdict:
    """Return the verdict on one image. parts: "number", "place", ... -> whether it is right, as an array of one."""
    failed = [part for part, right in parts.items() if not bool(np.asarray(right).all())]
    wrong = tuple(OTHERWISE.get((change, part), WRONG[part]) for part in failed)
    return Verdict(not wrong, by, wrong, reached)


def by_maps(reached: float) -> Verdict:
    """Return the verdict where nobody knows what the pictures show."""
    return Verdict(reached >= ENOUGH, MAPS, (), reached)


def by_locator(
    before: Any, after: Any, change: str, right: float, down: float, factor: float
) -> dict[str, bool] | None:
    """Return what of an edit is right on one picture; None for what cannot be seen there.

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
