"""The ablation desk: remove heads; the image's classes respond at once, the collection's accuracy follows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import traitlets

from clipviz.panels.ablate.bench import arrays_of, nearest, outcome_shown, three
from clipviz.panels.ablate.sent import AblateArrays, AblateView, DeskShown
from clipviz.panels.core.base import Desk, pack
from clipviz.panels.core.options import asked
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import as_sent
from clipviz.values import Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session.answers import Desk as Bench
    from clipviz.values import Task

MOST_CLASSES = 400  # most classes sent to the browser: those nearest to the image


class Ablate(Desk):
    """Heads and MLPs removed from one image's class scores, exactly and in the browser; beside it the collection's
    accuracy.

    Removed heads, and all MLPs together, are the selection's ablation, shared with every panel. Single MLP terms and
    the class token are removed on this desk alone, whose images are traced again for them.
    """

    name = "ablate"
    title = "Ablation"
    question = "What is lost without these heads?"
    cost = 6
    _esm = script("ablate")
    _css = style("ablate")

    task: str = asked(
        default="", help='One of the tasks that the images pose ("objects", "birds", ...), or "typed".'
    )
    classes: str = asked(default="", help='Class names with commas between them, for "typed".')
    shortcut: str = asked(
        default="",
        help="With shortcut_b, texts whose heads are a set of their own; see session.ablation.shortcut_heads.",
    )
    shortcut_b: str = asked(default="", help="The text from which shortcut differs.")
    mlps: list[int] = asked(
        default=[], help="Single MLP terms that are removed: 0 is the input, 1 + layer is an MLP."
    )
    class_token: bool = asked(
        default=False,
        help="Whether what the class token writes by attending to itself is removed (Table A.1).",
    )
    desk = traitlets.Bytes(
        help="logits and Grams of one image's terms; written when image or classes change"
    ).tag(sync=True)

    def prepare(self) -> None:
        self._desk_key: Any = None
        self._desk_view: DeskShown | None = None
        self._desk: Bench | None = None

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        known = (
            self.board.collection.version,
            len(session.images),
            session.heads.labelled,
            tuple(session.heads.roles().items()),
        )
        return s.image, s.text, s.ablation, known

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[AblateView, AblateArrays] | None:
        session, collection = self.session, self.board.collection
        known = session.ablation.tasks()
        task = self._task(known)
        view: AblateView = {
            "n_layers": session.model.n_layers,
            "n_heads": session.model.n_heads,
            "n_mlps": session.model.weights.n_mlp_terms,
            "has_token": not session.model.weights.readout.pools,
            "kept": list(collection.layers),
            "rest": as_sent(session.ablation.everything_else().to_dict()),
            "tasks": [(name, known[name].note) for name in known],
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
        view["presets"] = [as_sent(preset) for preset in presets]
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
        """Return the image's class probabilities after the selection's ablation, as summed by the browser."""
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
        """Return whether the desk needs every MLP separately, and whether it removes the class token."""
        single = bool(self.mlps) and not self.session.ablation.on_desk(shared).mlps
        return single or self.class_token, self.class_token

    def _put_desk(self, task: Task, image: int, apart: tuple[bool, bool]) -> DeskShown | None:
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
        shown: DeskShown = {
            "arrays": places,
            "names": [task.classes[i] for i in rows],
            "prompts": [task.prompts[i][0] for i in rows],
            "rows": rows,
            "n_classes": len(task.classes),
            "apart": apart[0],
            "token": apart[1],
            "heads": list(made.mean.heads),
            "scale": made.scale,
            "bias": made.bias,
            "link": session.model.link,
            "label": rows.index(made.label) if made.label in rows else -1,
            "n_means": made.n_images,
            "key": 1 + (self._desk_view["key"] if self._desk_view else 0),
        }
        self._desk_key, self._desk, self._desk_view, self.desk = key, made, shown, buffer
        return shown
