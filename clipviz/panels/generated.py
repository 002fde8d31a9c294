"""The Generate panel's view: the picture, its maps, before and after, and what was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipviz.panels import pictures
from clipviz.panels.base import Arrays, View
from clipviz.session.workbench import EVERY

if TYPE_CHECKING:
    from clipviz.session import Session
    from clipviz.session.workbench import Workbench

SHOWN = 12  # concepts listed, the strongest on the picture
PEAK = 3.0  # deviations drawn at full strength


def whole(bench: Workbench, session: Session, concept: int) -> tuple[View, Arrays]:
    """Everything that is drawn once the picture rests; concept: whose map lies over it."""
    maps = bench.maps()
    order = np.argsort(-maps.max((1, 2)), kind="stable")[:SHOWN].tolist()
    concepts = session.generator_concepts()
    view: View = {
        "message": "",
        "settled": True,
        "step": 0,
        "of": 0,
        "asked": bench.asked,
        "distance": bench.distance,
        "side": maps.shape[1],
        "classes": list(bench.classes),
        "label": bench.label,
        "link": session.model.link,
        "before": [one.__dict__ for one in bench.before()],
        "after": [one.__dict__ for one in bench.now()],
        "n_units": sum(len(one.units) for one in concepts),
        "concepts": [{"place": i, **concepts[i]._asdict()} for i in order],
        "n_concepts": len(concepts),
        "n_kept": len(bench.kept),
        "image": session.selection.image,
    }
    shown = maps.clip(0).mean(0) * 2 if concept == EVERY else maps[concept]
    arrays = {
        "picture": pictures.encoded(bench.picture()),
        "first": pictures.encoded(bench.picture(bench.first)),
        "map": drawn(shown),
        "tiles": drawn(maps[order]),
    }
    if bench.kept:
        kept = [bench.picture(latents) for latents in bench.kept]
        arrays["kept"] = pictures.sheet(kept, kept[0].width, len(kept))
    return view, arrays


def drawn(maps: np.ndarray) -> np.ndarray:
    """Deviations as uint8, PEAK of them at 255."""
    return (maps.clip(0) / PEAK * 255).clip(0, 255).astype(np.uint8)
