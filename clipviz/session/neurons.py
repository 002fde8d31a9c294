"""Neurons over a session's collection: read in steps, then search, text codes, galleries and concept groups.

`neurons(session, layer)` is one layer's `Reading`; `reading.step(n)` reads the next images, `reading.latest` is what
is known so far (`LayerNeurons`). Panels read in the background; `read(session, layer)` reads at once.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.lens.neuron_stats import NeuronStats, RankOne, neuron_stats, rank_one
from clipviz.lens.neurons import SecondOrder, check_layer
from clipviz.lens.sparse import prepare_dictionary, reconstruct, sparse_code

if TYPE_CHECKING:
    from clipviz.session import Session

BATCH = 16  # images a step: a click waits for one step at most
N_TOP = 48  # images kept a neuron, the strongest
N_WORDS = 8
MOST = 5_000  # images read at most: the norms of every neuron on every image are kept
FIRST = 64  # images after which there is something to show; then at every doubling
KEPT = 8  # current images whose effects are kept
MAX_GROUPS = 5
GOLDEN = 0.6180339887  # its multiples fill the unit interval evenly from the first on
SAMPLES = ("top", "quantiles", "random")
SAME = 0.6  # cosine of centred texts above which the second adds nothing
SEPARATE = 0.1  # silhouette below which top images are one group


class Word(NamedTuple):
    """One text of a sparse code and its signed weight."""

    text: str
    weight: float


class Code(NamedTuple):
    """A neuron's sparse text code, the largest |weight| first, and the share of its direction that it rebuilds."""

    words: tuple[Word, ...]
    share: float


class Found(NamedTuple):
    """A neuron and how it answers a search: what it adds to the text's cosine on its top images, and the cosine of
    its direction and the text."""

    neuron: int
    effect: float
    cosine: float


class Samples(NamedTuple):
    """Images of a neuron: ids, |phi| [image], signed effect along r [image], activation maps [image, rows, cols]."""

    ids: list[int]
    norms: np.ndarray
    along: np.ndarray
    maps: np.ndarray


class Group(NamedTuple):
    """Top images that belong together: places among the samples, the texts they are nearest to, their mean effect."""

    places: list[int]
    texts: tuple[str, ...]
    along: float


