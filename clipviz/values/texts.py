"""Texts chosen to describe heads and neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class TextBasis:
    """The texts that TextSpan chose for one head (thesis Alg. 1).

    order: [n_texts] indices into the pool; explained: [n_texts] cumulative share of the head's variance, in 0..1;
    directions: [n_texts, d_embed] orthonormal, in the order chosen, 0 once every text is used up; n_used_up: [],
    the number of texts that were not chosen and whose residual is zero: duplicates, combinations of chosen texts,
    and texts orthogonal to the head's span.
    """

    order: Tensor
    explained: Tensor
    directions: Tensor
    n_used_up: Tensor

    @property
    def gains(self) -> Tensor:
        """Share of the variance that each text adds, [n_texts]."""
        gains = self.explained.clone()
        gains[..., 1:] -= self.explained[..., :-1]
        return gains


@dataclass(frozen=True, eq=False)
class SparseCode:
    """Sparse text codes of neuron directions (thesis 3.4): atoms [neuron, n_nonzero] are indices into the
    dictionary, -1 where fewer were needed; weights [neuron, n_nonzero] are signed."""

    atoms: Tensor
    weights: Tensor
