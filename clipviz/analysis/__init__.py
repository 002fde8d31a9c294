"""Analyses: one computation per question, in batches, shared by sessions, indexes and reports."""

from clipviz import lazily

__getattr__ = lazily.modules_of(__name__)
