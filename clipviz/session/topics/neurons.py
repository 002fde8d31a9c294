"""The neurons of a session: found, described, shown on an image, replaced (thesis, chapter 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from clipviz.analysis.collection.reading import read as read_pictures
from clipviz.analysis.heads.ablation import worth_tracing
from clipviz.analysis.neurons import replacement
from clipviz.analysis.neurons.layer import N_WORDS, Code, Effects, Histogram, LayerNeurons, to_numpy
from clipviz.lens.cues import N_SEGMENT_NEURONS, map_towards, neuron_heatmap
from clipviz.lens.neurons import check_layer
from clipviz.lens.sparse import code_size, reconstruct, sparse_codes
from clipviz.lens.zeroshot import Accuracy
from clipviz.models.dictionaries import Dictionary, Reconstruction
from clipviz.models.interventions import indirect_effects, mean_activations
from clipviz.models.towers.anatomy import unmixed
from clipviz.models.units import units_of
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics import readings
from clipviz.session.topics.ablation import AblationTopic
from clipviz.session.topics.readings import Listed, Reading, against_pool, reading_of
from clipviz.values import Task, neuron_layers
from clipviz.values.tables import Listing, Lookup, NamedArray, Table, named

MOST_BINS = 1_000
"""The largest number of intervals of a histogram; a screen cannot show more."""


UnitsOf: TypeAlias = int | str | Dictionary
"""A layer's number, for its neurons, or a dictionary (or the name of one in use), for its features."""


@dataclass(frozen=True)
class InUse(Table):
    """A dictionary in use by a session. reconstruction: how well it reconstructs its point on the session's images."""

    name: str
    dictionary: Dictionary
    reconstruction: Reconstruction

    def __repr__(self) -> str:
        return f"{self.name!r}: {self.dictionary!r}. {self.reconstruction}"


