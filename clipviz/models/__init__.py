"""Models: adapters that give lenses access to networks. opening.py loads and wraps CLIP models."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {"wrap": "opening", "ClipModel": "clip", "Bundle": "bundle"}
_MODULES = (
    "attribution",
    "bundle",
    "captioners",
    "clip",
    "dictionaries",
    "generator",
    "hooks",
    "opening",
    "zoo",
)
__all__ = [*_NAMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"clipviz.models.{_NAMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"clipviz.models.{name}")
    raise AttributeError(f"module 'clipviz.models' has no attribute {name!r}")
