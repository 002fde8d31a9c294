"""Figures in matplotlib (print) and plotly (interactive) from plain values, in modules loaded on first use."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("chapter2", "chapter2_interactive", "composer", "dictionaries", "panels", "style")
__all__ = [*_MODULES, "grid"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"clipviz.figures.{name}")
    if name == "grid":
        return importlib.import_module("clipviz.figures.composer").grid
    raise AttributeError(f"module 'clipviz.figures' has no attribute {name!r}")
