"""Spurious cues of a class pair: the words, the neurons behind each, and pictures that put the words to the test."""

from __future__ import annotations

import io
import itertools
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from PIL import Image

from clipviz.panels.base import Panel, marks, script, style
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.analysis.neurons import LayerNeurons

TILE, COLUMNS = 96, 12
_NUMBERS = itertools.count()  # of drawings, for what is remembered of them
NO_STUDIO = (
    "Pictures need someone who writes and draws: this model has neither here. In Python, give a language model and a "
    "text-to-image pipeline (clipviz.models.captioners) to clipviz.analysis.cues.attempt."
)


class Cues(Panel):
    """Words that pull pictures of one class towards another by way of neurons, and attempts to fool the model.

    drawn, mistaken: names of the class in the pictures and of the one it should be taken for (a bundle that draws
    starts with a pair; other models with none). layer: whose neurons, default the last but two. n_images: images
    read for the neurons (None: all). Pictures are drawn once those are read, or when asked for.
    visible=False waits until the browser shows the panel.
    """

    name = "cues"
    cost = 7
    _esm = script("cues")
    _css = style("cues")

    drawn = traitlets.Unicode("").tag(sync=True, option=True, recompute=True)
    mistaken = traitlets.Unicode("").tag(sync=True, option=True, recompute=True)
    layer = traitlets.Int(None, allow_none=True, min=0).tag(sync=True, option=True, recompute=True)
    visible = traitlets.Bool(True).tag(sync=True, option=True, recompute=True)
    n_listed = traitlets.Int(14, min=1, max=25).tag(option=True, recompute=True)
    n_images = traitlets.Int(None, allow_none=True, min=1).tag(option=True, recompute=True)
    n_sentences = traitlets.Int(6, min=1, max=50).tag(option=True)
    n_pictures = traitlets.Int(2, min=1, max=10, help="pictures a sentence").tag(option=True)
    progress = traitlets.Tuple(
        traitlets.Int(),
        traitlets.Int(),
        default_value=(0, 0),
        help="images read for this layer, images in all",
    ).tag(sync=True)

    _working = False
    _gone = False
    _seed = 0
    _asked = False  # pictures are wanted now, whatever has been read
    _look: tuple[str, int] | None = None
    _made: Any = None  # the source in the making: (layer, version), its steps
    _source: Any = None  # (layer, version), the source
    _drawing: Any = None  # what is being drawn (pair, layer, seed), its steps
    _attempts: dict[str, Any] | None = None  # method -> (words, attack), as they come
    _finished = False
    _number = -1

    def looks_at(self, selection: Selection) -> Any:
        s = selection
        drawn = (self._drawing and self._drawing[0], len(self._attempts or {}), self._finished)
        return s.layer, s.neuron, s.text, self._source and self._source[0], drawn, self._seed, self._look

    def compute(self, selection: Selection, stale: Stale) -> tuple[dict[str, Any], dict[str, Any]] | None:
        session, pair, layer = self.session, self.pair(), self._layer()
        view: dict[str, Any] = {
            "selection": marks(selection),
            "classes": list(session.cue_classes()),
            "drawn": pair[0],
            "mistaken": pair[1],
            "layer": layer,
            "n_layers": session.model.n_layers,
            "message": "",
            "waiting": not self.visible,
            "words": [],
            "attempts": [],
            "note": "",
            "look": None,
        }
        if layer is None:
            return {**view, "message": "This model has one layer: no later attention reads its neurons."}, {}
        if not self.visible:
            return view, {}
        if not all(pair):
            message = "Name the class in the pictures and the class it should be taken for."
            return {**view, "message": message}, {}
        session.check_pair(pair)
        self._follow()
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
            {
                "text": cue.text,
                "score": cue.score,
                "drawable": ok,
                "neurons": [one._asdict() for one in cue.neurons],
            }
            for cue, ok in zip(found, can, strict=True)
        ]
        view |= {"n_read": count, "n_texts": len(source.pool), "complete": self._complete(layer)}
        view["note"] = self._why_not(pair, layer)
        shown, arrays = self._shown(pair, layer)
        return view | shown, arrays

    def pair(self) -> tuple[str, str]:
        """The classes on show: drawn, mistaken for; empty names where none were given."""
        if self.drawn or self.mistaken:
            return self.drawn.strip(), self.mistaken.strip()
        return self.session.first_pair

    def results(self) -> dict[str, tuple[list[str], Any]]:
        """The pictures drawn so far: method -> (its words, the Attack with sentences, pictures, margins)."""
        return dict(self._attempts or {})

    def act(self, request: dict[str, Any]) -> None:
        """pair: other classes. draw: new pictures, now. look: one picture closely. open: it, as the session's image."""
        action = request.get("action")
        if action == "pair":
            with self.hold_sync():
                self.drawn = str(request.get("drawn", ""))[:80]
                self.mistaken = str(request.get("mistaken", ""))[:80]
        elif action == "draw":
            self._seed += 1
            self._asked = True
        elif action in ("look", "open"):
            chosen = str(request.get("method", "")), int(request.get("place", 0))
            self._picture(*chosen)
            self._look = chosen
            if action == "open":
                self._open(*chosen)
        else:
            super().act(request)

    def figure(self) -> Figure:
        """The words' contribution scores as bars."""
        from clipviz.figures.chapter3 import cue_words

        shown = self.data()
        if not shown["words"]:
            raise ValueError("expected words, got none yet; wait for the neurons with session.wait()")
        rows = [(word["text"], word["score"]) for word in shown["words"]]
        return cue_words(rows, f"{shown['drawn']} → {shown['mistaken']}, layer {shown['layer']}")

    def close(self) -> None:
        self._gone = True
        super().close()

    # -- what is on show -----------------------------------------------------------------------------------------

    def _layer(self) -> int | None:
        last = self.session.model.n_layers - 2
        if last < 0:
            return None
        return min(self.session.default_layer if self.layer is None else self.layer, last)

    def _complete(self, layer: int) -> bool:
        return self.session.neuron_reading(layer).complete(self.n_images)

    def _why_not(self, pair: tuple[str, str], layer: int) -> str:
        """Why there are no pictures of this pair, or "" where there are or will be."""
        classes = self.session.cue_classes()
        if not classes:
            return NO_STUDIO
        if pair[0] not in classes:
            return f"“{pair[0]}” cannot be drawn: choose a class from the list to see pictures."
        if not self._finished and not self._asked and not self._complete(layer):
            return "Pictures are drawn when all images are read."
        return ""

    def _subject(self) -> tuple[tuple[str, str], int | None, int]:
        return self.pair(), self._layer(), self._seed

    def _shown(self, pair: tuple[str, str], layer: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The attempts and their pictures in one sprite; one picture closely."""
        if self._drawing is None or self._drawing[0] != self._subject() or not self._attempts:
            return {"drawing": self._drawing is not None and not self._finished}, {}
        rows: list[dict[str, Any]] = []
        pictures: list[Image.Image] = []
        for method, (words, attack) in self._attempts.items():
            rows.append(
                {
                    "method": method,
                    "words": words[:8],
                    "fooled": attack.n_fooled,
                    "mean": float(np.mean(attack.margins)),
                    "sentences": list(attack.sentences),
                    "margins": list(attack.margins),
                    "first": len(pictures),
                }
            )
            pictures += attack.images
        view: dict[str, Any] = {"attempts": rows, "drawing": not self._finished, "columns": COLUMNS}
        target = self.session.class_text(pair[1])
        view |= {"n_tiles": len(pictures), "verdict": verdict(rows, target) if self._finished else ""}
        key = ("cue pictures", self._number, len(rows))
        arrays: dict[str, Any] = {"sprite": self.session.remember(key, lambda: _sheet(pictures))}
        if self._finished:
            look, more = self._closely()
            return view | {"look": look}, arrays | more
        return view, arrays

    def _closely(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """One picture and the tokens that write towards either class: the one asked for, else what fools most."""
        assert self._attempts is not None
        method, place = self._look or ("second order", -1)
        if place < 0:
            place = int(np.argmax(self._attempts[method][1].margins))
        sentence, picture, margin = self._picture(method, place)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=92)
        look = {"method": method, "place": place, "sentence": sentence, "margin": margin}
        heatmap = self.session.remember(
            ("cue map", self._number, method, place),
            lambda: self.session.pair_map(picture, self.pair()),
        )
        return {**look, "grid": list(heatmap.shape)}, {"picture": buffer.getvalue(), "map": heatmap}

    def _picture(self, method: str, place: int) -> tuple[str, Image.Image, float]:
        attempt = (self._attempts or {}).get(method)
        if attempt is None or not 0 <= place < len(attempt[1].images):
            raise ValueError(f"expected one of the pictures on show, got {method!r}, number {place}")
        attack = attempt[1]
        return attack.sentences[place], attack.images[place], attack.margins[place]

    def _open(self, method: str, place: int) -> None:
        """The picture as an image of the session, with the texts of both classes."""
        sentence, picture, _ = self._picture(method, place)
        drawn, mistaken = self.pair()
        index = self.session.add_image(picture, name=sentence)
        text, text_b = self.session.class_text(mistaken), self.session.class_text(drawn)
        self.session.select(image=index, text=text, text_b=text_b)

    # -- work between clicks -------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """See to it that what is missing is made, behind everything else."""
        if not self._working:
            self._working = True
            self.session.worker.background(_work_on(weakref.ref(self)))

    def _step(self) -> bool:
        """One short piece of what is missing; False when nothing is, or the panel is gone or hidden."""
        layer = self._layer()
        if self._gone or not self.visible or layer is None or not all(self.pair()):
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
        reading.step(self.n_images)
        self.progress = (reading.n_read, len(reading.plan(self.n_images)))
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

    def _draws(self, layer: int) -> bool:
        """Draw the next method's pictures, if any are wanted; False when none are."""
        key = self._subject()
        if self._drawing is None or self._drawing[0] != key:
            wanted = self._source is not None and (self._asked or self._complete(layer))
            if not wanted or self.pair()[0] not in self.session.cue_classes():
                return False
            steps = self.session.attack_steps(
                self._source[1], key[0], self._seed, self.n_sentences, self.n_pictures
            )
            self._drawing, self._attempts, self._finished, self._look = (key, steps), {}, False, None
            self._number = next(_NUMBERS)
        if self._finished:
            return False
        method, words, attack = next(self._drawing[1], (None, [], None))
        if method is None:
            self._finished, self._asked = True, False
        else:
            assert self._attempts is not None
            self._attempts = {**self._attempts, method: (words, attack)}
        self.session.refresh()
        return True


def verdict(rows: Sequence[dict[str, Any]], target: str) -> str:
    """What the pictures show, in a sentence that does not oversell it; target: the prompt of the wrong class."""
    share = {row["method"]: row["fooled"] / max(1, len(row["margins"])) for row in rows}
    ours, alone, similar = (share.get(name, 0.0) for name in ("second order", "no words", "similar words"))
    said = f"{ours:.0%} of the pictures with these words are taken for {target}"
    if ours <= alone:
        return f"{said}, no more than of the class alone ({alone:.0%}): the words do not fool the model."
    if ours <= similar:
        return (
            f"{said}, {alone:.0%} of the class alone; but words chosen without neurons do as well or better "
            f"({similar:.0%})."
        )
    return f"{said}, {alone:.0%} of the class alone and {similar:.0%} with words chosen without neurons."


def _work_on(panel: weakref.ref[Cues]) -> Iterator[None]:
    """Steps for the worker; they hold nothing of the panel while they wait."""
    while True:
        shown = panel()
        if shown is None:
            return
        try:
            more = shown._step()
        except BaseException as error:
            shown._working = False
            shown.show_error(error)
            if isinstance(error, ValueError):
                return
            raise
        if not more:
            shown._working = False
            return
        del shown
        yield


def _sheet(pictures: Sequence[Image.Image]) -> bytes:
    """A JPEG of square pictures, row by row."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, max(1, rows) * TILE), "white")
    for place, picture in enumerate(pictures):
        small = picture.convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC)
        sheet.paste(small, (place % COLUMNS * TILE, place // COLUMNS * TILE))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=88)
    return stream.getvalue()