class NeuronTopic:
    """Questions about neurons. A neuron is a layer and a number, counted from 0; the default layer is
    `default_layer`.

    A dictionary of directions, or the name of one in use, can take the place of a layer. Its features are units
    like neurons (see models.units), and everything said about neurons then applies to features.
    """

    def __init__(self, state: State, ablation: AblationTopic) -> None:
        self._state, self._ablation = state, ablation

    def __repr__(self) -> str:
        rows = (f"{one.n_units:,} features {name!r}" for name, one in self.dictionaries.items())
        return ", ".join([self._neurons(), *rows])

    def _neurons(self) -> str:
        n_neurons, last = self._state.model.weights.n_neurons, self._state.model.n_layers - 2
        return (
            f"{n_neurons:,} neurons in each of layers 0 to {last}"
            if last >= 0
            else "no neurons with later attention"
        )

    def use(self, dictionary: Dictionary | str | Path, name: str = "") -> InUse:
        """Add a dictionary of directions, whose features the Neurons desk then offers beside the layers' neurons.

        Args:
            dictionary: A clipviz.Dictionary, or the path of one.
            name: Its name in this session, for example "L3 features", which is the default for features of layer 3.

        Returns:
            Its name, and how well it reconstructs its point on the session's own images. Look at that first: a
            dictionary that is read by the wrong convention explains little of the variance.

        Raises:
            ValueError: The dictionary belongs to another model, or the name is taken by another one.
        """
        opened = dictionary if isinstance(dictionary, Dictionary) else Dictionary.load(dictionary)
        units_of(self._state.model, opened)
        check_layer(self._state.model.weights, opened.layer)
        chosen = checks.text("name", name) or self._free_name(opened)
        if self.dictionaries.get(chosen, opened) is not opened:
            raise ValueError(f"expected an unused name for {opened!r}, got {chosen!r}; choose another name")
        found = InUse(chosen, opened, self._measured(opened))
        self._state.use(chosen, opened)
        self._state.refresh()
        return found

    def _free_name(self, dictionary: Dictionary) -> str:
        """Return a name that no other dictionary has."""
        base, taken = f"L{dictionary.layer} features", self.dictionaries
        names = (base, *(f"{base} {count}" for count in range(2, len(taken) + 2)))
        return next(name for name in names if taken.get(name, dictionary) is dictionary)

    @property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """The dictionaries of directions in use, by name: those that come with the model, and those added."""
        return self._state.dictionaries

    def reconstruction(self, name: str) -> Reconstruction:
        """Measure how well a dictionary in use reconstructs its point, on up to 64 evenly spread images of the
        session.
        """
        return self._measured(checks.in_use(name, self.dictionaries))

    def _measured(self, dictionary: Dictionary) -> Reconstruction:
        state = self._state

        def make() -> Reconstruction:
            n_all = len(state.images)
            rows = np.linspace(0, n_all - 1, min(n_all, readings.FIRST)).round().astype(int)
            _, pictures, _ = read_pictures(state.images, np.unique(rows).tolist())
            if not pictures:
                raise ValueError(
                    "expected at least one readable image, got none; open the session with more images"
                )
            return state.model.measure_dictionary(pictures, dictionary)

        return state.keep(("reconstruction", dictionary, len(state.images)), make)

    @property
    def default_layer(self) -> int:
        """The layer whose neurons are shown first: the third to last (the thesis finds layers 8-10 of 12 strongest).

        It is the second to last if several pooling heads read, since statistics grow with the square of the
        number of later heads.
        """
        model = self._state.model
        return max(0, model.n_layers - (3 if model.weights.readout.n_heads == 1 else 2))

    @overload
    def readable(self, layer: int | None = None) -> int | None: ...

    @overload
    def readable(self, layer: int | str | None) -> int | str | None: ...

    def readable(self, layer: int | str | None = None) -> int | str | None:
        """Return the layer whose neurons are shown when `layer` is requested: at most the last one with later
        attention.

        The name of a dictionary in use is returned itself; any other name stands for `default_layer`. Returns
        None for a model with one layer, where no attention reads the neurons.
        """
        last = self._state.model.n_layers - 2
        if isinstance(layer, str):
            if layer in self.dictionaries:
                return layer
            layer = None
        return None if last < 0 else min(self.default_layer if layer is None else layer, last)

    @property
    def late_layers(self) -> range:
        """The late layers whose neurons are used together: 8-10 of 12 (thesis 3.3), see values.neuron_layers."""
        return neuron_layers(self._state.model.n_layers)

    @property
    def code_size(self) -> int:
        """Default number of texts in a neuron's code (thesis: 128 for an embedding of 512), at most the pool's."""
        return min(code_size(self._state.model.weights.d_embed), len(self._state.texts))

    def _chosen(self, layer: UnitsOf | None) -> UnitsOf:
        return self.default_layer if layer is None else layer

    def _reading(self, layer: UnitsOf | None) -> Reading:
        return reading_of(self._state, self._chosen(layer))

    def layer(self, layer: UnitsOf | None = None, n_images: int | None = None) -> LayerNeurons:
        """Return one layer's neurons, or one dictionary's features, over the collection, read now or from the
        index.

        Args:
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.
            n_images: Images to read, spread evenly; at most, and by default, 5,000.

        Returns:
            Statistics, directions and text codes of all units of the layer.

        Raises:
            ValueError: No image can be read.
        """
        state, reading = self._state, self._reading(layer)
        with unmixed(state.model.device):
            while reading.step(n_images, early=False):
                state.tell(reading.work)
                state.checkpoint()
        if reading.latest is None:
            raise ValueError(
                "expected at least one readable image, got none; open the session with more images"
            )
        return reading.latest

    def direction(self, text: str, text_b: str = "") -> Tensor:
        """Return the direction with which neurons are compared: a text minus the pool's mean, or minus text_b.

        Args:
            text: A text, or class of thing, in a few words.
            text_b: A second text, subtracted in place of the pool's mean.

        Returns:
            Vector in the space of embeddings, [d_embed].
        """
        return against_pool(self._state, text, text_b)

    def find(
        self, by: str = "text", layer: UnitsOf | None = None, k: int = 14, image: int | None = None
    ) -> Listed:
        """Return the neurons of a layer that best answer a search for the selection.

        Args:
            by: "text" ranks by the effect on the cosine with text A (or A minus B), "image" by the length of
                the effect on the image, "strength" by its length on the neuron's top images. Without a selected
                text, "image" is used; without an image, "strength".
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.
            k: How many to return at most.
            image: Index of an image; default the selected one.

        Returns:
            Neurons with their scores, best first.

        Raises:
            ValueError: `by` is another word.
        """
        known, s = self.layer(layer), self._state.selection
        image = s.image if image is None else self._state.an_image(image)
        return self._reading(layer).find(known, by, checks.count("k", k), s.text, s.text_b, image)

    def describe(
        self, layer: UnitsOf, neurons: Sequence[int], n_texts: int = N_WORDS, m: int | None = None
    ) -> Listing[Code]:
        """Return sparse text codes of some neurons (thesis 3.4).

        Args:
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.
            neurons: Numbers of neurons.
            n_texts: Texts to return of each code, those of largest weight.
            m: Texts per code; default the thesis's number (see neurons.code_size). The share is that of all m.

        Returns:
            A code for each neuron: signed texts, and the share of the direction that they reconstruct.
        """
        known = self.layer(layer)
        chosen = checks.several("neurons", neurons, known.n_neurons)
        count, codes = checks.count("n_texts", n_texts), known.codes(chosen, checks.code_size(m))
        found = [code._replace(words=code.words[:count]) for code in codes]
        return Listing(found, f"Texts of units of layer {known.stats.layer}", Code._fields)

    def histogram(self, neuron: int, layer: UnitsOf | None = None, n_bins: int = 8) -> Histogram:
        """Return a histogram of a neuron's effect sizes over the images.

        Args:
            neuron: Number of the neuron.
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.
            n_bins: Intervals of equal width.

        Returns:
            Edges [interval + 1], counts [interval], and images of each interval.
        """
        known = self.layer(layer)
        chosen = checks.within("neuron", neuron, known.n_neurons)
        return known.histogram(chosen, checks.count("n_bins", n_bins, most=MOST_BINS))

    def effects(self, neuron: int, image: int | None = None, layer: UnitsOf | None = None) -> Effects:
        """Return a neuron's first-order, second-order and indirect effects on an image (thesis 3.3), each
        relative to its mean.

        The first acts directly on the embedding, the second through later attention. The indirect effect is an
        actual intervention: the model runs again with the neuron at its per-token mean over a few images.

        Args:
            neuron: Number of the neuron.
            image: Index of an image; default the selected one.
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.

        Returns:
            Three vectors [d_embed], parts of a unit embedding.
        """
        state, known = self._state, self.layer(layer, readings.FIRST)
        reading, chosen = self._reading(layer), checks.within("neuron", neuron, known.n_neurons)
        at, i = reading.place, state.an_image(image)

        def make() -> tuple[Tensor, int]:
            batch = readings.BATCH
            pictures = [
                state.images[j] for j in read_pictures(state.images, reading.plan(readings.FIRST)).rows
            ]
            some = (pictures[start : start + batch] for start in range(0, len(pictures), batch))
            return mean_activations(state.model, some, at), len(pictures)

        mean, n_images = state.keep(("mean activations", at, len(state.images)), make)
        indirect = indirect_effects(state.model, state.images[i], at, mean, [chosen])[0, 0]
        second = reading.second(i).effects([chosen])[0, 0] - known.line.bias[chosen]
        return Effects(reading.first_order(i, chosen), second, indirect, n_images)

    def map(
        self,
        text: str = "",
        image: int | None = None,
        text_b: str = "",
        neurons: Sequence[tuple[UnitsOf, int]] | None = None,
        layers: Sequence[UnitsOf] | None = None,
        n_neurons: int = N_SEGMENT_NEURONS,
        n_images: int | None = None,
    ) -> NamedArray:
        """Return where neurons are active on an image, on average (Table 3.4, Fig. 3.7).

        Args:
            text: Text whose neurons are chosen.
            image: Index of an image; default the selected one.
            text_b: A second text, subtracted from the first.
            neurons: (layer, neuron) pairs to show in place of those of a text.
            layers: Layers to choose neurons from; default the late ones.
            n_neurons: Neurons to choose: those best aligned with the text, with either sign (top |<r, v>|).
            n_images: Images from which directions are computed, spread over the collection; None takes all.

        Returns:
            Map [rows, cols] in 0..1; for a mask, threshold it at 0.5.

        Raises:
            ValueError: `neurons` is empty, or no layer has later attention.
        """
        state, i = self._state, self._state.an_image(image)
        chosen: Sequence[UnitsOf] = self.late_layers if layers is None else layers
        count = checks.count("n_neurons", n_neurons)
        if neurons is None:
            target = state.contrast(text, text_b)
            if not chosen:
                raise ValueError(
                    "expected layers that later attention reads, got none; this model has a single layer"
                )
            directions = torch.cat([self.layer(layer, n_images).line.directions for layer in chosen])
            seconds = [reading_of(state, layer).second(i) for layer in chosen]
            found = to_numpy(map_towards(seconds, directions, target.to(directions), count)[0])
            return named(found, ("rows", "cols"), "Where neurons are active")
        if not neurons:
            raise ValueError("expected at least one (layer, neuron) pair, got none; name the neurons")
        maps = [reading_of(state, at).second(i).activation_maps([neuron])[:, 0] for at, neuron in neurons]
        return named(
            to_numpy(neuron_heatmap(torch.stack(maps, 1))[0]), ("rows", "cols"), "Where neurons are active"
        )

    def concepts(
        self, image: int | None = None, layer: UnitsOf | None = None, k: int = 10, m: int | None = None
    ) -> Listing[tuple[str, float]]:
        """Return the texts that an image's activated neurons write (thesis 3.5, Fig. B.1).

        Args:
            image: Index of an image; default the selected one.
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.
            k: How many to return at most.
            m: Texts per code; default the thesis's number (see neurons.code_size).

        Returns:
            (text, score), best first.
        """
        chosen, k = self._chosen(layer), checks.count("k", k)
        i, size = self._state.an_image(image), checks.code_size(m)
        norms = reading_of(self._state, chosen).second(i).norms()[0]
        known = self.layer(chosen)
        title = f"Texts that units of layer {known.stats.layer} write on image {i}"
        return Listing(known.concepts(norms, k, size), title, ("text", "score"))

    def ablate(
        self,
        layer: UnitsOf | None = None,
        task: Task | str | None = None,
        m: int | Sequence[int] = (),
        n_images: int | None = None,
    ) -> Lookup[str, Accuracy]:
        """Return accuracy after replacing all second-order effects of a layer's neurons (Figures 3.3 and 3.4).

        The conditions are "w/o all neurons": by their means over the images read; "w/o small norm" and "w/o
        large norm": only where a norm is below or above the 98th percentile of the neuron's norms;
        "reconstruction from PC 1": by x r + b; "m = 8": by the text code of r with m texts of the pool, for
        each requested m; and "nothing changed".

        Args:
            layer: Number of a layer, or a dictionary or its name; default `default_layer`.
            task: A task, or the name of one; default the first of `tasks()`. Up to 1,024 of its labelled images
                are used.
            m: Texts of the codes that replace directions, one number or several.
            n_images: Images used for the means and directions.

        Returns:
            Accuracy by condition.

        Raises:
            ValueError: The examples of some class have not been read.
        """
        state, chosen, sizes = self._state, self._ablation.task(task), checks.counts("m", m)
        known, classes = self.layer(layer, n_images), self._ablation.classifier(chosen)
        if classes is None:
            raise ValueError(
                "expected the examples of all classes to have been read; wait with session.wait()"
            )
        most = min(known.dictionary.shape)
        lengths = [min(size, most) for size in sizes]
        coded = sparse_codes(known.line.directions, known.dictionary, lengths) if sizes else {}
        codes = {f"m = {size}": reconstruct(coded[min(size, most)], known.dictionary) for size in sizes}
        found = replacement.accuracies(
            state.model,
            state.images,
            chosen,
            classes,
            worth_tracing(chosen, len(state.images)),
            self._reading(layer).place,
            known.stats,
            known.line,
            known.thresholds,
            codes,
            state.checkpoint,
        )
        return Lookup(found, f"Accuracy with the units of layer {known.stats.layer} replaced", ("condition",))
