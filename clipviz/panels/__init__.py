"""Panels: one .py and one small .js each. A panel shows what the session's selection points at."""

from clipviz.panels.dashboard import Dashboard
from clipviz.panels.heads import Heads
from clipviz.panels.heatmap import Heatmap
from clipviz.panels.images import ImageGallery
from clipviz.panels.query import Query
from clipviz.panels.receipts import Receipts
from clipviz.panels.textspan import TextSpan

__all__ = ["Dashboard", "Heads", "Heatmap", "ImageGallery", "Query", "Receipts", "TextSpan"]
