"""Dictionaries of directions (sparse autoencoders): their files, and what their features do to the embedding."""

from clipviz.models.dictionaries.dictionary import Dictionary, Encoded, Gate
from clipviz.models.dictionaries.effects import PointEffects, point_effects

__all__ = ["Dictionary", "Encoded", "Gate", "PointEffects", "point_effects"]
