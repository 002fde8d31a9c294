"""Checks of every number that reaches a session: it must be whole and within range, and becomes a plain int."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from clipviz.values import Ablation, Selection, check_characters, whole

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.models.dictionaries import Dictionary


MOST_COUNTS = 1_000
NAMED = 5
"""The largest number of wrong values that an error lists."""


def counts(name: str, numbers: Any, least: int = 1) -> list[int]:
    """Return one or several counts, at most as many as a person would request at once. Raises ValueError otherwise."""
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        return [count(name, numbers, least)]
    found = [count(name, number, least) for number in itertools.islice(numbers, MOST_COUNTS + 1)]
    if len(found) > MOST_COUNTS:
        raise ValueError(f"expected at most {MOST_COUNTS} numbers as {name}, got more; ask for fewer at once")
    return found


def within(name: str, number: Any, limit: int, advice: str = "") -> int:
    """Return the number as an int within 0..limit-1, or raise ValueError; negative ones do not count from the end."""
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
    """Return numbers as ints within 0..limit-1, in their order. Raises ValueError, naming the invalid ones.

    An iterable is read only as long as it can be valid, so that a long one is refused before it fills the memory.
    """
    if isinstance(numbers, str | bytes | Mapping) or not isinstance(numbers, Iterable):
        raise ValueError(f"expected {name} as a list of whole numbers, got {numbers!r}")
    given, wrong = list[int](), list[Any]()
    for number in numbers:
        if not _fits(number, limit):
            wrong.append(number)
        elif not wrong:
            given.append(whole(name, number))
        if len(wrong) == NAMED:
            break
        if len(given) > limit:
            raise ValueError(
                f"expected each of the {limit:,} {name} at most once, got more than {limit:,} numbers"
            )
    if wrong:
        raise ValueError(f"expected {name} within 0..{limit - 1}, got {wrong}")
    return tuple(given)


def unit(name: str, given: Any) -> tuple[int | str, int]:
    """Return a layer (or the name of a dictionary) and a number. Raises ValueError for anything else."""
    if isinstance(given, Sequence) and len(given) == 2 and isinstance(given[0], str) and given[0]:
        return given[0], whole(f"a {name}", given[1])
    return pair(name, given)


def pair(name: str, numbers: Any) -> tuple[int, int]:
    """Return a layer and a head, or a layer and a neuron, as plain ints. Raises ValueError for anything else."""
    try:
        one, other = numbers
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected {name} as a layer and a {name}, such as (5, 3), got {numbers!r}"
        ) from error
    return whole("a layer", one), whole(f"a {name}", other)


def text(name: str, given: Any) -> str:
    """Return a text, which may be empty. Raises ValueError for anything else."""
    if not isinstance(given, str):
        raise ValueError(
            f"expected {name} to be a string, got {type(given).__name__} {given!r}; pass one text"
        )
    check_characters(name, given)
    return given


def names(name: str, given: Any) -> list[str]:
    """Return names as a list; ValueError for anything else, a single name included."""
    listed = list(itertools.islice(given, MOST_COUNTS)) if isinstance(given, Iterable) else [given]
    if isinstance(given, str) or not all(isinstance(one, str) for one in listed):
        raise ValueError(
            f'expected {name} as a list of names, got {given!r:.80}; write ["L3 features"] for one'
        )
    return listed


def texts(name: str, given: Any) -> tuple[str, str]:
    """Return two texts. Raises ValueError for anything else, including a string of two letters."""
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    two = tuple(itertools.islice(given, 3)) if several else ()
    if len(two) != 2 or not all(isinstance(one, str) for one in two):
        raise ValueError(f'expected {name} as two texts, such as ("a dog", "a cat"), got {given!r:.200}')
    for one in two:
        check_characters(name, one)
    return two


def code_size(m: int | None) -> int | None:
    """Return the requested number of texts in a sparse code; None for the usual number."""
    return None if m is None else count("m", m)


def count(name: str, number: Any, least: int = 1, most: int | None = None) -> int:
    """Return a count of at least `least` and at most `most`. Raises ValueError otherwise."""
    try:
        found = whole(name, number)
    except ValueError:
        found = -1
    if found < least:
        raise ValueError(f"expected {name} to be a whole number of at least {least}, got {number!r}")
    if most is not None and found > most:
        raise ValueError(f"expected {name} to be at most {most:,}, got {found:,}")
    return found


def layers(model: ClipModel, chosen: Iterable[Any]) -> tuple[int, ...]:
    """Return the layers to keep: each within the model's, without repeats, at least one."""
    found = several("layers", chosen, model.n_layers)
    if not found or len(set(found)) != len(found):
        raise ValueError(f"expected at least one layer and none twice, got {list(found)}")
    return found


def selection(
    model: ClipModel,
    n_images: int,
    chosen: Any,
    dictionaries: Mapping[str, Dictionary] = MappingProxyType({}),
) -> Selection:
    """Return the selection if everything that it names exists; otherwise ValueError says what is missing.

    dictionaries: those in use, by name.
    """
    if not isinstance(chosen, Selection):
        raise ValueError(
            f"expected a clipviz.Selection, got {type(chosen).__name__}; change a field with "
            "session.select(layer=5, head=3)"
        )
    limits = {
        "image": n_images,
        "layer": model.n_layers,
        "head": model.n_heads,
        "neuron": _n_units(model, chosen, dictionaries),
        "token": _n_tokens(model),
    }
    for name, limit in limits.items():
        number = getattr(chosen, name)
        if number is not None:
            within(name, number, limit)
    several("images", chosen.images, n_images)
    ablation(model, chosen.ablation)
    return chosen


def in_use(name: str, dictionaries: Mapping[str, Dictionary]) -> Dictionary:
    """Return the dictionary with a name. For an unknown name, ValueError lists those in use."""
    found = dictionaries.get(name)
    if found is None:
        known = f"one of {', '.join(map(repr, dictionaries))}" if dictionaries else "one in use, and none is"
        raise ValueError(
            f"expected the name of a dictionary, {known}, got {name!r}; session.neurons.use(dictionary) names it"
        )
    return found


def _n_units(model: ClipModel, chosen: Selection, dictionaries: Mapping[str, Dictionary]) -> int:
    """Return the number of neurons of a layer, or of features of the selected dictionary."""
    if not chosen.dictionary:
        return model.weights.n_neurons
    found = in_use(chosen.dictionary, dictionaries)
    if chosen.layer != found.layer:
        raise ValueError(
            f"expected layer {found.layer}, which the dictionary {chosen.dictionary!r} belongs to, got "
            f"{chosen.layer!r}; select both"
        )
    return found.n_units


def ablation(model: ClipModel, chosen: Any) -> Ablation:
    """Return the ablation if the model has everything that it names; otherwise ValueError says what is missing."""
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
