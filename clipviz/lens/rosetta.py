"""Rosetta neurons: units of two models that are active in the same places (thesis chapter 4).

The similarity of two units is ONE Pearson correlation over all images and positions (Eq. 4.2), with means and
variances over the whole collection (Eq. 4.1). The authors' code averages one correlation per batch, which gives a
different number. Maps of different sizes are compared at the larger size without ever forming an upsampled map
(see `upsample`). Sums are streamed, mergeable, and exact up to rounding: products in the maps' own precision per
batch, totals in float64 as means and centred co-moments, so that a large mean costs no digits. Float32 maps leave
correlations off by some 1e-6, which depends on the batch and the machine; units of equal maps are then in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.lens.best_buddies import (
    Neighbours,
    best_buddies,
    clusters,
    rosetta_units,
    self_best_buddies,
)
from clipviz.lens.upsample import adjoint, common_size, upsampled_square, weighted_mean

__all__ = [
    "Baseline",
    "CorrelationSums",
    "Neighbours",
    "best_buddies",
    "clusters",
    "correlate",
    "heldout",
    "permutation_baseline",
    "rosetta_units",
    "self_best_buddies",
]

_ROWS_AT_ONCE = 1024  # units of model a whose products are formed together, which bounds temporary memory
_NUMBERS_AT_ONCE = 1 << 20  # numbers of a map centred together: 4 MB
# a unit whose deviation is below this share of its mean is dead: it varies by float32 rounding only
_FLAT = 1e-5
_FAINT = 1e-7  # so is a unit below this share of the largest deviation in its layer


class CorrelationSums:
    """Running sums behind the correlation of every unit of model a with every unit of model b.

    `update` and `merge_` change this object and return it; `merge` returns a new one. Batches and shards may come
    in any order. Memory: 8 n_a n_b bytes for the totals and 20 * 1024 * n_b for parts of a product, besides the
    maps; `correlation` adds 4 n_a n_b. 10,000 x 10,000 units: 1.0 GB. For more units use blocks of layers and
    `Neighbours`.

    n_a, n_b: units of the two models; paired=True keeps only unit j with unit j (n_a == n_b), for held-out pairs.
    device: where the sums are kept and maps are brought; None: where the first maps of model a lie.

        sums = CorrelationSums(2048, 768)
        for images in loader: sums.update(maps_of_a(images), maps_of_b(images))
        pairs = best_buddies(sums.correlation(), k=5)
    """

    def __init__(
        self, n_a: int, n_b: int, device: torch.device | str | None = None, paired: bool = False
    ) -> None:
        if paired and n_a != n_b:
            raise ValueError(f"expected as many units of a as of b for paired sums, got {n_a} and {n_b}")
        self.paired = paired
        self.device = device
        self.n_positions = 0
        self.mean_a, self.square_a = _zeros(n_a, device), _zeros(n_a, device)
        self.mean_b, self.square_b = _zeros(n_b, device), _zeros(n_b, device)
        self.cross = _zeros(n_a, device) if paired else _zeros(n_a * n_b, device).view(n_a, n_b)

    @property
    def n_units(self) -> tuple[int, int]:
        """The numbers of units of model a and of model b."""
        return len(self.mean_a), len(self.mean_b)

    @torch.no_grad()
    def update(
        self,
        maps_a: Float[Tensor, "image unit_a rows_a cols_a"],
        maps_b: Float[Tensor, "_ unit_b rows_b cols_b"],
    ) -> CorrelationSums:
        """Add the maps of one batch of images, the same images in the same order for both models.

        Args:
            maps_a: Maps of model a, [image, unit, rows, cols]; half precision is read as float32, and float32
                beside float64 as float64.
            maps_b: Maps of model b.

        Returns:
            This object.

        Raises:
            ValueError: Images or units do not agree.
        """
        self._check(maps_a, maps_b)
        size = common_size(maps_a, maps_b)
        n_new = len(maps_a) * size[0] * size[1]
        if n_new == 0:
            return self
        device = self._settle(maps_a.device)
        dtype = torch.promote_types(torch.promote_types(maps_a.dtype, maps_b.dtype), torch.float32)
        maps_a, maps_b = maps_a.to(device), maps_b.to(device)
        small = (min(maps_a.shape[2], maps_b.shape[2]), min(maps_a.shape[3], maps_b.shape[3]))
        maps_a, mean_a, square_a = _centred(maps_a, size, small, dtype)
        maps_b, mean_b, square_b = _centred(maps_b, size, small, dtype)
        shift_a, shift_b = self._absorb(n_new, mean_a, mean_b, square_a, square_b)
        self._add_cross(maps_a, maps_b)
        self._add_shift(shift_a, shift_b)
        return self

    def merge(self, other: CorrelationSums) -> CorrelationSums:
        """Return the sums over both sets of images, as a new object (Chan's parallel formula)."""
        both = CorrelationSums(*self.n_units, device=self.device, paired=self.paired)
        return both.merge_(self).merge_(other)

    def merge_(self, other: CorrelationSums) -> CorrelationSums:
        """Add another shard's sums to this object and return it.

        Raises:
            ValueError: The sums belong to other units.
        """
        if other.n_units != self.n_units or other.paired != self.paired:
            raise ValueError(
                f"expected sums of {self.n_units} units, got {other.n_units}; merge shards of the same two models"
            )
        if other.n_positions == 0:
            return self
        device = self._settle(other.cross.device)
        parts = (other.mean_a, other.mean_b, other.square_a, other.square_b)
        shift_a, shift_b = self._absorb(other.n_positions, *(part.to(device) for part in parts))
        self.cross += other.cross.to(device)
        self._add_shift(shift_a, shift_b)
        return self

    def _settle(self, device: torch.device) -> torch.device:
        """Return the sums' device. Sums without a device move to this one."""
        if self.device is None:
            self.device = device
            for name in ("mean_a", "square_a", "mean_b", "square_b", "cross"):
                setattr(self, name, getattr(self, name).to(device))
        return self.cross.device

    def dead(self) -> tuple[Tensor, Tensor]:
        """Return which units are constant up to rounding, relative to their mean or others, [unit_a] and [unit_b]."""

        def flat(mean: Tensor, square: Tensor) -> Tensor:
            deviation = (square / max(self.n_positions, 1)).sqrt()
            largest = deviation.max() if len(deviation) else deviation.new_zeros(())
            return deviation <= torch.maximum(_FLAT * mean.abs(), _FAINT * largest)

        return flat(self.mean_a, self.square_a), flat(self.mean_b, self.square_b)

    def correlation(
        self, rows: slice = slice(None)
    ) -> Float[Tensor, "unit_a unit_b"] | Float[Tensor, " pair"]:
        """Return the Pearson correlation (Eq. 4.2), float32, in -1..1; exactly 0 for a dead unit, which never ranks.

        rows: a slice of model a's units, to form one block at a time.

        Raises:
            ValueError: Nothing was added, or a map held NaN or infinity.
        """
        if self.n_positions == 0:
            raise ValueError(
                "expected maps of at least one image, got none; call update(maps_a, maps_b) first"
            )
        if not (torch.isfinite(self.square_a).all() and torch.isfinite(self.square_b).all()):
            raise ValueError(
                "activation maps hold NaN or infinity; check the model's precision and its inputs"
            )
        scales = []
        for square, dead in zip((self.square_a, self.square_b), self.dead(), strict=True):
            scales.append(torch.where(dead, 0.0, square.clamp_min(1e-300).rsqrt()))
        if self.paired:
            return (self.cross * scales[0] * scales[1])[rows].float().clamp(-1, 1)
        cross, scale_a = self.cross[rows], scales[0][rows]
        table = torch.empty(cross.shape, dtype=torch.float32, device=cross.device)
        for start in range(0, len(cross), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            table[part] = (cross[part] * scale_a[part, None]).mul_(scales[1]).clamp_(-1, 1)
        return table

    def neighbours(self, k: int) -> Neighbours:
        """Return the k most correlated units of every unit on both sides, a block of rows at a time."""
        found = Neighbours.empty(*self.n_units, k=k, device=self.cross.device)
        for start in range(0, self.n_units[0], _ROWS_AT_ONCE):
            found = found.include(self.correlation(slice(start, start + _ROWS_AT_ONCE)), start, 0)
        return found

    def _check(self, maps_a: Tensor, maps_b: Tensor) -> None:
        for side, maps, n_units in (("a", maps_a, self.n_units[0]), ("b", maps_b, self.n_units[1])):
            if maps.ndim != 4 or maps.shape[1] != n_units:
                raise ValueError(
                    f"expected maps of model {side} as [image, {n_units}, rows, cols], got {list(maps.shape)}; "
                    "check which layers were recorded"
                )
        if len(maps_a) != len(maps_b):
            raise ValueError(
                f"expected the same images for both models, got {len(maps_a)} and {len(maps_b)}; "
                "pass matching batches"
            )

    def _absorb(
        self, n_new: int, mean_a: Tensor, mean_b: Tensor, square_a: Tensor, square_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add new means and centred squares; return the two shifts whose outer product is added to the cross sums."""
        n_old, n = self.n_positions, self.n_positions + n_new
        shift_a, shift_b = mean_a - self.mean_a, mean_b - self.mean_b
        self.mean_a += shift_a * (n_new / n)
        self.mean_b += shift_b * (n_new / n)
        gain = n_old * (n_new / n)
        self.square_a += square_a + gain * shift_a**2
        self.square_b += square_b + gain * shift_b**2
        self.n_positions = n
        return shift_a * gain, shift_b

    def _add_cross(self, maps_a: Tensor, maps_b: Tensor) -> None:
        """Add the inner products of centred maps of one size."""
        if self.paired:
            self.cross += (maps_a * maps_b).sum((2, 3)).sum(0)
            return
        flat_a = maps_a.transpose(0, 1).flatten(1)
        flat_b = maps_b.transpose(0, 1).flatten(1).T
        for start in range(0, len(flat_a), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self.cross[rows] += flat_a[rows] @ flat_b

    def _add_shift(self, shift_a: Tensor, shift_b: Tensor) -> None:
        if self.paired:
            self.cross += shift_a * shift_b
        else:
            self.cross.addr_(shift_a, shift_b)


def _zeros(n: int, device: torch.device | str | None) -> Tensor:
    return torch.zeros(n, dtype=torch.float64, device=device)


def _centred(
    maps: Tensor, size: tuple[int, int], small: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return U^T (maps - mean) at `small`, and the mean and centred sum of squares at `size`, both in float64.

    A few units are handled at a time, so that the centred copy of a large map reuses the same memory.
    """
    step = max(1, _NUMBERS_AT_ONCE // max(1, maps[:, :1].numel()))
    parts = []
    for part in maps.split(step, dim=1):
        part = part.to(dtype)
        mean = weighted_mean(part, size)
        part = part - mean[:, None, None]
        parts.append((adjoint(part, small), mean.double(), upsampled_square(part, size).double()))
    shrunk, means, squares = zip(*parts, strict=True)
    return torch.cat(shrunk, 1), torch.cat(means), torch.cat(squares)


def correlate(batches: Iterable[tuple[Tensor, Tensor]]) -> CorrelationSums:
    """Return the sums over a stream of (maps_a, maps_b), each [image, unit, rows, cols].

    Raises:
        ValueError: The stream is empty.
    """
    sums = None
    for maps_a, maps_b in batches:
        sums = sums or CorrelationSums(maps_a.shape[1], maps_b.shape[1], maps_a.device)
        sums.update(maps_a, maps_b)
    if sums is None:
        raise ValueError("expected at least one batch of maps, got none; check that there are images")
    return sums


def heldout(batches: Iterable[tuple[Tensor, Tensor]], pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, " pair"]:
    """Return the correlation of given pairs on images other than those on which they were found.

    Args:
        batches: (maps_a, maps_b) of the held-out images.
        pairs: Indices of unit a and unit b, [pair, 2].

    Returns:
        [pair].
    """
    pairs = torch.as_tensor(pairs)
    sums = CorrelationSums(len(pairs), len(pairs), paired=True)
    for maps_a, maps_b in batches:
        sums.update(maps_a[:, pairs[:, 0].to(maps_a.device)], maps_b[:, pairs[:, 1].to(maps_b.device)])
    return sums.correlation()


@dataclass(frozen=True, eq=False)
class Baseline:
    """Best buddies by chance: n_pairs, [permutation] counts; strength, [pair] of all permutations together."""

    n_pairs: Int[Tensor, " permutation"]
    strength: Float[Tensor, " pair"]

    def threshold(self, quantile: float = 0.99) -> float:
        """Return the correlation that only a share 1 - quantile of the chance pairs exceeds (0 if there are none)."""
        return float(self.strength.quantile(quantile)) if len(self.strength) else 0.0


def permutation_baseline(
    maps_a: Float[Tensor, "image unit_a rows_a cols_a"],
    maps_b: Float[Tensor, "image unit_b rows_b cols_b"],
    k: int = 5,
    n_permutations: int = 3,
    seed: int = 0,
    batch: int = 64,
) -> Baseline:
    """Return the best buddies found when model b's images are shuffled, which centre bias, borders and chance produce.

    Images are permuted whole, so every map keeps its spatial statistics; only "the same image" is broken.

    Args:
        maps_a: [image, unit_a, rows, cols].
        maps_b: [image, unit_b, rows, cols].
        k: Neighbours on each side, as in `best_buddies`.
        n_permutations: How often the images are shuffled.
        seed: Seed of the permutations.
        batch: Images at once.

    Returns:
        The number of pairs by chance, and their correlations.
    """
    draw = torch.Generator().manual_seed(seed)
    counts, strengths = [], []
    for _ in range(n_permutations):
        order = torch.randperm(len(maps_b), generator=draw).to(maps_b.device)
        parts = range(0, len(maps_a), batch)
        stream = ((maps_a[i : i + batch], maps_b[order[i : i + batch]]) for i in parts)
        correlation = correlate(stream).correlation()
        pairs = best_buddies(correlation, k)
        counts.append(len(pairs))
        strengths.append(correlation[pairs[:, 0], pairs[:, 1]])
    return Baseline(torch.tensor(counts), torch.cat(strengths))
