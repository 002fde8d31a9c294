"""Bilinear upsampling as a linear map, and its adjoint, with which maps of two sizes are compared at the smaller
one.

With x_up = U_rows x U_cols^T, inner products of upsampled maps need no upsampled map:
    <U_a x, U_b y> = <U_b^T x, U_a^T y>,   sum(U x) = <U^T 1, x>,   |U x|^2 = <x, (U^T U) x>
Every U is separable, one small matrix per axis, and the identity on an axis that is already at the common size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_SMALL = 256  # up to this many positions one matrix over all of them is faster than many tiny ones per axis


def axis_matrix(n_small: int, n_large: int, like: Tensor) -> Float[Tensor, "large small"]:
    """U of one axis: linear interpolation from n_small to n_large samples, pixel centres aligned by area
    (align_corners=False), in the dtype and on the device of `like`. Rows sum to 1.

    Raises ValueError when asked to shrink: correlation is defined at the larger of two sizes.
    """
    if n_small > n_large:
        raise ValueError(
            f"expected to upsample, got {n_small} -> {n_large} samples; pass the smaller size first"
        )
    identity = torch.eye(n_small, dtype=torch.float64)[None]
    upsampled = F.interpolate(identity, size=n_large, mode="linear", align_corners=False)[0]
    return upsampled.T.to(like).contiguous()


def weighted_mean(
    maps: Float[Tensor, "image unit rows cols"], size: tuple[int, int]
) -> Float[Tensor, " unit"]:
    """Return the mean over images and positions of the maps upsampled to `size` (thesis Eq. 4.1)."""
    rows, cols = maps.shape[2:]
    n_positions = maps.shape[0] * size[0] * size[1]
    if (rows, cols) == size:
        return maps.sum((2, 3)).sum(0) / n_positions
    row_weights = axis_matrix(rows, size[0], maps).sum(0)
    col_weights = axis_matrix(cols, size[1], maps).sum(0)
    weights = torch.outer(row_weights, col_weights).flatten()
    return (maps.flatten(2) @ weights).sum(0) / n_positions


def upsampled_square(
    maps: Float[Tensor, "image unit rows cols"], size: tuple[int, int]
) -> Float[Tensor, " unit"]:
    """Return the sum over images and positions of the squares of the maps upsampled to `size`."""
    rows, cols = maps.shape[2:]
    if (rows, cols) == size:
        found: Tensor = torch.linalg.vector_norm(maps, dim=(2, 3)).square().sum(0)
        return found
    row_gram, col_gram = _axis_gram(rows, size[0], maps), _axis_gram(cols, size[1], maps)
    if rows * cols <= _SMALL:
        smoothed = (maps.flatten(2) @ torch.kron(row_gram, col_gram)).view_as(maps)
    else:
        smoothed = row_gram @ (maps @ col_gram)
    return (maps * smoothed).sum((2, 3)).sum(0)


def _axis_gram(n_small: int, n_large: int, like: Tensor) -> Float[Tensor, "small small"]:
    """Return U^T U of one axis."""
    upsample = axis_matrix(n_small, n_large, like)
    return upsample.T @ upsample


def adjoint(
    maps: Float[Tensor, "image unit rows cols"], size: tuple[int, int]
) -> Float[Tensor, "image unit small_rows small_cols"]:
    """Return U^T of the maps on every axis where they are larger than `size`; other axes stay unchanged."""
    rows, cols = maps.shape[2:]
    if rows > size[0] and cols > size[1] and rows * cols <= _SMALL:
        both = torch.kron(axis_matrix(size[0], rows, maps), axis_matrix(size[1], cols, maps))
        found: Tensor = (maps.flatten(2) @ both).unflatten(2, size)
        return found
    if cols > size[1]:
        maps = maps @ axis_matrix(size[1], cols, maps)
    if rows > size[0]:
        maps = axis_matrix(size[0], rows, maps).T @ maps
    return maps


def common_size(maps_a: Tensor, maps_b: Tensor) -> tuple[int, int]:
    """Return the larger rows and the larger cols of two stacks of maps, the size at which the thesis compares them."""
    return max(maps_a.shape[2], maps_b.shape[2]), max(maps_a.shape[3], maps_b.shape[3])
