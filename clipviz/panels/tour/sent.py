"""What the tour is drawn from."""

from __future__ import annotations

from typing import TypedDict


class StepShown(TypedDict):
    """A step, told inside a panel."""

    title: str
    text: str
    panel: str


class TourView(TypedDict):
    """at: the step that is shown, from 1; 0 for none."""

    steps: list[StepShown]
    at: int


class TourArrays(TypedDict):
    pass
