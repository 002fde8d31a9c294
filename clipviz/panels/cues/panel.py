"""Spurious cues of a class pair: the words, the neurons behind each, and pictures that test the words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from clipviz.panels.core.background import CodedDesk
from clipviz.panels.core.options import asked, fixed
from clipviz.panels.core.requests import Request
from clipviz.panels.core.scripts import script, style
from clipviz.panels.core.sent import as_sent
from clipviz.panels.cues.coding import Coding
from clipviz.panels.cues.drawing import Drawing, why_none
from clipviz.panels.cues.sent import CuesArrays, CuesView
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Cues(CodedDesk):
    """Words that pull pictures of one class towards another through neurons, and attempts to mislead the model.

    A bundle that draws starts with a pair of classes, other models with none. Pictures are drawn once the images are
    read, or when asked for.
    """

    name = "cues"
    title = "Spurious cues"
    question = "Which words mislead the model?"
    cost = 7
    _esm = script("cues")
    _css = style("cues")

    drawn: str = asked(default="", help="The name of the source class, which is drawn.")
    mistaken: str = asked(
        default="", help="The name of the target class, for which the pictures should be mistaken."
    )
    layers: list[int] = asked(
        default=[], help="Layers whose neurons are read; empty: the late ones (8-10 of 12)."
    )
    n_listed: int = fixed(default=14, low=1, high=25, help="Words listed.")
    n_images: int | None = fixed(default=None, low=1, help="Images read for the neurons; None: all of them.")
    n_sentences: int = fixed(default=6, low=1, high=50, help="Sentences that are drawn.", asked=False)
    n_pictures: int = fixed(default=2, low=1, high=10, help="Pictures of each sentence.", asked=False)

    def prepare(self) -> None:
        self._coding = Coding(self.board)
        self._drawing: Drawing | None = None
        self._seed, self._asked = 0, False  # asked: pictures are wanted now, whatever has been read

    def looks_at(self, selection: Selection) -> Any:
        s, now = selection, self._drawing
        drawn = now and (now.subject, len(now.attempts), now.finished, now.look)
        return s.layer, s.neuron, s.text, self._coding.key, drawn, self._seed, id(self.session.cues.studio)

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[CuesView, CuesArrays] | None:
        session, pair, layers = self.session, self.pair(), self.layers_shown()
        view: CuesView = {
            "layers": list(layers),
            "n_layers": session.model.n_layers,
            "message": "" if layers else "This model has one layer: no later attention reads its neurons.",
            "classes": list(session.cues.classes),
            "draws": bool(pair[0]) and session.cues.can_draw(pair[0]),
            "drawn": pair[0],
            "mistaken": pair[1],
            "words": [],
            "attempts": [],
            "note": "",
            "look": None,
        }
        self.add_codes(view)
        if not layers:
            return view, {}
        if not all(pair):
            message = "Name the class in the pictures and the class that the model should see instead."
            return {**view, "message": message}, {}
        session.cues.check_pair(pair)
        self.follow()
        source = self._coding.source
        if source is None or not self._coding.fits(layers, self.m):
            return {**view, "message": "Reading the neurons…"}, {}
        found = self.board.remember(
            ("cues", pair, self._coding.key, self.n_listed),
            lambda: session.cues.find(pair, layers, self.n_listed, source),
        )
        if stale():
            return None
        can = session.cues.drawable([cue.text for cue in found], pair)
        view["words"] = [
            as_sent(
                cue,
                {"differs": cue.differs, "drawable": ok, "neurons": [as_sent(one) for one in cue.neurons]},
            )
            for cue, ok in zip(found, can, strict=True)
        ]
        complete = self._coding.complete(layers, self.n_images)
        view |= {"n_read": self._coding.n_read, "n_texts": len(source.pool), "complete": complete}
        drawn = self._drawing is not None and self._drawing.finished
        ready = drawn or self._asked or complete
        view["note"] = why_none(pair[0], session.cues, ready)
        shown, arrays = self._shown()
        return {**view, **shown}, arrays

    def layers_shown(self) -> tuple[int, ...]:
        """Return the layers whose neurons are shown: those chosen, else the late ones; none without later attention."""
        last = self.session.model.n_layers - 2
        chosen = [layer for layer in sorted(set(self.layers)) if 0 <= layer <= last]
        return tuple(chosen or self.session.neurons.late_layers)

    def pair(self) -> tuple[str, str]:
        """Return the source and the target class shown; empty names if none were given."""
        if self.drawn or self.mistaken:
            return self.drawn.strip(), self.mistaken.strip()
        return self.session.cues.first_pair

    def results(self) -> dict[str, tuple[list[str], Any]]:
        """Return the pictures drawn so far: method -> (its words, the Attack with sentences, pictures, margins)."""
        return {} if self._drawing is None else dict(self._drawing.attempts)

    def act(self, request: Request) -> None:
        """Carry out an action. draw: new pictures now. look: enlarge one. open: add it to the session's images."""
        if request.action == "draw":
            self._seed += 1
            self._asked = True
        elif request.action in ("look", "open"):
            chosen = request.text("method"), request.number("place")
            if self._drawing is None:
                raise ValueError("expected pictures, got none yet; wait until they are drawn")
            self._drawing.picture(*chosen)
            self._drawing.look = chosen
            if request.action == "open":
                self._open(self._drawing, *chosen)
        else:
            super().act(request)

    def draw(self, width: float) -> Figure:
        """Draw the words' contribution scores as bars, with the maximum over rotated neurons."""
        from clipviz.figures.chapter3 import cue_words

        shown = self.data()
        if not shown["words"]:
            raise ValueError("expected words, got none yet; wait for the neurons with session.wait()")
        rows = [(word["text"], word["score"], word["null"]) for word in shown["words"]]
        layers = f"layer{'s'[: len(shown['layers']) - 1]} {', '.join(map(str, shown['layers']))}"
        return cue_words(rows, f"{shown['drawn']} → {shown['mistaken']}, {layers}", width)

    # -- what is on show -----------------------------------------------------------------------------------------

    def _shown(self) -> tuple[CuesView, CuesArrays]:
        """Return the pictures of the pair shown, as far as they are drawn."""
        now = self._drawing
        if now is None or now.subject != self._subject():
            return {"drawing": now is not None and not now.finished}, {}
        return now.shown()

    def _open(self, drawing: Drawing, method: str, place: int) -> None:
        """Open the picture as an image of the session, with the texts of both classes."""
        sentence, picture, _ = drawing.picture(method, place)
        drawn, mistaken = self.pair()
        index = self.session.images.add(picture, name=sentence, drawn=True)
        text, text_b = self.session.cues.class_text(mistaken), self.session.cues.class_text(drawn)
        self.session.select(image=index, text=text, text_b=text_b)

    # -- work between clicks -------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Do one short piece of the missing work: read images, code neurons or draw pictures."""
        layers = self.layers_shown()
        if not layers or not all(self.pair()):
            return False
        if self._coding.step(layers, self.m, self.n_images):
            self.tell(self._coding.work)
            return True
        if self._draws():
            return True
        reading = self._coding.unread(layers, self.n_images)
        if reading is not None:
            self.read_on(reading, self.n_images)
        return reading is not None

    def _subject(self) -> tuple[tuple[str, str], tuple[int, ...], int | None, int, int]:
        return self.pair(), self.layers_shown(), self.m, self._seed, id(self.session.cues.studio)

    def _draws(self) -> bool:
        """Draw the next method's pictures, if any are requested; return False if none are."""
        pair, subject = self.pair(), self._subject()
        if self._drawing is None or self._drawing.subject != subject:
            layers, source = subject[1], self._coding.source
            read = self._asked or self._coding.complete(layers, self.n_images)
            ready = read and self._coding.fits(layers, self.m)
            if source is None or not ready or not self.session.cues.can_draw(pair[0]):
                return False
            wanted = self._seed, self.n_sentences, self.n_pictures
            steps = partial(self.board.attack_steps, source, pair, *wanted)
            self._drawing = Drawing(self.board, pair, subject, steps)
        if not self._drawing.step():
            return False
        self.tell(self._drawing.work)
        self._asked &= not self._drawing.finished
        self.board.refresh()
        return True
