"""The data from which the grid of heads is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Floats


class HeadSummary(TypedDict):
    """A head's label with its p-value, its first texts, and the role that a person gave it."""

    label: str
    p: float
    texts: list[str]
    role: str


class HeadFound(TypedDict):
    """A head that varies along the typed text."""

    layer: int
    head: int
    share: float
    above: float


class HeadsView(TypedDict):
    """The grid's view. summaries: by "layer,head", None until the heads are labelled."""

    n_layers: int
    n_heads: int
    has_tail: bool
    kept: list[int]
    cosine: float | None
    cosine_before: float | None
    summaries: dict[str, HeadSummary] | None
    waits: str
    found: list[HeadFound]


class _Always(TypedDict):
    heads: Floats
    mlps: Floats


class HeadsArrays(_Always, total=False):
    """The arrays. heads: [layer, head]; mlps: input term, each layer's, the pool's; variance: [kept layer, head]."""

    variance: Floats
