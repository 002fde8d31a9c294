"""What a quiz is drawn from. Nothing here depends on what is right before the question has been answered."""

from __future__ import annotations

from typing import Literal, TypedDict

from clipviz.panels.core.sent import File, Floats, Uint8s

Kind = Literal["choice", "number", "place", "piles"]
"""How a question is answered."""


class QuizOption(TypedDict):
    """An option; tiles: positions of its pictures in the sheet."""

    words: str
    tiles: list[int]


class QuizAsked(TypedDict, total=False):
    """What the kinds of questions show before the answer. options, map: of a choice, with the rows and columns of the
    options' maps; steps: the numbers of a slider as they are written; name: what a picture to draw on shows; piles:
    the names of two piles, into which the pictures of the sheet are sorted.
    """

    options: list[QuizOption]
    map: list[int]
    steps: list[str]
    name: str
    piles: list[str]


class QuizTold(TypedDict, total=False):
    """What the kinds of questions show after the answer. mask: rows and columns of the outline; measured: the number,
    exact: its place on the slider and band: the ends of what counts as right, in shares of it; box: the true one, in
    percent of the picture's sides.
    """

    mask: list[int]
    measured: str
    exact: float
    band: list[float]
    box: list[float]


class _Answer(TypedDict):
    chosen: list[int]
    fits: bool
    best: list[int]
    verdict: str
    guess: str
    because: str
    truth: str


class QuizAnswer(_Answer, QuizTold):
    """What is shown after a question has been answered. best: the right answer; guess: how often a guess is right."""


class _Always(TypedDict):
    at: int
    states: list[Literal["open", "right", "wrong"]]
    words: str
    kind: Kind
    rule: str
    tiles: list[int]
    names: list[str]
    columns: int
    score: str
    code: str
    shared: bool
    size: Literal["normal", "lecture"]


class QuizView(_Always, QuizAsked, total=False):
    """The quiz's view. names: those of the pictures in the sheet; rule: what counts as right; answer: absent before the
    answer; saved: in a saved page the views of all questions, whose arrays have the question's number behind their
    names.
    """

    answer: QuizAnswer
    saved: list[QuizView]


class QuizArrays(TypedDict, total=False):
    """The quiz's arrays. maps: [option, rows, cols], drawn over the picture. Absent before the answer are outline, the
    true place, and result, the picture on which it is shown.
    """

    sprite: File
    picture: File
    maps: Floats
    outline: Uint8s
    result: File
