"""The session: one model, one collection, one selection, and one method for each thing that a panel shows."""

from clipviz.analysis.shared_units import SORTS
from clipviz.lens.roles import NO_ROLE
from clipviz.session.core import Session
from clipviz.session.heads import Description, HeadScores, Label, TokenMaps
from clipviz.session.maps import BASELINES, POOLED_BASELINES

__all__ = [
    "BASELINES",
    "NO_ROLE",
    "POOLED_BASELINES",
    "SORTS",
    "Description",
    "HeadScores",
    "Label",
    "Session",
    "TokenMaps",
]
