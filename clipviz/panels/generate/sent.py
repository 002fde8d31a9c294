"""The data from which the generator's desk is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import File, Uint8s


class SaidShown(TypedDict):
    """The model's answers about a picture."""

    question: str
    answer: str
    probability: float | None


class ConceptListed(TypedDict):
    """Units of the generator that are active together."""

    place: int
    name: str
    similarity: float
    units: list[tuple[str, int]]
    readers: list[str]


class GenerateView(TypedDict, total=False):
    """The desk's view. settled: whether the picture is at rest; step, of: steps of a search; asked, distance:
    distances of the maps from the requested ones, before and now.
    """

    message: str
    settled: bool
    step: int
    of: int
    work: str
    asked: float | None
    distance: float | None
    done: bool | None
    verdict: str
    reached: float
    scene: dict[str, str] | None
    side: int
    classes: list[str]
    label: str | None
    link: str
    before: list[SaidShown]
    after: list[SaidShown]
    n_units: int
    concepts: list[ConceptListed]
    n_concepts: int
    n_kept: int
    image: int | None
    moved: list[float]


class GenerateArrays(TypedDict, total=False):
    """The arrays. map, tiles: deviations of the concepts' units as bytes; pixels: an intermediate picture's."""

    picture: File
    first: File
    map: Uint8s
    tiles: Uint8s
    kept: File
    pixels: Uint8s
