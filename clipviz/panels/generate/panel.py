"""A picture that can be dragged: a concept's map moves and the generator follows (thesis 4.4, Figures 4.7 and 4.8)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clipviz.panels.core import pictures
from clipviz.panels.core.base import Desk
from clipviz.panels.core.options import asked, local
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.generate import generated
from clipviz.panels.generate.sent import GenerateArrays, GenerateView
from clipviz.session import EVERY
from clipviz.session.answers import Frame, Goal, Workbench
from clipviz.values import Selection
from clipviz.waits import Work
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES_APART = 0.033  # seconds between two intermediate pictures
BUTTONS = {"copy": 1.0, "remove": 1.0, "amplify": 1.6}
NO_MOVE = (0.0, 0.0, 0.0, 1.0)


class Generate(Desk):
    """One picture and the maps of the generator's shared units on it; dragging the maps changes the picture.

    The picture itself is session.generator.workbench.
    """

    name = "generate"
    title = "Generate"
    question = "What happens to a picture when a concept moves?"
    cost = 9
    _esm = script("generate")
    _css = style("generate")

    concept: int = asked(
        default=EVERY, help="The concept whose map is shown and changed, or -1 for all of them."
    )
    opacity: float = local(default=0.45, low=0, high=1, help="Opacity of the map over the picture.")
    move: tuple[float, float, float, float] = local(
        default=NO_MOVE,
        help="(grip, right, down, zoom) of the hand, in shares of the sides. A new grip takes hold of the picture "
        "as it is then.",
        lasting=False,
    )

    def prepare(self) -> None:
        self._task: Callable[[Workbench, Stale], bool | None] | None = None
        self._grip: tuple[int, Any] = (0, None)
        self._moved = NO_MOVE
        self._turn, self._following, self._search = 0, False, Work("Searching", 0)
        self._rested: tuple[GenerateView, GenerateArrays] | None = None
        self._hand = threading.Lock()
        self.observe(self._hand_moved, "move")

    def looks_at(self, selection: Selection) -> Any:
        return self._turn, self.move, selection.image

    def _hand_moved(self, _: Any) -> None:
        """React to a move: a running search notices it by itself; otherwise a search is started."""
        with self._hand:
            if self._following:
                return
        self.board.refresh()

    # -- what is asked -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the session; a running search ends at its next step."""
        self.visible = False
        super().close()

    def act(self, request: Request) -> None:
        """Carry out an action: start again, press a button, store a picture, or add it to the session's images."""
        if request.action == "begin":
            self._do(self._beginning(request.text("source"), request.text("label")), request.text("source"))
        elif request.action == "change":
            self._do(self._changing(request.text("change")), request.text("change"))
        elif request.action == "reset":
            self._do(lambda bench, _: bench.begin(bench.first))
        elif request.action == "keep":
            self._do(lambda bench, _: bench.keep())
        elif request.action == "back":
            place = request.number("place")
            self._do(lambda bench, _: bench.back_to(place))
        elif request.action == "add":
            self._do(lambda bench, _: self.session.select(image=bench.add_to_session()))
        else:
            super().act(request)

    def _do(self, task: Callable[[Workbench, Stale], Any], name: str = "") -> None:
        """Schedule the worker's next task, repeated if interrupted (False); long tasks are announced at once."""
        doing = generated.DOING.get(name, "")
        self._task, self._search, self._turn = task, Work(doing or "Searching", 0), self._turn + 1
        with self._speaking:
            if doing and "settled" in self.view:
                self._publish({**self.view, **generated.begun(self._search)}, None)

    def _beginning(self, source: str, label: str) -> Callable[[Workbench, Stale], Any]:
        image = self.session.selection.image
        if source == "image":
            if image is None:
                raise ValueError("expected a selected image, got none; click one in the gallery first")
            return lambda bench, stale: bench.from_image(image, lambda frame: self._progress(frame, stale))
        if source not in ("random", "class"):
            raise ValueError(f"expected to begin from random, class or image, got {source!r}")
        return lambda bench, _: bench.random(label or None)

    def _changing(self, change: str) -> Callable[[Workbench, Stale], Any]:
        if change not in BUTTONS:
            raise ValueError(f"expected a change among {', '.join(BUTTONS)}, got {change!r}")
        began: list[Any] = []

        def task(bench: Workbench, stale: Stale) -> bool:
            began.append(bench.latents)
            bench.latents, move = began[0], self.move  # a repetition starts from the same place
            frames = bench.change(change, self.concept, BUTTONS[change])
            return all(self._progress(frame, stale) for frame in frames) or self.move != move  # by a hand

        return task

    # -- what the worker does ----------------------------------------------------------------------------------

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[GenerateView, GenerateArrays] | None:
        bench = self.session.generator.workbench
        try:
            bench.generator  # noqa: B018 (says why there is none)
        except ValueError as error:
            return {"message": str(error)}, {}
        if bench.latents is None:
            waiting = "Matching the generator's units with other models, once per session…"
            self._show(selection, {"message": waiting}, {})
            self.session.generator.concepts()
            bench.random()
        bench.units(self.concept)
        ack = self._ack
        try:
            if not self._perform(bench, stale) or not self._follow_hand(bench, stale):
                return None
        except ValueError as error:
            if self._rested:  # the picture stays, without a progress message
                self._show(selection, *self._rested)
            self.refuse(error, ack, selection)
            return None
        view, arrays = generated.whole(bench, self.session, self.concept)
        self._rested = {**view, "moved": list(self._moved)}, arrays
        return self._rested

    def _perform(self, bench: Workbench, stale: Stale) -> bool:
        """Carry out a request; return False if interrupted. A failed request is not repeated."""
        task, turn, finished, move = self._task, self._turn, True, self.move
        if task is None:
            return True
        try:
            finished = task(bench, stale) is not False
        finally:
            if finished and self._turn == turn:
                self._task = None
            self._moved, self._grip = move, (int(move[0]), bench.latents)
        return finished

    def _follow_hand(self, bench: Workbench, stale: Stale) -> bool:
        """Follow the drag until it rests; return False if interrupted by anything but its own next move."""
        if self.move == self._moved:
            return True
        seen = self._moved

        def goal() -> Goal:
            nonlocal seen
            seen = self.move
            grip, right, down, zoom = seen
            if int(grip) != self._grip[0] or self._grip[1] is None:
                self._grip = (int(grip), bench.latents)
            return Goal(self._grip[1], self.concept, float(right), float(down), float(zoom))

        with self._hand:
            self._following, self._search = True, Work("Searching", 0)
        try:
            finished = all(self._progress(frame, stale) for frame in bench.follow(goal))
        except ValueError:
            self._moved = seen  # a move that fails is not repeated
            raise
        finally:
            with self._hand:
                self._following = False
                late = self.move != seen
        if finished:
            self._moved = seen
            if late:
                self.board.refresh()
        return finished and not late

    def _progress(self, frame: Frame, stale: Stale) -> bool:
        """Show an intermediate picture, but not too often; return False if interrupted."""
        if stale():
            return False
        now = time.monotonic()
        if frame.number > 0 and now - getattr(self, "_shown_at", 0.0) >= FRAMES_APART:
            self._shown_at = now
            self._search = generated.searching(self._search, frame)
            view = {**self.view, **generated.moving(frame, self._search)}
            self._show(self.session.selection, view, {"pixels": pictures.pixels(frame.picture)})
        return True

    def draw(self, width: float) -> Figure:
        """Draw before and after, side by side, with the model's answers about each."""
        return generated.before_and_after(self.session.generator.workbench, width)
