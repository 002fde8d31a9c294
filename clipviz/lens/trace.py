"""One forward pass of some images in compact form, from which every direct effect follows (thesis Eq. 2.4-2.6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens import decompose, heatmap
from clipviz.lens.recorded import Recorded
from clipviz.values import Codes, Rows, rows_of


class Trace(Recorded):
    """One forward pass of some images, stored in compact form, from which every direct effect follows.

    Without tokens and paths (tokens=False) the effects of heads and MLPs are available, but token scores and
    heatmaps are not.
    """

    def __len__(self) -> int:
        return int(self.embedding.shape[0])

    def __getitem__(self, images: Rows) -> Trace:
        """Return the trace of some images: one (its axis stays), a slice, indices or a mask [image]."""
        rows = rows_of(images, len(self))
        return dataclasses.replace(
            self,
            embedding=self.embedding[rows],
            codes=self.codes[rows],
            mlp_writes=self.mlp_writes[rows],
            mean=self.mean[rows],
            std=self.std[rows],
            tokens=None if self.tokens is None else tuple(layer[rows] for layer in self.tokens),
            paths=None if self.paths is None else self.paths[rows],
            tail=None if self.tail is None else self.tail[rows],
            final=None if self.final is None else self.final[rows],
            reads=None if self.reads is None else self.reads[rows],
        )

    @property
    def attention(self) -> Float[Tensor, "image layer head token"] | None:
        """The share of each token in what a head reads, which sums to 1: for a class token, its attention row."""
        if self.paths is None:
            return None
        summed = self.paths.sum(3)
        return summed / summed.sum(-1, keepdim=True)

    def head_effects(
        self, layers: Sequence[int] | None = None, normalize: bool = False
    ) -> Float[Tensor, "image layer head d_embed"]:
        """Return the direct effect of every head (Eq. 2.6 summed over tokens).

        Args:
            layers: Layers whose heads are wanted. None takes all.
            normalize: Divide by the embedding's length (cosine units).

        Returns:
            [image, layer, head, d_embed].
        """
        layers = decompose.check_layers(self.weights, layers)
        codes = self.codes[:, list(layers)]
        effects = decompose.head_effects(codes, self.mean, self.std, self.weights, layers)
        return effects / self.norm[:, None, None, None] if normalize else effects

    def mlp_effects(self, normalize: bool = False) -> Float[Tensor, "image term d_embed"]:
        """Return direct effects of the input term (entry 0), each MLP (1 + layer) and the tail (last), Eq. 2.4."""
        effects = decompose.mlp_effects(self.mlp_writes, self.mean, self.std, self.weights)
        effects = effects if self.tail is None else torch.cat([effects, self.tail[:, None]], 1)
        return effects / self.norm[:, None, None] if normalize else effects

    def token_scores(
        self,
        directions: Float[Tensor, "text d_embed"],
        layers: Sequence[int] | None = None,
        normalize: bool = False,
    ) -> Float[Tensor, "text image layer head token"]:
        """Return the direct effect of each token through each head on each direction, <c_{i,l,h}, t> (Eq. 2.6).

        Args:
            directions: [text, d_embed].
            layers: Layers whose heads are wanted. None takes all.
            normalize: Divide by the embedding's length.

        Returns:
            [text, image, layer, head, token].
        """
        return heatmap.token_scores(self, directions, layers, normalize)

    def pool_scores(
        self, directions: Float[Tensor, "text d_embed"], normalize: bool = False
    ) -> Float[Tensor, "text image token"]:
        """Return the effect of each final token on each direction as the pool reads it; see lens.heatmap.pool_scores.

        Args:
            directions: [text, d_embed].
            normalize: Divide by the embedding's length.

        Returns:
            [text, image, token].
        """
        return heatmap.pool_scores(self, directions, normalize)

    def heatmap(
        self,
        directions: Float[Tensor, "text d_embed"],
        layers: Sequence[int] | None = None,
        heads: Sequence[tuple[int, int]] | None = None,
        normalize: bool = False,
    ) -> Float[Tensor, "text image rows cols"]:
        """Return token scores summed over the chosen heads, on the grid of image tokens (thesis 2.5).

        Args:
            directions: [text, d_embed].
            layers: Layers to sum over. None takes all.
            heads: (layer, head) pairs. None takes every head of `layers`.
            normalize: Divide by the embedding's length.

        Returns:
            [text, image, rows, cols].
        """
        return heatmap.heatmap(self, directions, layers, heads, normalize)

    def sum_check(self) -> float:
        """Return the largest relative difference between the summed effects and the model's own embedding (Eq. 2.4)."""
        total = self.head_effects().sum((1, 2)) + self.mlp_effects().sum(1)
        return float(((total - self.embedding).norm(dim=-1) / self.norm).max())

    def to_codes(self, layers: Sequence[int] | None = None) -> Codes:
        """Return the trace without tokens and without the MLPs' terms, for the chosen layers."""
        layers = decompose.check_layers(self.weights, layers)
        return Codes(self.codes[:, list(layers)], self.mean, self.std, self.embedding, layers)
