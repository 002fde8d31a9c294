"""A grid of maps for several images, texts, methods and heads, for print.

A session provides each map; nothing is computed here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from clipviz.figures import style
from clipviz.figures.panels import scale_of

TOKENS = "token decomposition"
MOST = 400  # largest number of maps in one grid


@dataclass(frozen=True)
class Column:
    """One column: its text, how its maps are computed, their kind, and the values drawn at full strength and not at
    all (see style.laid).
    """

    text: str
    method: str
    kind: str
    limit: float
    floor: float


@dataclass(frozen=True)
class MapGrid:
    """pictures: [image] of uint8 [rows, cols, 3]; names: [image]; maps: [image, column] of [rows, cols]."""

    pictures: list[np.ndarray]
    names: list[str]
    columns: list[Column]
    maps: list[list[np.ndarray]]
    provenance: str


def map_grid(
    session: Any,
    images: Sequence[int],
    texts: Sequence[str],
    methods: Sequence[str] = (TOKENS,),
    heads: Sequence[tuple[int, int]] = (),
    scope: str = "late",
) -> MapGrid:
    """Return the values of a grid: one row per image, and for each text one column per method and head.

    session: a clipviz.Session. methods: "token decomposition" (the heads of `scope`: "late" or "all") or names of
    session.maps.baselines. heads: (layer, head) pairs. All maps of one method share a scale over images and
    texts, and so do all heads. Raises ValueError if there is nothing to show, or for unknown methods, images or
    heads.
    """
    known = (TOKENS, *session.maps.baselines)
    unknown = [method for method in methods if method not in known]
    if unknown:
        raise ValueError(f"expected methods among {', '.join(known)}, got {unknown[0]!r}")
    if scope not in ("late", "all"):
        raise ValueError(f"expected scope 'late' or 'all', got {scope!r}")
    if not len(images) or not len(texts) or not (len(methods) or len(heads)):
        raise ValueError(
            "expected at least one image, one text, and one method or head, got none for at least one of them"
        )
    n_maps = len(images) * len(texts) * (len(methods) + len(heads))
    if n_maps > MOST:
        raise ValueError(f"expected at most {MOST} maps in one grid, got {n_maps}; make several grids")
    for layer, head in heads:
        if not (0 <= layer < session.model.n_layers and 0 <= head < session.model.n_heads):
            raise ValueError(
                f"expected heads as (layer, head) within {session.model.n_layers} layers of "
                f"{session.model.n_heads}, got {(layer, head)}"
            )
    found = {(i, text): _maps(session, i, text, methods, heads, scope) for i in images for text in texts}
    same: dict[str, list[np.ndarray]] = {}
    for maps in found.values():
        for name, one in maps.items():
            same.setdefault(_shared(name, methods), []).append(one)
    names = list(next(iter(found.values())))
    columns = [_column(text, name, methods, same[_shared(name, methods)]) for text in texts for name in names]
    return MapGrid(
        [session.images.pixels(i) for i in images],
        [session.images.names[i] for i in images],
        columns,
        [[found[i, text][name] for text in texts for name in names] for i in images],
        session.provenance(),
    )


@style.as_written
def grid(
    session: Any,
    images: Sequence[int],
    texts: Sequence[str],
    methods: Sequence[str] = (TOKENS,),
    heads: Sequence[tuple[int, int]] = (),
    scope: str = "late",
    width: float = style.PAGE,
    font: float = style.BODY,
) -> Figure:
    """Return one grid for print, with a shared scale for each method; see map_grid. width: inches; font: points."""
    made = map_grid(session, images, texts, methods, heads, scope)
    n_columns = 1 + len(made.columns)
    side = width / n_columns
    per_text = len(made.columns) // len(texts)
    letters = max(6, int(side * 72 / (0.56 * style.SMALL)))
    titles = [
        textwrap.fill(column.method, letters) if per_text > 1 else textwrap.fill(f"“{column.text}”", letters)
        for column in made.columns
    ]
    n_lines = max(title.count("\n") + 1 for title in titles)
    head = 0.12 * n_lines + (0.2 if per_text > 1 else 0.05)
    foot = 0.62
    figure = style.new(width, head + foot + len(made.pictures) * (side + 0.04), constrained=False)
    for row, (picture, maps) in enumerate(zip(made.pictures, made.maps, strict=True)):
        y = head + row * (side + 0.04)
        style.place(figure, 0, y, side - 0.04).picture(picture)
        for at, (column, one) in enumerate(zip(made.columns, maps, strict=True)):
            tile = style.place(figure, (at + 1) * side, y, side - 0.04)
            tile.laid(picture, one, column.kind, limit=column.limit, floor=column.floor)
    for at, (column, title) in enumerate(zip(made.columns, titles, strict=True)):
        style.words(figure, (at + 1) * side, head - 0.05, title, style.SMALL, style.INK, va="bottom")
        if per_text > 1 and at % per_text == 0:
            said = textwrap.shorten(f"“{column.text}”", max(8, letters * per_text), placeholder="…")
            style.words(figure, (at + 1) * side, 0.12, said, style.BODY, style.INK)
    _scales(figure, made, methods, head + len(made.pictures) * (side + 0.04))
    return style.finish(figure, font, made.provenance)


def _scales(figure: Figure, made: MapGrid, methods: Sequence[str], y: float) -> None:
    """Draw a colour bar for each scale, `y` inches below the figure's top."""
    width, height = figure.get_size_inches()
    scales = {_shared(column.method, methods): column for column in made.columns}
    each = width / len(scales)
    for place, (name, column) in enumerate(scales.items()):
        x = place * each + 0.12 * each
        bar = figure.add_axes((x / width, 1 - (y + 0.12) / height, 0.72 * each / width, 0.07 / height))
        scale = scale_of(column.kind, column.limit, column.floor)
        figure.colorbar(scale, cax=bar, orientation="horizontal").outline.set_visible(False)
        bar.tick_params(labelsize=style.SMALL - 1, length=2, pad=1)
        bar.locator_params(nbins=2)
        letters = max(6, int(0.9 * each * 72 / (0.56 * style.SMALL)))
        style.words(figure, x, y + 0.36, textwrap.fill(name, letters), style.SMALL, style.INK, va="top")


def _maps(
    session: Any, image: int, text: str, methods: Sequence[str], heads: Sequence[tuple[int, int]], scope: str
) -> dict[str, np.ndarray]:
    tokens = session.maps.tokens(text, image)
    baselines = session.maps.compare(text, image) if set(methods) - {TOKENS} else {}
    found = {method: tokens.map(scope) if method == TOKENS else baselines[method] for method in methods}
    for layer, head in heads:
        found[f"L{layer}·H{head}"] = tokens.map("head", layer, head)
    return found


def _column(text: str, name: str, methods: Sequence[str], maps: Sequence[np.ndarray]) -> Column:
    """Return a column with the scale of all maps that share it."""
    kind, limit = _kind(name, methods), max(float(np.abs(one).max()) for one in maps)
    return Column(text, name, kind, limit, style.floor_of(kind, *maps))


def _shared(name: str, methods: Sequence[str]) -> str:
    """Return the key of a map's scale: its method, or all heads together."""
    return name if name in methods else "heads"


def _kind(name: str, methods: Sequence[str]) -> str:
    return "signed" if name == TOKENS or name not in methods else "plain"
