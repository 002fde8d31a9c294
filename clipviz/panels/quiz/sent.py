"""What a quiz is drawn from. Nothing here depends on the right option before the question has been answered."""

from __future__ import annotations

from typing import Literal, TypedDict

from clipviz.panels.core.sent import File, Floats, Uint8s


class QuizOption(TypedDict):
    """An option; tiles: positions of its pictures in the sheet."""

    words: str
    tiles: list[int]


class QuizAnswer(TypedDict):
    """What is shown after a question has been answered. right: the options that count as right; best: the right one;
    measured: what was measured, which on a scale may lie between two steps.
    """

    chosen: int
    fits: bool
    best: int
    measured: str
    right: list[int]
    because: str
    truth: str


class _Always(TypedDict):
    at: int
    states: list[Literal["open", "right", "wrong"]]
    words: str
    tiles: list[int]
    names: list[str]
    columns: int
    options: list[QuizOption]
    on_scale: bool
    map: list[int]
    chance: float
    score: str
    code: str
    size: Literal["normal", "lecture"]


class QuizView(_Always, total=False):
    """The quiz's view. names: those of the pictures in the sheet; map: rows and columns of the options' maps;
    answer: absent before the answer; saved: in a saved page the views of all questions, whose arrays have the
    question's number behind their names.
    """

    answer: QuizAnswer
    mask: list[int]
    saved: list[QuizView]


class _Drawn(TypedDict):
    sprite: File


class QuizArrays(_Drawn, total=False):
    """The quiz's arrays. maps: [option, rows, cols], drawn over the picture; outline: the true place, absent before
    the answer.
    """

    picture: File
    maps: Floats
    outline: Uint8s
