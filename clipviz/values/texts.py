"""Texts that were chosen for heads and for neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class TextBasis:
    """What TextSpan chose for one head (thesis Alg. 1).

    order: [n_texts] indices into the pool; explained: [n_texts] cumulative share of the head's variance, in
    0..1; directions: [n_texts, d_embed] orthonormal, in the order chosen, 0 once nothing was left of any text;
    n_used_up: [] texts not chosen of which nothing is left: duplicates, combinations of those chosen, texts
    orthogonal to the head's span.
    """

    order: Tensor
    explained: Tensor
    directions: Tensor
    n_used_up: Tensor

    @property
    def gains(self) -> Tensor:
        """Share of variance that each text adds, [n_texts]."""
        gains = self.explained.clone()
        gains[..., 1:] -= self.explained[..., :-1]
        return gains


@dataclass(frozen=True, eq=False)
class SparseCode:
    """Sparse text codes of neuron directions (thesis 3.4): atoms [neuron, n_nonzero] are indices into the
    dictionary, -1 where fewer were needed; weights [neuron, n_nonzero] are signed."""

    atoms: Tensor
    weights: Tensor
