"""Second-order effects of MLP neurons on the image embedding, in factored form (thesis Eq. 3.3, B.3-B.5).

A neuron of layer l reaches the embedding through every later attention head (later layer, head) and every head p of
the readout (one, for a class token). Its effect is a few coordinates that depend on the image times directions that
do not; k stands for (later layer, head, p):
    phi_n = sum_k s[n, k] D[n, k] + shared,   s[n, k] = sum_t (a_kt / sigma_t) p_t[n] / sigma
    D[n, k] = (W_O W_V (gamma1 * w_n)) M[p]
with p_t the neuron's activations, the numbers that the MLP's output matrix reads (gated hidden units in a SwiGLU MLP),
w_n its column of that matrix, a the weights with which the readout reads tokens through the head (a class token's
attention; see values.Readout for M), sigma_t the later LayerNorm's deviation of token t and sigma the final one's.
`shared` is the neuron's equal share of all biases and LayerNorm means (B of Eq. B.2-B.5), the same for every neuron
of the layer. Exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.decompose import tally_biases
from clipviz.values import TowerWeights, whole

KEPT_BYTES = 1 << 30  # a basis keeps Gram matrices up to this size
GRAM_AT_ONCE = 1 << 26  # smaller ones are computed on first use, larger ones on second use
CHUNK_BYTES = 1 << 28  # directions formed at a time
CACHED_BYTES = 1 << 24  # the same on a CPU, so that they stay in its cache
HEADS_AT_ONCE = 64  # later heads whose directions are formed together on a CPU


@dataclass(frozen=True, eq=False)
class NeuronBasis:
    """The image-independent half of one layer's effects, made once per layer by `neuron_basis`.

    later: what the axis later_head stands for, (layer, head) pairs, later layers first to last, each once per
    readout head. Directions are stored factored, D[n, (k, p)] = value_codes[k, n] @ writers[k, p], and formed on
    demand.
    """

    layer: int
    later: tuple[tuple[int, int], ...]
    grid: tuple[int, int]
    prefix: int
    value_codes: Tensor  # [writer, neuron, d_head]: W_V (gamma1 * w_n) of every (later layer, head)
    writers: Tensor  # [writer, readout_head, d_head, d_embed]: W_O^T M[p]
    shared_scale: Tensor  # [later_head, d_embed], times sum_t a_t / sigma_t
    shared_shift: Tensor  # [later_head, d_embed], times sum_t a_t mu_t / sigma_t
    shared_reach: Tensor  # [later_head, d_embed], times sum_t a_t
    shared_tallies: Tensor  # [later_layer, tally, d_embed], times sum_q w[p, q]
    shared_bias: Tensor  # [d_embed], output biases of the later heads, divided by sigma
    shared_undivided: Tensor | None  # [later_head, d_embed], post-norm: times sum_t a_t / sigma_t
    mean_share: Tensor  # [d_embed], times the final LayerNorm's mean
    constant: Tensor  # [d_embed], the final LayerNorm's beta
    outputs: Tensor  # [neuron, d_model], w_n
    output_biases: Tensor  # [2, d_model], the MLP's bias and, post-norm, the part of it that its norm divides
    matrices: Tensor  # [readout_head, d_model, d_embed], M
    # [3, d_embed]: a neuron's first-order share of the readout's bias, mean and constant
    direct_shares: Tensor

    @property
    def n_neurons(self) -> int:
        return int(self.value_codes.shape[1])

    @property
    def d_embed(self) -> int:
        return int(self.writers.shape[-1])

    def directions(self, neurons: Sequence[int] | None = None) -> Float[Tensor, "neuron later_head d_embed"]:
        """Return D of the chosen neurons (all if None), in unnormalised embedding units per unit coordinate."""
        codes = self.value_codes if neurons is None else self.value_codes[:, list(neurons)]
        return _formed(codes, self.writers)

    def chunks(self) -> Iterator[tuple[slice, Float[Tensor, "neuron later_head d_embed"]]]:
        """Yield (slice, directions) over all neurons, a few at a time; the whole array is never formed."""
        for part in self._parts(len(self.writers)):
            yield part, _formed(self.value_codes[:, part], self.writers)

    def squared_lengths(
        self, coordinates: Float[Tensor, "neuron image later_head"]
    ) -> Float[Tensor, "neuron image"]:
        """Return |sum_k s_k D_k|^2 of every neuron, from directions formed for a few neurons and heads at a time."""
        n_writers, n_read = self.writers.shape[:2]
        width = min(n_writers, HEADS_AT_ONCE) if self.writers.device.type == "cpu" else n_writers
        squares = []
        for part in self._parts(width):
            effects = coordinates.new_zeros(())
            for start in range(0, n_writers, width):
                heads = slice(start, start + width)
                formed = _formed(self.value_codes[heads, part], self.writers[heads])
                effects = effects + coordinates[part, :, start * n_read : (start + width) * n_read] @ formed
            squares.append(effects.square().sum(-1))
        return torch.cat(squares)

    def _parts(self, n_writers: int) -> Iterator[slice]:
        """Yield groups of neurons whose directions to so many writers are formed together."""
        a_neuron = n_writers * self.writers.shape[1] * self.d_embed * self.writers.element_size()
        room = CACHED_BYTES if self.writers.device.type == "cpu" else CHUNK_BYTES
        size = max(1, room // a_neuron)
        for start in range(0, self.n_neurons, size):
            yield slice(start, min(start + size, self.n_neurons))

    def gram_of_use(self) -> Float[Tensor, "neuron later_head later_head"] | None:
        """Return the Gram matrices if they are small enough to keep and worth computing, else None.

        They cost as much as the lengths of a few hundred images' effects. Large ones are computed when a basis is
        used a second time, since they would not pay off for a single batch.
        """
        size = self.n_neurons * len(self.later) ** 2 * self.writers.element_size()
        asked = "asked" in self.__dict__
        self.__dict__["asked"] = True  # where cached_property stores its value
        return self.gram if size <= (KEPT_BYTES if asked else min(KEPT_BYTES, GRAM_AT_ONCE)) else None

    @cached_property
    def gram(self) -> Float[Tensor, "neuron later_head later_head"]:
        """G = D D^T of all neurons."""
        return torch.cat([directions @ directions.transpose(1, 2) for _, directions in self.chunks()])


@dataclass(frozen=True, eq=False)
class Passage:
    """What the second-order lens needs of one forward pass; recorded by `clipviz.models`.

    a are the weights with which the readout reads a token through a later head. reach, tallies and read are None
    for a class token, whose attention sums to 1 and whose own activations are read.
    """

    activations: Tensor  # [image, token, neuron], p; divided by the MLP norm's deviation in a post-norm layer
    attention: Tensor  # [image, later_head, token]: a_t / sigma_t
    shift: Tensor  # [image, later_head]: sum_t a_t mu_t / sigma_t
    mean: Tensor  # [image], final LayerNorm statistics (see values.Readout)
    std: Tensor  # [image]
    embedding: Tensor  # [image, d_embed], unnormalised
    reach: Tensor | None = None  # [image, later_head]: sum_t a_t
    tallies: Tensor | None = None  # [image, later_layer, tally], see TowerWeights.n_tallies
    read: Tensor | None = None  # [image, readout_head, neuron]: sum_q w[p, q] p_q
    divisors: Tensor | None = None  # [image, token], a post-norm layer's MLP deviation
    read_divided: Tensor | None = None  # [image, readout_head]: sum_q w[p, q] / divisor_q, post-norm


def neuron_basis(weights: TowerWeights, layer: int) -> NeuronBasis:
    """Return the basis of one layer's neurons (Eq. B.5, input-independent part).

    Biases and LayerNorm means are split equally over all that can write them: cnt = (1 + 2 l') N terms write the
    input of later layer l', and cnt (1 + 2 L) H of its head outputs the embedding. With weights.thesis_shares these
    are the l' N neurons before l' and cnt L H.

    Args:
        weights: The tower.
        layer: Counted from 0; the last layer has no later head.

    Returns:
        The basis, for `second_order`. A layer without later heads raises ValueError.
    """
    layer = check_layer(weights, layer)
    source, readout = weights.layers[layer], weights.readout
    n_neurons, n_heads, n_read = source.mlp_output.shape[1], weights.n_heads, readout.n_heads
    divided = source.mlp_output_bias if source.mlp_scaled_bias is None else source.mlp_scaled_bias
    parts: dict[str, list[Tensor]] = {
        name: [] for name in ("codes", "writers", "scale", "shift", "reach", "beta")
    }
    tallies = []
    bias, mean_share, constant = torch.zeros(3, weights.d_embed).to(readout.matrices)
    for later in range(layer + 1, weights.n_layers):
        target, count = weights.layers[later], weights.n_writers(later)
        values = target.value * target.ln_gamma  # the later LayerNorm's gamma, folded in
        writer = torch.einsum("hde,pdk->hpek", target.output, readout.matrices)
        parts["codes"].append(torch.einsum("hed,dn->hne", values, source.mlp_output))
        parts["writers"].append(writer)
        parts["scale"].append(_through(values @ divided / n_neurons, writer))
        centring = 0 * values.sum(-1) if target.post_norm else -values.sum(-1) / count
        parts["shift"].append(_through(centring, writer))
        parts["reach"].append(_through((target.value @ target.ln_beta + target.value_bias) / count, writer))
        if source.mlp_scaled_bias is not None:
            parts["beta"].append(_through(values @ source.mlp_output_bias / n_neurons, writer))
        biases = [b @ readout.matrices / count for b in tally_biases(target, readout)]
        tallies.append(torch.cat([*biases, bias.new_zeros(0, weights.d_embed)]))
        bias = bias + (target.output_bias @ readout.matrices[0] / count if n_read == 1 else 0)
        bias = bias + readout.bias / (count * weights.n_terms)
        mean_share = mean_share + readout.mean_matrix / (count * weights.n_terms)
        constant = constant + readout.constant / (count * weights.n_terms)
    return NeuronBasis(
        layer=layer,
        later=tuple(
            (later, head)
            for later in range(layer + 1, weights.n_layers)
            for head in range(n_heads)
            for _ in range(n_read)
        ),
        grid=weights.grid,
        prefix=weights.prefix,
        value_codes=torch.cat(parts["codes"]),
        writers=torch.cat(parts["writers"]),
        shared_scale=torch.cat(parts["scale"]),
        shared_shift=torch.cat(parts["shift"]),
        shared_reach=torch.cat(parts["reach"]),
        shared_tallies=torch.stack(tallies),
        shared_bias=bias,
        shared_undivided=torch.cat(parts["beta"]) if parts["beta"] else None,
        mean_share=mean_share,
        constant=constant,
        outputs=source.mlp_output.T,
        output_biases=torch.stack(
            [source.mlp_output_bias, 0 * divided if source.mlp_scaled_bias is None else divided]
        ),
        matrices=readout.matrices,
        direct_shares=_direct_shares(weights, layer),
    )


def _direct_shares(weights: TowerWeights, layer: int) -> Float[Tensor, "share d_embed"]:
    """Return a neuron's equal share of the readout's mean, bias and constant."""
    readout = weights.readout
    shares = torch.stack([readout.bias, readout.mean_matrix, readout.constant]) * weights.mlp_share
    return shares / weights.layers[layer].mlp_output.shape[1]


def check_layer(weights: TowerWeights, layer: int) -> int:
    """Return the layer as an int.

    Args:
        weights: The tower.
        layer: Counted from 0.

    Returns:
        The layer.

    Raises:
        ValueError: The layer is unknown or has no later attention layer.
    """
    try:
        found = whole("layer", layer)
    except ValueError:
        found = weights.n_layers
    if found >= weights.n_layers - 1:
        raise ValueError(
            f"expected a layer within 0..{weights.n_layers - 2} (counted from 0: the last layer, "
            f"{weights.n_layers - 1}, has no later attention), got {layer!r}; choose an earlier layer"
        )
    return found


def second_order(passage: Passage, basis: NeuronBasis) -> SecondOrder:
    """Return second-order effects of one layer's neurons on some images, factored (Eq. 3.3, B.5).

    Args:
        passage: What was recorded of the forward pass.
        basis: From `neuron_basis`, of the same layer.

    Returns:
        The effects as coordinates in the basis.
    """
    attention = passage.attention / passage.std[:, None, None]
    return SecondOrder(
        basis=basis,
        coordinates=(attention @ passage.activations).transpose(1, 2),
        shared=_shared(passage, basis, attention),
        activations=passage.activations,
        read=passage.activations[:, :1] if passage.read is None else passage.read,
        direct_shared=_direct_shared(passage, basis),
        std=passage.std,
        embedding=passage.embedding,
    )


def _shared(
    passage: Passage, basis: NeuronBasis, attention: Float[Tensor, "image later_head token"]
) -> Float[Tensor, "image d_embed"]:
    """Return a neuron's equal share of all biases and LayerNorm means."""
    std = passage.std[:, None]
    divided = attention if passage.divisors is None else attention / passage.divisors[:, None]
    shared = divided.sum(-1) @ basis.shared_scale + (passage.shift / std) @ basis.shared_shift
    if basis.shared_undivided is not None:
        shared = shared + attention.sum(-1) @ basis.shared_undivided
    common = basis.shared_bias - passage.mean[:, None] * basis.mean_share
    common = common + (
        basis.shared_reach.sum(0) if passage.reach is None else passage.reach @ basis.shared_reach
    )
    if passage.tallies is not None:
        common = common + torch.einsum("ilt,ltk->ik", passage.tallies, basis.shared_tallies)
    return shared + common / std + basis.constant


def _direct_shared(passage: Passage, basis: NeuronBasis) -> Float[Tensor, "image d_embed"]:
    """Return a neuron's equal share of its MLP's biases and of the readout's, in first-order effects."""
    n_read = len(basis.matrices)
    # [readout_head, d_embed]
    plain, divided = (basis.output_biases @ basis.matrices / basis.n_neurons).unbind(1)
    sums = passage.tallies[:, 0, :n_read] if n_read > 1 and passage.tallies is not None else None
    biases = plain.sum(0) if sums is None else sums @ plain
    if passage.read_divided is not None:
        biases = biases + passage.read_divided @ divided
    bias, mean_share, constant = basis.direct_shares
    found: Tensor = (biases + bias - passage.mean[:, None] * mean_share) / passage.std[:, None] + constant
    return found


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """Second-order effects of every neuron of one layer on some images, stored as coordinates in the basis.

    Units: normalize=True divides by the embedding's length, so that effects are parts of a unit vector and
    products with unit text vectors are parts of a cosine.
    """

    basis: NeuronBasis
    coordinates: Tensor  # [image, neuron, later_head], s
    shared: Tensor  # [image, d_embed], each neuron's share of biases and LayerNorm means
    activations: Tensor  # [image, token, neuron]
    read: Tensor  # [image, readout_head, neuron], activations as the readout reads them
    direct_shared: Tensor  # [image, d_embed], the same share in first-order effects
    std: Tensor  # [image]
    embedding: Tensor  # [image, d_embed], unnormalised

    @property
    def norm(self) -> Float[Tensor, " image"]:
        """Length of each embedding, by which cosine units are divided."""
        found: Tensor = self.embedding.norm(dim=-1)
        return found

    def scaled(
        self, normalize: bool = True
    ) -> tuple[Float[Tensor, "image neuron later_head"], Float[Tensor, "image d_embed"]]:
        """Return coordinates and shared part, divided by the embedding's length if normalize=True."""
        if not normalize:
            return self.coordinates, self.shared
        return self.coordinates / self.norm[:, None, None], self.shared / self.norm[:, None]

    def norms(
        self,
        shared: bool = True,
        normalize: bool = True,
        centre: Float[Tensor, "neuron later_head"] | None = None,
        shared_centre: Float[Tensor, " d_embed"] | None = None,
    ) -> Float[Tensor, "image neuron"]:
        """Return the length of every neuron's effect, |phi_n|^2 = s G s + 2 <s D, shared> + |shared|^2, from factors.

        Args:
            shared: Whether the part that all neurons share is included.
            normalize: Divide by the embedding's length.
            centre: Mean coordinates, subtracted first, [neuron, later_head], in the same units.
            shared_centre: Mean shared part, subtracted first, [d_embed].

        Returns:
            [image, neuron], equal to effects(...).norm(dim=-1).
        """
        coordinates, common = self.scaled(normalize)
        common = common if shared_centre is None else common - shared_centre
        coordinates = (coordinates if centre is None else coordinates - centre).transpose(0, 1)
        gram = self.basis.gram_of_use()
        if gram is None:
            squares = self.basis.squared_lengths(coordinates)
        else:
            squares = torch.linalg.vecdot(coordinates @ gram, coordinates)
        if shared:
            squares = squares + 2 * self._along(coordinates, common) + common.square().sum(-1)
        return squares.clamp_min(0).sqrt().T

    def effects(
        self, neurons: Sequence[int] | None = None, shared: bool = True, normalize: bool = True
    ) -> Float[Tensor, "image neuron d_embed"]:
        """Return phi_n of the chosen neurons explicitly (Eq. B.5).

        Args:
            neurons: Indices, which must exist. None takes all, which is large: choose a few.
            shared: Whether the part that all neurons share is included.
            normalize: Divide by the embedding's length.

        Returns:
            [image, neuron, d_embed].
        """
        chosen = self.check_neurons(neurons)
        coordinates, common = self.scaled(normalize)
        effects = torch.bmm(coordinates[:, chosen].transpose(0, 1), self.basis.directions(chosen))
        effects = effects.transpose(0, 1)
        return effects + common[:, None] if shared else effects

    def weighted_sum(
        self,
        weights: Float[Tensor, "image neuron"],
        centre: Float[Tensor, "neuron later_head"] | None = None,
        normalize: bool = True,
    ) -> Float[Tensor, "image d_embed"]:
        """Return sum_n weights[n] (phi_n - shared - mean), what a set of neurons adds to each image, never forming phi.

        This is the vector that a mean-ablation of those neurons subtracts.

        Args:
            weights: 0/1 to choose (image, neuron) pairs, any number to scale them.
            centre: Mean coordinates, [neuron, later_head], in the same units.
            normalize: Divide by the embedding's length.

        Returns:
            [image, d_embed].
        """
        coordinates, _ = self.scaled(normalize)
        coordinates = coordinates if centre is None else coordinates - centre
        scaled = (coordinates * weights[..., None]).unflatten(-1, self.basis.writers.shape[:2])
        codes = torch.einsum("inkp,kne->ikpe", scaled, self.basis.value_codes)
        return codes.flatten(1) @ self.basis.writers.flatten(0, 2)

    def first_order(
        self, neurons: Sequence[int] | None = None, shared: bool = True, normalize: bool = True
    ) -> Float[Tensor, "image neuron d_embed"]:
        """Return first-order (direct) effects of neurons through the readout alone (Eq. 3.1), LayerNorm included.

        Args:
            neurons: Indices. None takes all.
            shared: Include equal shares of biases; the sum over all neurons is then the MLP's direct effect exactly.
            normalize: Divide by the embedding's length.

        Returns:
            [image, neuron, d_embed].
        """
        chosen = self.check_neurons(neurons)
        directions = torch.einsum("nd,pdk->npk", self.basis.outputs[chosen], self.basis.matrices)
        effects = torch.einsum("ipn,npk->ink", self.read[..., chosen], directions) / self.std[:, None, None]
        effects = effects + self.direct_shared[:, None] if shared else effects
        return effects / self.norm[:, None, None] if normalize else effects

    def activation_maps(
        self, neurons: Sequence[int] | None = None
    ) -> Float[Tensor, "image neuron rows cols"]:
        """Return activations p of the chosen neurons on the grid of image tokens."""
        chosen = self.check_neurons(neurons)
        found: Tensor = (
            self.activations[:, self.basis.prefix :, chosen].transpose(1, 2).unflatten(-1, self.basis.grid)
        )
        return found

    def check_neurons(self, neurons: Sequence[int] | None) -> list[int]:
        """Return neuron indices as a list (all if None).

        Raises:
            ValueError: An index is unknown, or there is none.
        """
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
        """Return <sum_k s_k D_k, v> from the factored directions: v is carried back to each later head once."""
        readers = torch.einsum("id,kped->kpei", vectors, self.basis.writers).permute(0, 2, 1, 3)
        n_read, n_images = readers.shape[2:]
        products = torch.bmm(self.basis.value_codes, readers.flatten(2)).unflatten(-1, (n_read, n_images))
        scaled = coordinates.unflatten(-1, (-1, n_read))
        return torch.einsum("nikp,knpi->ni", scaled, products)


def _formed(
    codes: Float[Tensor, "writer neuron d_head"],
    writers: Float[Tensor, "writer readout_head d_head d_embed"],
) -> Float[Tensor, "neuron later_head d_embed"]:
    """Return D of some neurons to some writers."""
    if writers.shape[1] == 1:
        return torch.bmm(codes, writers[:, 0]).transpose(0, 1)
    return torch.einsum("kne,kpef->nkpf", codes, writers).flatten(1, 2)


def _through(
    codes: Float[Tensor, "head d_head"], writer: Float[Tensor, "head readout_head d_head d_embed"]
) -> Float[Tensor, "later_head d_embed"]:
    return torch.einsum("he,hpek->hpk", codes, writer).flatten(0, 1)
