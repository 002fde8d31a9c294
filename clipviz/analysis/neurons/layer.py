"""What a collection reveals about one layer's neurons: search, text codes, galleries, groups of images.

`LayerNeurons` answers every question about a layer from its second-order statistics (lens.neuron_stats), for the
session, its panels and notebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.lens.cues import activation_thresholds, image_contribution_scores
from clipviz.lens.neuron_stats import NeuronStats, RankOne
from clipviz.lens.neurons import SecondOrder
from clipviz.lens.sparse import code_size, reconstruct, sparse_code
from clipviz.values import SparseCode
from clipviz.values.tables import Columns, Table, plain

N_TOP = 48  # number of strongest images kept per neuron
N_WORDS = 8  # texts of a code that are shown
PERCENTILE = 98.0  # a neuron is activated above this percentile of its norms over the images (thesis 3.3)
MAX_GROUPS = 5
SAME = 0.6  # of two centred texts with a larger cosine, the second is omitted
N_RANDOM = 50  # random directions that are coded: if all are rebuilt less well, p < 1/51
N_ONE_GROUP = 20  # draws of images without groups: if all have a smaller silhouette, p < 1/21
# number of random directions, and the quantile of their cosines with the nearest text
N_NEAREST, ABOVE = 2000, 0.99


class Word(NamedTuple):
    """One text of a sparse code and its signed weight."""

    text: str
    weight: float


class Code(NamedTuple):
    """A neuron's sparse text code, the largest |weight| first, and the share of its direction that it reconstructs.

    by_chance, most_by_chance: the share that codes with as many texts reconstruct of N_RANDOM random directions,
    which are unrelated to texts: the mean and the maximum.
    """

    words: tuple[Word, ...]
    share: float
    by_chance: float
    most_by_chance: float

    @property
    def differs(self) -> bool:
        """Whether the texts reconstruct more of the direction than of any random one."""
        return self.share > self.most_by_chance


class Found(NamedTuple):
    """A neuron and its answer to a search: what it adds to the text's cosine on its top images, and the cosine of
    its direction and the text.
    """

    neuron: int
    effect: float
    cosine: float


class Samples(NamedTuple):
    """Images of a neuron: ids, |phi| [image], signed effects along r [image], activation maps [image, rows, cols]."""

    ids: list[int]
    norms: np.ndarray
    along: np.ndarray
    maps: np.ndarray

    @property
    def limit(self) -> float:
        """The scale of a neuron's gallery: an activation near the maximum of most images."""
        return float(np.quantile(self.maps.max((1, 2)), 0.75)) if len(self.maps) else 1.0


class Group(NamedTuple):
    """Top images that belong together: indices among the samples, the texts nearest to them, and their mean effect.

    texts: empty if no text is nearer than the nearest text of 99% of random directions.
    """

    places: list[int]
    texts: tuple[str, ...]
    along: float


class Grouping(NamedTuple):
    """Groups, largest first; how well they are separated (silhouette), and the largest silhouette of images without
    groups (`one_group`). There is a single group if the silhouette does not exceed that.
    """

    groups: list[Group]
    separation: float
    chance: float


@dataclass(frozen=True, eq=False, repr=False)
class Effects(Table):
    """The effect of one neuron on one image's unit embedding, [d_embed], relative to its mean, in three ways (thesis
    3.3).

    first_order: directly on the embedding (Eq. 3.1). second_order: phi_n - b_n, through later attention.
    indirect: the change of the embedding when the model runs again with the neuron at its per-token mean over
    n_images images; later layers may compensate for it.
    """

    first_order: Tensor
    second_order: Tensor
    indirect: Tensor
    n_images: int

    def _columns(self) -> Columns:
        orders = ("first_order", "second_order", "indirect")
        lengths = [float(getattr(self, order).norm()) for order in orders]
        return {"effect": orders, "length": lengths}

    def _title(self) -> str:
        return f"A neuron's effects on an image, against its mean over {self.n_images} images"

    @property
    def cosine(self) -> float:
        """Cosine of the second-order and the indirect effect."""
        return float(
            normalize(self.second_order, dim=0) @ normalize(self.indirect.to(self.second_order), dim=0)
        )


