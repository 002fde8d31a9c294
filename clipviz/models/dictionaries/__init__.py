"""Dictionaries of directions (sparse autoencoders): their files, and their features' effects on the embedding."""

from clipviz.models.dictionaries.dictionary import Dictionary, Encoded
from clipviz.models.dictionaries.effects import PointEffects, point_effects
from clipviz.models.dictionaries.kinds import Gate
from clipviz.models.dictionaries.reconstruction import Fit, Reconstruction, fit, measure

__all__ = [
    "Dictionary",
    "Encoded",
    "Fit",
    "Gate",
    "PointEffects",
    "Reconstruction",
    "fit",
    "measure",
    "point_effects",
]
