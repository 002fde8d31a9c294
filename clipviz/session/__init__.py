"""The session: one model, one collection, one selection, and a topic for each kind of question."""

from clipviz.analysis.collection.retrieval import BY
from clipviz.analysis.cues.attacks import SHOWN
from clipviz.analysis.cues.words import CODED
from clipviz.analysis.rosetta.order import SORTS
from clipviz.lens.cues import SEGMENT_THRESHOLD as NEURON_THRESHOLD
from clipviz.lens.roles import NO_ROLE
from clipviz.lens.sparse import CODE_SIZES
from clipviz.session.answers import Description, Goal, HeadEffects, Label, SharedUnits, TokenHead, TokenMaps
from clipviz.session.board import Board
from clipviz.session.session import Session
from clipviz.session.shared_units import PIVOTS, unit_name
from clipviz.session.topics.maps import BASELINES, IGNORING, POOLED_BASELINES
from clipviz.session.topics.readings import FINDS
from clipviz.session.topics.readings import FIRST as FEW_IMAGES
from clipviz.session.topics.workbench import EVERY

__all__ = [
    "BASELINES",
    "BY",
    "CODED",
    "CODE_SIZES",
    "EVERY",
    "FEW_IMAGES",
    "FINDS",
    "IGNORING",
    "NEURON_THRESHOLD",
    "NO_ROLE",
    "PIVOTS",
    "POOLED_BASELINES",
    "SHOWN",
    "SORTS",
    "Board",
    "Description",
    "Goal",
    "HeadEffects",
    "Label",
    "Session",
    "SharedUnits",
    "TokenHead",
    "TokenMaps",
    "unit_name",
]
