"""The dashboard: every panel on one session, arranged to fit the available width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from clipviz.panels.core import output, standalone
from clipviz.panels.core.base import Panel
from clipviz.panels.core.scripts import REFERENCES, LayoutLike, Scripted, script, style
from clipviz.panels.core.stored import Choices, Kept
from clipviz.panels.desks.panel import Desks
from clipviz.panels.heads.panel import Heads
from clipviz.panels.heatmap.panel import Heatmap
from clipviz.panels.images.panel import ImageGallery
from clipviz.panels.query.panel import Query
from clipviz.panels.receipts.panel import Receipts
from clipviz.panels.textspan.panel import TextSpan
from clipviz.panels.tour.panel import Tour
from clipviz.session import Board, Session

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clipviz.session.answers import TourStep


class Dashboard(Scripted):
    """The linked panels: use clipviz.Dashboard(session) as the last line of a cell.

    Three columns from about 1,100 px, two from 700 px, one below. Attributes `query`, `images`, `heatmap`,
    `heads`, `textspan`, `receipts` are the panels; `desks` opens the others, desks.show("neurons"). close()
    closes them all and the session. tour: steps shown by the "Tour" button, default those of the model's bundle,
    () for none; dashboard.tour.go(1) starts it. size: "normal", or "lecture" for a projector: text of at least 18
    px; the heatmap, heads and five texts fit within 1280 x 720; an open desk takes the lower half. The key F, or
    the button, fills the screen. layout: that of the widget, ipywidgets.Layout(width="800px") or its values as a
    mapping.
    """

    _esm = script("dashboard")
    _css = style("dashboard")
    shown = traitlets.Dict(help="every panel by the name of its place").tag(sync=True, **REFERENCES)
    size = traitlets.Unicode(help="normal or lecture").tag(sync=True)

    _ended = True  # until there is something to close

    def __init__(
        self,
        session: Session,
        tour: Sequence[TourStep] | None = None,
        size: Literal["normal", "lecture"] = "normal",
        layout: LayoutLike = None,
    ) -> None:
        if size not in ("normal", "lecture"):
            raise ValueError(f"expected size 'normal' or 'lecture', got {size!r}")
        if not isinstance(session, Session):
            raise TypeError(
                f"expected a clipviz.Session, got {type(session).__name__}; make one with "
                "clipviz.Session(clipviz.load('demo'))"
            )
        self.board = Board.of(session)
        self.board.begin()
        self.session = session
        self.query = Query(session)
        self.images = ImageGallery(session)
        self.heatmap = Heatmap(session)
        self.heads = Heads(session)
        self.textspan = TextSpan(session, n_texts=5) if size == "lecture" else TextSpan(session)
        self.receipts = Receipts(session)
        self.panels: tuple[Panel, ...] = (
            self.query,
            self.images,
            self.heatmap,
            self.heads,
            self.textspan,
            self.receipts,
        )
        self.desks = Desks(session)
        self.tour = Tour(session, self.board.tour if tour is None else tour, self._open_panel)
        self.query.tour = self.tour.go
        self.query.n_steps = len(self.tour.steps)
        placed = (*self.panels[:-1], self.desks, self.receipts, self.tour)
        super().__init__(shown={panel.name: panel for panel in placed}, size=size, layout=layout)
        self._ended = False

    def _open_panel(self, name: str) -> Panel | None:
        """Return a panel by its name; a desk is opened."""
        return {panel.name: panel for panel in self.panels}.get(name) or self.desks.show(name)

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Accept nothing from the browser."""

    def save_html(self, path: str | Path, **choices: Unpack[Choices]) -> Path:
        """Save the board and the open desk as one HTML file that works without a kernel or a network.

        choices: images=, texts= and heads= that can be chosen there besides the selection (default 1, 1 and
        "selected"). A number of texts uses the session's examples, a number of images those nearest to each text
        in turn; heads is "all", or (layer, head) pairs. Every text is answered for every image through every
        head: effects, maps by every method, texts of heads. Other texts, images and removed heads are not
        answered; text B, removed heads and chosen images stay fixed. Raises ValueError if the file cannot be
        written, and for unknown choices.
        """
        return standalone.save(path, *self._page(), Kept.of(self.session, **choices))

    def _page(self) -> tuple[list[Panel], str, list[str]]:
        """Return the panels of a page, its title, and the names of the panels below the board."""
        open_desk = [panel for panel in (self.desks.built.get(self.desks.shown),) if panel is not None]
        selection = self.session.selection
        title = " · ".join(["clipviz", *([selection.text] if selection.text else [])])
        return [*self.panels, *open_desk], title, [panel.name for panel in open_desk]

    def in_cell(self) -> str:
        return output.in_cell(*self._page(), [self.heatmap, self.heads, self.textspan])

    def close(self) -> None:
        """Close every panel, stop the worker and end the session, only once: Python calls it again at deletion."""
        if self._ended:
            return
        self._ended = True
        for panel in self.panels:
            panel.close()
        self.desks.close()
        self.tour.close()
        self.session.close()
        super().close()
