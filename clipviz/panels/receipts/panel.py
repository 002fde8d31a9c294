"""The receipts strip: what the numbers on screen are based on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.panels.core.base import Panel
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import Floats, as_sent
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.receipts.sent import ReceiptsArrays, ReceiptsView, Share, Shares
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

    def looks_at(self, selection: Selection) -> Any:
        return selection, self.session.view, self.board.collection.version, len(self.session.images)

    def compute(self, selection: Selection, stale: Stale) -> tuple[ReceiptsView, ReceiptsArrays]:
        code, n_heads = self.session.to_code(), self.session.model.n_heads
        shares, arrays = self._shares(selection)
        return as_sent(self.board.receipts(), {"code": code, "n_heads": n_heads}, shares), arrays

    def stored(self, kept: Kept) -> list[Stored]:
        return [
            Stored(("image", "text"), lambda s: Answer(*self._shares(s))),
            Stored(("image",), lambda s: Answer({"readout": self.board.readout(s.image)})),
        ]

    def _shares(self, selection: Selection) -> tuple[Shares, ReceiptsArrays]:
        """Return what sums to the cosine, with every head's share, and the same before an ablation."""
        view: Shares = {"share": None, "before": None}
        arrays: ReceiptsArrays = {}
        if selection.text and selection.image is not None:
            view["share"], arrays["heads"] = self._share(selection, selection.ablation)
            if selection.ablation:
                view["before"], arrays["heads_before"] = self._share(selection, Ablation())
        return view, arrays

    def draw(self, width: float) -> Figure:
        """Draw the strip as a small table."""
        from clipviz.figures.panels import facts_figure

        shown = self.data()
        rows = [
            (name, str(shown[name])) for name in ("model", "images", "texts", "index", "readout", "device")
        ]
        rows.append(("sum check", f"{shown['sum_check']:.0e}"))
        layer, at = shown["selection"]["layer"], shown["selection"]["head"]
        for name, share, heads in (
            ("cosine", shown["share"], shown.get("heads")),
            ("before the removal", shown["before"], shown.get("heads_before")),
        ):
            if share is not None:
                head = "" if at is None or heads is None else f", selected head {heads[layer, at]:+.3f}"
                rows.append((name, f"{share['cosine']:+.3f}, late heads {share['late']:+.3f}{head}"))
        rows += [("note", note) for note in shown["notes"]]
        return facts_figure([row for row in rows if row[1]], "What the numbers are based on", width)

    def _share(self, selection: Selection, ablation: Ablation) -> tuple[Share, Floats]:
        """Return the parts that sum to the cosine with A, or to A minus B, after an ablation; heads [layer, head]."""
        s = selection
        scores = self.session.heads.effects(s.text, s.image, s.text_b, ablation)
        late = float(scores.heads[-N_LATE:].sum())
        return {"cosine": scores.cosine, "late": late}, scores.heads.astype(np.float32)