@dataclass(frozen=True, eq=False, repr=False)
class Histogram(Table):
    """|phi_n| over the images read: edges [interval + 1], counts [interval], and images of each interval, evenly
    sampled, strongest first.
    """

    edges: np.ndarray
    counts: np.ndarray
    images: list[list[int]]

    def _columns(self) -> Columns:
        images = [plain(some) for some in self.images]
        return {"from": self.edges[:-1], "to": self.edges[1:], "count": self.counts, "images": images}

    def _title(self) -> str:
        return "Lengths of a neuron's effects over the images read"


@dataclass(frozen=True, eq=False, repr=False)
class LayerNeurons(Table):
    """What the images read so far reveal about one layer's neurons. Units: parts of a unit embedding (cosine units).

    ids: [image] the images read; norms: [image, neuron] |phi_n| there, half precision; embedded: [other] the images
    whose unit embedding [other, d_embed] is known, all top images among them.
    """

    stats: NeuronStats
    line: RankOne
    ids: Tensor
    norms: Tensor
    embedded: Tensor
    embedding: Tensor
    dictionary: Tensor
    texts: Sequence[str]
    _codes: dict[tuple[int, int], tuple[Tensor, ...]] = field(default_factory=dict)
    _by_chance: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def n_neurons(self) -> int:
        return int(self.norms.shape[1])

    @cached_property
    def strength(self) -> Tensor:
        """[neuron], root mean square of x_n over its top images: how far it moves the embedding along r_n."""
        return (self.line.share * self.line.variance).clamp_min(0).sqrt()

    def _columns(self) -> Columns:
        return {"neuron": range(self.n_neurons), "strength": to_numpy(self.strength)}

    def _order(self, columns: Columns) -> list[int]:
        return list(np.argsort(-np.asarray(columns["strength"]), kind="stable").tolist())

    def _title(self) -> str:
        return f"{self.n_neurons:,} units of layer {self.stats.layer} over {len(self.ids):,} images, strongest first"

    def towards(self, direction: Tensor, k: int, by: str = "effect") -> list[Found]:
        """Return the neurons that write towards a direction [d_embed], best first.

        by: "effect" is strength * <r_n, t>, the amount that a neuron adds to the text's cosine on its top images;
        "cosine" is <r_n, t> alone, which can be large for weak neurons.
        """
        if by not in ("effect", "cosine"):
            raise ValueError(f"expected by='effect' or 'cosine', got {by!r}")
        cosines = self.line.directions @ normalize(direction, dim=0)
        effects = self.strength * (self.line.directions @ direction)
        order = (effects if by == "effect" else cosines).topk(min(k, len(cosines))).indices
        rows = zip(order.tolist(), effects[order].tolist(), cosines[order].tolist(), strict=True)
        return [Found(*row) for row in rows]

    def strongest(self, k: int) -> list[tuple[int, float]]:
        """Return the neurons that move the embedding most on their top images, with their strength."""
        return best(self.strength, k)

    @property
    def code_size(self) -> int:
        """Default number of texts in a code: the thesis's m (lens.sparse.code_size), or the size of a smaller pool."""
        return min(code_size(self.dictionary.shape[1]), len(self.dictionary))

    def codes(self, neurons: Sequence[int], m: int | None = None) -> list[Code]:
        """Return sparse text codes of some neurons' rank-1 directions (thesis 3.4), with m texts each.

        m: default `code_size`; at most the size of the pool or the width of the embedding.
        """
        if not neurons:
            return []
        coded = self._coded(neurons, m)
        shares = reconstruct(coded, self.dictionary).square().sum(1).clamp_max(1).tolist()
        chance, found = self._chance(coded.atoms.shape[1]), []
        for atoms, weights, share in zip(coded.atoms.tolist(), coded.weights.tolist(), shares, strict=True):
            pairs = zip(atoms, weights, strict=True)
            words = [Word(self.texts[j], weight) for j, weight in pairs if j >= 0 and weight]
            words.sort(key=lambda word: -abs(word.weight))
            found.append(Code(tuple(words), share, *chance))
        return found

    def _coded(self, neurons: Sequence[int], m: int | None) -> SparseCode:
        """Return the codes of some neurons as indices and weights; codes computed before are reused."""
        n_nonzero = min(self.code_size if m is None else m, len(self.dictionary), self.dictionary.shape[1])
        missing = [neuron for neuron in dict.fromkeys(neurons) if (neuron, n_nonzero) not in self._codes]
        if missing:
            new = sparse_code(self.line.directions[missing], self.dictionary, n_nonzero)
            for neuron, *code in zip(missing, new.atoms, new.weights, strict=True):
                self._codes[neuron, n_nonzero] = tuple(code)
        atoms, weights = zip(*(self._codes[neuron, n_nonzero] for neuron in neurons), strict=True)
        return SparseCode(torch.stack(atoms), torch.stack(weights))

    def _chance(self, n_nonzero: int) -> tuple[float, float]:
        """Return the share of random directions that n_nonzero texts reconstruct: the mean and the maximum."""
        if n_nonzero not in self._by_chance:
            directions = self._random_directions(N_RANDOM)
            codes = sparse_code(directions, self.dictionary, n_nonzero)
            shares = reconstruct(codes, self.dictionary).square().sum(1).clamp_max(1)
            self._by_chance[n_nonzero] = float(shares.mean()), float(shares.max())
        return self._by_chance[n_nonzero]

    @cached_property
    def _near_by_chance(self) -> float:
        """The cosine with the nearest text that 99% of random directions do not reach."""
        found = self._random_directions(N_NEAREST) @ self.dictionary.T
        return float(found.amax(1).quantile(ABOVE))

    def _random_directions(self, n: int) -> Tensor:
        """Return unit vectors [n, d_embed], the same ones each time."""
        generator = torch.Generator().manual_seed(0)
        return normalize(torch.randn(n, self.dictionary.shape[1], generator=generator), dim=1).to(
            self.dictionary
        )

    def concepts(self, norms: Tensor, k: int, m: int | None = None) -> list[tuple[str, float]]:
        """Return the texts that an image's activated neurons write, by sum_n gamma_j^n |phi_n| (Fig. B.1), best
        first.

        norms: |phi_n| of the image, [neuron]; a neuron above the 98th percentile of its norms is activated, and those
        alone are coded.
        """
        norms = norms.to(self.thresholds)
        active = (norms > self.thresholds).nonzero()[:, 0]
        if not len(active):
            return []
        coded = self._coded(active.tolist(), m)
        scores = image_contribution_scores(
            coded, norms[None, active], self.thresholds[active], len(self.texts)
        )[0]
        used = coded.atoms[coded.atoms >= 0].unique()
        order = used[scores[used].argsort(descending=True)][:k]
        return [(self.texts[j], float(scores[j])) for j in order.tolist()]

    @cached_property
    def thresholds(self) -> Tensor:
        """The norm above which a neuron is activated, [neuron]."""
        return activation_thresholds(self.norms.float(), PERCENTILE)

    def top(self, neuron: int, k: int = N_TOP) -> Samples:
        """Return the images with the largest |phi_n|."""
        stats = self.stats
        kept = (stats.top_images[neuron] >= 0).nonzero()[:k, 0]
        along = (stats.top_coordinates[neuron, kept] - stats.mean[neuron]) @ self.line.readers[neuron]
        return Samples(
            stats.top_images[neuron, kept].tolist(),
            to_numpy(stats.top_norms[neuron, kept]),
            to_numpy(along),
            to_numpy(stats.top_maps[neuron, kept].float()),
        )

    def spread(self, neuron: int, how: str, k: int) -> list[int]:
        """Return a representative sample of the images read, strongest first: evenly by "quantiles" of |phi_n|, or
        at "random".
        """
        order = self.norms[:, neuron].float().argsort(descending=True)
        k = min(k, len(order))
        if how == "quantiles":
            places = torch.linspace(0, len(order) - 1, k).round().long()
        else:
            generator = torch.Generator().manual_seed(neuron)
            places = torch.randperm(len(order), generator=generator)[:k].sort().values
        return self.ids[order.cpu()[places]].tolist()

    def histogram(self, neuron: int, n_bins: int = 8, n_images: int = 6) -> Histogram:
        """Return |phi_n| over the images read in even intervals from 0 to the maximum, with images of each."""
        values = to_numpy(self.norms[:, neuron].float())
        ids = self.ids.cpu().numpy()
        edges = np.linspace(0, max(float(values.max()), 1e-12), n_bins + 1)
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
        images = []
        for one in range(n_bins):
            inside = np.flatnonzero(place == one)
            inside = inside[np.argsort(-values[inside], kind="stable")]
            shown = np.unique(np.linspace(0, len(inside) - 1, min(n_images, len(inside))).round().astype(int))
            images.append(ids[inside[shown]].tolist())
        return Histogram(edges, np.bincount(place, minlength=n_bins), images)

    def rank(self, neuron: int, norm: float) -> float:
        """Return the share of the images read on which the neuron's effect is smaller."""
        return float((self.norms[:, neuron].float() < norm).float().mean())

    def groups(self, samples: Samples) -> Grouping:
        """Group top images by content, and compare their separation with that of images without groups."""
        places = {i: place for place, i in enumerate(self.embedded.tolist())}
        rows = torch.tensor([places[i] for i in samples.ids])
        centred = self.embedding - self.embedding.mean(0)
        vectors = normalize(centred[rows.to(centred.device)], dim=1)
        chance = one_group(to_numpy(centred[rows.to(centred.device)]))
        labels, separation = cluster(to_numpy(vectors), above=chance)
        found = []
        for label in range(labels.max() + 1):
            members = np.flatnonzero(labels == label)
            mean = normalize(vectors[torch.as_tensor(members, device=vectors.device)].mean(0), dim=0)
            found.append(Group(members.tolist(), self._nearest(mean), float(samples.along[members].mean())))
        return Grouping(sorted(found, key=lambda group: -len(group.places)), separation, chance)

    def _nearest(self, direction: Tensor, n_texts: int = 2) -> tuple[str, ...]:
        """Return the texts nearest to a unit direction, if nearer than chance, without texts of the same meaning."""
        chosen: list[int] = []
        for j, cosine in best(self.dictionary @ direction, min(32, len(self.dictionary))):
            if cosine > self._near_by_chance and all(
                float(self.dictionary[j] @ self.dictionary[other]) < SAME for other in chosen
            ):
                chosen.append(j)
            if len(chosen) == n_texts:
                break
        return tuple(self.texts[j] for j in chosen)


