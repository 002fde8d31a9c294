"""The collection: images nearest to the text, neighbours under the model and under one head, subsets by attribute."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Literal

from clipviz.panels.core import pictures
from clipviz.panels.core.base import Panel
from clipviz.panels.core.options import asked, fixed
from clipviz.panels.core.pictures import title
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.stored import Answer, Kept, Stored
from clipviz.panels.images.sent import ImagesArrays, ImagesView
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAIL = 72
MOST = 5000  # most images ranked; further pages would not be useful

LARGEST = 60_000_000  # most characters of an uploaded file

Ranked = list[tuple[int, float | None]]


class ImageGallery(Panel):
    """Thumbnails of the collection. A click selects an image; a ctrl-click adds it to a set to be described.

    "describe these" asks for TextSpan of the subset, else
    of the images shown (the head's neighbours where there are two lists).
    """

    name = "images"
    cost = 4
    _esm = script("images")
    _css = style("images")

    order: Literal["text", "near", "chosen", "all"] = asked(
        default="text",
        help="Which images are listed: by their cosine with text A, or A minus B, after the selection's ablation; "
        "nearest to the selected image under the whole model, and beside them under the selected head (Fig. 2.5); "
        "those chosen, here by ctrl-click or in the Atlas, the nearest to the text first; or all as they come.",
    )
    by: Literal["cosine", "product"] = asked(
        default="cosine",
        help="How neighbours under the head are found: by the cosine of its effects, or, as in the thesis, by their "
        "inner product.",
    )
    page: int = asked(default=0, low=0, help="The page of the list, from 0.")
    column: str = asked(default="", help="An attribute of the images.")
    value: str = asked(default="", help="Only images whose attribute `column` has this value are listed.")
    n_shown: int = fixed(default=28, low=2, high=200, help="Thumbnails on a page.")

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        asked = s.text, s.text_b, s.ablation
        used = {"text": asked, "near": (s.image, s.layer, s.head), "chosen": asked, "all": ()}[self.order]
        return used, s.image, s.images, self.board.collection.version, len(session.images)

    def compute(self, selection: Selection, stale: Stale) -> tuple[ImagesView, ImagesArrays] | None:
        session = self.session
        subset = self._subset()
        order, lists = self._ranked(selection, subset)
        each = self.n_shown // len(lists)
        pages = max(1, *(-(-len(ranked) // each) for _, ranked in lists))
        page = min(self.page, pages - 1)
        lists = [(name, ranked[page * each : (page + 1) * each]) for name, ranked in lists]
        shown = [item for _, ranked in lists for item in ranked]
        ids = [i for i, _ in shown]
        if stale():
            return None
        sprite, columns = self.board.images.sprite(ids, THUMBNAIL, columns=8) if ids else (b"", 1)
        view: ImagesView = {
            "order": order,
            "by": self.by,
            "lists": [{"title": name, "count": len(ranked)} for name, ranked in lists],
            "ids": ids,
            "scores": [float(score) if score is not None else None for _, score in shown],
            "names": [title(self.board.images, i) for i in ids],
            "columns": columns,
            "page": page,
            "pages": pages,
            "attributes": session.images.columns(),
            "column": self.column,
            "value": self.value,
            "n_subset": None if subset is None else len(subset),
            "n_images": len(session.images),
            "n_read": self.board.collection.n_ready,
            "skipped": list(self.board.images.skipped[:20]),
            "n_skipped": len(self.board.images.skipped) + len(self.board.collection.broken),
            "complete": self.board.collection.complete,
            "waits": self.board.reading.line,
        }
        return view, {"sprite": sprite}

    def stored(self, kept: Kept) -> list[Stored]:
        """Return the images that the page holds, the nearest to the text first."""
        session = self.session

        def ranked(s: Selection) -> Answer:
            scores = session.images.cosines(s.text, s.text_b, s.ablation) if s.text else None
            found = [(i, None if scores is None else float(scores[i])) for i in kept.images]
            found.sort(key=lambda one: -(one[1] or 0.0))
            ids = [i for i, _ in found]
            sprite, columns = self.board.images.sprite(kept.images, THUMBNAIL, columns=8)
            view = {
                "order": "text" if s.text else "all",
                "by": self.by,
                "lists": [{"title": "", "count": len(ids)}],
                "ids": ids,
                "places": [kept.images.index(i) for i in ids],
                "scores": [score for _, score in found],
                "names": [title(self.board.images, i) for i in ids],
                "columns": columns,
                "page": 0,
                "pages": 1,
            }
            return Answer(view, {"sprite": sprite})

        return [Stored(("text",), ranked)]

    def draw(self, width: float) -> Figure:
        """Draw the thumbnails on screen with their scores."""
        from clipviz.figures.panels import gallery_figure

        shown = self.data()
        if not shown["ids"]:
            raise ValueError("expected images to show, got none; choose another subset")
        tiles = pictures.cut(shown["sprite"].tobytes(), THUMBNAIL, shown["columns"], len(shown["ids"]))
        words = ["" if score is None else f"{score:+.3f}" for score in shown["scores"]]
        rest, lists = list(zip(tiles, words, strict=True)), []
        for one in shown["lists"]:
            lists.append((one["title"], rest[: one["count"]]))
            rest = rest[one["count"] :]
        return gallery_figure(lists, width, 7 if width < 5 else 14)

    def act(self, request: Request) -> None:
        """Carry out an action. upload: add an image. describe: run TextSpan on what is shown."""
        if request.action == "upload":
            self._upload(request)
        elif request.action == "describe":
            self.session.select(images=self._described())
        else:
            super().act(request)

    def _subset(self) -> list[int] | None:
        """Return the images of the chosen attribute, or None without a choice."""
        return (
            list(self.session.images.where(self.column, self.value)) if self.column and self.value else None
        )

    def _ranked(self, selection: Selection, subset: list[int] | None) -> tuple[str, list[tuple[str, Ranked]]]:
        """Return the possible order, and the lists to show: one, or two side by side."""
        session, s = self.session, selection
        n_images = len(session.images)
        allowed = None if subset is None else set(subset)
        k = n_images if allowed is not None else min(n_images, MOST)
        everything: Ranked = [(i, None) for i in (range(n_images) if subset is None else subset)]
        if self.order == "all" or self.board.collection.n_ready == 0:
            return "all", [("", everything)]
        if self.order == "chosen" and s.images:
            allowed = {i for i in s.images if allowed is None or i in allowed}
            everything = [(i, None) for i in sorted(allowed)]
            if not s.text:
                return "chosen", [("", everything)]
            ranked = _within(session.images.search(s.text, n_images, s.text_b, s.ablation), allowed)
            return "chosen", [(_quantity(s), ranked)]
        if self.order in ("text", "chosen"):
            if not s.text:
                return "all", [("", everything)]
            return "text", [
                (_quantity(s), _within(session.images.search(s.text, k, s.text_b, s.ablation), allowed))
            ]
        if s.image is None:
            return "all", [("", everything)]
        lists = [("Whole model", _within(session.images.neighbours(s.image, k=k), allowed))]
        if s.layer is not None and s.head is not None and s.layer in self.board.collection.layers:
            found = session.images.neighbours(s.image, s.layer, s.head, k, self.by)
            lists.append((f"L{s.layer}·H{s.head}", _within(found, allowed)))
        return "near", lists

    def _described(self) -> tuple[int, ...]:
        """Return what "describe these" means now: the subset, or what is shown (the last list)."""
        subset = self._subset()
        if subset is not None and self.order != "near":
            return tuple(subset)
        count = self.view["lists"][-1]["count"]
        return tuple(self.view["ids"][-count:])

    def _upload(self, request: Request) -> None:
        name = request.text("name")[:80] or "upload"
        try:
            content = base64.b64decode(request.text("content", LARGEST), validate=True)
        except binascii.Error as error:
            raise ValueError(f"“{name}” was not received completely; upload it again") from error
        self.session.select(image=self.session.images.add(content, name=name))


def _within(ranked: list[tuple[int, float]], allowed: set[int] | None) -> Ranked:
    return [(i, score) for i, score in ranked if allowed is None or i in allowed]


def _quantity(selection: Selection) -> str:
    """Return what the images are ordered by, unless it is simply the cosine with text A."""
    by = "A − B" if selection.text_b else "cosine" if selection.ablation else ""
    return f"by {by}, heads removed" if selection.ablation else by and f"by {by}"
