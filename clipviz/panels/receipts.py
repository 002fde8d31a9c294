"""The receipts strip: what the numbers on screen rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipviz.panels.base import Arrays, Panel, View
from clipviz.panels.scripts import script, style
from clipviz.session import Session
from clipviz.values import N_LATE, Ablation, Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Receipts(Panel):
    """Sum check, the selection's share of the cosine, fingerprints, device and time; copies the code."""

    name = "receipts"
    cost = 9
    _esm = script("receipts")
    _css = style("receipts")

    def __init__(self, session: Session) -> None:
        super().__init__(session)

    def looks_at(self, selection: Selection) -> Any:
        return selection, self.session.view, self.session.collection.version, len(self.session.images)

    def compute(self, selection: Selection, stale: Stale) -> tuple[View, Arrays]:
        session = self.session
        view = {**session.receipts(), "code": session.to_code(), "share": None, "before": None}
        if selection.text and selection.image is not None:
            view["share"] = self._share(selection, selection.ablation)
            view["before"] = self._share(selection, Ablation()) if selection.ablation else None
        return view, {}

    def draw(self, width: float) -> Figure:
        """What the strip says, as a small table."""
        from clipviz.figures.panels import facts_figure

        shown = self.data()
        rows = [
            (name, str(shown[name])) for name in ("model", "images", "texts", "index", "readout", "device")
        ]
        rows.append(("sum check", f"{shown['sum_check']:.0e}"))
        for name, share in (("cosine", shown["share"]), ("before the removal", shown["before"])):
            if share is not None:
                head = "" if share["head"] is None else f", selected head {share['head']:+.3f}"
                rows.append((name, f"{share['cosine']:+.3f}, late heads {share['late']:+.3f}{head}"))
        rows += [("note", note) for note in shown["notes"]]
        return facts_figure([row for row in rows if row[1]], "What the numbers rest on", width)

    def _share(self, selection: Selection, ablation: Ablation) -> dict[str, float | None]:
        """What adds up to the cosine with A, or to A minus B, after an ablation."""
        s = selection
        scores = self.session.head_scores(s.text, s.image, s.text_b, ablation)
        chosen = None if s.layer is None or s.head is None else float(scores.heads[s.layer, s.head])
        late = float(scores.heads[-N_LATE:].sum())
        return {"cosine": scores.cosine, "late": late, "head": chosen}
