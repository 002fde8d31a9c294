"""The ablation desk: remove heads; the image's classes respond at once, the collection's accuracy follows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypedDict

import traitlets

from clipviz.panels.ablate.bench import arrays_of, nearest, outcome_shown, three
from clipviz.panels.core.base import ASKED, Arrays, Desk, View, pack
from clipviz.panels.core.scripts import script, style
from clipviz.session import Session
from clipviz.values import Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from clipviz.session.answers import Desk as Bench
    from clipviz.values import Task

MOST_CLASSES = 400  # most classes sent to the browser: those nearest to the image


class AblateOptions(TypedDict, total=False):
    task: str
    classes: str
    shortcut: str
    shortcut_b: str
    mlps: list[int]
    class_token: bool
    visible: bool


class Ablate(Desk):
    """Heads and MLPs removed from one image's class scores, exactly and in the browser; beside it the collection's
    accuracy.

    task: one of the images' own tasks ("objects", "birds", ...) or "typed"; classes: class names with commas
    between them, for "typed". shortcut, shortcut_b: two texts whose heads form a separate set, see
    session.ablation.shortcut_heads. Removed heads, and all MLPs together, are the selection's ablation, shared
    with every panel. mlps: single MLP terms (0 = the input, 1 + layer = an MLP), and class_token: what the class
    token writes by attending to itself (Table A.1); both are removed on this desk alone, whose images are traced
    again for them.
    """

    name = "ablate"
    title = "Ablation"
    question = "What is lost without these heads?"
    cost = 6
    _esm = script("ablate")
    _css = style("ablate")

    task = traitlets.Unicode("").tag(**ASKED)
    classes = traitlets.Unicode("").tag(**ASKED)
    shortcut = traitlets.Unicode("").tag(**ASKED)
    shortcut_b = traitlets.Unicode("").tag(**ASKED)
    mlps = traitlets.List(traitlets.Int(), []).tag(**ASKED)
    class_token = traitlets.Bool(False).tag(**ASKED)
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
            self.board.collection.version,
            len(session.images),
            session.heads.labelled,
            tuple(session.heads.roles().items()),
        )
        return s.image, s.text, s.ablation, known

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        session, collection = self.session, self.board.collection
        known = session.ablation.tasks()
        task = self._task(known)
        view: View = {
            "n_layers": session.model.n_layers,
            "n_heads": session.model.n_heads,
            "n_mlps": session.model.weights.n_mlp_terms,
            "has_token": not session.model.weights.readout.pools,
            "kept": list(collection.layers),
            "rest": session.ablation.everything_else().to_dict(),
            "tasks": [[name, known[name].note] for name in known],
            "note": task.note if task else "",
            "task": self.task or (task.name if task else "typed"),
            "classes": self.classes,
            "apart": {"mlps": sorted(self.mlps), "token": self.class_token},
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
        removed = self.removed(selection.ablation)
        view["desk"] = self._put_desk(task, selection.image, self._apart(selection.ablation))
        if view["desk"] is None:
            view["message"] = self.board.waiting
            return view, {}
        shortcut = (
            (self.shortcut, self.shortcut_b)
            if self.shortcut.strip() and self.shortcut_b.strip()
            else ("", "")
        )
        presets = session.ablation.presets(selection.text, selection.image, task, shortcut)
        view["presets"] = [dataclasses.asdict(preset) for preset in presets]
        if not self.view.get("outcome"):
            self._show(selection, view, {})  # the image's bars do not wait for the collection
        if stale():
            return None
        if session.ablation.n_labelled(task):
            view["outcome"] = outcome_shown(session.ablation.run(removed, task), task, bool(removed))
        return view, {}

    def removed(self, shared: Ablation | None = None) -> Ablation:
        """Return everything that is removed here: the selection's ablation and this desk's own. Raises ValueError
        for terms that cannot be removed.
        """
        model = self.session.model
        shared = self.session.selection.ablation if shared is None else shared
        self.session.ablation.on_desk(shared)
        n_mlps = model.weights.n_mlp_terms
        if any(not 0 <= mlp < n_mlps for mlp in self.mlps):
            raise ValueError(
                f"expected mlps within 0..{n_mlps - 1}, got {list(self.mlps)}; 0 is the input term"
            )
        if self.class_token and model.weights.readout.pools:
            raise ValueError(
                f"{model.name!r} pools its tokens and has no class token; leave class_token=False"
            )
        return dataclasses.replace(
            shared, mlps=shared.mlps | set(self.mlps), tokens=frozenset({0} if self.class_token else ())
        )

    def probabilities(self) -> dict[str, float]:
        """Return class probabilities of the image on screen after the selection's ablation, as summed by the
        browser.
        """
        if self._desk is None or self._desk_view is None:
            raise ValueError("expected a desk, got none yet; wait for the first images with session.wait()")
        chosen = self.session.ablation.on_desk(self.session.selection.ablation)
        if not chosen.mlps:  # everything else is mlps={0}; separate MLP terms come after it
            chosen = dataclasses.replace(chosen, mlps=frozenset(1 + mlp for mlp in self.mlps))
        values = self._desk.probabilities(chosen)
        return dict(zip(self._desk_view["names"], values[self._desk_view["rows"]].tolist(), strict=True))

    def draw(self, width: float) -> Figure:
        from clipviz.figures.chapter2 import spurious_groups

        shown = self.view.get("outcome")
        if not shown:
            raise ValueError(
                "expected an outcome over the collection, got none; the images need known classes"
            )
        rows, worst = [shown["everything"], *shown["groups"]], shown["worst"] or shown["everything"]
        model = self.session.model
        removed = self.removed().without(model.n_heads, model.weights.n_mlp_terms)
        return spurious_groups(
            {row["name"]: three(row) for row in rows},
            three(worst),
            "Before and after",
            width,
            ablated=removed or "nothing removed",
            changes=[row["change"] for row in (*rows, worst)] if removed else (),
        )

    def _task(self, known: dict[str, Task]) -> Task | None:
        if self.task == "typed" or (not self.task and self.classes):
            return self.session.ablation.typed(self.classes) if self.classes.strip() else None
        if self.task and self.task not in known:
            raise ValueError(
                f"expected a task among {', '.join([*known, 'typed'])}, got {self.task!r}; choose one of them"
            )
        return known.get(self.task) or next(iter(known.values()), None)

    def _apart(self, shared: Ablation) -> tuple[bool, bool]:
        """Return whether the desk needs every MLP separately, and whether the class token's own attention is
        removed.
        """
        single = bool(self.mlps) and not self.session.ablation.on_desk(shared).mlps
        return single or self.class_token, self.class_token

    def _put_desk(self, task: Task, image: int, apart: tuple[bool, bool]) -> dict[str, Any] | None:
        """Write the desk's arrays if image, classes or means are new; return what the view states about them."""
        session = self.session
        key = (
            image,
            task.name,
            task.classes,
            self.board.collection.version,
            self.board.images.fingerprint,
            apart,
        )
        if key == self._desk_key:
            return self._desk_view
        made = session.ablation.desk(task, image, *apart)
        if made is None:
            return None
        rows = nearest(made, MOST_CLASSES)
        places, buffer = pack(arrays_of(made, rows, self.board.images, image))
        self._desk_view = {
            "arrays": places,
            "names": [task.classes[i] for i in rows],
            "prompts": [task.prompts[i][0] for i in rows],
            "rows": rows,
            "n_classes": len(task.classes),
            "apart": apart[0],
            "token": apart[1],
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
