"""Spurious cues of a class pair: the words, the neurons behind each, and pictures that put the words to the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import traitlets

from clipviz.panels.background import NeuronDesk
from clipviz.panels.base import ASKED, FIXED, Arrays, View
from clipviz.panels.drawing import Drawing, why_none
from clipviz.panels.requests import Request
from clipviz.panels.scripts import script, style
from clipviz.session import Session
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from clipviz.analysis.neurons import LayerNeurons


class CuesOptions(TypedDict, total=False):
    drawn: str
    mistaken: str
    layer: int | None
    visible: bool
    n_listed: int
    n_images: int | None
    n_sentences: int
    n_pictures: int


class Cues(NeuronDesk):
    """Words that pull pictures of one class towards another by way of neurons, and attempts to fool the model.

    drawn, mistaken: names of the source class, which is drawn, and of the target class, which it should be taken for
    (a bundle that draws starts with a pair; other models with none). layer: whose neurons, default the last but two.
    n_images: images read for the neurons (None: all). Pictures are drawn once those are read, or when asked for.
    """

    name = "cues"
    title = "Spurious cues"
    question = "Which words mislead the model?"
    cost = 7
    _esm = script("cues")
    _css = style("cues")

    drawn = traitlets.Unicode("").tag(**ASKED)
    mistaken = traitlets.Unicode("").tag(**ASKED)
    n_listed = traitlets.Int(14, min=1, max=25).tag(**FIXED)
    n_images = traitlets.Int(None, allow_none=True, min=1).tag(**FIXED)
    n_sentences = traitlets.Int(6, min=1, max=50).tag(option=True)
    n_pictures = traitlets.Int(2, min=1, max=10, help="pictures per sentence").tag(option=True)

    _seed = 0
    _asked = False  # pictures are wanted now, whatever has been read
    _made: Any = None  # the source in the making: (layer, count), its steps
    _source: Any = None  # (layer, count), the source
    _drawing: Drawing | None = None

    def __init__(self, session: Session, **options: Unpack[CuesOptions]) -> None:
        super().__init__(session, **options)

    def looks_at(self, selection: Selection) -> Any:
        s, now = selection, self._drawing
        drawn = now and (now.subject, len(now.attempts), now.finished, now.look)
        return s.layer, s.neuron, s.text, self._source and self._source[0], drawn, self._seed

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        session, pair, layer = self.session, self.pair(), self.layer_shown()
        view: View = {
            **self.about_layer(layer),
            "classes": list(session.cue_classes()),
            "drawn": pair[0],
            "mistaken": pair[1],
            "words": [],
            "attempts": [],
            "note": "",
            "look": None,
        }
        if layer is None:
            return view, {}
        if not all(pair):
            message = "Name the class in the pictures and the class it should be taken for."
            return {**view, "message": message}, {}
        session.check_pair(pair)
        self.follow()
        if self._source is None or self._source[0][0] != layer:
            return {**view, "message": "Reading the neurons…"}, {}
        (_, count), source = self._source[0], self._source[1]
        found = session.remember(
            ("cues", pair, self._source[0], self.n_listed),
            lambda: session.cues(pair, layer, self.n_listed, source),
        )
        if stale():
            return None
        can = session.drawable([cue.text for cue in found], pair)
        view["words"] = [
            {**cue._asdict(), "drawable": ok, "neurons": [one._asdict() for one in cue.neurons]}
            for cue, ok in zip(found, can, strict=True)
        ]
        view |= {"n_read": count, "n_texts": len(source.pool), "complete": self._complete(layer)}
        drawn = self._drawing is not None and self._drawing.finished
        ready = drawn or self._asked or self._complete(layer)
        view["note"] = why_none(pair[0], session.cue_classes(), ready)
        shown, arrays = self._shown()
        return view | shown, arrays

    def pair(self) -> tuple[str, str]:
        """The source and the target class on show; empty names where none were given."""
        if self.drawn or self.mistaken:
            return self.drawn.strip(), self.mistaken.strip()
        return self.session.first_pair

    def results(self) -> dict[str, tuple[list[str], Any]]:
        """The pictures drawn so far: method -> (its words, the Attack with sentences, pictures, margins)."""
        return {} if self._drawing is None else dict(self._drawing.attempts)

    def act(self, request: Request) -> None:
        """draw: new pictures, now. look: one picture closely. open: it, as the session's image."""
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
        """The words' contribution scores as bars."""
        from clipviz.figures.chapter3 import cue_words

        shown = self.data()
        if not shown["words"]:
            raise ValueError("expected words, got none yet; wait for the neurons with session.wait()")
        rows = [(word["text"], word["score"]) for word in shown["words"]]
        return cue_words(rows, f"{shown['drawn']} → {shown['mistaken']}, layer {shown['layer']}", width)

    # -- what is on show -----------------------------------------------------------------------------------------

    def _complete(self, layer: int) -> bool:
        return self.session.neuron_reading(layer).complete(self.n_images)

    def _shown(self) -> tuple[View, Arrays]:
        """The pictures of the pair on show, as far as they are drawn."""
        now = self._drawing
        if now is None or now.subject != self._subject():
            return {"drawing": now is not None and not now.finished}, {}
        return now.shown()

    def _open(self, drawing: Drawing, method: str, place: int) -> None:
        """The picture as an image of the session, with the texts of both classes."""
        sentence, picture, _ = drawing.picture(method, place)
        drawn, mistaken = self.pair()
        index = self.session.add_image(picture, name=sentence, drawn=True)
        text, text_b = self.session.class_text(mistaken), self.session.class_text(drawn)
        self.session.select(image=index, text=text, text_b=text_b)

    # -- work between clicks -------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Read images, code neurons, draw pictures: one short piece of what is missing."""
        layer = self.layer_shown()
        if layer is None or not all(self.pair()):
            return False
        reading = self.session.neuron_reading(layer)
        known = reading.latest
        if known is not None and (self._source is None or self._source[0] != (layer, known.stats.count)):
            self._code(known)
            return True
        if self._draws(layer):
            return True
        if reading.complete(self.n_images):
            return False
        self.read_on(reading, self.n_images)
        return True

    def _code(self, known: LayerNeurons) -> None:
        """Some more neurons' sparse codes; with the last, the words can be shown."""
        key = known.stats.layer, known.stats.count
        if self._made is None or self._made[0] != key:
            self._made = key, self.session.cue_steps(known)
        source = next(self._made[1])
        if source is not None:
            self._source, self._made = (key, source), None
            self.session.refresh()

    def _subject(self) -> tuple[tuple[str, str], int | None, int]:
        return self.pair(), self.layer_shown(), self._seed

    def _draws(self, layer: int) -> bool:
        """Draw the next method's pictures, if any are wanted; False when none are."""
        pair, subject = self.pair(), self._subject()
        if self._drawing is None or self._drawing.subject != subject:
            wanted = self._source is not None and (self._asked or self._complete(layer))
            if not wanted or pair[0] not in self.session.cue_classes():
                return False
            steps = self.session.attack_steps(
                self._source[1], pair, self._seed, self.n_sentences, self.n_pictures
            )
            self._drawing = Drawing(self.session, pair, subject, steps)
        if not self._drawing.step():
            return False
        self._asked &= not self._drawing.finished
        self.session.refresh()
        return True
