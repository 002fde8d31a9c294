"""A check of whether a dictionary belongs to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipviz.lens.neurons import check_layer
from clipviz.models.dictionaries.dictionary import Dictionary
from clipviz.models.dictionaries.points import check_point, width

if TYPE_CHECKING:
    from clipviz.models.opened import Opened


def check_fits(model: Opened, dictionary: Dictionary) -> None:
    """Raise ValueError, with what was expected and found, if a dictionary does not belong to this model."""
    tower = model.tower
    layer = check_layer(tower.weights, dictionary.layer)
    if dictionary.model and dictionary.model != model.weights_fingerprint:
        raise ValueError(
            f"expected a dictionary of model {model.name!r} ({model.weights_fingerprint}), got "
            f"{dictionary!r}, trained on the weights {dictionary.model}; to use it anyway, pass "
            "dataclasses.replace(dictionary, model='')"
        )
    expected = width(tower, layer, dictionary.point)
    if dictionary.d_in != expected:
        raise ValueError(
            f"expected a dictionary of width {expected} for the {dictionary.point} of layer {layer}, got "
            f"{dictionary!r}; it belongs to another model, layer or point"
        )
    check_point(tower, layer, dictionary.point, repr(dictionary))
