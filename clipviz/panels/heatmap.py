"""The selected image and where its tokens write towards the text: all heads, late layers, one layer, one head."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from PIL import Image

from clipviz.panels.base import Panel, marks, script, style
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCOPES = ("all", "late", "layer", "head")
N_LATE = 4


class Heatmap(Panel):
    """Token effects on text A, or on A minus B, over the image (thesis 2.5). Sums over heads are made locally.

    scope: "all" heads, the "late" layers (last 4), the selected "layer" or the selected "head". show: "effect" or
    the class token's "attention". Hover reads a token, a click selects it, arrows move it.
    """

    name = "heatmap"
    cost = 2
    _esm = script("heatmap")
    _css = style("heatmap")

    scope = traitlets.Enum(SCOPES, "late").tag(sync=True, option=True)
    show = traitlets.Enum(("effect", "attention"), "effect").tag(sync=True, option=True)
    opacity = traitlets.Float(0.75, min=0, max=1).tag(sync=True, option=True)
    picture = traitlets.Bytes(help="the image as the model sees it; written only when it changes").tag(
        sync=True
    )

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        return s.image, s.layer, s.head, s.token, s.text, s.text_b

    def compute(self, selection: Selection, stale: Stale) -> tuple[dict[str, Any], dict[str, Any]] | None:
        session = self.session
        if selection.image is None:
            return {"selection": marks(selection), "message": "Select an image."}, {}
        rows, cols = session.model.weights.grid
        trace = session.trace(selection.image)
        if stale():
            return None
        arrays: dict[str, Any] = {"attention": trace.attention[0].cpu().numpy().astype(np.float32)}
        cosines: list[float] = []
        for name, text in (("scores", selection.text), ("scores_b", selection.text_b)):
            if text:
                maps = session.token_maps(text, selection.image)
                arrays[name] = maps.scores.astype(np.float32)
                cosines.append(maps.cosine)
        self._show_picture(selection.image)
        return {
            "selection": marks(selection),
            "rows": rows,
            "cols": cols,
            "n_layers": session.model.n_layers,
            "n_heads": session.model.n_heads,
            "cosines": cosines,
            "title": self._title(selection.image),
            "picture": self._picture_of,
            "message": "",
        }, arrays

    def map(self) -> np.ndarray:
        """The map on screen, [rows, cols], as the browser sums it."""
        shown = self.data()
        selection, n_layers = shown["selection"], shown["n_layers"]
        scores = shown["attention"] if self.show == "attention" or "scores" not in shown else shown["scores"]
        if self.show == "effect" and "scores_b" in shown and "scores" in shown:
            scores = scores - shown["scores_b"]
        if self.scope == "late":
            scores = scores[max(0, n_layers - N_LATE) :]
        elif self.scope == "layer" and selection["layer"] is not None:
            scores = scores[selection["layer"]][None]
        elif self.scope == "head" and selection["layer"] is not None and selection["head"] is not None:
            scores = scores[selection["layer"], selection["head"]][None, None]
        return scores[..., 1:].sum((0, 1)).reshape(shown["rows"], shown["cols"])

    def figure(self) -> Figure:
        from clipviz.figures.panels import heatmap_figure

        shown = self.data()["selection"]
        minus = f" − {shown['text_b']}" if shown["text_b"] else ""
        return heatmap_figure(self.session.pixels(shown["image"]), self.map(), f"{shown['text']}{minus}")

    _picture_of: Any = None

    def _show_picture(self, image: int) -> None:
        key = [image, self.session.images.fingerprint]
        if self._picture_of == key:
            return
        buffer = io.BytesIO()
        pixels = Image.fromarray(self.session.picture(image))
        if max(pixels.size) <= 128:
            pixels.save(buffer, "PNG")
        else:
            pixels.save(buffer, "JPEG", quality=90)
        self._picture_of = key
        self.picture = buffer.getvalue()

    def _title(self, image: int) -> str:
        images = self.session.images
        return (
            images.captions[image]
            if images.captions and image < len(images.captions)
            else images.names[image]
        )
