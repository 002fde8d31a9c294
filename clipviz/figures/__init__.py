"""Figures in matplotlib (print) and plotly (interactive) from plain values. Pure; each module is loaded on first
use.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("chapter2", "chapter2_interactive", "composer", "dictionaries", "panels", "style")
_FUNCTIONS = ("grid", "interactive_grid")
__all__ = [*_MODULES, *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"clipviz.figures.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module("clipviz.figures.composer"), name)
    raise AttributeError(f"module 'clipviz.figures' has no attribute {name!r}")
