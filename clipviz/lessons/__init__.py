"""Lessons that ask first: a quiz drawn from a session, its score against chance, and a paper version."""

from clipviz.lessons.quiz import KINDS, Option, Question, Quiz
from clipviz.lessons.scoring import Score, decode, encode, score

__all__ = ["KINDS", "Option", "Question", "Quiz", "Score", "decode", "encode", "score"]
