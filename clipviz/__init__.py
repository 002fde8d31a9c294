"""clipviz: linked Jupyter panels around one shared CLIP session.

Importing the package is instant: torch, open_clip and the widgets are loaded when a name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clipviz.version import __version__ as __version__

_NAMES = {
    "load": "clipviz.loading",
    "load_partner": "clipviz.loading",
    "load_generator": "clipviz.loading",
    "load_dictionary": "clipviz.loading",
    "wrap": "clipviz.models",
    "Dictionary": "clipviz.models.dictionaries",
    "match": "clipviz.analysis.rosetta.matching",
    "Index": "clipviz.indexing",
    "Selection": "clipviz.values",
    "Ablation": "clipviz.values",
    "View": "clipviz.values",
    "Session": "clipviz.session",
    "Dashboard": "clipviz.panels",
    "publish": "clipviz.page",
    "Quiz": "clipviz.lessons",
}
_MODULES = (
    "analysis",
    "lens",
    "models",
    "data",
    "demo",
    "figures",
    "panels",
    "values",
    "indexing",
    "loading",
    "page",
    "lessons",
    "session",
    "worker",
    "reproduce",
)
__all__ = [*_NAMES, *_MODULES]

if TYPE_CHECKING:
    from clipviz.analysis.rosetta.matching import match as match
    from clipviz.indexing import Index as Index
    from clipviz.lessons import Quiz as Quiz
    from clipviz.loading import load as load
    from clipviz.loading import load_dictionary as load_dictionary
    from clipviz.loading import load_generator as load_generator
    from clipviz.loading import load_partner as load_partner
    from clipviz.models import wrap as wrap
    from clipviz.models.dictionaries import Dictionary as Dictionary
    from clipviz.page import publish as publish
    from clipviz.panels import Dashboard as Dashboard
    from clipviz.session import Session as Session
    from clipviz.values import Ablation as Ablation
    from clipviz.values import Selection as Selection
    from clipviz.values import View as View


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"clipviz.{name}")
    raise AttributeError(f"module 'clipviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
