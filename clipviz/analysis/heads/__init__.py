"""Attention heads (chapter 2): their labels, and the effect of removing some of them."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
