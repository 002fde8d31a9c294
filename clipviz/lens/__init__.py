"""Lenses: pure functions from tensors to values. Each module has one topic and is loaded on first use."""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = (
    "ablate",
    "baselines",
    "concepts",
    "covariance",
    "cues",
    "decompose",
    "edits",
    "headset",
    "heatmap",
    "intervals",
    "invert",
    "joint",
    "neurons",
    "projection",
    "retrieve",
    "roles",
    "rosetta",
    "segment",
    "sparse",
    "spurious",
    "subsets",
    "textspan",
    "trace",
    "zeroshot",
)
__all__ = list(_MODULES)


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"clipviz.lens.{name}")
    raise AttributeError(f"module 'clipviz.lens' has no attribute {name!r}")
