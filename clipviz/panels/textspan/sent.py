"""The data from which the texts of a head are drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import File


class TextRow(TypedDict):
    """A text, the share of the variance that it explains, and the share under random rotations."""

    text: str
    family: str
    gain: float
    null: float
    null_high: float


class RowImages(TypedDict):
    """The images of every row, and their positions in the sprite of n tiles."""

    ids: list[list[int]]
    places: list[list[int]]
    columns: int
    n: int


class LabelShown(TypedDict):
    """The head's computed role, and the first texts on which it is based."""

    name: str
    p_value: float
    why: str
    texts: list[str]


class TextSpanView(TypedDict, total=False):
    """The panel's view. role: the one that a person gave the head; roles: those to choose from."""

    rows: list[TextRow]
    message: str
    role: str | None
    roles: list[str]
    explained: float
    null_explained: float
    n_draws: int
    n_used_up: int
    n_read: int
    n_images: int
    complete: bool
    label: LabelShown
    pool: str
    thumbnails: RowImages


class TextSpanArrays(TypedDict):
    sprite: File
