"""The query bar: text A, text B, undo, redo, and copies of the view's code or token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import traitlets

from clipviz import values
from clipviz.panels.core.base import Panel
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.query.sent import QueryArrays, QueryView
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Query(Panel):
    """Where texts are typed. Enter shows the text in every panel; a second text is subtracted (A minus B).

    n_steps: number of steps of the tour that its button starts, 0 for no button; tour(1) starts it.
    """

    name = "query"
    cost = 0
    _esm = script("query")
    _css = style("query")

    n_steps = traitlets.Int(0, min=0).tag(sync=True)

    def prepare(self) -> None:
        self.tour: Callable[[int], None] | None = None

    def looks_at(self, selection: Selection) -> Any:
        return (
            selection,
            self.session.view,
            self.board.can_undo,
            self.board.can_redo,
            len(self.session.images),
        )

    def compute(self, selection: Selection, stale: Stale) -> tuple[QueryView, QueryArrays]:
        session = self.session
        model = session.model
        return {
            "can_undo": self.board.can_undo,
            "can_redo": self.board.can_redo,
            "model": model.name if not model.pretrained else f"{model.name} · {model.pretrained}",
            "size": f"{model.n_layers} × {model.n_heads} heads",
            "device": str(model.device),
            "n_images": len(session.images),
            "code": session.to_code(),
            "token": session.view.token_string(),
            "examples": list(session.texts.examples),
        }, {}

    def stored(self, kept: Kept) -> list[Stored]:
        return [Stored((), lambda _: Answer({"examples": list(kept.texts)}))]

    def draw(self, width: float) -> Figure:
        """Draw the selection: its image and texts and the cosines between them."""
        from clipviz.figures.panels import gallery_figure

        session, s = self.session, self.session.selection
        if s.image is None:
            raise ValueError("expected a selected image, got none; select one")
        said = [("", [(session.images.picture(s.image), self.board.images.names[s.image])])]
        for letter, text in (("A", s.text), ("B", s.text_b)):
            if text:
                cosine = session.heads.effects(text, s.image).cosine
                said.append((f"{letter}  “{text}”  cosine {cosine:+.3f}", []))
        return gallery_figure(said, width, 2)

    def act(self, request: Request) -> None:
        """Carry out an action: undo, redo, open (the view of a token), or tour (its first step)."""
        if request.action == "undo":
            self.session.undo()
        elif request.action == "redo":
            self.session.redo()
        elif request.action == "open":
            self.session.view = values.View.from_token(request.text("token").strip())
        elif request.action == "tour" and self.tour is not None:
            self.tour(1)
        else:
            super().act(request)
