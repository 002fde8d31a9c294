"""Panels, one folder each. A panel shows the part of the session that its selection refers to."""

from clipviz.panels.ablate.panel import Ablate as Ablate
from clipviz.panels.atlas.panel import Atlas as Atlas
from clipviz.panels.cues.panel import Cues as Cues
from clipviz.panels.dashboard.panel import Dashboard as Dashboard
from clipviz.panels.generate.panel import Generate as Generate
from clipviz.panels.heads.panel import Heads as Heads
from clipviz.panels.heatmap.panel import Heatmap as Heatmap
from clipviz.panels.images.panel import ImageGallery as ImageGallery
from clipviz.panels.neurons.panel import Neurons as Neurons
from clipviz.panels.query.panel import Query as Query
from clipviz.panels.receipts.panel import Receipts as Receipts
from clipviz.panels.rosetta.panel import Rosetta as Rosetta
from clipviz.panels.textspan.panel import TextSpan as TextSpan
from clipviz.panels.words.panel import Words as Words

__all__ = [name for name in dir() if name[:1].isupper()]
