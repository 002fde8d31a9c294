"""Lessons that ask first: a quiz drawn from a session, its score against chance, and a paper version."""

from clipviz.lessons.classroom import Classroom
from clipviz.lessons.drawn import KINDS
from clipviz.lessons.folded import folded
from clipviz.lessons.numbers import Number
from clipviz.lessons.piles import Piles, chance_of_sorting
from clipviz.lessons.places import Place, box_of, chance_of_overlap, overlap
from clipviz.lessons.questions import Asked, Option, Question
from clipviz.lessons.quiz import Quiz, predict
from clipviz.lessons.readable import readable
from clipviz.lessons.scoring import Score, decode, encode, score

__all__ = [
    "KINDS",
    "Asked",
    "Classroom",
    "Number",
    "Option",
    "Piles",
    "Place",
    "Question",
    "Quiz",
    "Score",
    "box_of",
    "chance_of_overlap",
    "chance_of_sorting",
    "decode",
    "encode",
    "folded",
    "overlap",
    "predict",
    "readable",
    "score",
]
