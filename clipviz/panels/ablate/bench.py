"""The data that the ablation desk sends to the browser: one image's sums, and the collection's accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.panels.ablate.sent import OutcomeRow, OutcomeShown
from clipviz.panels.core import pictures
from clipviz.panels.core.sent import as_sent

if TYPE_CHECKING:
    from clipviz.session.answers import Desk as Bench
    from clipviz.session.answers import Images, Outcome, Row
    from clipviz.values import Task

THUMBNAIL = 112


def nearest(desk: Bench, most: int) -> list[int]:
    """Return the classes in order; if there are too many, those nearest to the unablated image."""
    logits = desk.logits
    if len(logits) <= most:
        return list(range(len(logits)))
    return sorted(logits.topk(most).indices.tolist())


def arrays_of(desk: Bench, rows: list[int], images: Images, image: int) -> dict[str, np.ndarray | bytes]:
    """Return the picture and, for both kinds of ablation, the sums with which the browser toggles terms."""
    small = pictures.encoded(images.thumbnail(image, THUMBNAIL))
    arrays: dict[str, np.ndarray | bytes] = {"thumbnail": small}
    for side in (desk.mean, desk.zero):
        arrays[f"terms_{side.how}"] = _floats(side.term_logits[:, rows])
        arrays[f"gram_{side.how}"] = _floats(side.gram)
        arrays[f"cross_{side.how}"] = _floats(side.cross)
        arrays[f"logits_{side.how}"] = _floats(side.logits[rows])
        arrays[f"squared_norm_{side.how}"] = _floats(side.squared_norm[None])
    arrays["logits"] = _floats(desk.logits[rows])
    arrays["squared_norm"] = _floats(desk.squared_norm[None])
    return arrays


def _floats(tensor: Any) -> np.ndarray:
    return np.ascontiguousarray(tensor.cpu().numpy(), np.float32)


def outcome_shown(found: Outcome, task: Task, removed: bool) -> OutcomeShown:
    """Return accuracy over the collection in the browser's form; removed: whether anything is removed."""
    worst = found.worst
    return {
        "everything": _row(found.everything),
        "worst": None if worst is None else _row(worst),
        "groups": [_row(row) for row in found.groups],
        "removed": removed,
        "by": task.by,
        "n_heads": found.n_heads,
        "drawn_from": list(found.drawn_from),
        "chance": found.before.chance,
    }


def _row(row: Row) -> OutcomeRow:
    change = row.change
    found: OutcomeRow = as_sent(row, {"change": (change.low, change.high), "differs": change.differs})
    return found


def three(row: OutcomeRow) -> tuple[float, float, float]:
    """Return the values before, under the best random draw, and after."""
    return row["before"], max(row["random"], default=row["before"]), row["after"]
