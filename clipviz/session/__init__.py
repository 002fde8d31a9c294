"""The session: one model, one collection, one selection, and one method for each thing that a panel shows."""

from clipviz.analysis.collection.retrieval import BY
from clipviz.analysis.cues.attacks import SHOWN
from clipviz.analysis.cues.words import CODED
from clipviz.analysis.rosetta.shared_units import PIVOTS, SORTS
from clipviz.lens.cues import SEGMENT_THRESHOLD as NEURON_THRESHOLD
from clipviz.lens.roles import NO_ROLE
from clipviz.lens.sparse import CODE_SIZES
from clipviz.session.core import Session
from clipviz.session.heads import Description, HeadScores, Label, TokenHead, TokenMaps
from clipviz.session.maps import BASELINES, IGNORING, POOLED_BASELINES
from clipviz.session.neurons import FINDS
from clipviz.session.neurons import FIRST as FEW_IMAGES

__all__ = [
    "BASELINES",
    "BY",
    "CODED",
    "CODE_SIZES",
    "FEW_IMAGES",
    "FINDS",
    "IGNORING",
    "NEURON_THRESHOLD",
    "NO_ROLE",
    "PIVOTS",
    "POOLED_BASELINES",
    "SHOWN",
    "SORTS",
    "Description",
    "HeadScores",
    "Label",
    "Session",
    "TokenHead",
    "TokenMaps",
]
