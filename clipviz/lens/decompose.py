"""Direct effects of heads, MLPs and tokens on the image embedding, in factored form (thesis Eq. 2.4-2.6, App. A).

Only the class token reaches the embedding, so only its attention row is needed: the class query is pushed
through W_K once a head and dotted with every token, and no [token, token] or [token, head, d_embed] tensor is
ever formed. The forms are exact: the effects sum to the model's own output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.values import Codes, HeadBasis, LayerWeights, TowerWeights


def class_attention(
    tokens: Float[Tensor, "image token d_model"], weights: LayerWeights
) -> Float[Tensor, "image head token"]:
    """Attention of the class token to every token, a head: a_i = softmax_i((W_Q z_0 + b_Q) . W_K z_i / sqrt(d_head)).

    tokens: the attention's input z after its LayerNorm, class token first.
    """
    queries = torch.einsum("id,hed->ihe", tokens[:, 0], weights.query) + weights.query_bias
    keys = torch.einsum("ihe,hed->ihd", queries * weights.query.shape[1] ** -0.5, weights.key)
    return torch.softmax(keys @ tokens.transpose(1, 2), dim=-1)


def head_codes(
    tokens: Float[Tensor, "image token d_model"],
    attention: Float[Tensor, "image head token"],
    weights: LayerWeights,
) -> Float[Tensor, "image head d_head"]:
    """Head codes u = sum_i a_i (W_V z_i + b_V): all that an image leaves in a head, d_head numbers."""
    contexts = attention @ tokens
    return torch.einsum("ihd,hed->ihe", contexts, weights.value) + weights.value_bias


def head_basis(weights: TowerWeights, layers: Sequence[int] | None = None) -> HeadBasis:
    """The image-independent basis of head effects: B = (gamma * W_O)^T P and the shares of biases.

    The output bias b_O is split equally over a layer's heads; the LayerNorm's mean and beta equally over the
    2 L + 1 terms that write the class token, then over heads (App. A.2).
    """
    layers = check_layers(weights, layers)
    scaled = weights.gamma[:, None] * weights.projection
    shares = weights.n_terms * weights.n_heads
    return HeadBasis(
        basis=torch.stack([torch.einsum("hde,dk->hek", weights.layers[k].output, scaled) for k in layers]),
        output_bias=torch.stack([weights.layers[k].output_bias @ scaled / weights.n_heads for k in layers]),
        mean_share=scaled.sum(0) / shares,
        constant=weights.beta @ weights.projection / shares,
        layers=layers,
    )


def effects_from_codes(
    codes: Float[Tensor, "image layer head d_head"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    basis: HeadBasis,
) -> Float[Tensor, "image layer head d_embed"]:
    """Head effects c = (u B + b - mean m) / std + k, unnormalised embedding units (Eq. 2.6 summed over tokens)."""
    writes = torch.einsum("ilhe,lhek->ilhk", codes, basis.basis) + basis.output_bias[:, None]
    return (writes - mean[:, None, None, None] * basis.mean_share) / std[:, None, None, None] + basis.constant


def mlp_effects(
    writes: Float[Tensor, "image term d_model"],
    mean: Float[Tensor, " image"],
    std: Float[Tensor, " image"],
    weights: TowerWeights,
) -> Float[Tensor, "image term d_embed"]:
    """Direct effects of the input term (entry 0) and the MLPs (entry 1 + layer): (gamma (w - mean/n)/std + beta/n) P.

    writes: what each term adds to the class token's residual stream; n = 2 L + 1.
    """
    n_terms = weights.n_terms
    centred = (writes - mean[:, None, None] / n_terms) / std[:, None, None]
    return (weights.gamma * centred + weights.beta / n_terms) @ weights.projection


def check_layers(weights: TowerWeights, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers as a tuple (all when None); ValueError names an unknown one."""
    if layers is None:
        return tuple(range(weights.n_layers))
    chosen = tuple(int(layer) for layer in layers)
    unknown = [layer for layer in chosen if not 0 <= layer < weights.n_layers]
    if unknown or not chosen:
        raise ValueError(
            f"expected layers within 0..{weights.n_layers - 1} (counted from 0), got {list(layers)}; "
            "leave layers=None for all"
        )
    return chosen


