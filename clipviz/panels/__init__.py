"""Panels, one folder each. A panel shows the part of the session that its selection refers to."""

from clipviz.panels.ablate.panel import Ablate
from clipviz.panels.atlas.panel import Atlas
from clipviz.panels.cues.panel import Cues
from clipviz.panels.dashboard import Dashboard
from clipviz.panels.generate.panel import Generate
from clipviz.panels.heads.panel import Heads
from clipviz.panels.heatmap.panel import Heatmap
from clipviz.panels.images.panel import ImageGallery
from clipviz.panels.neurons.panel import Neurons
from clipviz.panels.query.panel import Query
from clipviz.panels.receipts.panel import Receipts
from clipviz.panels.rosetta.panel import Rosetta
from clipviz.panels.textspan.panel import TextSpan
from clipviz.panels.words.panel import Words

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
