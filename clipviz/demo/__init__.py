"""The demo: a world with known answers, a CLIP trained on it, its Rosetta partners, and their data.

clipviz.demo.bundle()      # all of it as the one value that clipviz.load("demo") carries
clipviz.demo.images()      # the embedded collection, with captions, attributes and true masks
clipviz.demo.texts()       # descriptions of one property each
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "bundle": "clipviz.demo.contents",
    "images": "clipviz.demo.shipped",
    "texts": "clipviz.demo.shipped",
}
_MODULES = {"world": "clipviz.demo.world"}
__all__ = ["bundle", "images", "texts", "world"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'clipviz.demo' has no attribute {name!r}")
