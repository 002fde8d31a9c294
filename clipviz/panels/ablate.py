"""The ablation desk: take heads out, see the image's classes move at once and the collection's accuracy follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import traitlets

from clipviz.panels import pictures
from clipviz.panels.base import ASKED, Arrays, Desk, View, pack
from clipviz.panels.scripts import script, style
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from clipviz.analysis.ablation import Desk as Bench
    from clipviz.analysis.ablation import Outcome
    from clipviz.analysis.tasks import Task

THUMBNAIL = 112
MOST_CLASSES = 400  # sent to the browser; beyond that the classes nearest to the image


class AblateOptions(TypedDict, total=False):
    task: str
    classes: str
    cue: str
    cue_b: str
    visible: bool


class Ablate(Desk):
    """Heads and MLPs removed from one image's class scores, exactly and in the browser; the collection beside it.

    task: one of the tasks that the images pose ("objects", "birds", ...) or "typed"; classes: class names with
    commas between them, for "typed". cue, cue_b: two texts whose heads are a set of their own (session.cue_heads).
    What is out is the selection's ablation, shared with every panel.
    """

    name = "ablate"
    title = "Ablation"
    question = "What is lost without these heads?"
    cost = 6
    _esm = script("ablate")
    _css = style("ablate")

    task = traitlets.Unicode("").tag(**ASKED)
    classes = traitlets.Unicode("").tag(**ASKED)
    cue = traitlets.Unicode("").tag(**ASKED)
    cue_b = traitlets.Unicode("").tag(**ASKED)
    desk = traitlets.Bytes(
        help="logits and Grams of one image's terms; written when image or classes change"
    ).tag(sync=True)

    _desk_key: Any = None
    _desk_view: dict[str, Any] | None = None
    _desk: Bench | None = None

    def __init__(self, session: Session, **options: Unpack[AblateOptions]) -> None:
        super().__init__(session, **options)

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        known = (
            session.collection.version,
            len(session.images),
            session.labelled,
            tuple(session.roles().items()),
        )
        return s.image, s.text, s.ablation, known

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        session, collection = self.session, self.session.collection
        known = session.tasks()
        task = self._task(known)
        view: View = {
            "n_layers": session.model.n_layers,
            "n_heads": session.model.n_heads,
            "kept": list(collection.layers),
            "rest": session.everything_else().to_dict(),
            "tasks": [[name, known[name].note] for name in known],
            "note": task.note if task else "",
            "task": self.task or (task.name if task else "typed"),
            "classes": self.classes,
            "n_read": collection.n_ready,
            "n_images": len(session.images),
            "complete": collection.complete,
            "desk": None,
            "outcome": None,
            "presets": [],
            "message": "",
        }
        if task is None:
            view["message"] = (
                "The classes of these images are not known. Type class names, separated by commas."
            )
            return view, {}
        if selection.image is None:
            view["message"] = "Select an image."
            return view, {}
        session.desk_ablation(selection.ablation)
        view["desk"] = self._put_desk(task, selection.image)
        if view["desk"] is None:
            view["message"] = f"Reading the collection: {collection.n_ready} of {len(session.images)} images…"
            return view, {}
        cue = (self.cue, self.cue_b) if self.cue.strip() and self.cue_b.strip() else ("", "")
        presets = session.presets(selection.text, selection.image, task, cue)
        view["presets"] = [preset._asdict() for preset in presets]
        if not self.view.get("outcome"):
            self._show(selection, view, {})  # the image's bars need not wait for the collection
        if stale():
            return None
        if session.n_labelled(task):
            view["outcome"] = _outcome(session.ablate(selection.ablation, task), task)
        return view, {}

    def probabilities(self) -> dict[str, float]:
        """Class probabilities of the image on screen after the selection's ablation, as the browser sums them."""
        if self._desk is None or self._desk_view is None:
            raise ValueError("expected a desk, got none yet; wait for the first images with session.wait()")
        chosen = self.session.desk_ablation(self.session.selection.ablation)
        values = self._desk.probabilities(chosen)
        return dict(zip(self._desk_view["names"], values[self._desk_view["rows"]].tolist(), strict=True))

    def draw(self, width: float) -> Figure:
        from clipviz.figures.chapter2 import spurious_groups

        shown = self.view.get("outcome")
        if not shown:
            raise ValueError(
                "expected an outcome over the collection, got none; the images need known classes"
            )
        rows = {row["name"]: _three(row) for row in [shown["everything"], *shown["groups"]]}
        worst = _three(shown["worst"] or shown["everything"])
        removed = self.session.selection.ablation.without(self.session.model.n_heads)
        return spurious_groups(rows, worst, "Before and after", width, ablated=removed or "nothing removed")

    def _task(self, known: dict[str, Task]) -> Task | None:
        if self.task == "typed" or (not self.task and self.classes):
            return self.session.typed_task(self.classes) if self.classes.strip() else None
        if self.task and self.task not in known:
            raise ValueError(
                f"expected a task among {', '.join([*known, 'typed'])}, got {self.task!r}; choose one of them"
            )
        return known.get(self.task) or next(iter(known.values()), None)

    def _put_desk(self, task: Task, image: int) -> dict[str, Any] | None:
        """Write the desk's arrays where image, classes or means are new; what the view says of them."""
        session = self.session
        key = (image, task.name, task.classes, session.collection.version, session.images.fingerprint)
        if key == self._desk_key:
            return self._desk_view
        made = session.ablation_desk(task, image)
        if made is None:
            return None
        rows = _nearest(made, MOST_CLASSES)
        names = [task.classes[i] for i in rows]
        places, buffer = pack(_arrays(made, rows, session, image))
        self._desk_view = {
            "arrays": places,
            "names": names,
            "prompts": [task.prompts[i][0] for i in rows],
            "rows": rows,
            "n_classes": len(task.classes),
            "heads": [list(head) for head in made.mean.heads],
            "scale": made.scale,
            "bias": made.bias,
            "link": session.model.link,
            "label": rows.index(made.label) if made.label in rows else -1,
            "n_means": made.n_images,
            "key": (self._desk_view or {}).get("key", 0) + 1,
        }
        self._desk_key, self._desk, self.desk = key, made, buffer
        return self._desk_view


