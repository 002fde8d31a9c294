"""Panels: one .py and one small .js each. A panel shows what the session's selection points at."""

from clipviz.panels.ablate import Ablate
from clipviz.panels.atlas import Atlas
from clipviz.panels.cues import Cues
from clipviz.panels.dashboard import Dashboard
from clipviz.panels.generate import Generate
from clipviz.panels.heads import Heads
from clipviz.panels.heatmap import Heatmap
from clipviz.panels.images import ImageGallery
from clipviz.panels.neurons import Neurons
from clipviz.panels.query import Query
from clipviz.panels.receipts import Receipts
from clipviz.panels.rosetta import Rosetta
from clipviz.panels.textspan import TextSpan
from clipviz.panels.words import Words

__all__ = [
    "Ablate",
    "Atlas",
    "Cues",
    "Dashboard",
    "Generate",
    "Heads",
    "Heatmap",
    "ImageGallery",
    "Neurons",
    "Query",
    "Receipts",
    "Rosetta",
    "TextSpan",
    "Words",
]
