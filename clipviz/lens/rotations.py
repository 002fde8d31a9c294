"""Random rotations: what nulls turn directions by, so that lengths and angles stay and the relation to others goes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def random_rotations(n: int, size: int, generator: torch.Generator) -> Float[Tensor, "rotation size size"]:
    """Orthogonal matrices drawn uniformly (Haar), from the factorisation of normal ones.

    The factorisation alone fixes the signs of the columns, and what is turned would stay too close to where it was.
    """
    rotations, triangular = torch.linalg.qr(torch.randn(n, size, size, generator=generator))
    found: Tensor = rotations * triangular.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    return found
