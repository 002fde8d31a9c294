"""The tour: a few steps that drive the board, each explained in a card inside the panel that it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from clipviz.panels.core.base import Panel
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.tour.sent import StepShown, TourArrays, TourView
from clipviz.session import Session
from clipviz.values import Selection, View
from clipviz.worker import Stale

if TYPE_CHECKING:
    from clipviz.session.answers import TourStep


class Tour(Panel):
    """go(1) shows the first of `steps`, go(0) ends the tour. open_panel: name -> the board's panel; a desk is
    opened.

    Every step selects its subject and sets the panels' options, as a reader would; undo reverts it. The end of
    the tour restores the view at its start: selection, removed heads, options, the open desk.
    """

    name = "tour"
    cost = 0
    _esm = script("tour")
    _css = style("tour")

    at: int = 0  # the current step, from 1; 0 for none
    _found: View | None = None  # the view when the tour started

    def __init__(
        self, session: Session, steps: Sequence[TourStep], open_panel: Callable[[str], Panel | None]
    ) -> None:
        self.steps = tuple(steps)
        self._open_panel = open_panel
        super().__init__(session)

    def looks_at(self, selection: Selection) -> Any:
        return self.at

    def compute(self, selection: Selection, stale: Stale) -> tuple[TourView, TourArrays]:
        told: list[StepShown] = [
            {"title": step.title, "text": step.text, "panel": step.panel} for step in self.steps
        ]
        return {"steps": told, "at": self.at}, {}

    def act(self, request: Request) -> None:
        """Carry out "go": move to the step with that number."""
        if request.action == "go":
            self.go(request.number("step"))
        else:
            super().act(request)

    def go(self, number: int) -> None:
        """Show a step, from 1, and its subject; 0 ends the tour and restores the view at its start."""
        if not 0 <= number <= len(self.steps):
            raise ValueError(f"expected a step within 1..{len(self.steps)}, or 0 for none, got {number}")
        if number:
            step = self.steps[number - 1]
            # first, so that a step that cannot be shown changes nothing
            selection = self.board.tour_selection(step)
            if not self.at:
                self._found = self.session.view
            for name, options in {step.panel: {}, **step.options}.items():
                panel = self._open_panel(name)
                for option, value in options.items():
                    setattr(panel, option, value)
            self.session.selection = selection
        elif self._found is not None:
            self.session.view, self._found = self._found, None
        self.at = number
        self.board.refresh()
