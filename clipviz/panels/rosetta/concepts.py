"""Parts of the Rosetta panel's view: a page of concepts, all concepts on one image, one concept in every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipviz.panels.core import pictures
from clipviz.panels.core.sent import as_sent
from clipviz.panels.rosetta.sent import (
    CellShown,
    ConceptDetail,
    ConceptRow,
    ConceptShown,
    RosettaArrays,
    RosettaView,
)
from clipviz.session import unit_name

if TYPE_CHECKING:
    from clipviz.session import Board
    from clipviz.session.answers import Cell, SharedUnits

THUMBNAIL, PICTURE = 88, 240
MOST_TILES = 120  # most concepts shown on one image


def rows(
    book: SharedUnits, known: list[int], page: int, n_rows: int, places: list[int], n_examples: int
) -> tuple[RosettaView, RosettaArrays]:
    """Return one page of rows, each with the example images and the units' maps on them for the models at `places`."""
    n_pages = max(1, -(-len(known) // n_rows))
    page = min(page, n_pages - 1)
    shown = known[page * n_rows :][:n_rows]
    examples = np.asarray(book.concepts.examples)[shown][:, :n_examples]
    used = sorted(set(examples.ravel().tolist()))
    tile = {image: place for place, image in enumerate(used)}
    sprite, columns = book.sprite(used, THUMBNAIL)
    view: RosettaView = {
        "page": page,
        "n_pages": n_pages,
        "at": places,
        "rows": [_row(book, row, places, n_examples, tile) for row in shown],
        "sprite_columns": columns,
        "n_pictures": len(used),
        "captions": [book.caption(image) for image in used],
        "pictures": used,
    }
    arrays: RosettaArrays = {"sprite": sprite}
    thumbnails = book.concepts.thumbnails
    if thumbnails is not None and shown:
        maps = np.asarray(thumbnails.maps)[shown][:, places, :n_examples]
        arrays["maps"], view["side"] = np.ascontiguousarray(maps), int(maps.shape[-1])
    return view, arrays


def tiles(
    book: SharedUnits, known: list[int], image: int | None, model: str
) -> tuple[RosettaView, RosettaArrays]:
    """Return every concept on the selected image, the strongest first."""
    view: RosettaView = {"tiles": [], "page": 0, "n_pages": 1}
    if image is None:
        return view, {}
    found = book.strongest(image, known, model)
    shown = found[:MOST_TILES]
    view["tiles"] = [{**about(book, one.concept), "strength": one.strength} for one in shown]
    view["n_found"] = len(found)
    return view, {"here": np.stack([one.map[::2, ::2] for one in shown])} if shown else {}


def detail(
    book: SharedUnits, concept: int | None, board: Board, image: int | None
) -> tuple[RosettaView, RosettaArrays]:
    """Return one concept on the selected image, in every model that is loaded."""
    if concept is None:
        return {"concept": None, "detail": None}, {}
    said: ConceptDetail = as_sent(
        about(book, concept), {"cells": [_cell(cell) for cell in book.cells(concept)]}
    )
    if image is None:
        return {"concept": concept, "detail": said}, {}
    seen = book.on_image(image)
    shows = [
        book.networks.reads(name) or bool(seen.maps[:, i].any())
        for i, name in enumerate(book.concepts.models)
    ]
    said |= {
        "image": image,
        "caption": pictures.title(board.images, image),
        "strength": seen.strength[concept].tolist(),
        "shows": shows,
    }
    return {"concept": concept, "detail": said}, {
        "picture": pictures.picture(board.session.images, image, PICTURE),
        "now": np.ascontiguousarray(seen.maps[concept]),
    }


def about(book: SharedUnits, concept: int) -> ConceptShown:
    """Return a concept's names, its neuron in CLIP and how many units share it."""
    neuron, (hint, share) = book.neuron(concept), book.hint(concept)
    return {
        "concept": concept,
        "name": book.title(concept),
        "label": book.label(concept),
        "hint": hint,
        "hint_share": share,
        "neuron": neuron,
        "size": int(book.sizes[concept]),
        "unit": _unit(book, concept),
    }


def _unit(book: SharedUnits, concept: int) -> str:
    """Return the pivot's unit: "L3 · 288" for CLIP, "fine2 · 16" for a generator."""
    neuron, place = book.neuron(concept), book.concepts.where(concept, 0)
    if book.networks.clip == book.concepts.models[0] and neuron:
        return unit_name(neuron)
    return f"{place[0]} · {place[1]}" if place else ""


def _row(
    book: SharedUnits, concept: int, places: list[int], n_examples: int, tile: dict[int, int]
) -> ConceptRow:
    cells = book.cells(concept)
    examples = np.asarray(book.concepts.examples)[concept][:n_examples].tolist()
    return {
        **about(book, concept),
        "cells": [_cell(cells[place]) for place in places],
        "tiles": [tile[image] for image in examples],
    }


def _cell(cell: Cell | None) -> CellShown | None:
    return None if cell is None else as_sent(cell)
