"""One layer's neurons over a session's collection, read in steps so that a panel can show the first results early."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.collection.reading import read as read_pictures
from clipviz.analysis.neurons.layer import N_TOP, LayerNeurons, Samples, best, samples_of
from clipviz.analysis.neurons.sums import NeuronSums
from clipviz.data.recent import Recent
from clipviz.lens.neuron_stats import NeuronStats, rank_one
from clipviz.lens.neurons import SecondOrder, check_layer
from clipviz.lens.sparse import prepare_dictionary
from clipviz.models.dictionaries import Dictionary
from clipviz.models.units import Place, units_of
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.values import whole
from clipviz.values.tables import Columns, Table
from clipviz.waits import Work

BATCH = 16  # images per step, since a click waits for at most one step
MOST = 5_000  # most images read, since the norms of every neuron on every image are kept
FIRST = 64  # the first results are shown after this many images, then at every doubling
KEPT = 8  # recently shown images whose effects are cached
GOLDEN = 0.6180339887  # multiples of the golden ratio fill the unit interval evenly at any number
SAMPLES = ("top", "intervals", "quantiles", "random")
FINDS = ("text", "image", "strength")


@dataclass(frozen=True, repr=False)
class Listed(Table):
    """The result of a search for neurons. by: the kind of search; unit: the unit of the scores; notes: what each
    score is compared with.
    """

    by: str
    unit: str
    neurons: list[int]
    scores: list[float]
    notes: list[str]

    def _columns(self) -> Columns:
        return {"neuron": self.neurons, "score": self.scores, "note": self.notes}

    def _title(self) -> str:
        return f"Neurons found by {self.by}, with the {self.unit}"


class Reading:
    """One layer's neurons, or a dictionary's features, read from the collection in steps, spread so that the first few
    represent all.

    place: the layer, or the dictionary. If the session's index contains the layer's statistics, these are used,
    and only FIRST images are read for the distribution of the norms.
    """

    def __init__(self, state: State, place: Place) -> None:
        self.units = units_of(state.model, place)
        self.place, self.layer = place, check_layer(state.model.weights, self.units.layer)
        self.latest: LayerNeurons | None = None
        self.version = 0
        self._state = weakref.ref(state)
        self._sums = NeuronSums(N_TOP, scatter=False)
        self._indexed = _from_index(state, self.layer) if self.neurons else None
        self._ids: list[int] = []
        self._embedding: list[Tensor] = []
        # sums for first-order effects: [readout_head, neuron], and the shared part, [d_embed]
        self._direct, self._direct_shared = torch.zeros(()), torch.zeros(())
        self._done: set[int] = set()  # read or broken
        self._seconds: Recent[int, SecondOrder] = Recent(KEPT)
        what = "neurons" if self.neurons else "features"
        self.work = Work(f"Reading the {what} of layer {self.layer}", 0)
        self._lock = threading.RLock()  # a panel reads in the worker, a notebook in its own thread

    @property
    def state(self) -> State:
        state = self._state()
        assert state is not None, "the session no longer exists"
        return state

    @property
    def neurons(self) -> bool:
        """Whether these are a layer's neurons rather than the features of a dictionary."""
        return isinstance(self.place, int)

    @property
    def n_read(self) -> int:
        return len(self._ids)

    def plan(self, n_images: int | None) -> list[int]:
        """Return the images to read, in an order whose every beginning is evenly spread; at most MOST if None."""
        n_all = len(self.state.images)
        most = FIRST if self._indexed is not None else MOST  # a sample suffices for the norms
        n_images = min(n_all, most if n_images is None else min(n_images, most))
        chosen = np.unique(np.linspace(0, n_all - 1, n_images).round().astype(int))
        return list(chosen[np.argsort(np.arange(len(chosen)) * GOLDEN % 1, kind="stable")].tolist())

    def step(self, n_images: int | None, early: bool = True) -> bool:
        """Read the next few images; return False when the planned ones have been read.

        early: also summarise at every doubling, for display; a summary takes as long as many images.
        """
        with self._lock:
            return self._step(n_images, early)

    def _step(self, n_images: int | None, early: bool) -> bool:
        wanted = self._todo(n_images)
        if not wanted:
            return False
        self.work.n_all = len(self.plan(n_images))
        self.work.resume()
        self._done |= set(wanted[:BATCH])
        # the collection counts broken ones
        ids, pictures, _ = read_pictures(self.state.images, wanted[:BATCH])
        if ids:
            self._add(ids, self.units.second_order(pictures))
        complete = len(wanted) <= BATCH
        shown = 0 if self.latest is None else len(self.latest.ids)
        if self._sums.count and (complete or (early and self.n_read >= max(FIRST, 2 * shown))):
            self.latest = self._gather()
            self.version += 1
        self.work.reached(self.work.n_all if complete else self.n_read)
        return not complete

    def complete(self, n_images: int | None) -> bool:
        return not self._todo(n_images)

    def second(self, image: int) -> SecondOrder:
        """Return every neuron's effect on one image; the last few are cached."""
        with self._lock:
            images = self.state.images
            return self._seconds.get(image, lambda: self.units.second_order(images[image]))

    def on_image(self, known: LayerNeurons, image: int, neuron: int) -> Samples:
        """Return one neuron on one image, which need not be among those read."""
        return samples_of(known, self.second(image), [image], neuron)

    def most_active(self, image: int, k: int) -> list[tuple[int, float]]:
        """Return the neurons with the largest |phi_n| on an image."""
        return best(self.second(image).norms()[0], k)

    def find(
        self, known: LayerNeurons, by: str, k: int, text: str = "", text_b: str = "", image: int | None = None
    ) -> Listed:
        """Return the k neurons that best answer a search; see NeuronTopic.find."""
        if by not in FINDS:
            raise ValueError(f"expected by to be one of {', '.join(FINDS)}, got {by!r}")
        if by == "text" and not text:
            by = "image"
        if by == "image" and image is None:
            by = "strength"
        if by == "text":
            found = known.towards(against_pool(self.state, text, text_b), k)
            unit = "effect on the cosine, on its top images"
            rows = [(one.neuron, one.effect, f"cosine {one.cosine:.2f}") for one in found]
        elif by == "image":
            assert image is not None
            unit = "length of its effect on this image"
            active = self.most_active(image, k)
            rows = [(n, norm, f"above {known.rank(n, norm):.0%} of images") for n, norm in active]
        else:
            unit = "length of its effect on its top images"
            rows = [(n, size, "") for n, size in known.strongest(k)]
        neurons, scores, notes = (list(column) for column in zip(*rows, strict=True))
        return Listed(by, unit, neurons, scores, notes)

    def samples(self, known: LayerNeurons, neuron: int, how: str, k: int) -> Samples:
        """Return images: "top" by |phi_n|, some of each of its histogram's "intervals" (for any k), "quantiles" or
        "random".

        All except "top" run the model on the images.
        """
        if how not in SAMPLES:
            raise ValueError(f"expected how to be one of {', '.join(SAMPLES)}, got {how!r}")
        if how == "top":
            return known.top(neuron, k)

        def make() -> Samples:
            if how == "intervals":
                ids = [i for images in known.histogram(neuron).images[::-1] for i in images]
            else:
                ids = known.spread(neuron, how, k)
            images = self.state.images
            return samples_of(known, self.units.second_order([images[i] for i in ids]), ids, neuron)

        return self.state.remember(("neuron samples", self.place, self.version, neuron, how, k), make)

    def first_order(self, image: int, neuron: int) -> Tensor:
        """Return a neuron's first-order effect on an image minus its mean over the images read, [d_embed] (Eq. 3.1)."""
        second = self.second(image)
        here = second.first_order([neuron])[0, 0]
        basis = second.basis
        direction = torch.einsum("d,pdk->pk", basis.outputs[neuron], basis.matrices)
        mean = self._direct[:, neuron] @ direction + self._direct_shared
        return here - mean / self.n_read

    def _todo(self, n_images: int | None) -> list[int]:
        return [i for i in self.plan(n_images) if i not in self._done]

    def _add(self, ids: list[int], second: SecondOrder) -> None:
        self._sums.add(ids, second)
        self._ids += ids
        self._embedding.append(normalize(second.embedding, dim=1))
        divisor = second.std * second.norm
        self._direct = (second.read / divisor[:, None, None]).sum(0) + self._direct.to(divisor.device)
        shared = (second.direct_shared / second.norm[:, None]).sum(0)
        self._direct_shared = shared + self._direct_shared.to(divisor.device)

    def _gather(self) -> LayerNeurons:
        state, ids = self.state, torch.tensor(self._ids)
        self._embedding = [torch.cat(self._embedding)]
        stats, embedded, embedding = self._sums.stats, ids, self._embedding[0]
        if self._indexed is not None:
            stats, embedded = self._indexed, torch.arange(len(state.collection))
            embedding = normalize(state.collection.embedding.to(embedding), dim=1)
        return LayerNeurons(
            stats=stats,
            line=rank_one(stats, self.units.basis),
            ids=ids,
            norms=self._sums.norms,
            embedded=embedded,
            embedding=embedding,
            dictionary=state.keep("neuron dictionary", lambda: prepare_dictionary(state.pool())),
            texts=state.texts,
        )


def _from_index(state: State, layer: int) -> NeuronStats | None:
    """Return the layer's statistics from the session's index, if it has them (clipviz index --neurons)."""
    index = state.index
    if index is None or layer not in index.neuron_layers:
        return None
    return index.neurons(layer, state.model.device)


def place_of(state: State, layer: int | str | Dictionary) -> Place:
    """Return the place of the units: a layer's number, the name of a dictionary in use, or a dictionary."""
    if isinstance(layer, str):
        return checks.in_use(layer, state.dictionaries)
    return layer if isinstance(layer, Dictionary) else whole("a layer", layer)


def reading_of(state: State, layer: int | str | Dictionary) -> Reading:
    """Return the reading of one layer's neurons or one dictionary's features, created on first use."""
    place = place_of(state, layer)
    if not isinstance(place, Dictionary):
        place = check_layer(state.model.weights, place)
    return state.keep(("neurons", place), lambda: Reading(state, place))


def against_pool(state: State, text: str, text_b: str = "") -> Tensor:
    """Return the direction with which neurons are compared: a text minus the pool's mean, or minus text_b."""
    return state.direction(text) - (state.direction(text_b) if text_b else state.pool().mean(0))
