"""Units of a model: the common interface of an MLP's neurons and a dictionary's features.

A unit has an activation a_t for each token, a direction d that it writes to the residual stream, and a place in
the sum: the layer after which it is read, which determines the later heads that pass it on. For a neuron these
come from the weights: a is the input of the output matrix, d its column. For a feature they come from the
dictionary: a is the encoder's output at the dictionary's point, d the decoder's row. Questions about neurons need
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from jaxtyping import Float
from torch import Tensor

from clipviz.lens.neurons import NeuronBasis, SecondOrder
from clipviz.models.dictionaries.dictionary import Dictionary
from clipviz.models.dictionaries.effects import dictionary_basis, feature_effects
from clipviz.models.dictionaries.fitting import check_fits
from clipviz.models.dictionaries.kinds import Point
from clipviz.models.second import basis_of, second_orders
from clipviz.models.towers.anatomy import full

if TYPE_CHECKING:
    from clipviz.models.opened import Opened, Pictures

Place: TypeAlias = int | Dictionary
"""The place of units: a layer's number (from 0) for the neurons of its MLP, or a dictionary for its features."""


class Units(Protocol):
    """The units at one place of a model.

    layer: the block in or after which they are read; point: where their activations are read, see
    dictionaries.kinds.Point; n_units: their number.
    """

    @property
    def layer(self) -> int: ...

    @property
    def point(self) -> Point: ...

    @property
    def n_units(self) -> int: ...

    @property
    def basis(self) -> NeuronBasis:
        """Return the image-independent half of their second-order effects."""

    def second_order(self, images: Pictures) -> SecondOrder:
        """Return their effects through later heads on some images."""

    def activations(self, stream: Float[Tensor, "image token d_in"]) -> Float[Tensor, "image token unit"]:
        """Return the activation a of every unit from the values at the point."""

    def outputs(self, chosen: Sequence[int]) -> Float[Tensor, "chosen d_model"]:
        """Return the directions d of some units."""

    def replaced(
        self,
        stream: Float[Tensor, "image token d_in"],
        mean: Float[Tensor, "token unit"],
        chosen: Sequence[int] | None,
    ) -> Float[Tensor, "image token d_in"]:
        """Return the values at the point with a of the chosen units (all if None) at its mean."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons of one layer's MLP."""

    model: Opened
    layer: int
    point: Point = "mlp hidden"

    @property
    def n_units(self) -> int:
        return self.model.weights.n_neurons

    @property
    def basis(self) -> NeuronBasis:
        return basis_of(self.model.weights, self.layer)

    def second_order(self, images: Pictures) -> SecondOrder:
        model = self.model
        return second_orders(model.tower, model.encode_images, model.prepare(images), [self.layer])[0]

    def activations(self, stream: Tensor) -> Tensor:
        return full(stream)

    def outputs(self, chosen: Sequence[int]) -> Tensor:
        return self.model.weights.layers[self.layer].mlp_output[:, list(chosen)].T

    def replaced(self, stream: Tensor, mean: Tensor, chosen: Sequence[int] | None) -> Tensor:
        if chosen is None:
            return mean.to(stream).expand_as(stream)
        replaced = stream.clone()
        replaced[..., list(chosen)] = mean.to(stream)[:, list(chosen)]
        return replaced


@dataclass(frozen=True, eq=False)
class Features:
    """The features of one dictionary, on the model's device."""

    model: Opened
    dictionary: Dictionary

    @property
    def layer(self) -> int:
        return self.dictionary.layer

    @property
    def point(self) -> Point:
        return self.dictionary.point

    @property
    def n_units(self) -> int:
        return self.dictionary.n_units

    @property
    def basis(self) -> NeuronBasis:
        return dictionary_basis(self.model.weights, self.dictionary)

    def second_order(self, images: Pictures) -> SecondOrder:
        return feature_effects(self.model, images, self.dictionary)

    def activations(self, stream: Tensor) -> Tensor:
        stream = full(stream)
        return self.dictionary.to(stream.device, stream.dtype).on_tokens(stream).activations

    def outputs(self, chosen: Sequence[int]) -> Tensor:
        return self.basis.outputs[list(chosen)]

    def replaced(self, stream: Tensor, mean: Tensor, chosen: Sequence[int] | None) -> Tensor:
        activations = self.activations(stream)
        rows = list(range(self.n_units) if chosen is None else chosen)
        gaps = activations[..., rows] - mean.to(activations)[:, rows]
        changed: Tensor = full(stream) - gaps @ self.dictionary.decoder[rows].to(gaps)
        return changed.to(stream)


def units_of(model: Opened, place: Place) -> Units:
    """Return the neurons of a layer or the features of a dictionary.

    Raises ValueError for a layer that the model does not have, and for a dictionary of another model.
    """
    if isinstance(place, Dictionary):
        check_fits(model, place)
        return Features(model, place.to(model.device))
    if isinstance(place, bool) or int(place) != place or not 0 <= place < model.n_layers:
        raise ValueError(f"expected a layer within 0..{model.n_layers - 1} (counted from 0), got {place!r}")
    return Neurons(model, int(place))
