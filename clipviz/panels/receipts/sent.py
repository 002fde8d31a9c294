"""The data from which the receipts are drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import Floats


class Share(TypedDict):
    """The cosine with the text, and the late heads' part of it."""

    cosine: float
    late: float


class Shares(TypedDict):
    """What adds up to the cosine, after the removal and before it."""

    share: Share | None
    before: Share | None


class ReceiptsView(Shares):
    """The receipts' view. stand_ins: number of files that are missing or replaced, and of files checked."""

    sum_check: float
    readout: str
    model: str
    images: str
    texts: str
    index: str
    index_bytes: int
    stand_ins: tuple[int, int]
    device: str
    notes: list[str]
    milliseconds: float
    code: str
    n_heads: int


class ReceiptsArrays(TypedDict, total=False):
    """Direct effects [layer, head] with the removal, and without it."""

    heads: Floats
    heads_before: Floats
