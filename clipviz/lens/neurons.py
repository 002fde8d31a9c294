"""Second-order effects of MLP neurons on the image embedding, in factored form (thesis Eq. 3.3, B.3-B.5).

A neuron of layer l reaches the embedding through every later attention head k = (later layer, head). Its effect
is a few coordinates that depend on the image times directions that do not:
    phi_n = sum_k s[n, k] D[n, k] + shared,   s[n, k] = sum_t (a_t / sigma_t) p_t[n] / sigma
    D[n, k] = (gamma * W_O W_V (gamma1 * w_n)) P
with p the post-activation values, w_n the neuron's column of the MLP's output matrix, a the class token's
attention, sigma_t the later LayerNorm's deviation of token t and sigma the final one's. `shared` is the neuron's
equal share of all biases and LayerNorm means (B of Eq. B.2-B.5), the same for every neuron of the layer. Exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.values import TowerWeights

KEPT_BYTES = 1 << 30  # a basis keeps its directions and Gram matrices up to this size, each
CHUNK = 256  # neurons whose directions are formed at a time


@dataclass(frozen=True, eq=False)
class NeuronBasis:
    """The image-independent half of one layer's effects; made once a layer by `neuron_basis`.

    later: what the axis later_head stands for, (layer, head) pairs, later layers first to last. Directions are
    kept factored, D[n, k] = value_codes[k, n] @ writers[k], and formed when they are asked for.
    """

    layer: int
    later: tuple[tuple[int, int], ...]
    grid: tuple[int, int]
    value_codes: Tensor  # [later_head, neuron, d_head]: W_V (gamma1 * w_n)
    writers: Tensor  # [later_head, d_head, d_embed]: (gamma * W_O)^T P
    shared_scale: Tensor  # [later_head, d_embed], times sum_t a_t / sigma_t
    shared_shift: Tensor  # [later_head, d_embed], times sum_t a_t mu_t / sigma_t
    shared_bias: Tensor  # [d_embed], value and output biases of the later heads
    mean_share: Tensor  # [d_embed], times the final LayerNorm's mean
    constant: Tensor  # [d_embed], the final LayerNorm's beta
    direct: Tensor  # [neuron, d_embed]: (gamma * w_n) P, the first-order direction
    direct_shares: (
        Tensor  # [3, d_embed]: a neuron's first-order share of the MLP bias, LayerNorm mean and beta
    )

    @property
    def n_neurons(self) -> int:
        return int(self.value_codes.shape[1])

    @property
    def d_embed(self) -> int:
        return int(self.writers.shape[2])

    def directions(self, neurons: Sequence[int] | None = None) -> Float[Tensor, "neuron later_head d_embed"]:
        """D of the chosen neurons (all when None), unnormalised embedding units per unit coordinate."""
        codes = self.value_codes if neurons is None else self.value_codes[:, list(neurons)]
        return torch.bmm(codes, self.writers).transpose(0, 1)

    def chunks(self) -> Iterator[tuple[slice, Float[Tensor, "neuron later_head d_embed"]]]:
        """(slice, directions) over all neurons, a few at a time: nothing of size [neuron, head, d_embed] is kept."""
        for start in range(0, self.n_neurons, CHUNK):
            part = slice(start, min(start + CHUNK, self.n_neurons))
            yield part, self.directions(range(part.start, part.stop))

    def grams(self) -> Iterator[tuple[slice, Float[Tensor, "neuron later_head later_head"]]]:
        """(slice, G = D D^T) over all neurons; kept after the first use when it is small enough."""
        n_later = len(self.later)
        if self.n_neurons * n_later**2 * self.writers.element_size() <= KEPT_BYTES:
            yield slice(0, self.n_neurons), self._gram
        else:
            for part, directions in self.chunks():
                yield part, directions @ directions.transpose(1, 2)

    @cached_property
    def _gram(self) -> Float[Tensor, "neuron later_head later_head"]:
        return torch.cat([directions @ directions.transpose(1, 2) for _, directions in self.chunks()])


@dataclass(frozen=True, eq=False)
class Passage:
    """What one forward pass leaves for the second-order lens; recorded by the model room."""

    activations: Tensor  # [image, token, neuron], p after the non-linearity
    attention: Tensor  # [image, later_head, token]: a_t / sigma_t
    shift: Tensor  # [image, later_head]: sum_t a_t mu_t / sigma_t
    mean: Tensor  # [image], final LayerNorm statistics of the class token
    std: Tensor  # [image]
    embedding: Tensor  # [image, d_embed], unnormalised


def neuron_basis(weights: TowerWeights, layer: int) -> NeuronBasis:
    """The basis of one layer's neurons (Eq. B.5, input-independent part).

    layer: counted from 0; the last layer has no later head. Raises ValueError for a layer without later heads.
    Biases and LayerNorm means are split equally over all that can write them: cnt = (1 + 2 l') N terms write the
    input of later layer l', and cnt (1 + 2 L) H of its head outputs the embedding.
    """
    layer = check_layer(weights, layer)
    source = weights.layers[layer]
    scaled = weights.gamma[:, None] * weights.projection
    n_neurons, n_heads = source.mlp_output.shape[1], weights.n_heads
    codes, writers, scales, shifts = [], [], [], []
    bias, mean_share, constant = torch.zeros(3, weights.d_embed).to(scaled)
    for later in range(layer + 1, weights.n_layers):
        target, count = weights.layers[later], (1 + 2 * later) * n_neurons
        values = target.value * target.ln_gamma  # the later LayerNorm's gamma, folded in
        writer = torch.einsum("hde,dk->hek", target.output, scaled)
        codes.append(torch.einsum("hed,dn->hne", values, source.mlp_output))
        writers.append(writer)
        scales.append(_through(values @ source.mlp_output_bias / n_neurons, writer))
        shifts.append(_through(-values.sum(-1) / count, writer))
        biases = (target.value @ target.ln_beta + target.value_bias) / count
        bias = bias + _through(biases, writer).sum(0) + target.output_bias @ scaled / count
        mean_share = mean_share + scaled.sum(0) / (count * weights.n_terms)
        constant = constant + weights.beta @ weights.projection / (count * weights.n_terms)
    shares = [source.mlp_output_bias @ scaled, scaled.sum(0) / weights.n_terms]
    shares.append(weights.beta @ weights.projection / weights.n_terms)
    return NeuronBasis(
        layer=layer,
        later=tuple((later, head) for later in range(layer + 1, weights.n_layers) for head in range(n_heads)),
        grid=weights.grid,
        value_codes=torch.cat(codes),
        writers=torch.cat(writers),
        shared_scale=torch.cat(scales),
        shared_shift=torch.cat(shifts),
        shared_bias=bias,
        mean_share=mean_share,
        constant=constant,
        direct=source.mlp_output.T @ scaled,
        direct_shares=torch.stack(shares) / n_neurons,
    )


def check_layer(weights: TowerWeights, layer: int) -> int:
    """The layer as an int; ValueError when it has no later attention layer."""
    if isinstance(layer, bool) or int(layer) != layer or not 0 <= layer < weights.n_layers - 1:
        raise ValueError(
            f"expected a layer within 0..{weights.n_layers - 2} (counted from 0: the last layer, "
            f"{weights.n_layers - 1}, has no later attention), got {layer!r}; choose an earlier layer"
        )
    return int(layer)


def second_order(passage: Passage, basis: NeuronBasis) -> SecondOrder:
    """Second-order effects of one layer's neurons on some images, factored (Eq. 3.3, B.5)."""
    attention = passage.attention / passage.std[:, None, None]
    scales = attention.sum(-1)
    shared = scales @ basis.shared_scale + (passage.shift / passage.std[:, None]) @ basis.shared_shift
    shared = shared + (basis.shared_bias - passage.mean[:, None] * basis.mean_share) / passage.std[:, None]
    return SecondOrder(
        basis=basis,
        coordinates=(attention @ passage.activations).transpose(1, 2),
        shared=shared + basis.constant,
        activations=passage.activations,
        mean=passage.mean,
        std=passage.std,
        embedding=passage.embedding,
    )


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """Second-order effects of every neuron of one layer on some images, held as coordinates in the basis.

    Units: normalize=True divides by the embedding's length, so that effects are parts of a unit vector and
    products with unit text vectors are parts of a cosine.
    """

    basis: NeuronBasis
    coordinates: Tensor  # [image, neuron, later_head], s
    shared: Tensor  # [image, d_embed], each neuron's share of biases and LayerNorm means
    activations: Tensor  # [image, token, neuron]
    mean: Tensor  # [image]
    std: Tensor  # [image]
    embedding: Tensor  # [image, d_embed], unnormalised

    @property
    def norm(self) -> Float[Tensor, " image"]:
        """Length of each embedding, the divisor of cosine units."""
        return self.embedding.norm(dim=-1)

    def scaled(
        self, normalize: bool = True
    ) -> tuple[Float[Tensor, "image neuron later_head"], Float[Tensor, "image d_embed"]]:
        """Coordinates and shared part, divided by the embedding's length when normalize=True."""
        if not normalize:
            return self.coordinates, self.shared
        return self.coordinates / self.norm[:, None, None], self.shared / self.norm[:, None]

    def norms(
        self,
        shared: bool = True,
        normalize: bool = True,
        centre: Float[Tensor, "neuron later_head"] | None = None,
    ) -> Float[Tensor, "image neuron"]:
        """Length of every neuron's effect, |phi_n|^2 = s G s + 2 <s D, shared> + |shared|^2, without forming phi.

        centre: mean coordinates, in the same units, that are subtracted first (|phi_n - mean phi_n| with
        shared=False). Equal to effects(...).norm(dim=-1).
        """
        coordinates, common = self.scaled(normalize)
        coordinates = (coordinates if centre is None else coordinates - centre).transpose(0, 1)
        squares = torch.cat(
            [
                torch.linalg.vecdot(coordinates[part] @ gram, coordinates[part])
                for part, gram in self.basis.grams()
            ]
        )
        if shared:
            squares = squares + 2 * self._along(coordinates, common) + common.square().sum(-1)
        return squares.clamp_min(0).sqrt().T

    def effects(
        self, neurons: Sequence[int] | None = None, shared: bool = True, normalize: bool = True
    ) -> Float[Tensor, "image neuron d_embed"]:
        """phi_n of the chosen neurons, explicitly (Eq. B.5). [image, all neurons, d_embed] is large: choose some.

        Raises ValueError for a neuron that the layer does not have.
        """
        chosen = self.check_neurons(neurons)
        coordinates, common = self.scaled(normalize)
        effects = torch.bmm(coordinates[:, chosen].transpose(0, 1), self.basis.directions(chosen))
        effects = effects.transpose(0, 1)
        return effects + common[:, None] if shared else effects

    def projections(
        self,
        directions: Float[Tensor, "text d_embed"],
        shared: bool = True,
        normalize: bool = True,
    ) -> Float[Tensor, "text image neuron"]:
        """<phi_n, t> of every neuron on every direction, without forming phi: which neurons write towards a text?"""
        coordinates, common = self.scaled(normalize)
        found = torch.stack(
            [
                self._along(coordinates.transpose(0, 1), row.expand(len(coordinates), -1)).T
                for row in directions
            ]
        )
        return found + (directions @ common.T)[..., None] if shared else found

    def weighted_sum(
        self,
        weights: Float[Tensor, "image neuron"],
        centre: Float[Tensor, "neuron later_head"] | None = None,
        normalize: bool = True,
    ) -> Float[Tensor, "image d_embed"]:
        """sum_n weights[n] (phi_n - shared - mean), without forming phi: what a set of neurons adds an image.

        weights: 0/1 to choose (image, neuron) pairs, any number to scale them; centre: mean coordinates, same
        units. This is the vector that a mean-ablation of those neurons subtracts.
        """
        coordinates, _ = self.scaled(normalize)
        coordinates = coordinates if centre is None else coordinates - centre
        codes = torch.einsum("ink,kne->ike", coordinates * weights[..., None], self.basis.value_codes)
        return codes.flatten(1) @ self.basis.writers.flatten(0, 1)

    def first_order(
        self, neurons: Sequence[int] | None = None, shared: bool = True, normalize: bool = True
    ) -> Float[Tensor, "image neuron d_embed"]:
        """First-order (direct) effects P e_0 of neurons on the class token (Eq. 3.1), LayerNorm included.

        With shared=True the sum over all neurons is the MLP's direct effect exactly.
        """
        chosen = self.check_neurons(neurons)
        writes = self.activations[:, 0, chosen, None] * self.basis.direct[chosen]
        if shared:
            bias, mean_share, beta = self.basis.direct_shares
            writes = writes + (bias - self.mean[:, None] * mean_share + self.std[:, None] * beta)[:, None]
        effects = writes / self.std[:, None, None]
        return effects / self.norm[:, None, None] if normalize else effects

    def activation_maps(
        self, neurons: Sequence[int] | None = None
    ) -> Float[Tensor, "image neuron rows cols"]:
        """Activations p of the chosen neurons on the grid of image tokens (class token left out)."""
        chosen = self.check_neurons(neurons)
        return self.activations[:, 1:, chosen].transpose(1, 2).unflatten(-1, self.basis.grid)

    def check_neurons(self, neurons: Sequence[int] | None) -> list[int]:
        """Neuron indices as a list (all when None); ValueError names an unknown one."""
        n_neurons = self.basis.n_neurons
        if neurons is None:
            return list(range(n_neurons))
        chosen = [int(neuron) for neuron in neurons]
        unknown = [neuron for neuron in chosen if not 0 <= neuron < n_neurons]
        if unknown or not chosen:
            raise ValueError(
                f"expected neurons within 0..{n_neurons - 1} of layer {self.basis.layer}, got "
                f"{unknown or 'none'}; leave neurons=None for all"
            )
        return chosen

    def _along(
        self, coordinates: Float[Tensor, "neuron image later_head"], vectors: Float[Tensor, "image d_embed"]
    ) -> Float[Tensor, "neuron image"]:
        """<sum_k s_k D_k, v> through the factored directions: v is pushed back to each later head once."""
        readers = torch.einsum("id,ked->kie", vectors, self.basis.writers)
        products = torch.bmm(self.basis.value_codes, readers.transpose(1, 2))
        return torch.einsum("nik,kni->ni", coordinates, products)


def _through(
    codes: Float[Tensor, "head d_head"], writer: Float[Tensor, "head d_head d_embed"]
) -> Float[Tensor, "head d_embed"]:
    return torch.einsum("he,hek->hk", codes, writer)
