"""The data from which the ablation desk is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import AblationShown, Place


class PresetShown(TypedDict):
    """Heads to remove together."""

    kind: str
    name: str
    heads: list[tuple[int, int]]


class OutcomeRow(TypedDict):
    """Accuracy of a group before and after, with random heads removed instead, and the change's interval."""

    name: str
    n_images: int
    before: float
    after: float
    random: list[float]
    change: tuple[float, float]
    differs: bool


class OutcomeShown(TypedDict):
    """Accuracy over the collection."""

    everything: OutcomeRow
    worst: OutcomeRow | None
    groups: list[OutcomeRow]
    removed: bool
    by: str
    n_heads: int
    drawn_from: list[int]
    chance: float


class DeskShown(TypedDict):
    """One image's sums, which are in the panel's `desk`. rows: the classes shown; label: index of the true one among
    them, or -1; key: changes with the sums.
    """

    arrays: dict[str, Place]
    names: list[str]
    prompts: list[str]
    rows: list[int]
    n_classes: int
    apart: bool
    token: bool
    heads: list[tuple[int, int]]
    scale: float
    bias: float | None
    link: str
    label: int
    n_means: int
    key: int


class Apart(TypedDict):
    """What only this desk removes."""

    mlps: list[int]
    token: bool


class AblateView(TypedDict, total=False):
    """The desk's view. tasks: [name, note]; rest: everything except the late heads."""

    n_layers: int
    n_heads: int
    n_mlps: int
    has_token: bool
    kept: list[int]
    rest: AblationShown
    tasks: list[tuple[str, str]]
    note: str
    task: str
    classes: str
    apart: Apart
    n_read: int
    n_images: int
    complete: bool
    desk: DeskShown | None
    outcome: OutcomeShown | None
    presets: list[PresetShown]
    message: str


class AblateArrays(TypedDict):
    pass
