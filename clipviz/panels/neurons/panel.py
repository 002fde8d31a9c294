"""Neurons through the second-order lens, found by text, by image or by number, each with its texts and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import traitlets

from clipviz.panels.core.background import NeuronDesk
from clipviz.panels.core.base import ASKED, FIXED, LOCAL, Arrays, View
from clipviz.panels.core.scripts import script, style
from clipviz.panels.neurons import images as neuron_images
from clipviz.session import FINDS, Session
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Unpack

    from clipviz.session.answers import Code, LayerNeurons, Listed, Reading

N_LISTED_WORDS = 3
GALLERIES = ("top", "groups", "intervals", "quantiles", "random")


class NeuronsOptions(TypedDict, total=False):
    find: Literal["text", "image", "strength"]
    show: Literal["top", "groups", "intervals", "quantiles", "random"]
    layer: int | str | None
    m: int | None
    indirect: bool
    opacity: float
    visible: bool
    n_listed: int
    n_words: int
    n_shown: int
    n_images: int | None


class Neurons(NeuronDesk):
    """Neurons that write towards the text, or are most active on the image; the texts of one neuron, and where it is
    active.

    find: how neurons are listed: by "text" (their effect on text A's cosine, or on A minus B), by "image"
    (largest second-order norm on the selected image) or by "strength". show: which images of the neuron: "top" by
    norm, "groups" of the top ones that belong together, a few of each of the histogram's "intervals", even
    "quantiles" of the norm, or "random" ones. layer: the layer of the neurons, or the name of a dictionary for
    its features; a selected neuron determines the layer. m: texts per code, of which the n_words largest are
    shown. indirect: also show the indirect effect on the image, by an intervention (thesis 3.3). n_images: images
    read, spread over the collection (None: all).
    """

    name = "neurons"
    title = "Neurons"
    question = "What does one neuron write?"
    cost = 6
    _esm = script("neurons")
    _css = style("neurons")

    find = traitlets.Enum(FINDS, "text").tag(**ASKED)
    show = traitlets.Enum(GALLERIES, "top").tag(**ASKED)
    indirect = traitlets.Bool(False).tag(**ASKED)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(**LOCAL)
    n_listed = traitlets.Int(14, min=1, max=100).tag(**FIXED)
    n_words = traitlets.Int(8, min=1, max=40).tag(**FIXED)
    n_shown = traitlets.Int(24, min=1, max=48).tag(**FIXED)
    n_images = traitlets.Int(None, allow_none=True, min=1).tag(**FIXED)

    def __init__(self, session: Session, **options: Unpack[NeuronsOptions]) -> None:
        super().__init__(session, **options)

    def looks_at(self, selection: Selection) -> Any:
        s, layer = selection, self._layer(selection)
        # compute itself produces the first version
        version = None if layer is None else max(1, self.board.neuron_reading(layer).version)
        return s.image, layer, s.neuron, s.text, s.text_b, version, tuple(self.session.neurons.dictionaries)

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[View, Arrays] | None:
        session, layer = self.session, self._layer(selection)
        view = self.about_layer(layer)
        if layer is None:
            return view, {}
        reading = self.board.neuron_reading(layer)
        known = self._first_look(reading, stale)
        if known is None:
            return None if stale() else ({**view, "message": "No image of the collection could be read."}, {})
        self.follow()
        s = selection
        listed = reading.find(known, self.find, self.n_listed, s.text, s.text_b, s.image)
        neuron = s.neuron if layer == (s.dictionary or s.layer) else None
        shown = listed.neurons[0] if neuron is None else neuron
        if stale():
            return None
        histogram = known.histogram(shown)
        arrays = {"edges": histogram.edges.astype(np.float32), "counts": histogram.counts.astype(np.int32)}
        gallery, more = neuron_images.gallery(self.board, reading, known, shown, self.show, self.n_shown)
        if stale():
            return None
        current, most = neuron_images.current(self.board, reading, known, shown, s, self.indirect)
        view |= {
            "n_neurons": known.n_neurons,
            "n_read": known.stats.count,
            "complete": reading.complete(self.n_images),
            "grid": list(session.model.weights.grid),
            "found_by": listed.by,
            "unit": listed.unit,
            "list": self._rows(known, listed),
            "neuron": self._about(known, shown),
            "pinned": neuron is not None,
            "gallery": gallery,
            "current": current,
            "texts": session.texts.opened.name,
        }
        return view, arrays | more | most

    def draw(self, width: float) -> Figure:
        """Draw the neuron with its words and top images, in the form of Figure 3.5."""
        from clipviz.figures.chapter3 import NeuronRow, gallery

        shown = self.data()
        ids, about = shown["gallery"]["ids"][: 8 if width > 5 else 4], shown["neuron"]
        row = NeuronRow(
            f"{shown['dictionary']}, feature {about['number']}"
            if shown["dictionary"]
            else f"layer {shown['layer']}, neuron {about['number']}",
            [(text, weight) for text, weight in about["words"]],
            [self.session.images.pixels(i) for i in ids],
            list(shown["maps"][: len(ids)]),
        )
        return gallery([row], width)

    def step(self) -> bool:
        """Read some more images for the layer shown."""
        layer = self._layer(self.session.selection)
        if layer is None:
            return False
        reading = self.board.neuron_reading(layer)
        before = reading.version
        more = self.read_on(reading, self.n_images)
        if reading.version != before:
            self.board.refresh()
        return more

    def _layer(self, selection: Selection) -> int | str | None:
        """Return the layer or dictionary shown: that of the selected neuron, else the panel's own."""
        own = (selection.dictionary or selection.layer) if selection.neuron is not None else None
        shown = self.layer_shown()
        return own if own is not None and own == self.session.neurons.readable(own) else shown

    def _first_look(self, reading: Reading, stale: Stale) -> LayerNeurons | None:
        """Return what is known; reads the first images now, so that a panel that opens has something to show."""
        while reading.latest is None and not stale():
            if not self.read_on(reading, self.n_images):
                break
        return reading.latest

    def _rows(self, known: LayerNeurons, listed: Listed) -> list[dict[str, Any]]:
        codes = known.codes(listed.neurons, self.m)
        rows = zip(listed.neurons, listed.scores, listed.notes, codes, strict=True)
        return [
            {"neuron": n, "score": score, "note": note, "words": _words(code, N_LISTED_WORDS)}
            for n, score, note, code in rows
        ]

    def _about(self, known: LayerNeurons, neuron: int) -> dict[str, Any]:
        code = known.codes([neuron], self.m)[0]
        return {
            "number": neuron,
            "words": _words(code, self.n_words),
            "code_share": code.share,
            "random_share": code.by_chance,
            "differs": code.differs,
            "rank_one": float(known.line.share[neuron]),
            "strength": float(known.strength[neuron]),
        }


def _words(code: Code, n_words: int) -> list[list[Any]]:
    return [[word.text, word.weight] for word in code.words[:n_words]]
