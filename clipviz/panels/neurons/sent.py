"""The data from which the neurons' desk is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import File, Floats, Ints, UnitsShown


class NeuronRow(TypedDict):
    """A neuron of the list: its score, and its first words with their weights."""

    neuron: int
    score: float
    note: str
    words: list[tuple[str, float]]


class NeuronShown(TypedDict):
    """The neuron that is shown. code_share, random_share: the share of its direction, and of random directions, that
    its words reconstruct.
    """

    number: int
    words: list[tuple[str, float]]
    code_share: float
    random_share: float
    differs: bool
    rank_one: float
    strength: float


class GroupShown(TypedDict):
    """Images of the gallery that are similar, and the texts near them."""

    places: list[int]
    texts: list[str]
    along: float


class GalleryShown(TypedDict):
    """The neuron's images. limit: the scale of maps and bars; separation, one_group: how well the groups are
    separated, and how well images without groups would be; strips: images of every interval.
    """

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
    """Magnitude and part in the cosine of every kind of effect."""

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
    """The desk's arrays. edges, counts: the histogram of effects; maps: those of the gallery's images; map: that of
    the selected one.
    """

    edges: Floats
    counts: Ints
    sprite: File
    maps: Floats
    picture: File
    map: Floats