@dataclass(frozen=True, eq=False)
class LayerNeurons:
    """What the images read so far say about one layer's neurons. Units: parts of a unit embedding (cosine units).

    ids: [image] the images read; norms: [image, neuron] |phi_n|, half precision; embedding: [image, d_embed], unit.
    """

    stats: NeuronStats
    line: RankOne
    ids: Tensor
    norms: Tensor
    embedding: Tensor
    dictionary: Tensor
    texts: Sequence[str]
    _codes: dict[tuple[int, int], Code] = field(default_factory=dict)

    @property
    def n_neurons(self) -> int:
        return int(self.norms.shape[1])

    @cached_property
    def strength(self) -> Tensor:
        """[neuron] root mean square of x_n over its top images: how far it moves the embedding along r_n."""
        return (self.line.share * self.line.variance).clamp_min(0).sqrt()

    def towards(self, direction: Tensor, k: int, by: str = "effect") -> list[Found]:
        """The neurons that write towards a direction [d_embed], best first.

        by: "effect" is strength * <r_n, t>, what a neuron adds to the text's cosine on its top images; "cosine" is
        <r_n, t> alone, which weak neurons can win.
        """
        if by not in ("effect", "cosine"):
            raise ValueError(f"expected by='effect' or 'cosine', got {by!r}")
        cosines = self.line.directions @ normalize(direction, dim=0)
        effects = self.strength * (self.line.directions @ direction)
        order = (effects if by == "effect" else cosines).topk(min(k, len(cosines))).indices
        rows = zip(order.tolist(), effects[order].tolist(), cosines[order].tolist(), strict=True)
        return [Found(*row) for row in rows]

    def strongest(self, k: int) -> list[tuple[int, float]]:
        """The neurons that move the embedding most on their top images, with their strength."""
        return _best(self.strength, k)

    def codes(self, neurons: Sequence[int], n_words: int = N_WORDS) -> list[Code]:
        """Sparse text codes of some neurons' rank-1 directions (thesis 3.4)."""
        missing = [neuron for neuron in dict.fromkeys(neurons) if (neuron, n_words) not in self._codes]
        if missing:
            n_nonzero = min(n_words, len(self.dictionary), self.dictionary.shape[1])
            found = sparse_code(self.line.directions[missing], self.dictionary, n_nonzero)
            shares = reconstruct(found, self.dictionary).square().sum(1).clamp_max(1).tolist()
            rows = zip(missing, found.atoms.tolist(), found.weights.tolist(), shares, strict=True)
            for neuron, atoms, weights, share in rows:
                pairs = zip(atoms, weights, strict=True)
                words = [Word(self.texts[j], weight) for j, weight in pairs if j >= 0 and weight]
                words.sort(key=lambda word: -abs(word.weight))
                self._codes[neuron, n_words] = Code(tuple(words), share)
        return [self._codes[neuron, n_words] for neuron in neurons]

    def top(self, neuron: int, k: int = N_TOP) -> Samples:
        """The images with the largest |phi_n|."""
        stats = self.stats
        kept = (stats.top_images[neuron] >= 0).nonzero()[:k, 0]
        along = (stats.top_coordinates[neuron, kept] - stats.mean[neuron]) @ self.line.readers[neuron]
        return Samples(
            stats.top_images[neuron, kept].tolist(),
            _numpy(stats.top_norms[neuron, kept]),
            _numpy(along),
            _numpy(stats.top_maps[neuron, kept].float()),
        )

    def spread(self, neuron: int, how: str, k: int) -> list[int]:
        """An honest sample of the images read, strongest first: "quantiles" of |phi_n|, evenly, or at "random"."""
        order = self.norms[:, neuron].float().argsort(descending=True)
        k = min(k, len(order))
        if how == "quantiles":
            places = torch.linspace(0, len(order) - 1, k).round().long()
        else:
            generator = torch.Generator().manual_seed(neuron)
            places = torch.randperm(len(order), generator=generator)[:k].sort().values
        return self.ids[order.cpu()[places]].tolist()

    def profile(self, neuron: int, n_points: int = 64) -> np.ndarray:
        """Quantiles of |phi_n| over the images read, smallest first, [n_points]: how few images it has an effect on."""
        levels = torch.linspace(0, 1, n_points, device=self.norms.device)
        return _numpy(torch.quantile(self.norms[:, neuron].float(), levels))

    def rank(self, neuron: int, norm: float) -> float:
        """Share of the images read on which the neuron's effect is smaller."""
        return float((self.norms[:, neuron].float() < norm).float().mean())

    def groups(self, samples: Samples) -> tuple[list[Group], float]:
        """Top images in groups of what they show, largest group first, and how clearly they part (silhouette)."""
        places = {i: place for place, i in enumerate(self.ids.tolist())}
        rows = torch.tensor([places[i] for i in samples.ids])
        centred = self.embedding - self.embedding.mean(0)
        vectors = normalize(centred[rows.to(centred.device)], dim=1)
        labels, separation = cluster(_numpy(vectors))
        found = []
        for label in range(labels.max() + 1):
            members = np.flatnonzero(labels == label)
            mean = vectors[torch.as_tensor(members, device=vectors.device)].mean(0)
            found.append(Group(members.tolist(), self._nearest(mean), float(samples.along[members].mean())))
        return sorted(found, key=lambda group: -len(group.places)), separation

    def _nearest(self, direction: Tensor, n_texts: int = 2) -> tuple[str, ...]:
        """The texts nearest to a direction that do not say the same again."""
        chosen: list[int] = []
        for j, _ in _best(self.dictionary @ direction, min(32, len(self.dictionary))):
            if all(float(self.dictionary[j] @ self.dictionary[other]) < SAME for other in chosen):
                chosen.append(j)
            if len(chosen) == n_texts:
                break
        return tuple(self.texts[j] for j in chosen)


