"""A vision tower in the form that lenses need: layers, readout and token grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of one transformer layer in the form that lenses need; layer scale is folded into the output
    matrices.

    The key bias is absent on purpose: it adds the same number to every token's score, which softmax ignores.
    query and key are the matrices alone: they do not include what a tower does to their products (rotations,
    norms). An inner LayerNorm over the heads' outputs is folded into `output`, its centring included. Where the
    written sum passes a LayerNorm, gamma and centring are folded into `output`, its beta is `output_bias`, and
    `scaled_bias` is the part of the bias that is divided by the token's standard deviation; likewise for the MLP.
    """

    query: Tensor  # [head, d_head, d_model]
    query_bias: Tensor  # [head, d_head]
    key: Tensor  # [head, d_head, d_model]
    value: Tensor  # [head, d_head, d_model]
    value_bias: Tensor  # [head, d_head]
    output: Tensor  # [head, d_model, d_head]
    output_bias: Tensor  # [d_model]
    ln_gamma: Tensor  # [d_model], the LayerNorm before the attention
    ln_beta: Tensor  # [d_model]
    ln_eps: float
    mlp_output: Tensor  # [d_model, neuron], column n is the direction w_n that neuron n writes
    mlp_output_bias: Tensor  # [d_model]
    scaled_bias: Tensor | None = None  # [d_model], post-norm layers only
    mlp_scaled_bias: Tensor | None = None  # [d_model], post-norm layers only

    @property
    def post_norm(self) -> bool:
        """Whether LayerNorms follow attention and MLP, so that attention reads the residual stream directly."""
        return self.scaled_bias is not None


@dataclass(frozen=True, eq=False)
class Readout:
    """How the embedding is computed from the final tokens: linearly, once attention and LayerNorm statistics are
    fixed.

        embedding = (sum_p sum_q w[p, q] x_q @ matrices[p] - mean m + bias) / std + constant + tail
    with m the column sums of the matrices. The weights w over readout heads p and tokens q, mean, std and the
    tail differ from image to image and are stored in a trace. Class token: p = 1, w = 1 for token 0, mean and std
    of the final LayerNorm. Where a LayerNorm comes before the pooling, its centring is folded into the matrices
    and mean is 0.
    """

    kind: str  # "class token", "mean of tokens" or "attention pooling"
    matrices: Tensor  # [readout_head, d_model, d_embed], final LayerNorm's gamma and the projection folded in
    bias: Tensor  # [d_embed], divided by std
    constant: Tensor  # [d_embed]
    # the tower has a nonlinear part after pooling, which is one more term of the embedding
    has_tail: bool = False

    @property
    def n_heads(self) -> int:
        return int(self.matrices.shape[0])

    @property
    def pools(self) -> bool:
        """Whether the readout uses all tokens (their mean or an attention pool) rather than the class token alone."""
        return self.kind != "class token"

    @property
    def flat(self) -> Tensor:
        """The readout heads' matrices stacked vertically, [readout_head * d_model, d_embed]."""
        return self.matrices.flatten(0, 1)

    @property
    def mean_matrix(self) -> Tensor:
        """m [d_embed], the vector that the LayerNorm's mean is multiplied by."""
        return self.flat.sum(0)

    @classmethod
    def after_norm(
        cls,
        gamma: Tensor,
        beta: Tensor,
        projection: Tensor,
        kind: str = "class token",
        bias: Tensor | None = None,
    ) -> Readout:
        """Return one vector after a final LayerNorm (gamma, beta) and a projection [d_model, d_embed] with its bias."""
        constant = beta @ projection
        return cls(
            kind,
            (gamma[:, None] * projection)[None],
            bias=constant.new_zeros(constant.shape),
            constant=constant if bias is None else constant + bias,
        )


@dataclass(frozen=True, eq=False)
class TowerWeights:
    """A vision tower in the form that lenses need: layers, readout, and the grid of image tokens.

    prefix: number of tokens before the image tokens, which have no position in the image (class token,
    registers). thesis_shares: biases and the means of norms are distributed as in the thesis, over attention
    terms alone (App. A) and over the neurons before a layer (App. B.8), instead of over all terms that write. The
    sums are the same.
    """

    layers: tuple[LayerWeights, ...]
    readout: Readout
    grid: tuple[int, int]  # rows, cols of image tokens
    prefix: int = 1
    thesis_shares: bool = False

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        return int(self.layers[0].value.shape[0])

    @property
    def d_head(self) -> int:
        return int(self.layers[0].value.shape[1])

    @property
    def d_model(self) -> int:
        return int(self.layers[0].value.shape[2])

    @property
    def d_embed(self) -> int:
        return int(self.readout.matrices.shape[2])

    @property
    def n_neurons(self) -> int:
        return int(self.layers[0].mlp_output.shape[1])

    @property
    def n_tokens(self) -> int:
        """The number of tokens: image tokens and those before them."""
        return self.prefix + self.grid[0] * self.grid[1]

    @property
    def n_terms(self) -> int:
        """The number of terms that share the readout's mean, bias and constant: the input, and an attention and an
        MLP per layer.

        With thesis_shares only the attentions count.
        """
        return self.n_layers if self.thesis_shares else 2 * self.n_layers + 1

    @property
    def mlp_share(self) -> float:
        """The share of the readout's mean, bias and constant that the input or one MLP takes."""
        return 0.0 if self.thesis_shares else 1 / self.n_terms

    def n_writers(self, later: int) -> int:
        """The number of neurons (or terms as large as a layer's) among which a later layer's norm is shared."""
        return (later if self.thesis_shares else 1 + 2 * later) * self.n_neurons

    @property
    def n_mlp_terms(self) -> int:
        """The number of entries of mlp_effects: the input, the MLPs, and the readout's tail if it has one."""
        return 1 + self.n_layers + self.readout.has_tail

    @property
    def n_tallies(self) -> int:
        """The number of entries of a head code beside its values: sums of the weights that multiply biases."""
        return self.readout.n_heads * ((self.readout.n_heads > 1) + self.layers[0].post_norm)

    @property
    def d_code(self) -> int:
        """Length of a head code: d_head per readout head and the tallies; d_head for a class token."""
        return self.readout.n_heads * self.d_head + self.n_tallies
