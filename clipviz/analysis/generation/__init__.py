"""Generation guided by Rosetta neurons (thesis 4.4): guides, edits, inversion and single-concept images."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
