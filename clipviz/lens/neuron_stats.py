"""Statistics of second-order effects over a collection, streamed and mergeable, and quantities derived from them.

Effects live in the span of a neuron's directions, so the mean and covariance of its few coordinates give the
first principal direction, the bias and the share of variance exactly; the effects themselves are never formed for
all images. Rank-1 approximation (thesis 3.3): phi_n(I) ~ x_n(I) r_n + b_n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipviz.lens.neurons import NeuronBasis, SecondOrder


@dataclass(frozen=True, eq=False)
class NeuronStats:
    """One layer's second-order effects over a collection, in the units of `neuron_stats`.

    Every field is an array that an index can store and a panel can read. The top axis holds the images with the
    largest |phi_n|, strongest first; empty places have norm -1 and image -1.
    """

    layer: int
    count: int
    mean: Tensor  # [neuron, later_head], mean coordinates
    # [neuron, later_head, later_head], sum of (s - mean)(s - mean)^T; large, so not always kept
    scatter: Tensor | None
    shared_mean: Tensor  # [d_embed]
    total: Tensor  # [neuron], sum over images of |phi_n|^2
    top_norms: Tensor  # [neuron, top]
    top_images: Tensor  # [neuron, top], image ids, int64
    top_coordinates: Tensor  # [neuron, top, later_head]
    top_maps: Tensor  # [neuron, top, rows, cols], activation maps of the top images, float16

    def merge(self, other: NeuronStats) -> NeuronStats:
        """Return both collections' statistics together, exact in any order. Raises ValueError for another layer."""
        if self.layer != other.layer or self.mean.shape != other.mean.shape:
            raise ValueError(
                f"expected statistics of layer {self.layer} {list(self.mean.shape)}, got layer {other.layer} "
                f"{list(other.mean.shape)}; merge statistics of one layer of one model"
            )
        count = self.count + other.count
        gap = other.mean - self.mean
        scatter = None
        if self.scatter is not None and other.scatter is not None:
            spread = torch.einsum("nk,nl->nkl", gap, gap) * (self.count * other.count / count)
            scatter = self.scatter + other.scatter + spread
        fields = {name: _stacked(self, other, name) for name in _TOP}
        order = fields["top_norms"].topk(self.top_norms.shape[1], dim=1).indices
        return NeuronStats(
            layer=self.layer,
            count=count,
            mean=self.mean + gap * (other.count / count),
            scatter=scatter,
            shared_mean=self.shared_mean + (other.shared_mean - self.shared_mean) * (other.count / count),
            total=self.total + other.total,
            **{name: _take(value, order) for name, value in fields.items()},
        )

    @property
    def covariance(self) -> Float[Tensor, "neuron later_head later_head"]:
        """Covariance of the coordinates over the collection. Raises ValueError if it was not kept."""
        return self._kept_scatter() / self.count

    def _kept_scatter(self) -> Tensor:
        if self.scatter is None:
            raise ValueError(
                f"expected covariances of layer {self.layer}, but these statistics were taken without them; take them "
                "with scatter=True"
            )
        return self.scatter

    def top_share(self) -> Float[Tensor, " neuron"]:
        """Return the share of the summed squared norm on the kept top images: 1 for a perfectly selective neuron."""
        return self.top_norms.clamp_min(0).square().sum(1) / self.total.clamp_min(
            torch.finfo(self.total.dtype).tiny
        )


_TOP = ("top_norms", "top_images", "top_coordinates", "top_maps")


def neuron_stats(
    second: SecondOrder,
    images: Sequence[int],
    n_top: int = 100,
    normalize: bool = True,
    shared: bool = True,
    about: NeuronStats | None = None,
    scatter: bool = True,
    norms: Float[Tensor, "image neuron"] | None = None,
) -> NeuronStats:
    """Return statistics of one batch; merge the batches of a collection with `NeuronStats.merge`.

    images: the ids of the batch's images, kept beside the top ones. n_top: images kept per neuron (the thesis's
    S_n, its "100 images with the largest norms"). normalize: cosine units (effects of unit-length embeddings).
    shared: rank images by |phi_n| with the shared part, as Eq. B.5 has it. about: statistics of a first pass over
    the collection, in the same units: images are then ranked by |phi_n - mean phi_n|, as the authors' code does,
    and top_norms and total are of those deviations; the thesis's S_n, the default, is of |phi_n|. scatter: keep
    the covariances. They grow with the square of the number of later heads (2 GB for the first layer of
    ViT-L/14), and only rank_one(over="all") needs them. norms: |phi_n| in these units, if already known.
    """
    if len(images) != len(second.coordinates) or n_top < 1:
        raise ValueError(
            f"expected one id for each of {len(second.coordinates)} images and n_top >= 1, got {len(images)} ids "
            f"and n_top={n_top}; pass the collection's indices of this batch"
        )
    coordinates, common = second.scaled(normalize)
    coordinates = coordinates.transpose(0, 1).contiguous()
    mean = coordinates.mean(1)
    gaps = coordinates - mean[:, None]
    means = (None, None) if about is None else (about.mean, about.shared_mean)
    lengths = (second.norms(shared, normalize, *means) if norms is None else norms).T
    kept = min(n_top, lengths.shape[1])
    top = lengths.topk(kept, dim=1)
    maps = second.activations[:, second.basis.prefix :].permute(2, 0, 1)
    ids = torch.as_tensor(list(images), dtype=torch.long, device=lengths.device).expand(len(lengths), -1)
    return NeuronStats(
        layer=second.basis.layer,
        count=len(images),
        mean=mean,
        scatter=gaps.transpose(1, 2) @ gaps if scatter else None,
        shared_mean=common.mean(0),
        total=lengths.square().sum(1),
        top_norms=_padded(top.values, n_top, -1),
        top_images=_padded(_take(ids, top.indices), n_top, -1),
        top_coordinates=_padded(_take(coordinates, top.indices), n_top, 0),
        top_maps=_padded(_take(maps, top.indices).half().unflatten(-1, second.basis.grid), n_top, 0),
    )


