"""Random rotations for nulls: they keep lengths and angles of directions and destroy their relation to others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def random_rotations(n: int, size: int, generator: torch.Generator) -> Float[Tensor, "rotation size size"]:
    """Return orthogonal matrices drawn uniformly (Haar), from the factorisation of normal matrices.

    The factorisation alone fixes the signs of the columns, so that rotated vectors would stay too close to the
    originals.
    """
    rotations, triangular = torch.linalg.qr(torch.randn(n, size, size, generator=generator))
    found: Tensor = rotations * triangular.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    return found
