"""The data from which the tour is drawn."""

from __future__ import annotations

from typing import TypedDict


class StepShown(TypedDict):
    """A step, explained inside a panel."""

    title: str
    text: str
    panel: str


class TourView(TypedDict):
    """The tour's view. at: the current step, from 1; 0 for none."""

    steps: list[StepShown]
    at: int


class TourArrays(TypedDict):
    pass
