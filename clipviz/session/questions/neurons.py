"""What is asked of neurons: statistics, searches, texts, maps and concepts (thesis, chapter 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from clipviz.analysis.neurons.layer import N_WORDS, Code, Effects, Histogram, LayerNeurons
from clipviz.lens.cues import N_SEGMENT_NEURONS
from clipviz.lens.sparse import code_size
from clipviz.models.towers.anatomy import unmixed
from clipviz.session import checks
from clipviz.session import neurons as readings
from clipviz.session.ablation import task_of
from clipviz.session.state import SessionState
from clipviz.values import neuron_layers

if TYPE_CHECKING:
    from clipviz.lens.zeroshot import Accuracy
    from clipviz.session.neurons import Listed, Reading
    from clipviz.values import Task


MOST_BINS = 1_000
"""Intervals of a histogram, more than a screen can show."""


class NeuronQuestions(SessionState):
    """The methods of a session about neurons."""

    @property
    def default_layer(self) -> int:
        """The layer whose neurons are shown first: the last but two (the thesis finds layers 8-10 of 12 strongest).

        The last but one where several pooling heads read: statistics grow with the square of the later heads.
        """
        return max(0, self.model.n_layers - (3 if self.model.weights.readout.n_heads == 1 else 2))

    def neuron_layer(self, layer: int | None = None) -> int | None:
        """The layer whose neurons are shown when `layer` is asked for: at most the last that later attention reads.

        None for a model of one layer, where nothing reads the neurons.
        """
        last = self.model.n_layers - 2
        return None if last < 0 else min(self.default_layer if layer is None else layer, last)

    @property
    def neuron_layers(self) -> range:
        """The late layers whose neurons are taken together: 8-10 of 12 (thesis 3.3), see values.neuron_layers."""
        return neuron_layers(self.model.n_layers)

    def neuron_map(
        self,
        text: str = "",
        image: int | None = None,
        text_b: str = "",
        neurons: Sequence[tuple[int, int]] | None = None,
        layers: Sequence[int] | None = None,
        n_neurons: int = N_SEGMENT_NEURONS,
        n_images: int | None = None,
    ) -> np.ndarray:
        """Where neurons are active on an image, [rows, cols], averaged and stretched to 0..1 (Table 3.4, Fig. 3.7).

        neurons: (layer, neuron) pairs; else the n_neurons of `layers` (default the late ones) whose directions are
        most along the text, or along text minus text_b, whichever way they point (top |<r, v>|). n_images: images that
        their directions come from, spread over the collection (None: all). As a mask, it is cut at 0.5.
        """
        i, chosen = self._image(image), self.neuron_layers if layers is None else layers
        count = checks.count("n_neurons", n_neurons)
        target = self.contrast(text, text_b) if neurons is None else None
        if neurons is None and not chosen:
            raise ValueError(
                "expected layers that later attention reads, got none; this model has a single layer"
            )
        return readings.neuron_map(self._session, i, neurons, target, chosen, count, n_images)

    @property
    def code_size(self) -> int:
        """Texts of a neuron's code unless told otherwise (thesis: 128 for an embedding of 512), at most the pool's."""
        return min(code_size(self.model.weights.d_embed), len(self.texts))

    def neurons(self, layer: int | None = None, n_images: int | None = None) -> LayerNeurons:
        """One layer's neurons over the collection (at most 5,000 images, spread evenly), read now or from the index."""
        with unmixed(self.model.device):
            return readings.read(self._session, self.default_layer if layer is None else layer, n_images)

    def neuron_reading(self, layer: int) -> Reading:
        """One layer's neurons as they are being read, step by step, for panels; `neurons` reads them at once."""
        return readings.reading_of(self._session, layer)

    def find_neurons(
        self, by: str = "text", layer: int | None = None, k: int = 14, image: int | None = None
    ) -> Listed:
        """The k neurons of a layer that answer a search for what is selected, best first.

        by: "text", by their effect on the cosine with text A (or A minus B); "image", by the length of their effect on
        the image; or "strength", by its length on their top images. Where no text is selected, the image is asked for;
        where there is no image, the strength.
        """
        known = self.neurons(layer)
        s = self.selection
        image = s.image if image is None else self._image(image)
        reading = self.neuron_reading(known.stats.layer)
        return reading.find(known, by, checks.count("k", k), s.text, s.text_b, image)

    def neuron_effects(self, neuron: int, image: int | None = None, layer: int | None = None) -> Effects:
        """A neuron's first-order, second-order and indirect effects on an image (thesis 3.3), each against its mean.

        The first goes straight to the embedding, the second by way of later attention. The indirect effect is a real
        intervention: the model runs again with the neuron at its per-token mean over a few images.
        """
        known = self.neurons(layer, readings.FIRST)
        chosen = checks.within("neuron", neuron, known.n_neurons)
        return readings.effects(self._session, chosen, self._image(image), known.stats.layer)

    def ablate_neurons(
        self,
        layer: int | None = None,
        task: Task | str | None = None,
        m: int | Sequence[int] = (),
        n_images: int | None = None,
    ) -> dict[str, Accuracy]:
        """Accuracy after replacing all second-order effects of a layer's neurons (Figures 3.3 and 3.4), by condition.

        "w/o all neurons": by their means over the images read; "w/o small norm" and "w/o large norm": only where a norm
        is below or above the 98th percentile of the neuron's norms; "reconstruction from PC 1": by x r + b; "m = 8": by
        r's text code of so many texts of the pool, for each m asked for; and "nothing changed". task: as in `ablate`;
        up to 1,024 of its labelled images are run. n_images: read for the means and directions.
        """
        return readings.ablate(
            self._session,
            self.default_layer if layer is None else layer,
            task_of(self._session, task),
            checks.counts("m", m),
            n_images,
        )

    def neuron_histogram(self, neuron: int, layer: int | None = None, n_bins: int = 8) -> Histogram:
        """A histogram of a neuron's effect sizes over the images, in even intervals, with images of each."""
        known = self.neurons(layer)
        chosen = checks.within("neuron", neuron, known.n_neurons)
        return known.histogram(chosen, checks.count("n_bins", n_bins, most=MOST_BINS))

    def describe_neurons(
        self, layer: int, neurons: Sequence[int], n_texts: int = N_WORDS, m: int | None = None
    ) -> list[Code]:
        """Sparse text codes of some neurons (thesis 3.4): signed texts and the share of the direction they rebuild.

        m: texts of a code, default the thesis's (128 for an embedding of 512 and more, see code_size), of
        which the n_texts of largest weight are returned; the share is that of all.
        """
        known = self.neurons(layer)
        chosen = checks.several("neurons", neurons, known.n_neurons)
        count, codes = checks.count("n_texts", n_texts), known.codes(chosen, checks.code_size(m))
        return [code._replace(words=code.words[:count]) for code in codes]

    def neuron_direction(self, text: str, text_b: str = "") -> Tensor:
        """What neurons are compared with: a text minus the pool's mean, which all texts share; or minus text_b."""
        return self.direction(text) - (self.direction(text_b) if text_b else self.pool().mean(0))

    def concepts_of(
        self, image: int | None = None, layer: int | None = None, k: int = 10, m: int | None = None
    ) -> list[tuple[str, float]]:
        """The texts that an image's activated neurons write, with their scores, best first (thesis 3.5, Fig. B.1).

        m: texts of a neuron's code, as in describe_neurons.
        """
        layer, k = self.default_layer if layer is None else layer, checks.count("k", k)
        return readings.concepts_of(self._session, self._image(image), layer, k, checks.code_size(m))
