"""One forward and backward pass of a CLIP tower, stored as the tensors that the baselines need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.values import LayerWeights


@dataclass(frozen=True, eq=False)
class LayerRecord:
    """The activations of one layer, and the matrices that produced them.

    Keys include their bias: it does not affect softmax, but it does affect relevance. Layer scale is folded into
    the outputs and the output matrices.
    """

    residual: Tensor  # [image, token, d_model], the layer's input
    attention_input: Tensor  # [image, token, d_model], after the first LayerNorm
    query: Tensor  # [image, head, token, d_head]
    key: Tensor  # [image, head, token, d_head]
    value: Tensor  # [image, head, token, d_head]
    attention: Tensor  # [image, head, token, token], rows are the tokens that attend
    context: Tensor  # [image, head, token, d_head], attention @ value
    attention_output: Tensor  # [image, token, d_model], what the attention adds
    mlp_input: Tensor  # [image, token, d_model], after the second LayerNorm
    hidden: Tensor  # [image, token, neuron], before the activation function
    activation: Tensor  # [image, token, neuron], after it
    mlp_output: Tensor  # [image, token, d_model], what the MLP adds
    weights: LayerWeights
    mlp_hidden: Tensor  # [neuron, d_model], the MLP's first matrix


@dataclass(frozen=True, eq=False)
class Record:
    """A pass for one text per image: the score is the cosine of the embedding and the text's direction.

    gradients: of the score with respect to every attention weight. final: the class token after the last
    LayerNorm; final_weights: P t, so that <final, final_weights> is the unnormalised score.
    """

    layers: tuple[LayerRecord, ...]
    gradients: Tensor  # [image, layer, head, token, token]
    score: Tensor  # [image]
    final: Tensor  # [image, d_model]
    final_weights: Tensor  # [image, d_model]

    @property
    def attention(self) -> Float[Tensor, "image layer head token token"]:
        """Every layer's attention."""
        return torch.stack([layer.attention for layer in self.layers], 1)
