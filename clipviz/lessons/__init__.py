"""Lessons that ask first: a quiz drawn from a session, its score against chance, and a paper version."""

from clipviz.lessons.drawn import KINDS
from clipviz.lessons.folded import folded
from clipviz.lessons.questions import Option, Question
from clipviz.lessons.quiz import Quiz, predict
from clipviz.lessons.readable import readable
from clipviz.lessons.scoring import Score, decode, encode, score

__all__ = [
    "KINDS",
    "Option",
    "Question",
    "Quiz",
    "Score",
    "decode",
    "encode",
    "folded",
    "predict",
    "readable",
    "score",
]