class Reading:
    """One layer's neurons, read from the collection in steps, so spread that the first few speak for all."""

    def __init__(self, session: Session, layer: int) -> None:
        self.layer = check_layer(session.model.weights, layer)
        self.latest: LayerNeurons | None = None
        self.version = 0
        self._session = weakref.ref(session)
        self._stats: NeuronStats | None = None
        self._ids: list[int] = []
        self._norms: list[Tensor] = []
        self._embedding: list[Tensor] = []
        self._done: set[int] = set()  # read or broken
        self._seconds: OrderedDict[int, SecondOrder] = OrderedDict()
        self._lock = threading.RLock()  # a panel reads in the worker, a notebook in its own thread

    @property
    def session(self) -> Session:
        session = self._session()
        assert session is not None, "the session is gone"
        return session

    @property
    def n_read(self) -> int:
        return len(self._ids)

    def plan(self, n_images: int | None) -> list[int]:
        """The images to read, in order: evenly spread, and so is any beginning; at most MOST when None."""
        n_all = len(self.session.images)
        n_images = min(n_all, MOST if n_images is None else n_images)
        chosen = np.unique(np.linspace(0, n_all - 1, n_images).round().astype(int))
        return chosen[np.argsort(np.arange(len(chosen)) * GOLDEN % 1, kind="stable")].tolist()

    def step(self, n_images: int | None) -> bool:
        """Read the next few images; False when the planned ones have been read."""
        with self._lock:
            return self._step(n_images)

    def _step(self, n_images: int | None) -> bool:
        wanted = self._todo(n_images)
        if not wanted:
            return False
        ids, pictures = [], []
        for i in wanted[:BATCH]:
            self._done.add(i)
            try:
                pictures.append(self.session.images[i])
                ids.append(i)
            except (ValueError, OSError):  # counted and listed by the collection
                continue
        if ids:
            self._add(ids, self.session.model.second_order(pictures, self.layer))
        complete = len(wanted) <= BATCH
        shown = 0 if self.latest is None else self.latest.stats.count
        if self._stats is not None and (complete or self.n_read >= max(FIRST, 2 * shown)):
            self.latest = self._gather()
            self.version += 1
        return not complete

    def complete(self, n_images: int | None) -> bool:
        return not self._todo(n_images)

    def second(self, image: int) -> SecondOrder:
        """Every neuron's effect on one image; the last few are kept."""
        with self._lock:
            if image not in self._seconds:
                self._seconds[image] = self.session.model.second_order(self.session.images[image], self.layer)
            self._seconds.move_to_end(image)
            while len(self._seconds) > KEPT:
                self._seconds.popitem(last=False)
            return self._seconds[image]

    def on_image(self, known: LayerNeurons, image: int, neuron: int) -> Samples:
        """One neuron on one image, which need not be among those read."""
        return _samples(known, self.second(image), [image], neuron)

    def most_active(self, image: int, k: int) -> list[tuple[int, float]]:
        """The neurons with the largest |phi_n| on an image."""
        return _best(self.second(image).norms()[0], k)

    def samples(self, known: LayerNeurons, neuron: int, how: str, k: int) -> Samples:
        """A gallery: "top" by |phi_n|, "quantiles" of it, or "random"; the last two run the model on k images."""
        if how not in SAMPLES:
            raise ValueError(f"expected how to be one of {', '.join(SAMPLES)}, got {how!r}")
        if how == "top":
            return known.top(neuron, k)

        def make() -> Samples:
            ids = known.spread(neuron, how, k)
            model, images = self.session.model, self.session.images
            return _samples(known, model.second_order([images[i] for i in ids], self.layer), ids, neuron)

        return self.session.remember(("neuron samples", self.layer, self.version, neuron, how, k), make)

    def _todo(self, n_images: int | None) -> list[int]:
        return [i for i in self.plan(n_images) if i not in self._done]

    def _add(self, ids: list[int], second: SecondOrder) -> None:
        stats = neuron_stats(second, ids, N_TOP)
        self._stats = stats if self._stats is None else self._stats.merge(stats)
        self._ids += ids
        self._norms.append(second.norms().half())
        self._embedding.append(normalize(second.embedding, dim=1))

    def _gather(self) -> LayerNeurons:
        assert self._stats is not None
        session = self.session
        self._norms, self._embedding = [torch.cat(self._norms)], [torch.cat(self._embedding)]
        return LayerNeurons(
            stats=self._stats,
            line=rank_one(self._stats, session.model.neuron_basis(self.layer)),
            ids=torch.tensor(self._ids),
            norms=self._norms[0],
            embedding=self._embedding[0],
            dictionary=dictionary(session),
            texts=session.texts,
        )


_READINGS: weakref.WeakKeyDictionary[Session, dict[int, Reading]] = weakref.WeakKeyDictionary()


def neurons(session: Session, layer: int) -> Reading:
    """The session's reading of one layer, made on first use and kept as long as the session."""
    readings = _READINGS.setdefault(session, {})
    layer = check_layer(session.model.weights, layer)
    if layer not in readings:
        readings[layer] = Reading(session, layer)
    return readings[layer]


def read(session: Session, layer: int, n_images: int | None = None) -> LayerNeurons:
    """One layer's neurons over the collection, read now (at most MOST images, spread evenly)."""
    reading = neurons(session, layer)
    while reading.step(n_images):
        pass
    if reading.latest is None:
        raise ValueError("expected at least one readable image, got none; open the session with more images")
    return reading.latest


def dictionary(session: Session) -> Tensor:
    """The session's texts, centred and of unit length, for sparse codes."""
    return session.remember("neuron dictionary", lambda: prepare_dictionary(session.pool()))


def text_direction(session: Session, text: str, text_b: str = "") -> Tensor:
    """What neurons are compared with: a text less the pool's mean, which all texts share; or text minus text_b."""
    direction = session.direction(text)
    return direction - (session.direction(text_b) if text_b else session.pool().mean(0))


def default_layer(session: Session) -> int:
    """The last layer but two: the thesis finds the largest second-order effects moderately late (8-10 of 12)."""
    return max(0, session.model.n_layers - 3)


def cluster(vectors: np.ndarray, max_groups: int = MAX_GROUPS) -> tuple[np.ndarray, float]:
    """Labels of unit vectors [image, d], by Ward's method, and the silhouette of that division.

    The number of groups is the one of highest silhouette; all are one group where none exceeds SEPARATE.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    best, separation = np.zeros(len(vectors), int), 0.0
    for n_groups in range(2, min(max_groups, len(vectors) - 1) + 1):
        labels = AgglomerativeClustering(n_groups).fit_predict(vectors)
        score = float(silhouette_score(vectors, labels))
        if score > max(separation, SEPARATE):
            best, separation = labels, score
    return best, separation


def _samples(known: LayerNeurons, second: SecondOrder, ids: list[int], neuron: int) -> Samples:
    return Samples(
        ids,
        _numpy(second.norms()[:, neuron]),
        _numpy(known.line.coefficients(second)[:, neuron]),
        _numpy(second.activation_maps([neuron])[:, 0]),
    )


def _best(scores: Tensor, k: int) -> list[tuple[int, float]]:
    best = scores.topk(min(k, len(scores)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
