"""The Generate panel's view: the picture, its maps, before and after, and stored pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipviz.panels.core import pictures
from clipviz.panels.core.sent import as_sent
from clipviz.panels.generate.sent import GenerateArrays, GenerateView
from clipviz.session import EVERY
from clipviz.waits import Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session import Session
    from clipviz.session.answers import Frame, Workbench

SHOWN = 12  # number of concepts listed, the strongest on the picture
DOING = {"copy": "Copying", "remove": "Removing", "amplify": "Amplifying", "image": "Searching for the image"}
PEAK = 3.0  # a map of this many deviations is drawn at full strength


def whole(bench: Workbench, session: Session, concept: int) -> tuple[GenerateView, GenerateArrays]:
    """Return everything that is drawn once the picture is at rest; concept: the concept whose map is shown."""
    maps = bench.maps()
    order = np.argsort(-maps.max((1, 2)), kind="stable")[:SHOWN].tolist()
    concepts = session.generator.concepts()
    verdict = bench.verdict()
    view: GenerateView = {
        "message": "",
        "settled": True,
        "step": 0,
        "of": 0,
        "asked": bench.asked,
        "distance": bench.distance,
        "done": verdict and verdict.done,
        "verdict": verdict.words if verdict else "",
        "reached": verdict.reached if verdict else 0.0,
        "scene": bench.scene(),
        "side": maps.shape[1],
        "classes": list(bench.classes),
        "label": bench.label,
        "link": session.model.link,
        "before": [as_sent(vars(one)) for one in bench.before()],
        "after": [as_sent(vars(one)) for one in bench.now()],
        "n_units": sum(len(one.units) for one in concepts),
        "concepts": [as_sent(concepts[i], {"place": i}) for i in order],
        "n_concepts": len(concepts),
        "n_kept": len(bench.kept),
        "image": session.selection.image,
    }
    shown = maps.clip(0).mean(0) * 2 if concept == EVERY else maps[concept]
    arrays: GenerateArrays = {
        "picture": pictures.encoded(bench.picture()),
        "first": pictures.encoded(bench.picture(bench.first)),
        "map": drawn(shown),
        "tiles": drawn(maps[order]),
    }
    if bench.kept:
        kept = [bench.picture(latents) for latents in bench.kept]
        arrays["kept"] = pictures.sheet(kept, kept[0].width, len(kept))
    return view, arrays


def begun(work: Work) -> GenerateView:
    """Return what changes in the view before the first step of a search."""
    return {"settled": False, "step": 0, "of": 0, "work": f"{work.what}…"}


def searching(work: Work, frame: Frame) -> Work:
    """Return the progress of a search, timed from its first step or from the last move; work: the progress so far."""
    if frame.step < work.n_done or frame.of != work.n_all:
        work = Work(work.what, frame.of, frame.step)
    return work.reached(frame.step)


def moving(frame: Frame, work: Work) -> GenerateView:
    """Return what changes in the view while a search is running."""
    return {
        "message": "",
        "settled": False,
        "step": frame.step,
        "of": frame.of,
        "distance": frame.distance,
        "work": work.line or f"{work.what}…",
    }


def before_and_after(bench: Workbench, width: float) -> Figure:
    """Return the first picture and the current one, each with the model's answers."""
    from clipviz.figures.chapter4 import image_rows

    if bench.latents is None:
        raise ValueError("expected a picture, got none; open the desk or call workbench.random()")
    shown = ((bench.first, bench.before()), (bench.latents, bench.now()))
    pairs = [(np.asarray(bench.picture(latents)), ", ".join(map(str, said))) for latents, said in shown]
    return image_rows([pairs], ["before", "after"], width)


def drawn(maps: np.ndarray) -> np.ndarray:
    """Return deviations as uint8, with PEAK deviations at 255."""
    return (maps.clip(0) / PEAK * 255).clip(0, 255).astype(np.uint8)
