"""The collection: images nearest to the text, or to the selected image under the model or under one head."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import traitlets

from clipviz.panels.base import Panel, marks, script, style
from clipviz.values import Selection
from clipviz.worker import Stale

THUMBNAIL = 72


class ImageGallery(Panel):
    """Thumbnails of the collection. A click selects an image, ctrl-click gathers a set to be described.

    order: "text" (cosine with text A), "model" (nearest to the selected image by cosine), "head" (by the selected
    head's inner product, Fig. 2.5) or "all" (as they come). n_shown: thumbnails on screen.
    """

    name = "images"
    cost = 4
    _esm = script("images")
    _css = style("images")

    order = traitlets.Enum(("text", "model", "head", "all"), "text").tag(
        sync=True, option=True, recompute=True
    )
    page = traitlets.Int(0, min=0).tag(sync=True, option=True, recompute=True)
    n_shown = traitlets.Int(28, min=1, max=200).tag(option=True, recompute=True)

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        used = {"text": (s.text,), "model": (s.image,), "head": (s.image, s.layer, s.head), "all": ()}[
            self.order
        ]
        return used, s.image, s.images, session.collection.version, len(session.images)

    def compute(self, selection: Selection, stale: Stale) -> tuple[dict[str, Any], dict[str, Any]] | None:
        session = self.session
        order, ranked = self._ranked(selection)
        pages = max(1, -(-len(ranked) // self.n_shown))
        page = min(self.page, pages - 1)
        ranked = ranked[page * self.n_shown : (page + 1) * self.n_shown]
        ids = [i for i, _ in ranked]
        if stale():
            return None
        sprite, columns = session.images.sprite(ids, THUMBNAIL, columns=8) if ids else (b"", 1)
        names = session.images.captions or session.images.names
        view = {
            "selection": marks(selection),
            "order": order,
            "ids": ids,
            "scores": [float(score) if score is not None else None for _, score in ranked],
            "names": [names[i] if i < len(names) else session.images.names[i] for i in ids],
            "columns": columns,
            "page": page,
            "pages": pages,
            "n_images": len(session.images),
            "n_read": session.collection.n_ready,
            "skipped": [list(item) for item in session.images.skipped][:20],
            "n_skipped": len(session.images.skipped) + len(session.collection.broken),
            "complete": session.collection.complete,
        }
        return view, {"sprite": sprite}

    def _ranked(self, selection: Selection) -> tuple[str, list[tuple[int, float | None]]]:
        """The order that can be had, and every image in it."""
        session, s = self.session, selection
        everything: list[tuple[int, float | None]] = [(i, None) for i in range(len(session.images))]
        if self.order == "all" or session.collection.n_ready == 0:
            return "all", everything
        k = len(session.images)
        if self.order == "text":
            return ("text", list(session.search(s.text, k))) if s.text else ("all", everything)
        if s.image is None:
            return "all", everything
        if self.order == "head" and s.head is not None and s.layer in session.collection.layers:
            return "head", list(session.neighbours(s.image, k, s.layer, s.head))
        return "model", list(session.neighbours(s.image, k))

    def act(self, request: dict[str, Any]) -> None:
        if request.get("action") != "upload":
            return super().act(request)
        try:
            content = base64.b64decode(str(request.get("content", "")), validate=True)
        except binascii.Error as error:
            raise ValueError("expected an uploaded file, got something else; try again") from error
        index = self.session.add_image(content, name=str(request.get("name", "upload"))[:80])
        self.session.select(image=index)
        return None