def one_group(vectors: np.ndarray, n_draws: int = N_ONE_GROUP, seed: int = 0) -> float:
    """Return the largest silhouette of images without groups: as many normal vectors with the mean and covariance of
    these [image, d], normalised to unit length and divided as `cluster` divides.

    A few vectors have a narrower covariance than the distribution they come from, so fewer than 1 in n_draws + 1
    sets without groups are better separated.
    """
    generator, mean = np.random.default_rng(seed), vectors.mean(0)
    spread = (vectors - mean) / max(1.0, len(vectors) - 1.0) ** 0.5
    highest = 0.0
    for _ in range(n_draws):
        drawn = mean + generator.standard_normal((len(vectors), len(vectors))) @ spread
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True).clip(1e-12)
        highest = max(highest, cluster(drawn)[1])
    return highest


def cluster(
    vectors: np.ndarray, max_groups: int = MAX_GROUPS, above: float = 0.0
) -> tuple[np.ndarray, float]:
    """Return labels of unit vectors [image, d] by Ward's method, and the silhouette of that division.

    The number of groups maximises the silhouette. If no silhouette exceeds `above`, all form one group with
    silhouette 0.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    best, separation = np.zeros(len(vectors), int), 0.0
    for n_groups in range(2, min(max_groups, len(vectors) - 1) + 1):
        labels = AgglomerativeClustering(n_groups).fit_predict(vectors)
        score = float(silhouette_score(vectors, labels))
        if score > max(separation, above):
            best, separation = labels, score
    return best, separation


def samples_of(known: LayerNeurons, second: SecondOrder, ids: list[int], neuron: int) -> Samples:
    return Samples(
        ids,
        to_numpy(second.norms()[:, neuron]),
        to_numpy(known.line.coefficients(second)[:, neuron]),
        to_numpy(second.activation_maps([neuron])[:, 0]),
    )


def best(scores: Tensor, k: int) -> list[tuple[int, float]]:
    best = scores.topk(min(k, len(scores)))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
