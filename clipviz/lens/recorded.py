"""One forward pass of some images in compact form, before anything is computed from it."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from clipviz.values import TowerWeights


@dataclass(frozen=True, eq=False)
class Recorded:
    """The numbers recorded in a forward pass; lens.trace.Trace computes effects from them.

    tokens and paths are None when the trace was taken with tokens=False (whole collections). final and reads are
    set for towers with a pool.
    """

    weights: TowerWeights
    embedding: Tensor  # [image, d_embed], unnormalised
    codes: Tensor  # [image, layer, head, d_code]
    mlp_writes: Tensor  # [image, 1 + layer, readout_head * d_model]
    mean: Tensor  # [image], final LayerNorm statistics (see values.Readout)
    std: Tensor  # [image]
    tokens: tuple[Tensor, ...] | None = None  # a layer: [image, token, d_model], what its attention reads
    paths: Tensor | None = None  # [image, layer, head, readout_head, token], with which tokens are read out
    tail: Tensor | None = None  # [image, d_embed], the readout's tail where it has one
    final: Tensor | None = None  # [image, token, d_model], what a pool reads, before its LayerNorm
    reads: Tensor | None = None  # [image, readout_head, token], the weights w with which it reads

    @property
    def norm(self) -> Float[Tensor, " image"]:
        """Length of each embedding, by which cosine units are divided."""
        found: Tensor = self.embedding.norm(dim=-1)
        return found
