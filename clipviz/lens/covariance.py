"""Means and covariances of a whole collection's codes, in float64 and one pass; parts can be merged in any order.

Two parts with counts a and b merge by Chan's formula (Chan, Golub and LeVeque 1983), d = mean_b - mean_a:
    mean    = mean_a + d b / (a + b)
    scatter = scatter_a + scatter_b + d d^T a b / (a + b)
A head's code u enters as v = [u / std, 1 / std, mean / std], because the head effect is linear in v with a basis
that is the same for every image (values.HeadBasis, thesis Eq. 2.6 and A.2):
    c = v A + k,   A = [B; b; -m]   so   mean(c) = mean(v) A + k   and   Cov(c) = A^T Cov(v) A
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.values import Codes, HeadBasis

__all__ = [
    "Moments",
    "augmented_codes",
    "code_moments",
    "effect_covariance",
    "effect_mean",
    "linear_maps",
    "merge_means",
    "moments",
]

IMAGES_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Moments:
    """The number of samples, their mean, and the sum of outer products of their deviations from it, in float64.

    mean: [..., feature]; scatter: [..., feature, feature]. `a + b` gives the moments of both sets of samples.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Float[Tensor, "*rows feature feature"]:
        """Population covariance: scatter / count; zeros for no samples."""
        return self.scatter / max(self.count, 1)

    def __add__(self, other: Moments) -> Moments:
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"expected moments of equal shapes, got means {list(self.mean.shape)} and "
                f"{list(other.mean.shape)}; merge statistics of the same model and layers"
            )
        total = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        difference = other.mean - self.mean
        outer = difference[..., :, None] * difference[..., None, :]
        return Moments(
            count=total,
            mean=self.mean + difference * (other.count / total),
            scatter=self.scatter + other.scatter + outer * (self.count * other.count / total),
        )


def moments(samples: Float[Tensor, "image *rows feature"]) -> Moments:
    """Return the moments of some samples along their first axis, computed in float64."""
    samples = samples.double()
    count = samples.shape[0]
    if not count:
        shape = samples.shape[1:]
        return Moments(0, samples.new_zeros(shape), samples.new_zeros(*shape, shape[-1]))
    mean = samples.mean(0)
    rows = (samples - mean).movedim(0, -2)
    return Moments(count, mean, rows.transpose(-1, -2) @ rows)


def code_moments(codes: Codes[Any], images: Int[Tensor, " chosen"] | None = None) -> Moments:
    """Return the moments of every head's augmented code v over a collection, in bounded memory.

    Args:
        codes: The collection.
        images: Indices of the images to use. None uses all.

    Returns:
        Mean [layer, head, augmented] and covariance [layer, head, augmented, augmented]; see `textspan.head_span`.
    """
    total: Moments | None = None
    for start in range(0, max(1, len(codes) if images is None else len(images)), IMAGES_AT_ONCE):
        block = slice(start, start + IMAGES_AT_ONCE)
        part = codes[block if images is None else images[block]].to()
        codes_, mean, std = map(_double, (part.codes, part.mean, part.std))
        found = moments(augmented_codes(codes_, mean, std))
        total = found if total is None else total + found
    assert total is not None
    return total


def augmented_codes(
    codes: Float[Tensor, "image layer head d_head"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
) -> Float[Tensor, "image layer head augmented"]:
    """Return v = [u / std, 1 / std, mean / std], in which a head effect is linear.

    Args:
        codes: Head codes u, [image, layer, head, d_head].
        mean: Mean that the final LayerNorm subtracts, [image].
        std: Deviation by which it divides, [image].

    Returns:
        [image, layer, head, d_head + 2].
    """
    inverse = (1 / std)[:, None, None, None].expand(*codes.shape[:3], 1)
    return torch.cat([codes * inverse, inverse, mean[:, None, None, None] * inverse], -1)


def merge_means(
    count: int, mean: Float[Tensor, "*axes"], other_count: int, other_mean: Float[Tensor, "*axes"]
) -> Float[Tensor, "*axes"]:
    """Return the mean of two sets of samples from their counts and means.

    Args:
        count: Samples of the first set.
        mean: Their mean, of any shape.
        other_count: Samples of the second set.
        other_mean: Their mean, of the same shape.

    Returns:
        The mean over both sets.
    """
    if not count or not other_count:
        return mean if count else other_mean
    return mean + (other_mean - mean) * (other_count / (count + other_count))


def linear_maps(basis: HeadBasis) -> Float[Tensor, "layer head augmented d_embed"]:
    """Return A = [B; b; -m] of every head, so that a head effect is v A + k."""
    n_layers, n_heads = basis.basis.shape[:2]
    extra = torch.stack([basis.output_bias, -basis.mean_share.expand(n_layers, -1)], 1)
    return torch.cat([basis.basis, extra[:, None].expand(-1, n_heads, -1, -1)], 2)


def _double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64. Apple's GPUs do not support float64, so their tensors are moved to the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def effect_mean(
    mean: Float[Tensor, "layer head augmented"], basis: HeadBasis
) -> Float[Tensor, "layer head d_embed"]:
    """Return the mean head effects from the mean of v.

    Args:
        mean: [layer, head, augmented].
        basis: The basis of the same layers.

    Returns:
        [layer, head, d_embed], in unnormalised embedding units.
    """
    linear = linear_maps(basis).double()
    return (torch.einsum("lhe,lhek->lhk", mean.to(linear), linear) + basis.constant).to(basis.basis)


def effect_covariance(
    covariance: Float[Tensor, "layer head augmented augmented"], basis: HeadBasis
) -> Float[Tensor, "layer head d_embed d_embed"]:
    """Return the covariance of head effects from the covariance of v.

    Args:
        covariance: [layer, head, augmented, augmented].
        basis: The basis of the same layers.

    Returns:
        [layer, head, d_embed, d_embed], which is large.
    """
    linear = linear_maps(basis).double()
    return (linear.transpose(-1, -2) @ covariance.to(linear) @ linear).to(basis.basis)
