"""The receipts strip: what the numbers on screen rest on."""

from __future__ import annotations

from typing import Any

from clipviz.panels.base import Arrays, Panel, View
from clipviz.panels.scripts import script, style
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale


class Receipts(Panel):
    """Sum check, the selection's share of the cosine, fingerprints, device and time; copies the code."""

    name = "receipts"
    cost = 9
    _esm = script("receipts")
    _css = style("receipts")

    def __init__(self, session: Session) -> None:
        super().__init__(session)

    def looks_at(self, selection: Selection) -> Any:
        return selection, self.session.collection.version, len(self.session.images)

    def compute(self, selection: Selection, stale: Stale) -> tuple[View, Arrays]:
        session = self.session
        view = {**session.receipts(), "code": session.to_code(), "share": None}
        if selection.text and selection.image is not None:
            scores = session.head_scores(selection.text, selection.image)
            view["share"] = {
                "cosine": scores.cosine,
                "late": float(scores.heads[-4:].sum()),
                "head": None
                if selection.layer is None or selection.head is None
                else float(scores.heads[selection.layer, selection.head]),
            }
        return view, {}
