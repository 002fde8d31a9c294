"""The grid of heads: layer x head, coloured by effect, variance or property, with the MLPs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipviz.panels.core.base import Panel
from clipviz.panels.core.options import asked, local
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import as_sent
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.heads.sent import HeadsArrays, HeadSummary, HeadsView
from clipviz.values import Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session.answers import Summary
    from clipviz.values import Head


class Heads(Panel):
    """Every head of the model. A click selects one, a ctrl-click adds it to the ablation set, arrow keys move."""

    name = "heads"
    cost = 1
    _esm = script("heads")
    _css = style("heads")

    quantity: Literal["effect", "variance", "property"] = local(
        default="effect",
        help="What the cells show: the direct effect on text A, or A minus B, of the selected image; the share of the "
        "heads' variance over the collection; or what the head's first TextSpan texts have in common.",
    )
    find: str = asked(
        default="",
        help="A text whose heads stand out, found by what they vary with (session.heads.find) or by their labels and "
        "texts.",
    )

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        session, asked = self.session, (s.text, s.text_b, s.ablation)
        read = self.board.collection.version if s.ablation else self.board.collection.complete
        labelled = session.heads.labelled or self.board.waiting
        return s.image, asked, read, labelled, tuple(session.heads.roles().items())

    def marks(self, selection: Selection) -> Any:
        return selection.layer, selection.head

    def compute(self, selection: Selection, stale: Stale) -> tuple[HeadsView, HeadsArrays]:
        return self._scored(selection)

    def _scored(self, selection: Selection) -> tuple[HeadsView, HeadsArrays]:
        session = self.session
        shape = (session.model.n_layers, session.model.n_heads)
        arrays: HeadsArrays = {
            "heads": np.zeros(shape, np.float32),
            "mlps": np.zeros(session.model.weights.n_mlp_terms, np.float32),
        }
        cosine = before = None
        if selection.text and selection.image is not None:
            asked = selection.text, selection.image, selection.text_b
            scores = session.heads.effects(*asked, selection.ablation)
            cosine, before = scores.cosine, session.heads.effects(*asked, Ablation()).cosine
            arrays["heads"], arrays["mlps"] = scores.heads.astype(np.float32), scores.mlps.astype(np.float32)
        view: HeadsView = {
            "n_layers": shape[0],
            "n_heads": shape[1],
            "has_tail": session.model.weights.readout.has_tail,
            "kept": list(self.board.collection.layers),
            "cosine": cosine,
            "cosine_before": before,
            "summaries": None,
            "waits": self.board.waiting,
            "found": [],
        }
        if self.board.collection.complete and self.board.collection.n_ready > 1:
            self.board.label_heads()
            if session.heads.labelled:
                view["summaries"] = _worded(session.heads.summaries())
            if self.find.strip():
                view["found"] = [as_sent(one) for one in session.heads.find(self.find.strip())]
            arrays["variance"] = session.heads.variance().astype(np.float32)
        return view, arrays

    def stored(self, kept: Kept) -> list[Stored]:
        session = self.session
        if self.board.collection.complete and self.board.collection.n_ready > 1:
            session.heads.summaries()  # a saved page waits for the labels, and for the panel to show them
            session.wait(None, background=True)
        return [Stored(("image", "text"), lambda s: Answer(*self._scored(s)))]

    def draw(self, width: float) -> Figure:
        from clipviz.figures.panels import heads_figure

        shown = self.data()
        return heads_figure(shown["heads"], shown["mlps"], _title(shown["selection"]), width)


def _worded(summaries: Mapping[Head, Summary]) -> dict[str, HeadSummary]:
    """Return summaries in the browser's form, by "layer,head"."""
    return {
        f"{layer},{head}": {"label": one.label, "texts": list(one.texts), "p": one.p_value, "role": one.role}
        for (layer, head), one in summaries.items()
    }


def _title(selection: dict[str, Any]) -> str:
    minus = f" − {selection['text_b']}" if selection["text_b"] else ""
    return f"direct effect on “{selection['text']}{minus}”" if selection["text"] else "direct effect"
