"""Figures of chapter 4 (Rosetta neurons): one function per figure of the thesis, from plain values to a Figure.

Nothing is computed here: maps, correlations and counts are arguments. Maps are uint8, 0 at a unit's mean and 255
at its usual peak, so that a faint map stays faint.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from clipviz.figures import style

GAP = 0.03
"""Inches between neighbouring pictures."""


@dataclass(frozen=True)
class ConceptBlock:
    """One concept of a dictionary page: title and note, pictures [example] uint8, maps [model, example, rows, cols]
    uint8, and a note per model, "" if it has no unit.
    """

    title: str
    note: str
    pictures: Sequence[np.ndarray]
    maps: np.ndarray
    units: Sequence[str]


@style.as_written
def dictionary_page(
    blocks: Sequence[ConceptBlock], models: Sequence[str], width: float = style.PAGE, across: int = 4
) -> Figure:
    """Figures 4.2 and C.4-C.6: one block per concept, with the images and each model's maps below them.

    models: names of the rows; across: number of blocks side by side.
    """
    across = min(across, max(1, len(blocks)), max(1, round(width / 1.7)))
    n_examples = max((len(block.pictures) for block in blocks), default=1)
    left, between, head, tail = 0.62, 0.16, 0.3, 0.1
    side = (width - left - between * (across - 1) - 0.02) / (across * n_examples) - GAP
    band = head + (1 + len(models)) * (side + GAP) + tail
    n_bands = -(-len(blocks) // across)
    height = max(0.5, n_bands * band)
    figure = style.new(width, height, constrained=False)
    for place, block in enumerate(blocks):
        row, column = divmod(place, across)
        x0 = left + column * (n_examples * (side + GAP) + between)
        y0 = row * band
        letters = int(n_examples * (side + GAP) * 72 / (0.58 * style.BODY))
        style.words(figure, x0, y0 + 0.13, _short(block.title, letters), style.BODY, style.INK)
        note = _short(block.note, int(1.3 * letters))
        style.words(figure, x0, y0 + 0.25, note, style.SMALL - 1, style.FAINT)
        for example, pixels in enumerate(block.pictures):
            x = x0 + example * (side + GAP)
            style.place(figure, x, y0 + head, side).picture(pixels)
            for model in range(len(models)):
                y = y0 + head + (model + 1) * (side + GAP)
                tile = style.place(figure, x, y, side)
                if block.units[model]:
                    lit(tile, pixels, block.maps[model, example])
                else:
                    tile.frame(style.RULE, 0.5)
        if column == 0:
            for model, name in enumerate(["image", *models]):
                y = y0 + head + model * (side + GAP) + side / 2
                name = textwrap.fill(name, 10)
                style.words(figure, left - 0.06, y, name, style.SMALL, style.INK, ha="right", va="center")
    return figure


@style.as_written
def all_concepts(
    picture: np.ndarray,
    tiles: Sequence[tuple[str, np.ndarray]],
    model: str = "",
    width: float = style.PAGE,
    across: int = 8,
) -> Figure:
    """Figure 4.1: every concept on one image; the image itself comes first.

    picture: uint8 [rows, cols, 3]; tiles: one (name, uint8 map [rows, cols]) per concept; model: the model of
    these units.
    """
    gap, under = 0.06, 0.16
    side = (width - gap * (across - 1)) / across
    n_rows = -(-(len(tiles) + 1) // across)
    figure = style.new(width, n_rows * (side + under) + 0.02, constrained=False)
    for place in range(len(tiles) + 1):
        row, column = divmod(place, across)
        x, y = column * (side + gap), row * (side + under)
        tile = style.place(figure, x, y, side)
        title = "image" if place == 0 else tiles[place - 1][0]
        if place == 0:
            tile.picture(picture, edge=style.ACCENT)
            title = f"units of {model}" if model else title
        else:
            lit(tile, picture, tiles[place - 1][1])
        style.words(figure, x, y + side + 0.11, _short(title, int(24 * side)), style.SMALL - 1.5, style.INK)
    return figure


@style.as_written
def pairs_against_chance(
    rows: Mapping[str, tuple[int, int, int | None]], k: int, width: float = style.COLUMN
) -> Figure:
    """Best buddies of CLIP with each model: all of them and those above the chance threshold, against shuffled
    images.

    rows: model -> (pairs above the threshold, pairs of shuffled images above it, pairs of an untrained copy above
    it, None without such a copy).
    """
    figure, axes = style.panels(1, 1, width, 0.8 + 0.42 * len(rows))
    axis = style.plain(axes[0, 0], f"Best buddies with CLIP (K = {k})", "pairs above the threshold")
    looks = (
        ("trained", style.ACCENT, 0.0),
        ("shuffled images", style.FAINT, 0.27),
        ("untrained copy", style.RULE, -0.27),
    )
    for place, counts in enumerate(rows.values()):
        order = (counts[0], counts[1], counts[2])
        for (label, color, offset), count in zip(looks, order, strict=True):
            if count is None:
                continue
            axis.barh(place + offset, count, 0.24, color=color, label=label if place == 0 else None)
            axis.annotate(
                f"{count:,}",
                (count, place + offset),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=style.SMALL - 1,
                color=style.INK,
            )
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 1.15 * max(1, max(count or 0 for counts in rows.values() for count in counts)))
    figure.legend(fontsize=style.SMALL, frameon=False, loc="outside lower center", ncols=3)
    return figure


@style.as_written
def held_out(points: Mapping[str, tuple[np.ndarray, np.ndarray]], width: float = style.PAGE) -> Figure:
    """Return the correlation of every pair on the mining images and on others, one panel per model, which shows how
    much was chance.

    points: model -> (mined [pair], held out [pair]).
    """
    figure, axes = style.panels(1, len(points), width, 0.5 + width / len(points) * 0.82)
    for axis, (name, (mined, other)) in zip(axes[0], points.items(), strict=True):
        style.plain(axis, name, "mined images", "other images" if axis is axes[0, 0] else "")
        low = min(0.0, *(float(values.min()) if len(values) else 0.0 for values in (mined, other)))
        axis.plot([low, 1], [low, 1], color=style.RULE, linewidth=0.8, zorder=0)
        axis.scatter(mined, other, s=4, color=style.ACCENT, alpha=0.35, linewidths=0, rasterized=True)
        axis.set_xlim(low, 1)
        axis.set_ylim(low, 1)
        if len(other):
            axis.text(
                0.03,
                0.97,
                f"{len(other):,} pairs\nmean {mined.mean():.2f} → {other.mean():.2f}",
                transform=axis.transAxes,
                va="top",
                fontsize=style.SMALL,
                color=style.INK,
            )
    return figure


@style.as_written
def where_units_meet(
    counts: Mapping[str, tuple[Sequence[str], np.ndarray]],
    pivot_layers: Sequence[str],
    width: float = style.PAGE,
) -> Figure:
    """Draw in which layers of CLIP and of each model the pairs lie, as one small matrix per model.

    counts: model -> (names of its layers, pairs [pivot layer, layer]).
    """
    figure, axes = style.panels(1, len(counts), width, 0.9 + 0.16 * len(pivot_layers) + 0.4)
    for axis, (name, (layers, table)) in zip(axes[0], counts.items(), strict=True):
        share = table / max(1, int(table.sum()))
        axis.imshow(share, cmap="Blues", vmin=0, aspect="auto")
        first = axis is axes[0, 0]
        style.plain(axis, name, "its layer", "CLIP layer" if first else "")
        axis.set_xticks(range(len(layers)), layers, rotation=90)
        axis.set_yticks(range(len(pivot_layers)), pivot_layers if first else [""] * len(pivot_layers))
        top = share.max() if share.size else 0
        for row, column in zip(*np.nonzero(table), strict=True):
            color = "white" if share[row, column] > 0.55 * top else style.INK
            axis.text(column, row, int(table[row, column]), ha="center", va="center", fontsize=5, color=color)
    return figure


@style.as_written
def image_rows(
    rows: Sequence[Sequence[tuple[np.ndarray, str]]], heads: Sequence[str], width: float = style.PAGE
) -> Figure:
    """Figures 4.3-4.8: rows of pictures with captions: inversions beside their targets, edits beside their
    originals.

    rows: of (uint8 picture, caption); heads: titles of the columns.
    """
    n_columns = len(heads)
    gap, head, under = 0.06, 0.2, 0.17
    side = (width - gap * (n_columns - 1)) / n_columns
    figure = style.new(width, head + len(rows) * (side + under), constrained=False)
    for column, name in enumerate(heads):
        style.words(figure, column * (side + gap), 0.14, name, style.SMALL, style.INK)
    for row, pictures in enumerate(rows):
        for column, (pixels, word) in enumerate(pictures):
            x, y = column * (side + gap), head + row * (side + under)
            style.place(figure, x, y, side).picture(pixels)
            style.words(figure, x, y + side + 0.11, word, style.SMALL - 1, style.FAINT)
    return figure


@dataclass(frozen=True)
class UnitEdit:
    """A picture, the uint8 map of one unit on it, the pictures with less and with more of the unit, and its name."""

    picture: np.ndarray
    map: np.ndarray
    less: np.ndarray
    more: np.ndarray
    unit: str


@style.as_written
def unit_edits(rows: Sequence[UnitEdit], width: float = 4.2) -> Figure:
    """Figures 4.8 and C.12: pictures in rows, with the map of one unit, and with less and more of the unit."""
    heads = ("generated", "the unit", "less of it", "more of it")
    gap, head, under = 0.06, 0.2, 0.17
    side = (width - gap * (len(heads) - 1)) / len(heads)
    figure = style.new(width, head + len(rows) * (side + under), constrained=False)
    for column, name in enumerate(heads):
        style.words(figure, column * (side + gap), 0.14, name, style.SMALL, style.INK)
    for row, one in enumerate(rows):
        y = head + row * (side + under)
        for column, pixels in enumerate((one.picture, one.picture, one.less, one.more)):
            tile = style.place(figure, column * (side + gap), y, side)
            if column == 1:
                lit(tile, pixels, one.map)
            else:
                tile.picture(pixels)
        style.words(figure, side + gap, y + side + 0.11, one.unit, style.SMALL - 1, style.FAINT)
    return figure


def lit(tile: style.Tile, pixels: np.ndarray, heatmap: np.ndarray) -> None:
    """Draw a picture under a uint8 map on the map's own fixed scale."""
    tile.laid(pixels, heatmap, "glow", limit=255)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(1, length - 1)].rstrip() + "…"
