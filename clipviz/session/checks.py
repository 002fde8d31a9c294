"""Every number that reaches a session is checked here: whole, within range, and a plain int afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.values import Ablation, Selection, whole

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.session.state import SessionState


def within(name: str, number: Any, limit: int, advice: str = "") -> int:
    """The number as an int within 0..limit-1; ValueError otherwise (negative numbers never count from the end)."""
    advice = f"; {advice}" if advice else ""
    try:
        found = whole(name, number)
    except ValueError as error:
        raise ValueError(
            f"expected {name} within 0..{limit - 1} (counted from 0), got {number!r}{advice}"
        ) from error
    if found >= limit:
        raise ValueError(f"expected {name} within 0..{limit - 1} (counted from 0), got {found}{advice}")
    return found


def several(name: str, numbers: Iterable[Any], limit: int) -> tuple[int, ...]:
    """Numbers as ints within 0..limit-1, in their order. Raises ValueError naming those that are not."""
    given = list(numbers)
    wrong = [number for number in given if not _fits(number, limit)]
    if wrong:
        raise ValueError(f"expected {name} within 0..{limit - 1}, got {wrong[:5]}")
    return tuple(whole(name, number) for number in given)


def code_size(m: int | None) -> int | None:
    """Texts of a sparse code as asked for; None for the usual number."""
    return None if m is None else count("m", m)


def count(name: str, number: Any) -> int:
    """How many of something, at least 1. Raises ValueError otherwise."""
    try:
        found = whole(name, number)
    except ValueError:
        found = 0
    if found < 1:
        raise ValueError(f"expected {name} to be a whole number of at least 1, got {number!r}")
    return found


def layers(model: ClipModel, chosen: Iterable[Any]) -> tuple[int, ...]:
    """Layers to keep: each within the model's, none twice, at least one."""
    found = several("layers", chosen, model.n_layers)
    if not found or len(set(found)) != len(found):
        raise ValueError(f"expected at least one layer and none twice, got {list(found)}")
    return found


def selection(session: SessionState, chosen: Any) -> Selection:
    """The selection, if everything that it names is there; ValueError says what is not."""
    if not isinstance(chosen, Selection):
        raise ValueError(
            f"expected a clipviz.Selection, got {type(chosen).__name__}; change a field with "
            "session.select(layer=5, head=3)"
        )
    model = session.model
    limits = {
        "image": len(session.images),
        "layer": model.n_layers,
        "head": model.n_heads,
        "neuron": model.weights.n_neurons,
        "token": _n_tokens(model),
    }
    for name, limit in limits.items():
        number = getattr(chosen, name)
        if number is not None:
            within(name, number, limit)
    several("images", chosen.images, len(session.images))
    ablation(model, chosen.ablation)
    return chosen


def ablation(model: ClipModel, chosen: Any) -> Ablation:
    """The ablation, if the model has all that it names; ValueError says what is not there."""
    if not isinstance(chosen, Ablation):
        raise ValueError(
            f"expected a clipviz.Ablation, got {type(chosen).__name__}; write clipviz.Ablation(heads={{(5, 3)}})"
        )
    for layer, head in chosen.heads:
        if not (_fits(layer, model.n_layers) and _fits(head, model.n_heads)):
            raise ValueError(
                f"expected ablated heads within {model.n_layers} layers x {model.n_heads} heads "
                f"(counted from 0), got {(layer, head)}"
            )
    several("ablated layers", sorted(chosen.layers), model.n_layers)
    several("ablated MLPs", sorted(chosen.mlps), model.weights.n_mlp_terms)
    several("ablated tokens", sorted(chosen.tokens), _n_tokens(model))
    return chosen


def _fits(number: Any, limit: int) -> bool:
    try:
        return whole("number", number) < limit
    except ValueError:
        return False


def _n_tokens(model: ClipModel) -> int:
    return int(np.prod(model.weights.grid)) + 1
