"""The data from which the query bar is drawn."""

from __future__ import annotations

from typing import TypedDict


class QueryView(TypedDict):
    can_undo: bool
    can_redo: bool
    model: str
    size: str
    device: str
    n_images: int
    code: str
    token: str
    examples: list[str]


class QueryArrays(TypedDict):
    pass
