"""The data from which the atlas is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Floats, Ints, Uint8s


class AtlasView(TypedDict, total=False):
    """The atlas's view. groups: [byte, word, points, colour], the meaning of the points' colours; ends: texts at the
    ends of the axes; regions: [text, x, y, points]; tiles: the points that have a picture, names: their names.
    """

    message: str
    by: str
    ends: list[list[str]]
    regions: list[tuple[str, float, float, int]]
    n_points: int
    n_images: int
    share: float
    columns: list[str]
    column: str
    groups: list[tuple[int, str, int, str]]
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
    sprite: Uint8s
