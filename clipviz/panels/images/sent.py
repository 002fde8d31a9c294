"""The data from which the gallery is drawn."""

from __future__ import annotations

from typing import TypedDict

from clipviz.panels.core.sent import File


class ImageList(TypedDict):
    """One list of the gallery."""

    title: str
    count: int


class _Always(TypedDict):
    order: str
    by: str
    lists: list[ImageList]
    ids: list[int]
    scores: list[float | None]
    names: list[str]
    columns: int
    page: int
    pages: int


class ImagesView(_Always, total=False):
    """The gallery's view. n_subset: number of images with the chosen attribute, None without a choice; attributes:
    images per word.

    places, n_tiles: used if a page keeps one sheet for all its answers.
    """

    attributes: dict[str, dict[str, int]]
    column: str
    value: str
    n_subset: int | None
    n_images: int
    n_read: int
    skipped: list[tuple[str, str]]
    n_skipped: int
    complete: bool
    waits: str
    places: list[int]
    n_tiles: int


class ImagesArrays(TypedDict):
    sprite: File
