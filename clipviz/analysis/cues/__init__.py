"""Spurious cues of a pair of classes (thesis 3.5): the words, the neurons behind them, and attacks with them."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
