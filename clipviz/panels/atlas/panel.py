"""The collection in a plane, as the whole model or one head sees it; draw around images to describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import traitlets
from PIL import ImageColor

from clipviz.panels.atlas.sent import AtlasArrays, AtlasView, Group
from clipviz.panels.core import pictures
from clipviz.panels.core.base import Desk
from clipviz.panels.core.options import asked, local
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style, text
from clipviz.panels.core.sent import Uint8s
from clipviz.values import Selection
from clipviz.values import View as BoardView
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session.answers import Atlas as Plane

ACROSS = 13  # cells along the longer side, each with at most one picture
THUMBNAIL = 44
MOST_ASKED = 64  # most thumbnails that one message can request
N_GROUPS, N_COLOURS = 8, 12  # groups in the legend; values that are colour names need no limit
OTHER, NONE = 254, 255
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c564b", "#6a5acd")
MANY = 50_000  # more points than this are drawn by the graphics card


class Atlas(Desk):
    """The principal plane of the collection. A loop drawn around points selects them, and TextSpan then uses only
    these.

    The wheel zooms at the pointer, a drag pans (or draws a loop with drag="choose" or Shift), and a double click
    resets the view. The ends of the axes are named by the texts that they point to.
    """

    name = "atlas"
    title = "Atlas"
    question = "How does one head arrange the images?"
    cost = 7
    wide = True
    _esm = script("atlas")
    _css = style("atlas")

    by: Literal["head", "model"] = asked(
        default="head", help="What is arranged: the selected head's effects, or the model's embeddings."
    )
    column: str = asked(
        default="",
        help="An attribute that colours the points. Its most frequent values get a colour each, their own where they "
        "are names of colours.",
    )
    labels: bool = local(default=True, help="Whether dense places are named by texts.")
    pictures: bool = local(default=True, help="Whether some points are drawn as thumbnails.")
    drag: Literal["pan", "choose"] = local(
        default="pan", help="Whether a drag moves the plane or draws a loop."
    )
    engine: Literal["auto", "webgl", "canvas"] = local(
        default="auto",
        help="What draws more than 50,000 points: WebGL, dots without blending on a canvas, or WebGL where a graphics "
        "card does it.",
    )
    webgl = traitlets.Unicode(help="the module that draws many points; sent when there are many").tag(
        sync=True
    )

    def prepare(self) -> None:
        self.on_msg(self._asked_thumbnails)

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        head = (s.layer, s.head) if self.by == "head" else None
        return head, self.board.collection.version, len(session.images)

    def marks(self, selection: Selection) -> Any:
        return selection.image, selection.images

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[AtlasView, AtlasArrays] | None:
        session, s = self.session, selection
        view: AtlasView = {"message": "", "by": self.by, "ends": [], "regions": []}
        if self.board.collection.n_ready < 3:
            complete = self.board.collection.complete
            few = "A plane needs at least 3 images. Open a folder with more."
            return {**view, "message": few if complete else self.board.waiting}, {}
        one = self.by == "head" and s.layer in self.board.collection.layers and s.head is not None
        which = (s.layer, s.head) if one else ()
        try:
            found = session.images.atlas(*which)
        except ValueError:
            alike = (
                "The model, or the selected head, does not distinguish these images, so there is no "
                "plane to show."
            )
            return {**view, "message": f"{alike} Choose images that differ."}, {}
        if stale():
            return None
        self.webgl = text("vendor/regl-scatterplot.js") if len(found.ids) > MANY else ""
        known = session.images.columns()
        column = self.column if self.column in known else ""
        colours, groups = self._groups(found, column, known)
        tiles = pictured(found.places)
        sprite, columns = self.board.images.sprite(found.ids[tiles].tolist(), THUMBNAIL, columns=16)
        view |= {
            "by": "head" if one else "model",
            "n_points": len(found.ids),
            "n_images": found.n_images,
            "share": found.share,
            "columns": list(known),
            "column": column,
            "groups": groups,
            "tiles": tiles.tolist(),
            "tile_columns": columns,
            "names": [pictures.title(self.board.images, i) for i in found.ids[tiles].tolist()],
            "ringed": bool(groups) and groups[0][3] not in CATEGORIES,
            "plane": f"{self.board.collection.version}/{which}",
        }
        arrays: AtlasArrays = {"ids": found.ids.astype(np.int32), "places": found.places, "colours": colours}
        arrays["sprite"] = sprite
        if not self.board.pool_ready:
            self._show(selection, view, arrays)  # the plane does not wait for its words
        said = session.images.atlas_words(*which)
        view["ends"] = [list(texts) for texts in said.ends]
        view["regions"] = [(one.text, *one.place, one.n_points) for one in said.regions]
        return view, arrays

    def act(self, request: Request) -> None:
        """Carry out "gallery": show the chosen images first in the board's gallery."""
        if request.action != "gallery":
            return super().act(request)
        session = self.session
        options = dict(session.view.panels)
        options["images"] = {**options.get("images", {}), "order": "chosen", "page": 0}
        session.view = BoardView(session.selection, options)
        return None

    def draw(self, width: float) -> Figure:
        """Draw the plane with its pictures, colours and words."""
        from clipviz.figures.panels import atlas_figure

        shown = self.data()
        if "places" not in shown:
            raise ValueError(f"expected a plane, got none: {shown['message']}")
        tiles = pictures.cut(shown["sprite"].tobytes(), THUMBNAIL, shown["tile_columns"], len(shown["tiles"]))
        title = "whole model"
        if shown["by"] == "head":
            title = f"L{shown['selection']['layer']}·H{shown['selection']['head']}"
        return atlas_figure(
            shown["places"],
            shown["colours"],
            shown["groups"],
            list(zip(shown["tiles"], tiles, strict=True)) if self.pictures else [],
            title,
            shown["share"],
            shown["ends"],
            shown["regions"] if self.labels else [],
            width,
        )

    def _groups(
        self, found: Plane, column: str, known: dict[str, dict[str, int]]
    ) -> tuple[Uint8s, list[Group]]:
        """Return one byte per point, and for each byte that occurs [byte, word, points, colour]."""
        colours = np.full(len(found.ids), NONE, np.uint8)
        if not column:
            return colours, []
        values, shades = shaded(list(known[column]))
        place = {word: i for i, word in enumerate(values)} | {None: NONE}
        words = (self.board.images.attributes or {})[column]
        colours[:] = [place.get(words[image], OTHER) for image in found.ids.tolist()]
        counts = np.bincount(colours, minlength=256)
        named = [*enumerate(values), (OTHER, "other"), (NONE, "none")]
        return colours, [
            (byte, word, int(counts[byte]), shades[byte] if byte < OTHER else "")
            for byte, word in named
            if counts[byte]
        ]

    def _asked_thumbnails(self, _: Any, asked: Any, __: Any) -> None:
        """Send thumbnails that the browser lacks, in one sheet; any that do not fit are omitted."""
        ids = asked.get("thumbnails") if isinstance(asked, dict) else None
        n = len(self.session.images)
        if not isinstance(ids, list) or not 0 < len(ids) <= MOST_ASKED:
            return
        if not all(type(i) is int and 0 <= i < n for i in ids):
            return
        sheet, columns = self.board.images.sprite(ids, THUMBNAIL, columns=8)
        names = [pictures.title(self.board.images, i) for i in ids]
        self.send({"thumbnails": ids, "columns": columns, "names": names}, [sheet])


def shaded(values: list[str]) -> tuple[list[str], list[str]]:
    """Return the values that get a colour, the most frequent first, and their colours, which are their own if all
    are colour names.
    """
    named = [value.replace(" ", "").lower() for value in values[:N_COLOURS]]
    if all(word in ImageColor.colormap for word in named):
        return values[:N_COLOURS], [
            "#{:02x}{:02x}{:02x}".format(*ImageColor.getrgb(word)[:3]) for word in named
        ]
    return values[:N_GROUPS], list(CATEGORIES)


def pictured(places: np.ndarray) -> np.ndarray:
    """Return [tile] indices of points: for each cell of a grid over the plane, the one nearest to the centre."""
    low = places.min(0)
    scaled = (places - low) / max(float(np.ptp(places, axis=0).max()), 1e-12) * ACROSS
    cell = np.minimum(scaled.astype(int), ACROSS - 1)
    distance = np.square(scaled - cell - 0.5).sum(1)
    number = cell[:, 0] + ACROSS * cell[:, 1]
    order = np.lexsort((distance, number))
    return order[np.unique(number[order], return_index=True)[1]]
