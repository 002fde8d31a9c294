"""The data from which the dictionary of shared units is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import File, Uint8s


class ColumnShown(TypedDict):
    """A model of the dictionary. at_hand: whether it is loaded; paints: whether it generates its own pictures."""

    name: str
    loss: str
    n_units: int
    n_rows: int
    n_pairs: int
    n_chance: int
    threshold: float
    heldout: float
    at_hand: bool
    paints: bool


class CellShown(TypedDict):
    """A model's unit of a concept, and its correlation with the pivot's unit."""

    layer: str
    unit: int
    correlation: float
    heldout: float


class ConceptShown(TypedDict):
    """A concept. hint: a text that fits its images, hint_share: the share of them; size: number of units that share
    the concept.
    """

    concept: int
    name: str
    label: str
    hint: str
    hint_share: float
    neuron: tuple[int | str, int] | None
    size: int
    unit: str


class ConceptRow(ConceptShown):
    cells: list[CellShown | None]
    tiles: list[int]


class ConceptTile(ConceptShown):
    strength: float


class _Detail(ConceptShown):
    cells: list[CellShown | None]


class ConceptDetail(_Detail, total=False):
    """The concept on the selected image, in every model."""

    image: int
    caption: str
    strength: list[float]
    shows: list[bool]


class RosettaView(TypedDict, total=False):
    message: str
    advice: str
    columns: list[ColumnShown]
    n_found: int
    n_concepts: int
    n_units: int
    n_untrained: int | None
    linked: bool
    pivots: list[str]
    pivot: str
    show: str
    sort: str
    models: list[str]
    every_unit: bool
    other: str
    whose: str
    missed: str
    page: int
    n_pages: int
    at: list[int]
    rows: list[ConceptRow]
    sprite_columns: int
    n_pictures: int
    captions: list[str]
    pictures: list[int]
    side: int
    tiles: list[ConceptTile]
    concept: int | None
    detail: ConceptDetail | None
    chosen: bool


class RosettaArrays(TypedDict, total=False):
    """The arrays. maps: [row, model, example, side, side]; here: [tile, side, side]; now: [model, side, side]."""

    sprite: File
    maps: Uint8s
    here: Uint8s
    picture: File
    now: Uint8s
