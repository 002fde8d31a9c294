"""The data from which the atlas is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import File, Floats, Ints, Uint8s

Group = tuple[int, str, int, str]
"""What a colour means: the points' byte, a word, how many points, the colour."""


class AtlasView(TypedDict, total=False):
    """ends: texts of the axes' ends; regions:
    [text, x, y, points]; tiles: the points that have a picture, names: theirs."""

    message: str
    by: str
    ends: list[list[str]]
    regions: list[tuple[str, float, float, int]]
    n_points: int
    n_images: int
    share: float
    columns: list[str]
    column: str
    groups: list[Group]
    tiles: list[int]
    tile_columns: int
    names: list[str]
    ringed: bool
    plane: str


class AtlasArrays(TypedDict, total=False):
    """ids: [point]; places: [point, 2]; colours: a byte for each point; sprite: the tiles' pictures."""

    ids: Ints
    places: Floats
    colours: Uint8s
    sprite: File
