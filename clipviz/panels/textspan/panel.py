"""TextSpan of the selected head: its texts, the variance explained against random rotations, their top images."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.panels.core import pictures
from clipviz.panels.core.base import Computed, Panel
from clipviz.panels.core.options import fixed
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import as_sent
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.textspan.sent import RowImages, TextRow, TextSpanArrays, TextSpanView
from clipviz.session import Description
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.values import Head

THUMBNAIL = 56
ENCODING = "The texts are being encoded for this model, once."
AHEAD = 64  # most heads described between clicks, whose answers a session remembers together
SUGGESTED = ("background", "colour", "texture")  # roles suggested when one is typed


class TextSpan(Panel):
    """A description of the selected head with texts (thesis Alg. 1). A click on a text shows it in every panel.

    The tick on each bar is the 95th percentile of what a text explains when the same data are randomly rotated
    inside the head's span (20 draws). A bar that stays below it is grey. Beside the computed label your own role can be
    typed (session.heads.set_role).
    """

    name = "textspan"
    cost = 3
    _esm = script("textspan")
    _css = style("textspan")

    n_texts: int = fixed(default=10, low=1, high=60, help="Rows shown.")
    n_images: int = fixed(default=3, low=0, high=8, help="Images in each row.")

    def prepare(self) -> None:
        self._ahead: tuple[int, list[Head]] | None = None  # what is being described between clicks

    def close(self) -> None:
        self._ahead = None
        super().close()

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        own = tuple(session.heads.roles().items())
        return s.layer, s.head, s.images, s.text, self.board.collection.version, own

    def compute(self, selection: Selection, stale: Stale) -> Computed:
        if self.board.pool_ready:
            return self._shown(selection, stale)
        waiting: TextSpanView = {"rows": [], "message": ENCODING, "role": None, "roles": []}
        waiting["thumbnails"] = {"ids": [], "places": [], "columns": 0, "n": 0}
        none: TextSpanArrays = {"sprite": b""}
        return waiting, none, lambda: self._shown(selection, stale)

    def _shown(self, selection: Selection, stale: Stale) -> Computed:
        view, ids = self._described(selection)
        if stale():
            return None
        flat = [i for row in ids for i in row]
        sprite, columns = self.board.images.sprite(flat, THUMBNAIL, self.n_images or None)
        places = [[columns * i + k for k in range(columns)] for i in range(len(ids))]
        view["thumbnails"] = {"ids": ids, "places": places, "columns": columns, "n": len(flat)}
        self._look_ahead(selection)
        return view, {"sprite": sprite}

    def stored(self, kept: Kept) -> list[Stored]:
        """Return the texts of every head; images that several heads share are stored once, in one sheet."""
        fields, found = ("layer", "head"), {}
        progress = self.board.progress("Describing the heads in texts", len(kept.heads))
        for s in kept.selections(fields, self.session.selection):
            found[s.layer, s.head] = self._described(s)
            progress(len(found))
        every = sorted({i for _, ids in found.values() for row in ids for i in row})
        place = {image: i for i, image in enumerate(every)}
        sheet, columns = self.board.images.sprite(every, THUMBNAIL, 24)
        sheet = pictures.compact(sheet) if sheet else sheet

        def texts(s: Selection) -> Answer:
            view, ids = found[s.layer, s.head]
            places = [[place[i] for i in row] for row in ids]
            about: RowImages = {"ids": ids, "places": places, "columns": columns, "n": len(every)}
            return Answer({**view, "thumbnails": about}, {"sprite": sheet})

        return [Stored(fields, texts)]

    def _look_ahead(self, selection: Selection) -> None:
        """Describe other heads between clicks: all of them, or those of the selected layer where there are many."""
        collection, heads = self.board.collection, list(self.session.heads.kept)
        if len(heads) > AHEAD:
            heads = [head for head in heads if head[0] == selection.layer][:AHEAD]
        if collection.complete and collection.n_ready > 1 and self._ahead != (collection.version, heads):
            self._ahead = collection.version, heads
            self.board.background(_described_ahead(weakref.ref(self), self._ahead))

    def describe_ahead(self, layer: int, head: int) -> None:
        """Describe a head of the whole collection and open its pictures, so that a click finds both."""
        _, ids = self._described(Selection(layer=layer, head=head))
        self.board.images.sprite([i for row in ids for i in row], THUMBNAIL, self.n_images or None)

    def wants_ahead(self, ahead: tuple[int, list[Head]]) -> bool:
        """Return whether heads of this version of the collection are still to be described."""
        return self._ahead == ahead

    def _described(self, selection: Selection) -> tuple[TextSpanView, list[list[int]]]:
        """Return the view without pictures, and the images of every row."""
        session, layer, head = self.session, selection.layer, selection.head
        view: TextSpanView = {"rows": [], "message": "", "role": None, "roles": []}
        if layer is None or head is None:
            return {**view, "message": "Select a head to see its texts."}, []
        roles = session.heads.roles()
        view |= {"role": roles.get((layer, head), ""), "roles": sorted({*roles.values(), *SUGGESTED})}
        if layer not in self.board.collection.layers:
            kept = ", ".join(map(str, self.board.collection.layers))
            message = f"Layer {layer} is not available for this collection; layers {kept} are."
            return {**view, "message": message}, []
        few = self._too_few(selection)
        if few:
            return {**view, "message": few}, []
        if not session.heads.varies(layer, head, selection.images):
            message = f"L{layer}·H{head} writes the same on all of these images, so no text can explain how it varies."
            return {**view, "message": f"{message} Choose images that differ."}, []
        described = session.heads.textspan(layer, head, self.n_texts, selection.images)
        view |= self._rows(described)
        view |= {
            "n_read": self.board.collection.n_ready if not selection.images else len(selection.images),
            "n_images": len(session.images),
            "complete": self.board.collection.complete,
            "label": as_sent(session.heads.label(layer, head, selection.images)),
            "pool": session.texts.opened.name,
        }
        return view, self._best(described, layer, head)

    def act(self, request: Request) -> None:
        """Carry out "role": a person's name for the head."""
        if request.action != "role":
            return super().act(request)
        head = request.pair("head")
        if head is None:
            raise ValueError("expected the head to give the role to, got none; select one first")
        return self.session.heads.set_role(*head, request.text("role"))

    def draw(self, width: float) -> Figure:
        from clipviz.figures.panels import textspan_figure

        shown = self.data()
        if not shown.get("rows"):
            raise ValueError(f"expected texts, got none: {shown.get('message') or 'select a head first'}")
        head = f"L{shown['selection']['layer']}·H{shown['selection']['head']}"
        return textspan_figure(shown["rows"], f"{head}, {shown['n_draws']} random rotations", width)

    def _too_few(self, selection: Selection) -> str:
        n_read = len(self.board.collection.rows(selection.images))
        if n_read < 2 and not self.board.collection.complete:
            return self.board.waiting
        if n_read < 2:
            return (
                "TextSpan explains how a head varies over images, so it needs at least 2 of them. "
                "Open a folder with more, or choose a larger set."
            )
        return ""

    def _rows(self, described: Description) -> TextSpanView:
        null = described.null_gains.mean(0)
        high = np.quantile(described.null_gains, 0.95, axis=0)
        rows: list[TextRow] = [
            {
                "text": text,
                "family": family or "",
                "gain": float(gain),
                "null": float(low),
                "null_high": float(top),
            }
            for text, family, gain, low, top in zip(
                described.texts, described.families, described.gains, null, high, strict=True
            )
        ]
        return {
            "rows": rows,
            "explained": float(described.gains.sum()),
            "null_explained": float(null.sum()),
            "n_draws": len(described.null_gains),
            "n_used_up": described.n_used_up,
        }

    def _best(self, described: Description, layer: int, head: int) -> list[list[int]]:
        """Return the images on which the head writes most along each text, equally many for every text."""
        n = self.n_images
        if not n:
            return []
        chosen = self.session.texts.pool()[list(described.order)]
        return [(row * n)[:n] for row in self.board.best_images(chosen, layer, head, n)]


def _described_ahead(reference: weakref.ref[TextSpan], ahead: tuple[int, list[Head]]) -> Iterator[None]:
    """Describe heads one by one; keeps no reference to the panel while it waits."""
    for head in ahead[1]:
        panel = reference()
        if panel is None or not panel.wants_ahead(ahead):
            return
        panel.describe_ahead(*head)
        del panel
        yield
