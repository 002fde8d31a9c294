"""Rosetta neurons (thesis 4.3): models matched unit by unit, the dictionary of shared units, and its names."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
