"""Dictionaries of directions (sparse autoencoders): their files, and what their features do to the embedding."""

from clipviz.models.dictionaries.dictionary import Dictionary, Encoded
from clipviz.models.dictionaries.effects import PointEffects, point_effects
from clipviz.models.dictionaries.kinds import Gate

__all__ = ["Dictionary", "Encoded", "Gate", "PointEffects", "point_effects"]
