"""The exact effects of a dictionary's features on the embedding: through the later heads, and directly.

With attention and the statistics of norms fixed at their values in the pass, the embedding is linear in what a
point adds to the residual stream. A feature takes the place of a neuron in thesis Eq. 3.3: its decoder row is the
direction that it writes. The stream x at the point is the sum of the features, the dictionary's offset and its
error,
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens.neurons import NeuronBasis, Passage, SecondOrder, neuron_basis, second_order
from clipviz.models.dictionaries.dictionary import Dictionary, Encoded
from clipviz.models.dictionaries.fitting import check_fits
from clipviz.models.dictionaries.kinds import Point
from clipviz.models.dictionaries.points import hook
from clipviz.models.second import SecondRecorder
from clipviz.models.towers.anatomy import Tower, full, unmixed
from clipviz.models.towers.recording import listening
from clipviz.values import TowerWeights

if TYPE_CHECKING:
    from clipviz.models.opened import Opened, Pictures


@dataclass(frozen=True, eq=False)
class PointEffects:
    """Effects of one dictionary's features on some images, as parts of the unnormalised embedding.

    units: coordinates, directions and maps of the features, as for neurons.
    offset, error, total: [image, d_embed], the contributions of the dictionary's bias, of its error, and of the whole
    stream; features(None).sum(1) + offset + error = total. explained: the share of the inputs' variance over tokens and
    images that the dictionary explains; n_active: features that are active for a token, on average.
    """

    dictionary: Dictionary
    units: SecondOrder
    offset: Float[Tensor, "image d_embed"]
    error: Float[Tensor, "image d_embed"]
    total: Float[Tensor, "image d_embed"]
    explained: float
    n_active: float

    def features(
        self, chosen: Sequence[int] | None = None, direct: bool = True, later: bool = True
    ) -> Float[Tensor, "image unit d_embed"]:
        """Return the contribution of each feature.

        Args:
            chosen: Indices of features. None takes all.
            direct: Include first-order effects, directly on the embedding.
            later: Include second-order effects, through later heads.

        Returns:
            [image, unit, d_embed].

        Raises:
            ValueError: Both kinds are left out.
        """
        parts = []
        if later:
            parts.append(self.units.effects(chosen, shared=False, normalize=False))
        if direct:
            parts.append(self.units.first_order(chosen, shared=False, normalize=False))
        if not parts:
            raise ValueError("expected direct or later effects, got neither; leave one of them True")
        return sum(parts[1:], parts[0])

    @property
    def residual(self) -> float:
        """The largest difference of features + offset + error from the total, as a share of the largest of these."""
        ones = torch.ones_like(self.units.activations[:, 0])
        features = self.units.weighted_sum(ones, normalize=False) + self._direct()
        difference = (features + self.offset + self.error - self.total).abs().max()
        largest = max(float(part.abs().max()) for part in (features, self.offset, self.error, self.total))
        return float(difference) / largest if largest else 0.0

    def _direct(self) -> Float[Tensor, "image d_embed"]:
        basis = self.units.basis
        return (
            torch.einsum("ipn,nd,pdk->ik", self.units.read, basis.outputs, basis.matrices)
            / self.units.std[:, None]
        )


@torch.no_grad()
def point_effects(model: Opened, images: Pictures, dictionary: Dictionary) -> PointEffects:
    """Return exact effects of a dictionary's features on some images, from one forward pass.

    Args:
        model: The model.
        images: As in `ClipModel.trace`.
        dictionary: Directions at one point of this model.

    Returns:
        Effects of the features, of the dictionary's offset and of its error.

    Raises:
        ValueError: The dictionary has another width or layer, or the tower does not have its point.
    """
    seen, weights = _seen(model, images, dictionary), model.weights
    here, encoded, stream = seen.dictionary, seen.encoded, seen.stream
    written = _written(weights, dictionary.layer, dictionary.point)
    with unmixed(stream.device):
        error = stream - encoded.activations @ here.decoder - encoded.offset
        contribution = partial(contributed, seen.passage, weights, dictionary.layer, seen.read)
        told = stream[:, :1] if dictionary.cls_token_only else stream
        left, centred = error[:, : told.shape[1]], told - told.mean((0, 1))
        return PointEffects(
            dictionary,
            _effects(model, seen),
            contribution(written(encoded.offset)),
            contribution(written(error)),
            contribution(written(stream)),
            float(1 - left.square().sum() / centred.square().sum()),
            float((encoded.activations[:, : told.shape[1]] != 0).sum(-1).double().mean()),
        )


@torch.no_grad()
def feature_effects(model: Opened, images: Pictures, dictionary: Dictionary) -> SecondOrder:
    """Return the features' effects alone, from one forward pass: coordinates, directions and maps, as of neurons.

    A feature has no share of biases and means, which belong to the dictionary's offset: its `shared` parts are 0.
    """
    return _effects(model, _seen(model, images, dictionary))


# Image independent, as neurons' bases are; gone with the tower or the dictionary.
_BASES: WeakKeyDictionary[TowerWeights, WeakKeyDictionary[Dictionary, NeuronBasis]] = WeakKeyDictionary()


def dictionary_basis(weights: TowerWeights, dictionary: Dictionary) -> NeuronBasis:
    """Return the image-independent half of the features' effects, made on first use and kept with the dictionary."""
    bases = _BASES.setdefault(weights, WeakKeyDictionary())
    found = bases.get(dictionary)
    if found is None:
        matrices = weights.readout.matrices
        with unmixed(matrices.device), torch.no_grad():
            decoder = dictionary.decoder.to(matrices)
            directions = _written(weights, dictionary.layer, dictionary.point)(decoder)
            found = neuron_basis(_with_units(weights, dictionary.layer, directions), dictionary.layer)
        bases[dictionary] = found
    return found


