"""A picture to take in hand: drag a concept's map and the generator follows (thesis 4.4, Figures 4.7 and 4.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import traitlets

from clipviz.panels import pictures
from clipviz.panels.base import ASKED, LOCAL, Arrays, Desk, View
from clipviz.panels.requests import Request
from clipviz.panels.scripts import script, style
from clipviz.session import Session
from clipviz.session.workbench import EVERY, Frame, Goal, Workbench, as_image
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

FRAME_EVERY = 3  # steps of the search between two pictures
SHOWN = 12  # concepts listed, the strongest on the picture
PEAK = 4.0  # deviations drawn at full strength
BUTTONS = {"copy": {}, "remove": {}, "amplify": {"factor": 1.6}}
NO_MOVE = (0, 0.0, 0.0, 1.0)


class GenerateOptions(TypedDict, total=False):
    concept: int
    move: list[float]
    opacity: float
    visible: bool


class Generate(Desk):
    """One picture and the maps of the generator's shared units on it; dragging the maps moves what is painted.

    concept: which unit's map is shown and changed, -1 for all of them. opacity: of the map over the picture. move:
    [grip, right, down, zoom] of the hand, in shares of the sides; a new grip takes hold of the picture as it is then.
    """

    name = "generate"
    title = "Generate"
    question = "What happens to a picture when a concept moves?"
    cost = 9
    _esm = script("generate")
    _css = style("generate")

    concept = traitlets.Int(EVERY).tag(**ASKED)
    opacity = traitlets.Float(0.35, min=0.0, max=1.0).tag(**LOCAL)
    move = traitlets.List(default_value=list(NO_MOVE), minlen=4, maxlen=4).tag(**ASKED)

    def __init__(self, session: Session, **options: Unpack[GenerateOptions]) -> None:
        self._bench = Workbench(session)
        self._task: tuple[str, Any] = ("random", None)
        self._turn = 0
        self._done = -1
        self._grip: tuple[int, Any] = (0, None)
        self._moved: tuple[Any, ...] = NO_MOVE
        self._before: list[dict[str, Any]] = []
        super().__init__(session, **options)

    def looks_at(self, selection: Selection) -> Any:
        return self._turn

    def act(self, request: Request) -> None:
        """Begin again, press a button, keep a picture, or put it among the session's images."""
        if request.action == "begin":
            source = request.text("source")
            if source not in ("random", "class", "image"):
                raise ValueError(f"expected to begin from random, class or image, got {source!r}")
            detail = {"class": request.text("label"), "image": self.session.selection.image}.get(source)
            self._queue(source, detail)
        elif request.action == "change":
            change = request.text("change")
            if change not in BUTTONS:
                raise ValueError(f"expected a change among {', '.join(BUTTONS)}, got {change!r}")
            self._queue("change", change)
        elif request.action in ("reset", "keep", "add"):
            self._queue(request.action, None)
        elif request.action == "back":
            self._queue("back", request.number("place"))
        else:
            super().act(request)

    def _queue(self, task: str, detail: Any) -> None:
        self._task = (task, detail)
        self._turn += 1

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        try:
            self._bench.generator  # noqa: B018 (says why there is none)
        except ValueError as error:
            return {"message": str(error)}, {}
        if self._bench.latents is None:
            waiting = {"message": "Matching the generator's units with other models, once per session…"}
            self._show(selection, waiting, {})
            self.session.generator_concepts()
        self._bench.units(self.concept)
        if self._done != self._turn and not self._perform(selection, stale):
            return None
        if not self._follow_hand(selection, stale):
            return None
        return self._whole()

    def _perform(self, selection: Selection, stale: Stale) -> bool:
        """Carry out what was asked; False when overtaken."""
        bench, (task, detail) = self._bench, self._task
        turn, finished = self._turn, True
        if task == "random" or (task == "class" and not detail):
            bench.random()
        elif task == "class":
            bench.random(detail)
        elif task == "image":
            self._invert(selection, detail)
        elif task == "change":
            goal = Goal(bench.latents, self.concept, detail, **BUTTONS[detail])
            finished = self._search(selection, goal, stale)
        elif task == "reset":
            bench.begin(bench.first)
        elif task == "keep":
            bench.keep()
        elif task == "back":
            bench.back_to(detail)
        elif task == "add":
            self.session.select(image=bench.add_to_session())
        if task in ("random", "class", "image", "back") or not self._before:
            self._before = self._said(bench.first)
        self._done = turn if finished else self._done
        self._task = self._task if self._turn != turn else ("nothing", None)
        self._moved = tuple(self.move)
        self._grip = (int(self.move[0]), bench.latents)
        return finished

    def _invert(self, selection: Selection, image: int | None) -> None:
        if image is None:
            raise ValueError("Select an image first")

        def progress(frame: Frame) -> None:
            if frame.step % (2 * FRAME_EVERY) == 1:
                self._show(selection, *self._frame(frame))

        self._bench.from_image(image, progress)

    def _follow_hand(self, selection: Selection, stale: Stale) -> bool:
        """Follow the newest move; False when overtaken."""
        move = tuple(self.move)
        if move == self._moved:
            return True
        grip, right, down, zoom = move
        if int(grip) != self._grip[0] or self._grip[1] is None:
            self._grip = (int(grip), self._bench.latents)
        goal = Goal(self._grip[1], self.concept, "zoom", float(right), float(down), float(zoom))
        finished = self._search(selection, goal, stale)
        if finished:
            self._moved = move
        return finished

    def _search(self, selection: Selection, goal: Goal, stale: Stale) -> bool:
        for frame in self._bench.follow(goal):
            if stale():
                return False
            if frame.step % FRAME_EVERY == 1:
                self._show(selection, *self._frame(frame))
        return True

    def _frame(self, frame: Frame) -> tuple[View, Arrays]:
        """A picture on the way: what the model says of it comes at the end."""
        last = {
            key: value for key, value in self.view.items() if key not in ("arrays", "seq", "ack", "selection")
        }
        view = {
            **last,
            "message": "",
            "settled": False,
            "step": frame.step,
            "of": frame.of,
            "distance": frame.distance,
        }
        arrays = {key: value for key, value in self._arrays().items() if key not in ("picture", "map")}
        return view, {**arrays, "picture": pictures.encoded(as_image(frame.picture)), "map": self._map()[0]}

    def _arrays(self) -> dict[str, np.ndarray]:
        shown = self.data()
        return {name: shown[name] for name in self.view.get("arrays", {})}

    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        """The map on show, uint8, and every concept's strength on the picture."""
        maps = self._bench.maps().clip(0)
        strength = maps.max((1, 2))
        shown = maps.mean(0) * 2 if self.concept == EVERY else maps[self.concept]
        return (shown / PEAK * 255).clip(0, 255).astype(np.uint8), strength

    def _whole(self) -> tuple[View, Arrays]:
        """Everything: the picture, before and after, the strongest concepts, what was kept."""
        bench = self._bench
        now, first = bench.picture(), bench.picture(bench.first)
        shown, strength = self._map()
        concepts = self.session.generator_concepts()
        order = np.argsort(-strength)[:SHOWN].tolist()
        label = getattr(bench.latents, "label", None)
        view: View = {
            "message": "",
            "settled": True,
            "step": 0,
            "of": 0,
            "asked": bench.asked,
            "distance": bench.distance,
            "side": shown.shape[0],
            "classes": list(getattr(bench.generator, "classes", ())),
            "label": "" if label is None else bench.generator.classes[int(label)],
            "before": self._before,
            "after": self._said(bench.latents),
            "n_concepts": len(concepts),
            "concepts": [
                {
                    "place": i,
                    "title": f"{concepts[i].layer} · {concepts[i].unit}",
                    "readers": list(concepts[i].readers),
                }
                for i in order
            ],
            "n_kept": len(bench.kept),
            "image": self.session.selection.image,
        }
        arrays = {
            "picture": pictures.encoded(as_image(now)),
            "first": pictures.encoded(as_image(first)),
            "map": shown,
            "tiles": self._tiles(order),
        }
        if bench.kept:
            kept = [as_image(bench.picture(latents)) for latents in bench.kept]
            arrays["kept"] = pictures.sheet(kept, kept[0].width, len(kept))
        return view, arrays

    def _tiles(self, order: list[int]) -> np.ndarray:
        """Maps of the concepts listed, uint8 [concept, rows, cols]."""
        return (self._bench.maps()[order].clip(0) / PEAK * 255).clip(0, 255).astype(np.uint8)

    def _said(self, latents: Any) -> list[dict[str, Any]]:
        return [one.__dict__ for one in self._bench.said(self._bench.picture(latents))]

    def figure(self) -> Figure:
        """Before and after, side by side, with what the model says of each."""
        from clipviz.figures.chapter4 import image_rows

        bench = self._bench
        if bench.latents is None:
            raise ValueError("Open the desk first: no picture has been painted")
        row = []
        for latents, said in ((bench.first, self._before), (bench.latents, self.view.get("after", []))):
            pixels = np.asarray(as_image(bench.picture(latents)))
            row.append((pixels, ", ".join(f"{one['answer']} {one['probability']:.0%}" for one in said)))
        return image_rows([row], ["before", "after"], width=3.4)
