"""What the neurons' desk is drawn from."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Floats, Ints, Uint8s, UnitsShown


class NeuronRow(TypedDict):
    """A neuron of the list: what it is listed by, and its first words with their weights."""

    neuron: int
    score: float
    note: str
    words: list[tuple[str, float]]


class NeuronShown(TypedDict):
    """The neuron on show. code_share, random_share: of its direction, and of random ones, that its words rebuild."""

    number: int
    words: list[tuple[str, float]]
    code_share: float
    random_share: float
    differs: bool
    rank_one: float
    strength: float


class GroupShown(TypedDict):
    """Images of the gallery that are alike, and the texts near them."""

    places: list[int]
    texts: list[str]
    along: float


class GalleryShown(TypedDict):
    """The neuron's images. limit: the scale of maps and bars; separation, one_group: how clearly the groups part, and
    how clearly images without groups would; strips: images of every interval."""

    how: str
    ids: list[int]
    names: list[str]
    norms: list[float]
    along: list[float]
    columns: int
    limit: float
    groups: list[GroupShown]
    separation: float
    one_group: float
    strips: list[int]


class EffectsShown(TypedDict):
    """Size and part in the cosine of every kind of effect."""

    rows: dict[str, tuple[float, float | None]]
    cosine: float
    n_images: int


class CurrentShown(TypedDict):
    """The neuron on the selected image."""

    image: int
    name: str
    norm: float
    along: float
    rank: float
    effects: EffectsShown | None


class NeuronsView(UnitsShown, total=False):
    n_neurons: int
    n_read: int
    complete: bool
    grid: list[int]
    found_by: str
    unit: str
    list: list[NeuronRow]
    neuron: NeuronShown
    pinned: bool
    gallery: GalleryShown
    current: CurrentShown | None
    texts: str


class NeuronsArrays(TypedDict, total=False):
    """edges, counts: the histogram of effects; maps: of the gallery's images; map: of the selected one."""

    edges: Floats
    counts: Ints
    sprite: Uint8s
    maps: Floats
    picture: Uint8s
    map: Floats
