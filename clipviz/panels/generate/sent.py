"""What the generator's desk is drawn from."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Uint8s


class SaidShown(TypedDict):
    """What the model says of a picture."""

    question: str
    answer: str
    probability: float | None


class ConceptListed(TypedDict):
    """Units of the generator that light up together."""

    place: int
    name: str
    similarity: float
    units: list[tuple[str, int]]
    readers: list[str]


class GenerateView(TypedDict, total=False):
    """settled: whether the picture rests; step, of: of a search; asked, distance: of the maps from those asked for."""

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
    """map, tiles: deviations of the concepts' units as bytes; pixels: of a picture on the way."""

    picture: Uint8s
    first: Uint8s
    map: Uint8s
    tiles: Uint8s
    kept: Uint8s
    pixels: Uint8s