def check_heads(
    weights: TowerWeights, heads: Sequence[tuple[int, int]] | None, layers: tuple[int, ...]
) -> Float[Tensor, "layer head"]:
    """A 0/1 mask over [layer, head] of the chosen layers; heads are (layer, head) pairs, None for all."""
    mask = torch.zeros(len(layers), weights.n_heads)
    if heads is None:
        return mask + 1
    for pair in heads:
        layer, head = (int(index) for index in pair)
        if layer not in layers or not 0 <= head < weights.n_heads:
            raise ValueError(
                f"expected heads as (layer, head) with layer in {list(layers)} and head in "
                f"0..{weights.n_heads - 1}, got {(layer, head)}"
            )
        mask[layers.index(layer), head] = 1
    return mask


@dataclass(frozen=True, eq=False)
class Trace:
    """One forward pass of some images, kept as the small numbers from which every direct effect follows.

    tokens and attention are None when the trace was taken with tokens=False (whole collections); then effects
    of heads and MLPs are there but token scores and heatmaps are not.
    """

    weights: TowerWeights
    embedding: Tensor  # [image, d_embed], unnormalised
    codes: Tensor  # [image, layer, head, d_head]
    mlp_writes: Tensor  # [image, 1 + layer, d_model]
    mean: Tensor  # [image], final LayerNorm statistics of the class token
    std: Tensor  # [image]
    tokens: tuple[Tensor, ...] | None = None  # a layer: [image, token, d_model], LayerNormed attention inputs
    attention: Tensor | None = None  # [image, layer, head, token]

    @property
    def norm(self) -> Float[Tensor, " image"]:
        """Length of each embedding, the divisor of cosine units."""
        return self.embedding.norm(dim=-1)

    def head_effects(
        self, layers: Sequence[int] | None = None, normalize: bool = False
    ) -> Float[Tensor, "image layer head d_embed"]:
        """Direct effect of every head (Eq. 2.6 summed over tokens); normalize=True gives cosine units."""
        layers = check_layers(self.weights, layers)
        basis = head_basis(self.weights, layers)
        effects = effects_from_codes(self.codes[:, list(layers)], self.mean, self.std, basis)
        return effects / self.norm[:, None, None, None] if normalize else effects

    def mlp_effects(self, normalize: bool = False) -> Float[Tensor, "image term d_embed"]:
        """Direct effect of the input term (entry 0) and of each MLP (entry 1 + layer), Eq. 2.4."""
        effects = mlp_effects(self.mlp_writes, self.mean, self.std, self.weights)
        return effects / self.norm[:, None, None] if normalize else effects

    def token_scores(
        self,
        directions: Float[Tensor, "text d_embed"],
        layers: Sequence[int] | None = None,
        normalize: bool = False,
    ) -> Float[Tensor, "text image layer head token"]:
        """Direct effect of each token through each head on each direction, <c_{i,l,h}, t> (Eq. 2.6)."""
        from clipviz.lens import heatmap

        return heatmap.token_scores(self, directions, layers, normalize)

    def heatmap(
        self,
        directions: Float[Tensor, "text d_embed"],
        layers: Sequence[int] | None = None,
        heads: Sequence[tuple[int, int]] | None = None,
        normalize: bool = False,
    ) -> Float[Tensor, "text image rows cols"]:
        """Token scores summed over the chosen heads, on the grid of image tokens (thesis 2.5)."""
        from clipviz.lens import heatmap

        return heatmap.heatmap(self, directions, layers, heads, normalize)

    def sum_check(self) -> float:
        """Largest relative difference between the summed effects and the model's own embedding (Eq. 2.4)."""
        total = self.head_effects().sum((1, 2)) + self.mlp_effects().sum(1)
        return float(((total - self.embedding).norm(dim=-1) / self.norm).max())

    def to_codes(self, layers: Sequence[int] | None = None) -> Codes:
        """The trace without tokens and MLP writes, for the chosen layers."""
        layers = check_layers(self.weights, layers)
        return Codes(self.codes[:, list(layers)], self.mean, self.std, self.embedding, layers)
