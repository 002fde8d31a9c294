"""What every view holds, and what several hold alike."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Uint8s = NDArray[np.uint8]


class AblationShown(TypedDict):
    """What is removed."""

    heads: list[tuple[int, int]]
    layers: list[int]
    mlps: list[int]
    tokens: list[int]
    how: Literal["mean", "zero"]


class SelectionShown(TypedDict):
    """What is selected."""

    image: int | None
    images: list[int]
    text: str
    text_b: str
    layer: int | None
    head: int | None
    token: int | None
    neuron: int | None
    dictionary: str
    concept: int | None
    ablation: AblationShown


class Place(TypedDict):
    """Where an array begins in the view's buffer."""

    dtype: Literal["float32", "int32", "uint8"]
    shape: list[int]
    offset: int
    size: int


class Shown(TypedDict, total=False):
    """What is added to every view. ack: the request that it answers. waiting, asSaved: set by pages alone."""

    seq: int
    ack: int
    selection: SelectionShown
    removed: str
    arrays: dict[str, Place]
    message: str
    waiting: bool
    asSaved: bool


class CodeSizes(TypedDict, total=False):
    """How many texts a neuron's code may have, whether each number fits, and the one on show."""

    sizes: list[tuple[int, bool]]
    m: int


class UnitsShown(CodeSizes, total=False):
    """Whose neurons are on show. dictionary: the name of the one whose features are, "" for the neurons of `layer`;
    dictionaries: the names of all in use; reconstruction: how well the one on show stands for its point, in words."""

    layer: int | None
    n_layers: int
    dictionary: str
    dictionaries: list[str]
    reconstruction: str
    message: str


class Scored(TypedDict):
    """A text with its score."""

    text: str
    score: float