@dataclass(frozen=True, eq=False)
class RankOne:
    """Rank-1 approximations phi_n ~ x r_n + b_n of one layer's neurons (thesis 3.3).

    directions: unit r_n, signed so that most of the top images project positively; bias: b_n, the mean of phi_n;
    share: the share of the variance (about the mean) that r_n explains, 0..1; variance: that variance;
    readers: x = (s - mean) . reader, so that no effect needs to be formed.
    """

    layer: int
    directions: Tensor  # [neuron, d_embed]
    bias: Tensor  # [neuron, d_embed]
    share: Tensor  # [neuron]
    variance: Tensor  # [neuron]
    mean: Tensor  # [neuron, later_head], mean coordinates
    readers: Tensor  # [neuron, later_head]

    def coefficients(
        self, second: SecondOrder, normalize: bool = True, lengths: bool = False
    ) -> Float[Tensor, "image neuron"]:
        """Return x_n(I) = <phi_n(I) - b_n, r_n>, with its sign, and without the shared part's deviation from its
        mean.

        lengths: the literal definition of the thesis, x_n(I) = |<phi_n(I), r_n>|, the norm of the projection.
        With b_n added it counts the mean twice and loses the sign, so that x r + b is no longer near phi.
        """
        coordinates, common = second.scaled(normalize)
        if lengths:
            along = torch.einsum("ink,nk->in", coordinates, self.readers) + common @ self.directions.T
            return along.abs()
        return torch.einsum("ink,nk->in", coordinates - self.mean, self.readers)


def rank_one(
    stats: NeuronStats,
    basis: NeuronBasis,
    over: str = "top",
    reference: str = "mean",
) -> RankOne:
    """First principal direction of every neuron's effects, from streamed statistics (thesis 3.3).

    over: "top" uses the images with the largest norms (the thesis's S_n), "all" the covariance over the whole
    collection. reference: "mean" centres by the collection's mean of phi_n, which is b_n; "origin" does not.
    Equals the SVD of the explicit effects up to sign. Shares of constant neurons are 0.
    """
    rows = _rows(stats, over, reference)
    directions, share, variance, readers, bias = [], [], [], [], []
    for part, formed in basis.chunks():
        found = first_component(rows[part] @ formed)
        flip = _signs((stats.top_coordinates[part] - stats.mean[part, None]) @ formed, found[0], stats, part)
        directions.append(found[0] * flip[:, None])
        share.append(found[1])
        variance.append(found[2])
        readers.append(torch.einsum("nkd,nd->nk", formed, directions[-1]))
        bias.append(torch.einsum("nk,nkd->nd", stats.mean[part], formed))
    divisor = stats.count if over == "all" else (stats.top_images >= 0).sum(1)
    return RankOne(
        layer=stats.layer,
        directions=torch.cat(directions),
        bias=torch.cat(bias) + stats.shared_mean,
        share=torch.cat(share),
        variance=torch.cat(variance) / divisor,
        mean=stats.mean,
        readers=torch.cat(readers),
    )


def first_component(
    effects: Float[Tensor, "neuron row d_embed"],
) -> tuple[Float[Tensor, "neuron d_embed"], Float[Tensor, " neuron"], Float[Tensor, " neuron"]]:
    """Return the first right singular vector, its share of the squared sum, and the squared sum, per neuron.

    Solved on the smaller Gram matrix in float64: rows may be few (top images) or the embedding narrow.
    """
    dtype, effects = effects.dtype, effects.double()
    total = effects.square().sum((1, 2))
    if effects.shape[1] <= effects.shape[2]:
        values, vectors = torch.linalg.eigh(effects @ effects.transpose(1, 2))
        directions = torch.einsum("nr,nrd->nd", vectors[..., -1], effects)
    else:
        values, vectors = torch.linalg.eigh(effects.transpose(1, 2) @ effects)
        directions = vectors[..., -1]
    tiny = torch.finfo(torch.float64).tiny
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(tiny)
    share = values[:, -1].clamp_min(0) / total.clamp_min(tiny)
    return directions.to(dtype), share.to(dtype), total.to(dtype)


