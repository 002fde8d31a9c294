"""Neurons through the second-order lens, found by text, by image or by number, each with its texts and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clipviz.panels.core.background import NeuronDesk
from clipviz.panels.core.options import asked, fixed, local
from clipviz.panels.core.scripts import script, style
from clipviz.panels.neurons import images as neuron_images
from clipviz.panels.neurons.sent import NeuronRow, NeuronsArrays, NeuronShown, NeuronsView
from clipviz.values import Selection
from clipviz.worker import Stale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipviz.session.answers import Code, LayerNeurons, Listed, Reading

N_LISTED_WORDS = 3


class Neurons(NeuronDesk):
    """Which neurons write towards the text, or are most active on the image; what one says, and where it fires."""

    name = "neurons"
    title = "Neurons"
    question = "What does one neuron write?"
    cost = 6
    _esm = script("neurons")
    _css = style("neurons")

    find: Literal["text", "image", "strength"] = asked(
        default="text",
        help="How neurons are listed: by their effect on text A's cosine, or on A minus B; by the norm of their "
        "second-order effect on the selected image; or by their strength over the collection.",
    )
    show: Literal["top", "groups", "intervals", "quantiles", "random"] = asked(
        default="top",
        help="Which images of the neuron are shown: the top ones by norm, groups of these that belong together, a few "
        "of each of the histogram's intervals, even quantiles of the norm, or random ones.",
    )
    indirect: bool = asked(
        default=False,
        help="Whether the indirect effect on the image is shown too, by an intervention (thesis 3.3).",
    )
    opacity: float = local(default=0.8, low=0, high=1, help="Opacity of the maps over the images.")
    n_listed: int = fixed(default=14, low=1, high=100, help="Neurons listed.")
    n_words: int = fixed(default=8, low=1, high=40, help="Texts shown of a neuron's code, the largest first.")
    n_shown: int = fixed(default=24, low=1, high=48, help="Images shown of the neuron.")
    n_images: int | None = fixed(
        default=None, low=1, help="Images read, spread over the collection; None: all of them."
    )

    def looks_at(self, selection: Selection) -> Any:
        s, layer = selection, self._layer(selection)
        # compute itself produces the first version
        version = None if layer is None else max(1, self.board.neuron_reading(layer).version)
        return s.image, layer, s.neuron, s.text, s.text_b, version, tuple(self.session.neurons.dictionaries)

    def compute_shown(self, selection: Selection, stale: Stale) -> tuple[NeuronsView, NeuronsArrays] | None:
        session, layer = self.session, self._layer(selection)
        view: NeuronsView = {}
        self.add_layer(view, layer)
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
        arrays: NeuronsArrays = {
            "edges": histogram.edges.astype(np.float32),
            "counts": histogram.counts.astype(np.int32),
        }
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
        return view, {**arrays, **more, **most}

    def draw(self, width: float) -> Figure:
        """Draw the neuron with its words and top images, in the form of Figure 3.5."""
        from clipviz.figures.chapter3 import NeuronRow as Row
        from clipviz.figures.chapter3 import gallery

        shown = self.data()
        ids, about = shown["gallery"]["ids"][: 8 if width > 5 else 4], shown["neuron"]
        row = Row(
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
        """Return what is known of the layer. The first images are read now, so that a new panel can show something."""
        while reading.latest is None and not stale():
            if not self.read_on(reading, self.n_images):
                break
        return reading.latest

    def _rows(self, known: LayerNeurons, listed: Listed) -> list[NeuronRow]:
        codes = known.codes(listed.neurons, self.m)
        rows = zip(listed.neurons, listed.scores, listed.notes, codes, strict=True)
        return [
            {"neuron": n, "score": score, "note": note, "words": _words(code, N_LISTED_WORDS)}
            for n, score, note, code in rows
        ]

    def _about(self, known: LayerNeurons, neuron: int) -> NeuronShown:
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


def _words(code: Code, n_words: int) -> list[tuple[str, float]]:
    return [(word.text, word.weight) for word in code.words[:n_words]]
