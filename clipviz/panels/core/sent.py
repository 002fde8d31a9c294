"""The fields of every view, and those common to several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Uint8s = NDArray[np.uint8]
File = bytes
"""The bytes of a picture."""

View = Mapping[str, object]
"""What a panel sends: a TypedDict of its sent.py."""

Arrays = Mapping[str, object]
"""The arrays of a view, another TypedDict: of numpy, or the bytes of a file."""


def as_sent(*parts: Any) -> Any:
    """Join mappings and values, as a view holds them. The panels' tests compare the view with its type."""
    found: dict[str, Any] = {}
    for part in parts:
        if is_dataclass(part) and not isinstance(part, type):
            part = asdict(part)
        found |= part._asdict() if hasattr(part, "_asdict") else part
    return found


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
    """The position of an array in the view's buffer."""

    dtype: Literal["float32", "int32", "uint8"]
    shape: list[int]
    offset: int
    size: int


class Shown(TypedDict, total=False):
    """The fields added to every view. ack: the request that it answers. waiting, asSaved: set by pages only."""

    seq: int
    ack: int
    selection: SelectionShown
    removed: str
    arrays: dict[str, Place]
    message: str
    waiting: bool
    asSaved: bool


class CodeSizes(TypedDict, total=False):
    """The possible numbers of texts in a neuron's code, whether each is possible, and the one shown."""

    sizes: list[tuple[int, bool]]
    m: int


class UnitsShown(CodeSizes, total=False):
    """The units that are shown. dictionary: the name of the dictionary whose features are shown, "" for the neurons
    of `layer`; dictionaries: the names of all in use; reconstruction: how well the one shown reconstructs its point,
    in words.
    """

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
