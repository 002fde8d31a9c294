"""What the board of a class is drawn from. What is right is in it once the teacher has revealed it, and not before."""

from __future__ import annotations

from typing import Literal, TypedDict

from clipviz.panels.quiz.sent import Kind, QuizArrays, QuizAsked, QuizTold


class ClassroomProgress(TypedDict):
    """How far the class is with a question. n: the number of answers."""

    n: int
    revealed: bool


class ClassroomScore(TypedDict):
    """The share of right answers with its interval, and that of guessing; said: both in a sentence."""

    right: float
    low: float
    high: float
    chance: float
    said: str


class _Truth(TypedDict):
    right: list[bool]
    told: str
    truth: str
    score: ClassroomScore | None


class ClassroomTruth(_Truth, QuizTold):
    """What is shown once a question has been revealed. right: which counts are those of right answers; told: the
    answer with its explanation; score: None before there are answers.
    """


class _Class(TypedDict):
    students: int
    joined: int
    unread: int
    trouble: str
    progress: list[ClassroomProgress]
    score: ClassroomScore | None


class _Question(TypedDict):
    at: int
    words: str
    kind: Kind
    tiles: list[int]
    names: list[str]
    columns: int
    counts: list[int]
    labels: list[str]
    size: Literal["normal", "lecture"]


class ClassroomView(_Class, _Question, QuizAsked, total=False):
    """The view of a class. students: how many have answered; joined: how many share their answers; unread: the number
    of files that cannot be read; score: of all revealed questions; at: the question on show; counts: how many gave each
    answer, empty where that would tell what is right; labels: what is counted, where the question does not say it;
    saved: in a saved page the views of all questions, whose arrays have the question's number behind their names.
    """

    revealed: ClassroomTruth
    saved: list[ClassroomView]


class ClassroomArrays(QuizArrays, total=False):
    """The arrays of the question on show, as in the quiz."""
