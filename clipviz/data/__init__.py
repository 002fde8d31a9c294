"""Data: images, texts and the files of an index. Each module is loaded when first used."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("dictionary", "images", "texts")
__all__ = list(_MODULES)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"clipviz.data.{name}")
    raise AttributeError(f"module 'clipviz.data' has no attribute {name!r}")
