"""The collection in the plane, as the whole model or one head sees it: draw around images to describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import traitlets

from clipviz.panels import pictures
from clipviz.panels.base import ASKED, Arrays, Desk, View
from clipviz.panels.scripts import script, style
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from clipviz.analysis.atlas import Atlas as Plane

ACROSS, DOWN = 16, 9  # cells that may hold a picture
THUMBNAIL = 44
N_COLOURS = 8
NO_COLOUR = 255


class AtlasOptions(TypedDict, total=False):
    by: Literal["head", "model"]
    column: str
    visible: bool


class Atlas(Desk):
    """Principal plane of the collection. A loop drawn around points chooses them: TextSpan then reads those alone.

    by: "head", the selected head's effects, or "model", the embeddings. column: an attribute that colours the points;
    its most frequent values get a colour each.
    """

    name = "atlas"
    title = "Atlas"
    question = "How does one head arrange the images?"
    cost = 7
    _esm = script("atlas")
    _css = style("atlas")

    by = traitlets.Enum(("head", "model"), "head").tag(**ASKED)
    column = traitlets.Unicode("").tag(**ASKED)

    def __init__(self, session: Session, **options: Unpack[AtlasOptions]) -> None:
        super().__init__(session, **options)

    def looks_at(self, selection: Selection) -> Any:
        s, session = selection, self.session
        head = (s.layer, s.head) if self.by == "head" else None
        return head, s.image, s.images, session.collection.version, len(session.images)

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        session, s = self.session, selection
        view: View = {"message": "", "by": self.by}
        if session.collection.n_ready < 3:
            complete = session.collection.complete
            few = "A plane needs at least 3 images. Open a folder with more."
            return {**view, "message": few if complete else "Reading the collection…"}, {}
        one = self.by == "head" and s.layer in session.collection.layers and s.head is not None
        found = session.atlas(s.layer, s.head) if one else session.atlas()
        if stale():
            return None
        known = session.attributes()
        column = self.column if self.column in known else ""
        colours, values = self._colours(found, column, known)
        tiles = pictured(found.places)
        sprite, columns = session.images.sprite(found.ids[tiles].tolist(), THUMBNAIL, columns=16)
        view |= {
            "by": "head" if one else "model",
            "n_points": len(found.ids),
            "n_images": found.n_images,
            "share": found.share,
            "columns": list(known),
            "column": column,
            "values": values,
            "tiles": tiles.tolist(),
            "tile_columns": columns,
            "n_chosen": len(s.images),
        }
        arrays = {
            "ids": found.ids.astype(np.int32),
            "places": found.places.astype(np.float32),
            "colours": colours,
        }
        return view, {**arrays, "sprite": sprite}

    def draw(self, width: float) -> Figure:
        """The plane with its pictures and colours."""
        from clipviz.figures.panels import atlas_figure

        shown = self.data()
        tiles = pictures.cut(shown["sprite"].tobytes(), THUMBNAIL, shown["tile_columns"], len(shown["tiles"]))
        title = "whole model"
        if shown["by"] == "head":
            title = f"L{shown['selection']['layer']}·H{shown['selection']['head']}"
        return atlas_figure(
            shown["places"],
            shown["colours"],
            shown["values"],
            shown["tiles"],
            tiles,
            title,
            shown["share"],
            width,
        )

    def _colours(
        self, found: Plane, column: str, known: dict[str, dict[str, int]]
    ) -> tuple[np.ndarray, list[str]]:
        """One byte a point, and the words the first bytes stand for."""
        colours = np.full(len(found.ids), NO_COLOUR, np.uint8)
        if not column:
            return colours, []
        values = list(known[column])[:N_COLOURS]
        words = (self.session.images.attributes or {})[column]
        place = {word: i for i, word in enumerate(values)}
        for i, image in enumerate(found.ids.tolist()):
            colours[i] = place.get(words[image], NO_COLOUR)
        return colours, values


def pictured(places: np.ndarray) -> np.ndarray:
    """One point for each cell of a grid over the plane: the nearest to the cell's middle. [tile] indices of points."""
    low, high = places.min(0), places.max(0)
    scaled = (places - low) / np.maximum(high - low, 1e-12) * (ACROSS, DOWN)
    cell = np.minimum(scaled.astype(int), (ACROSS - 1, DOWN - 1))
    distance = np.square(scaled - cell - 0.5).sum(1)
    order = np.lexsort((distance, cell[:, 0] + ACROSS * cell[:, 1]))
    number = (cell[:, 0] + ACROSS * cell[:, 1])[order]
    return order[np.unique(number, return_index=True)[1]]