def ablated(
    second: SecondOrder,
    stats: NeuronStats,
    chosen: Bool[Tensor, "image neuron"] | None = None,
    shared: bool = True,
) -> Float[Tensor, "image d_embed"]:
    """Return unit embeddings after mean-ablating second-order effects of one layer (Fig. 3.3), in cosine units.

    chosen: (image, neuron) pairs whose effect is replaced by its mean over the collection, None for all
    ("w/o all neurons"). shared: the neurons' shares of biases and LayerNorm means go with them (Eq. B.5).
    """
    if chosen is None:
        chosen = torch.ones_like(second.coordinates[..., 0], dtype=torch.bool)
    embedding = second.embedding / second.norm[:, None]
    embedding = embedding - second.weighted_sum(chosen.to(embedding), stats.mean)
    if shared:
        _, common = second.scaled()
        embedding = embedding - chosen.sum(1, keepdim=True) * (common - stats.shared_mean)
    return embedding


def rebuilt(
    second: SecondOrder,
    line: RankOne,
    directions: Float[Tensor, "neuron d_embed"] | None = None,
    stats: NeuronStats | None = None,
    lengths: bool = False,
) -> Float[Tensor, "image d_embed"]:
    """Return unit embeddings with every effect of the layer replaced by x r_n + b_n (Fig. 3.3, "reconstruction from
    PC #1").

    directions: a replacement for r_n, for example its sparse text code (Fig. 3.4); default r_n itself. stats:
    give them to replace the shared part by its mean too. lengths: x as in `RankOne.coefficients`.
    """
    directions = line.directions if directions is None else directions
    everything = torch.ones_like(second.coordinates[..., 0])
    embedding = second.embedding / second.norm[:, None] - second.weighted_sum(everything, line.mean)
    if stats is not None:
        embedding = embedding - second.basis.n_neurons * (second.scaled()[1] - stats.shared_mean)
    return embedding + line.coefficients(second, lengths=lengths) @ directions


def large_norms(norms: Float[Tensor, "image neuron"], n_images: int) -> Bool[Tensor, "image neuron"]:
    """Return for every neuron the n_images images with its largest effects; the others are its small ones."""
    chosen = torch.zeros_like(norms, dtype=torch.bool)
    top = norms.topk(min(n_images, len(norms)), dim=0).indices
    return chosen.scatter(0, top, True)


def _rows(stats: NeuronStats, over: str, reference: str) -> Float[Tensor, "neuron row later_head"]:
    """Return rows whose outer products sum to the chosen scatter of the coordinates."""
    if over not in ("top", "all") or reference not in ("mean", "origin"):
        raise ValueError(
            f"expected over='top' or 'all' and reference='mean' or 'origin', got {over!r} and {reference!r}"
        )
    if over == "top":
        centre = stats.mean[:, None] if reference == "mean" else 0.0
        top = torch.where((stats.top_images >= 0)[..., None], stats.top_coordinates - centre, 0.0)
        # the same X^T X from fewer rows
        return torch.linalg.qr(top, mode="r").R if top.shape[1] > top.shape[2] else top
    scatter = stats._kept_scatter().double()
    if reference == "origin":
        scatter = scatter + stats.count * torch.einsum("nk,nl->nkl", stats.mean, stats.mean).double()
    values, vectors = torch.linalg.eigh(scatter)
    found: Tensor = (values.clamp_min(0).sqrt()[..., None] * vectors.transpose(1, 2)).to(stats.mean)
    return found


def _signs(
    top: Float[Tensor, "neuron top d_embed"],
    directions: Float[Tensor, "neuron d_embed"],
    stats: NeuronStats,
    part: slice,
) -> Float[Tensor, " neuron"]:
    """Return +1 where most of the top images project positively on the direction, and -1 elsewhere."""
    along = torch.einsum("ntd,nd->nt", top, directions).sign() * (stats.top_images[part] >= 0)
    return torch.where(along.sum(1) < 0, -1.0, 1.0)


def _take(values: Tensor, order: Int[Tensor, "neuron top"]) -> Tensor:
    """Return values[neuron, order[neuron]] along the second axis, with any further axes."""
    index = order.reshape(*order.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)


def _padded(values: Tensor, width: int, fill: int) -> Tensor:
    """Return the array with its second axis padded to `width`."""
    missing = width - values.shape[1]
    if missing == 0:
        return values
    filler = torch.full_like(values[:, :1], fill).expand(-1, missing, *values.shape[2:])
    return torch.cat([values, filler], 1)


def _stacked(first: NeuronStats, second: NeuronStats, name: str) -> Tensor:
    return torch.cat([getattr(first, name), getattr(second, name)], 1)