def _nearest(desk: Bench, most: int) -> list[int]:
    """Classes in their order; where there are too many, those nearest to the unablated image."""
    logits = desk.mean.logits
    if len(logits) <= most:
        return list(range(len(logits)))
    return sorted(logits.topk(most).indices.tolist())


def _arrays(desk: Bench, rows: list[int], session: Session, image: int) -> dict[str, np.ndarray | bytes]:
    small = pictures.encoded(session.images.thumbnail(image, THUMBNAIL))
    arrays: dict[str, np.ndarray | bytes] = {"thumbnail": small}
    for side in (desk.mean, desk.zero):
        arrays[f"terms_{side.how}"] = _floats(side.term_logits[:, rows])
        arrays[f"gram_{side.how}"] = _floats(side.gram)
        arrays[f"cross_{side.how}"] = _floats(side.cross)
    arrays["logits"] = _floats(desk.mean.logits[rows])
    arrays["squared_norm"] = _floats(desk.mean.squared_norm[None])
    return arrays


def _floats(tensor: Any) -> np.ndarray:
    return np.ascontiguousarray(tensor.cpu().numpy(), np.float32)


def _outcome(found: Outcome, task: Task) -> dict[str, Any]:
    worst = found.worst
    return {
        "everything": found.everything._asdict(),
        "worst": None if worst is None else worst._asdict(),
        "groups": [row._asdict() for row in found.groups],
        "by": task.by,
        "n_heads": found.n_heads,
        "drawn_from": list(found.drawn_from),
        "chance": found.before.chance,
    }


def _three(row: dict[str, Any]) -> tuple[float, float, float]:
    """Before, best random draw, after."""
    return row["before"], max(row["random"], default=row["before"]), row["after"]
