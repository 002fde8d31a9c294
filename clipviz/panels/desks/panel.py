"""The row of desks below the board: one further panel at a time, created when it is first opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets
import traitlets

from clipviz.panels.core.base import DESKS, Desk
from clipviz.panels.core.scripts import Scripted, script, style
from clipviz.session import Board, Session


class Bar(Scripted):
    """The buttons; `shown` is the name of the open desk, or empty."""

    _esm = script("desks")
    _css = style("desks")
    desks = traitlets.Any(help="[name, title, question] of every desk").tag(sync=True)
    shown = traitlets.Unicode("", help="written by the browser and by Python").tag(sync=True)


class Desks(ipywidgets.Box):
    """The row of desks. `show(name)` opens one of DESKS below its button, `show("")` closes it; a closed desk costs
    nothing.
    """

    name = "desks"

    def __init__(self, session: Session) -> None:
        self.session, self.board = session, Board.of(session)
        self.built: dict[str, Desk] = {}
        self.bar = Bar(desks=[[name, desk.title, desk.question] for name, desk in DESKS.items()])
        self.bar.observe(self._opened, "shown")
        shown: tuple[ipywidgets.Widget, ...] = (self.bar,)
        super().__init__(children=shown)
        self.add_class("cv-desks")
        remembered = self.board.join(self).get("shown")
        if isinstance(remembered, str) and remembered in DESKS:
            self.bar.shown = remembered

    def show(self, name: str) -> Desk | None:
        """Show a desk and return its panel. Raises ValueError for a name that is not among DESKS."""
        if name and not (isinstance(name, str) and name in DESKS):
            raise ValueError(f"expected one of {', '.join(DESKS)} or '' for none, got {name!r}")
        self.bar.shown = name
        return self.built.get(name)

    def take(self, options: Mapping[str, Any]) -> None:
        """Show the desk of a view."""
        self.show(options.get("shown", ""))

    def _opened(self, change: dict[str, Any]) -> None:
        for panel in self.built.values():
            self.board.unwatch(panel)
            panel.closed = True  # its background reading stops, so that the next desk does not wait for it
        name = change["new"]
        self.board.note(self.name, {"shown": name} if name in DESKS else {})
        if name not in DESKS:
            self.children = (self.bar,)
            return
        if name in self.built:
            self.built[name].closed = False
            self.board.watch(self.built[name])
            self.board.refresh()
        else:
            self.built[name] = self._build(DESKS[name])
        self.children = (self.bar, self.built[name])

    def _build(self, desk: type[Desk]) -> Desk:
        panel = desk(self.session)
        panel.add_class(f"cv-at-{panel.name}")
        return panel

    def close(self) -> None:
        """Close every desk that was created."""
        for panel in self.built.values():
            panel.close()
        self.built.clear()
        self.board.leave(self)
        self.bar.unobserve_all()
        self.bar.close()
        super().close()
