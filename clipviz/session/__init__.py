"""The session: one model, one collection, one selection, and what the panels ask of it, a file a panel's questions."""

from clipviz.session.core import NO_ROLE, Description, HeadScores, Label, Session, TokenMaps

__all__ = ["NO_ROLE", "Description", "HeadScores", "Label", "Session", "TokenMaps"]
