"""Neurons (chapter 3): second-order effects of one layer's MLP, their text codes, and their replacement."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
