"""The row of desks below the board: one further panel at a time, created when it is first opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import traitlets

from clipviz.panels.core.base import DESKS, Desk
from clipviz.panels.core.fronts import serves_late
from clipviz.panels.core.scripts import REFERENCE, Scripted, script, style
from clipviz.session import Board, Session


class Desks(Scripted):
    """The row of desks. `show(name)` opens one of DESKS below its button, and `show("")` closes it."""

    name = "desks"
    _esm = script("desks")
    _css = style("desks")
    desks = traitlets.Any(help="[name, title, question] of every desk").tag(sync=True)
    shown = traitlets.Unicode("", help="the name of the open desk; written by the browser and by Python").tag(
        sync=True
    )
    panel = traitlets.Instance(Desk, allow_none=True, help="the open desk").tag(sync=True, **REFERENCE)

    def __init__(self, session: Session) -> None:
        self.session, self.board = session, Board.of(session)
        self.built: dict[str, Desk] = {}
        super().__init__(desks=[[name, desk.title, desk.question] for name, desk in DESKS.items()])
        if not serves_late():
            for name in DESKS:
                self._close(self._build(name, closed=True))
        self.observe(self._opened, "shown")
        remembered = self.board.join(self).get("shown")
        if isinstance(remembered, str) and remembered in DESKS:
            self.shown = remembered

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Accept from the browser only the name of the open desk."""
        super().set_state({name: value for name, value in sync_data.items() if name == "shown"})

    def show(self, name: str) -> Desk | None:
        """Show a desk and return its panel. Raises ValueError for a name that is not among DESKS."""
        if name and not (isinstance(name, str) and name in DESKS):
            raise ValueError(f"expected one of {', '.join(DESKS)} or '' for none, got {name!r}")
        self.shown = name
        return self.built.get(name)

    def take(self, options: Mapping[str, Any]) -> None:
        """Show the desk of a view."""
        self.show(options.get("shown", ""))

    def _opened(self, change: dict[str, Any]) -> None:
        for panel in self.built.values():
            self._close(panel)
        name = change["new"]
        self.board.note(self.name, {"shown": name} if name in DESKS else {})
        if name not in DESKS:
            self.panel = None
            return
        if name in self.built:
            self.built[name].closed = False
            self.board.watch(self.built[name])
            self.board.refresh()
        else:
            self._build(name)
        self.panel = self.built[name]

    def _build(self, name: str, closed: bool = False) -> Desk:
        panel = self.built[name] = DESKS[name](self.session, closed=closed)
        return panel

    def _close(self, panel: Desk) -> None:
        self.board.unwatch(panel)
        panel.closed = True  # its background reading stops, so that the next desk does not wait for it

    def close(self) -> None:
        """Close every desk that was created."""
        self.panel = None
        for panel in self.built.values():
            panel.close()
        self.built.clear()
        self.board.leave(self)
        self.unobserve_all()
        super().close()
