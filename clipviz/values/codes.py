"""`Codes`, the compact form of a collection that gives every head effect exactly, and the `HeadBasis` to decode it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from clipviz.values.axes import Rows, places_of, rows_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

Array = TypeVar("Array", "Tensor", "np.ndarray", default="Tensor")


@dataclass(frozen=True, eq=False)
class HeadBasis:
    """The image-independent half of every head effect (thesis Eq. 2.6 and A.2, factored).

    effect[layer, head] = (u @ basis[layer, head] + output_bias[layer] - mean * mean_share) / std + constant
    with u the head code [d_code] and mean, std the final LayerNorm's statistics of the image (see Readout).
    """

    basis: Tensor  # [layer, head, d_code, d_embed]
    output_bias: Tensor  # [layer, d_embed], a head's share of the attention's output bias
    mean_share: Tensor  # [d_embed]
    constant: Tensor  # [d_embed]
    layers: tuple[int, ...]  # the layers that the first axis stands for

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> HeadBasis:
        """Return the same basis on another device or in another precision."""
        return dataclasses.replace(
            self,
            basis=self.basis.to(device, dtype),
            output_bias=self.output_bias.to(device, dtype),
            mean_share=self.mean_share.to(device, dtype),
            constant=self.constant.to(device, dtype),
        )

    def select(self, layers: Sequence[int], heads: Sequence[int] | None = None) -> HeadBasis:
        """Return the basis of some layers (by their numbers in the model) and heads, which are renumbered from 0."""
        at, chosen = places_of(layers, self.layers, "layer"), places_of(heads, self.basis.shape[1], "head")
        basis = self.basis[at][:, chosen]
        return dataclasses.replace(self, basis=basis, output_bias=self.output_bias[at], layers=tuple(layers))


@dataclass(frozen=True, eq=False)
class Codes(Generic[Array]):
    """A collection in compact form, from which every head effect follows exactly (see HeadBasis)."""

    codes: Array  # [image, layer, head, d_code]
    mean: Array  # [image], mean of the final LayerNorm
    std: Array  # [image], its sqrt(variance + eps)
    embedding: Array  # [image, d_embed], unnormalised
    layers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, images: Rows) -> Codes[Array]:
        """Return the codes of some images: one (its axis stays), a slice (not copied), indices or a mask [image]."""
        rows = rows_of(images, len(self))
        return Codes(self.codes[rows], self.mean[rows], self.std[rows], self.embedding[rows], self.layers)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Codes[Tensor]:
        """Return the same codes as tensors, on another device or in another precision; copied only if changed."""
        import torch

        columns = (self.codes, self.mean, self.std, self.embedding)
        codes, mean, std, embedding = (torch.as_tensor(column).to(device, dtype) for column in columns)
        return Codes(codes, mean, std, embedding, self.layers)

    def select(self, layers: Sequence[int], heads: Sequence[int] | None = None) -> Codes[Array]:
        """Return the codes of some layers (by their numbers in the model) and heads, which are renumbered from 0."""
        at, chosen = places_of(layers, self.layers, "layer"), places_of(heads, self.codes.shape[2], "head")
        return dataclasses.replace(self, codes=self.codes[:, at][:, :, chosen], layers=tuple(layers))