class _Seen(NamedTuple):
    """One pass as a dictionary sees it. dictionary: in the stream's precision; read: how the readout reads tokens."""

    given: Dictionary
    dictionary: Dictionary
    stream: Tensor
    encoded: Encoded
    passage: Passage
    read: Tensor | None


def _seen(model: Opened, images: Pictures, dictionary: Dictionary) -> _Seen:
    check_fits(model, dictionary)
    pixels = model.prepare(images)
    recorder = PointRecorder(model.tower, dictionary.layer, dictionary.point)
    with listening(recorder):
        embedding = model.encode_images(pixels)
    recorder.finish_pass()
    with unmixed(pixels.device):
        here = dictionary.to(recorder.stream.device, recorder.stream.dtype)
        passage = recorder.passage(dictionary.layer, embedding)
        passage = replace(passage, divisors=None, read_divided=None)
        return _Seen(
            dictionary,
            here,
            recorder.stream,
            here.on_tokens(recorder.stream),
            passage,
            _read_weights(passage, recorder),
        )


def _effects(model: Opened, seen: _Seen) -> SecondOrder:
    activations = seen.encoded.activations
    read = None if seen.read is None else seen.read @ activations
    with unmixed(activations.device):
        basis = dictionary_basis(model.weights, seen.given)
        found = second_order(replace(seen.passage, activations=activations, read=read), basis)
    return replace(
        found,
        shared=torch.zeros_like(found.shared),
        direct_shared=torch.zeros_like(found.direct_shared),
    )


def contributed(
    passage: Passage,
    weights: TowerWeights,
    layer: int,
    read: Tensor | None,
    stream: Float[Tensor, "image token d_model"],
) -> Float[Tensor, "image d_embed"]:
    """Return what part of a residual stream contributes to the embedding, with norms and attention fixed."""
    readout = weights.readout
    first = stream[:, :1] if read is None else read @ stream
    total = torch.einsum("ipd,pdk->ik", first, readout.matrices)
    seen = passage.attention @ stream  # [image, later_head, d_model]
    step = weights.n_heads * readout.n_heads
    for place, later in enumerate(range(layer + 1, weights.n_layers)):
        target = weights.layers[later]
        heads = seen[:, place * step : (place + 1) * step].unflatten(1, (weights.n_heads, readout.n_heads))
        codes = torch.einsum("ihpd,hed->ihpe", heads, target.value * target.ln_gamma)
        total = total + torch.einsum("ihpe,hde,pdk->ik", codes, target.output, readout.matrices)
    return total / passage.std[:, None]


class PointRecorder(SecondRecorder):
    """Records a pass together with what a dictionary reads: `stream`, [image, token, d_in]."""

    def __init__(self, tower: Tower, layer: int, point: Point) -> None:
        super().__init__(tower, [layer])
        self.point = point
        self.stream: Tensor

    def hooks(self) -> Iterator[Any]:
        yield from super().hooks()
        yield hook(self.tower, self.sources[0], self.point, self.note_stream)

    def note_stream(self, stream: Tensor) -> None:
        self.stream = full(stream)


def _read_weights(passage: Passage, recorder: PointRecorder) -> Tensor | None:
    """Return [image, readout_head, token], the readout's weights of the final tokens; None for a class token."""
    return None if recorder.one_row else recorder.weights


def _written(weights: TowerWeights, layer: int, point: Point) -> Any:
    """Return what vectors at a point write to the residual stream: themselves, or their product with the MLP's
    output matrix.
    """
    if point == "mlp hidden":
        return lambda vectors: vectors @ weights.layers[layer].mlp_output.T
    return lambda vectors: vectors


def _with_units(weights: TowerWeights, layer: int, directions: Float[Tensor, "unit d_model"]) -> TowerWeights:
    """Return the tower with units in place of the layer's neurons; its biases become the dictionary's offset."""
    source = weights.layers[layer]
    nothing = torch.zeros_like(source.mlp_output_bias)
    units = replace(source, mlp_output=directions.T, mlp_output_bias=nothing, mlp_scaled_bias=None)
    return replace(weights, layers=(*weights.layers[:layer], units, *weights.layers[layer + 1 :]))
