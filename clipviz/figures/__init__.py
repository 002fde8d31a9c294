"""Figures: plain values -> matplotlib (print) and plotly (interactive). Pure; each module is loaded when used."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("chapter2", "chapter2_interactive", "panels", "style")
__all__ = list(_MODULES)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"clipviz.figures.{name}")
    raise AttributeError(f"module 'clipviz.figures' has no attribute {name!r}")
