"""Whether a view and its arrays are what the panel's sent.py says of them; every test of this folder asks."""

from __future__ import annotations

import types
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

from clipviz.panels.core.base import Panel
from clipviz.panels.core.sent import Shown


def faults(value: Any, kind: Any, place: str) -> list[str]:
    """What of a value is not of its type, in words. Lists and tuples are alike, as in JSON."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return []
    if is_typeddict(kind):
        return _of_dict(value, kind, place)
    if origin in (Union, types.UnionType):
        found = [faults(value, one, place) for one in args if value is None or one is not type(None)]
        return [] if any(not one for one in found) else min(found, key=len)
    if origin is Literal:
        return [] if value in args else [f"{place}: expected one of {args}, got {value!r}"]
    if origin in (list, tuple):
        if not isinstance(value, list | tuple) or (origin is tuple and len(value) != len(args)):
            return [f"{place}: expected {kind}, got {value!r:.80}"]
        kinds = args if origin is tuple else args * len(value)
        return [
            fault
            for i, (one, of) in enumerate(zip(value, kinds, strict=True))
            for fault in faults(one, of, f"{place}[{i}]")
        ]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{place}: expected a dict, got {value!r:.80}"]
        return [fault for name, one in value.items() for fault in faults(one, args[1], f"{place}[{name!r}]")]
    if origin is np.ndarray:
        dtype = np.dtype(get_args(args[1])[0])
        found = np.dtype(np.uint8) if isinstance(value, bytes) else getattr(value, "dtype", type(value))
        return [] if found == dtype else [f"{place}: expected {dtype}, got {found}"]
    fits = type(value) in ((int, float) if kind is float else (kind,))
    return [] if fits else [f"{place}: expected {kind.__name__}, got {value!r:.80}"]


def _of_dict(value: Any, kind: Any, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place}: expected a {kind.__name__}, got {value!r:.80}"]
    hints = get_type_hints(kind)
    found = [f"{place}: {name!r} is not in {kind.__name__}" for name in value if name not in hints]
    found += [f"{place}: {name!r} is missing" for name in kind.__required_keys__ if name not in value]
    return found + [
        fault
        for name, one in value.items()
        if name in hints
        for fault in faults(one, hints[name], f"{place}.{name}")
    ]


def kinds(panel: Panel) -> tuple[Any, Any] | None:
    """The types of a panel's view and arrays; None for a panel of a test's own."""
    if not type(panel).__module__.startswith("clipviz."):
        return None
    module = import_module(f"clipviz.panels.{panel.name}.sent")
    title = next(name for name in vars(module) if name.lower() == f"{panel.name}view")
    return getattr(module, title), getattr(module, title.replace("View", "Arrays"))


def view_faults(view: dict[str, Any], kind: Any) -> list[str]:
    """What of a view is not of its type; what every view has besides its own is Shown's."""
    own = get_type_hints(kind)
    shared = {
        name: value for name, value in view.items() if name in get_type_hints(Shown) and name not in own
    }
    rest = {name: value for name, value in view.items() if name not in shared}
    return faults(rest, kind, "view") + faults(shared, Shown, "view")
