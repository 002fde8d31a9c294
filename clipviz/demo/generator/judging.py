"""Judge whether an edit did everything that was requested, by the true scenes of the latents before and after it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from clipviz.demo.generator.scenes import COLOURS, GROUNDS, TrueScenes

NEAR = 0.05
"""Largest allowed distance of an object from its target, in sides: a fifth of the report's shift by a quarter."""
ALIKE = 1.5
"""Largest allowed factor between the area and the requested area."""
CLEAR = 0.9
"""An object is present above this opacity and absent below 1 - CLEAR; in between it is neither."""
SLACK = 0.1
"""Largest allowed change of an opacity that was already between these limits."""
PLACES, SIZES = (0.12, 0.88), (0.18, 0.85)
"""Ranges of positions and sizes that latents can paint; requests beyond them count as requests at their ends."""
EDITS = ("none", "shift", "zoom", "copy", "remove")
"""Changes that can be judged by true scenes."""
BESIDE, MARGIN = 0.46, 0.15
"""Distance of a requested copy from the original, if that leaves MARGIN to the frame (lens.edits.room_beside)."""

NOTHING = "nothing"

Parts = Mapping[str, Bool[np.ndarray, " image"]]


def judged(
    before: TrueScenes,
    after: TrueScenes,
    change: str,
    right: float | Float[np.ndarray, " image"] = 0.0,
    down: float = 0.0,
    factor: float = 1.0,
) -> Parts:
    """Return which parts of an edit are right, for each image: "number", "place", "size" and "ground". The edit
    succeeds if all are.

    change: one of EDITS; right, down, factor: the arguments of analysis.generation.editing.edit. number: as many
    objects as requested are present, without a trace of others; place, size: each requested object is within NEAR
    and ALIKE; ground: the background has the same name. Raises ValueError for any other change.
    """
    if change not in EDITS:
        raise ValueError(f"expected a change among {', '.join(EDITS)}, got {change!r}")
    ground = after.ground == before.ground
    there = before.opacity > 0.5
    if change == "remove":
        yes = np.ones(len(before), bool)
        return {"number": (after.opacity < 1 - CLEAR).all(1), "place": yes, "size": yes, "ground": ground}
    wanted, size = before.centre.copy(), before.size
    if change == "copy":
        there = np.ones_like(there)
        wanted[:, 1] = wanted[:, 0] + _beside(wanted[:, 0])
    elif change != "none":
        wanted = 0.5 + factor * (wanted - 0.5) + _moves(right, down, len(before))
        size = np.clip(size * factor, *SIZES)
    wanted = np.clip(wanted, *PLACES)
    enough, little = np.minimum(CLEAR, before.opacity - SLACK), np.maximum(1 - CLEAR, before.opacity + SLACK)
    if change == "copy":
        enough, little = np.full_like(enough, CLEAR), np.full_like(little, 1 - CLEAR)
    number = np.where(there, after.opacity > enough, after.opacity < little).all(1)
    own = _near(wanted, after.centre, there)
    if change == "copy":  # either of the two may be the new one
        own |= _near(wanted, after.centre[:, ::-1], there)
    area = np.square(after.size / size)
    return {
        "number": number,
        "place": own,
        "size": (area < ALIKE) & (area > 1 / ALIKE),
        "ground": ground,
    }


def everything(parts: Parts) -> Bool[np.ndarray, " image"]:
    """Return whether all parts are right."""
    found: np.ndarray = np.logical_and.reduce(list(parts.values()))
    return found


def described(scenes: TrueScenes, index: int) -> dict[str, str]:
    """Describe one true scene in words, by the properties that the desk shows: kind, colour and background."""
    number, kind, colour = int(scenes.count[index]), scenes.kinds()[index], int(scenes.colour[index])
    trace = scenes.opacity[index].max() >= 1 - CLEAR
    words = (f"nothing, a trace of {kind}" if trace else NOTHING, kind, f"{kind}, two of them")
    return {
        "kind": words[number],
        "colour": "" if number == 0 else "its own" if colour < 0 else COLOURS[colour],
        "background": GROUNDS[scenes.ground[index]],
    }


def _moves(right: float | np.ndarray, down: float, n: int) -> Float[np.ndarray, "image 1 2"]:
    return np.stack(np.broadcast_arrays(np.asarray(right, float), np.full(n, float(down))), 1)[:, None]


def _beside(first: Float[np.ndarray, "image 2"]) -> Float[np.ndarray, "image 2"]:
    """Return the offset from an object to its copy: to the side with more room, as far as possible."""
    x = first[:, 0]
    room = np.where(x < 0.5, 1 - MARGIN - x, x - MARGIN).clip(0, BESIDE)
    return np.stack([np.where(x < 0.5, room, -room), np.zeros_like(room)], 1)


def _near(
    wanted: Float[np.ndarray, "image 2 2"],
    found: Float[np.ndarray, "image 2 2"],
    counted: Bool[np.ndarray, "image 2"],
) -> Bool[np.ndarray, " image"]:
    result: np.ndarray = ((np.abs(found - wanted) <= NEAR).all(2) | ~counted).all(1)
    return result
