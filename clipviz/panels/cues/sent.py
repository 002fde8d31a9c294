"""The data from which the desk of cues is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import CodeSizes, File, Floats


class NeuronBehind(TypedDict):
    """A neuron behind a word: part = weight of the text in its code × its direction along the pair."""

    layer: int
    neuron: int
    weight: float
    along: float
    part: float


class CueShown(TypedDict):
    """A word that pulls pictures towards the other class; null: the largest score of its rank in random rotations."""

    text: str
    score: float
    neurons: list[NeuronBehind]
    null: float
    differs: bool
    drawable: bool


class AttemptShown(TypedDict):
    """Pictures with some words: how many mislead the model, their margins, and the first one's place in the sheet."""

    method: str
    words: list[str]
    fooled: int
    interval: tuple[float, float]
    mean: float
    sentences: list[str]
    margins: list[float]
    first: int


class LeftOut(TypedDict):
    """A method without pictures, and the reason."""

    method: str
    reason: str


class LookShown(TypedDict):
    """One enlarged picture."""

    method: str
    place: int
    sentence: str
    margin: float
    grid: list[int]


class CuesView(CodeSizes, total=False):
    layers: list[int]
    n_layers: int
    message: str
    classes: list[str]
    draws: bool
    drawn: str
    mistaken: str
    words: list[CueShown]
    attempts: list[AttemptShown]
    note: str
    look: LookShown | None
    n_read: int
    n_texts: int
    complete: bool
    drawing: bool
    columns: int
    left_out: list[LeftOut]
    n_tiles: int
    verdict: str


class CuesArrays(TypedDict, total=False):
    """The desk's arrays. sprite: all pictures; picture, map: the enlarged one."""

    sprite: File
    picture: File
    map: Floats
