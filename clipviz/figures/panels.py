"""The panels as matplotlib figures for print, from plain values to a Figure (saved as PDF, SVG or PNG)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from clipviz.figures import style


@style.as_written
def heads_figure(
    heads: np.ndarray,
    mlps: np.ndarray,
    title: str = "",
    width: float = style.COLUMN,
    what: str = "direct effect",
) -> Figure:
    """Return the grid of heads and MLPs. heads: [layer, head]; mlps: [1 + layer]; what: the bar's quantity."""
    n_layers, n_heads = heads.shape
    both = np.concatenate([heads, np.full((n_layers, 1), np.nan), mlps[1 : 1 + n_layers, None]], 1)
    limit = float(np.nanmax(np.abs(both))) or 1.0
    figure, drawn = style.panels(1, 1, width, 0.75 + width * 0.82 * n_layers / (n_heads + 2))
    axes = style.plain(drawn[0, 0], textwrap.fill(title, _letters(width)))
    image = axes.imshow(both, cmap=style.DIVERGING, vmin=-limit, vmax=limit, origin="lower", aspect="auto")
    labels = [*range(n_heads), n_heads + 1]
    step = 1 if n_heads <= 12 else 4
    axes.set_xticks(labels[:-1:step] + labels[-1:], [f"H{h}" for h in range(0, n_heads, step)] + ["MLP"])
    axes.set_yticks(range(0, n_layers, step), [f"L{layer}" for layer in range(0, n_layers, step)])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _bar(figure, axes, image, what)
    return figure


@style.as_written
def heatmap_figure(
    pixels: np.ndarray,
    heatmap: np.ndarray,
    title: str = "",
    width: float = style.COLUMN,
    kind: str = "signed",
    limit: float | None = None,
    note: str = "",
    what: str = "",
    opacity: float = 0.75,
) -> Figure:
    """Return an image with its token map laid over it and the map's scale beside it.

    pixels: uint8 [rows, cols, 3]; heatmap: [rows, cols]; kind, limit, opacity: as in style.laid; note: a line below
    the image, such as its cosine; what: the quantity on the bar.
    """
    limit = float(np.abs(heatmap).max()) if limit is None else limit
    lines = textwrap.wrap(title, _letters(width))
    figure, drawn = style.panels(1, 1, width, 0.8 * width + 0.3 + 0.12 * len(lines))
    axes = style.laid(drawn[0, 0], pixels, heatmap, kind, limit=limit, opacity=opacity)
    axes.set_title("\n".join(lines), fontsize=style.BODY, loc="left", color=style.INK)
    axes.set_xlabel(textwrap.fill(note, _letters(width)), fontsize=style.SMALL, color=style.INK)
    _bar(figure, axes, scale_of(kind, limit, style.floor_of(kind, heatmap)), what)
    return figure


def scale_of(kind: str, limit: float, floor: float = 0.0) -> ScalarMappable:
    """Return the colours of style.laid as a scale for a colour bar, from `floor` or, signed, from -limit."""
    up = style.POSITIVE if kind == "signed" else style.SUN
    if kind == "signed":
        colours, low = style.DIVERGING, -limit
    else:
        colours, low = (
            LinearSegmentedColormap.from_list("clipviz_sun", [to_rgb("#6b7280"), to_rgb(up)]),
            floor,
        )
    return ScalarMappable(Normalize(low, limit if limit > low else low + 1.0), colours)


@style.as_written
def textspan_figure(
    rows: Sequence[Mapping[str, Any]], title: str = "", width: float = style.COLUMN
) -> Figure:
    """Return a head's texts with the variance that each explains and the threshold that determines its colour.

    rows: text, gain and null_high, the 95th percentile under random rotations; a bar beyond it is blue.
    """
    letters = max(14, _letters(width) // 2)
    texts = [textwrap.fill(str(row["text"]), letters) for row in rows]
    positions, height = _row_places(texts)
    figure, drawn = style.panels(1, 1, width, 0.85 + height)
    axes = style.plain(drawn[0, 0], textwrap.fill(title, _letters(width)), "variance explained, %")
    gains = 100 * np.array([row["gain"] for row in rows])
    deciding = 100 * np.array([row["null_high"] for row in rows])
    for beyond, colour, label in (
        (True, style.ACCENT, "beyond random rotations"),
        (False, style.RULE, "within"),
    ):
        chosen = (gains > deciding) == beyond
        if chosen.any():
            axes.barh(positions[chosen], gains[chosen], height=0.1, color=colour, label=label)
    axes.vlines(
        deciding,
        positions - 0.075,
        positions + 0.075,
        color=style.INK,
        linewidth=1.1,
        label="95% of rotations",
    )
    axes.set_yticks(positions, texts)
    axes.set_ylim(height, 0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(
        fontsize=style.SMALL,
        frameon=False,
        loc="outside lower center",
        ncols=3,
        handlelength=1.2,
        columnspacing=1,
    )
    return figure


@style.as_written
def gallery_figure(
    lists: Sequence[tuple[str, Sequence[tuple[np.ndarray, str]]]],
    width: float = style.COLUMN,
    across: int = 7,
) -> Figure:
    """Return captioned thumbnails in rows below the title of their list. lists: (title, (pixels, caption))."""
    gap, under, head = 0.05, 0.13, 0.2
    side = (width - gap * (across - 1)) / across
    heights = [head * bool(title) + -(-len(tiles) // across) * (side + under) for title, tiles in lists]
    figure = style.new(width, max(0.4, sum(heights)), constrained=False)
    top = 0.0
    for (title, tiles), height in zip(lists, heights, strict=True):
        if title:
            style.words(figure, 0, top + 0.13, title, style.BODY, style.INK)
        for place, (pixels, word) in enumerate(tiles):
            row, column = divmod(place, across)
            x, y = column * (side + gap), top + head * bool(title) + row * (side + under)
            style.place(figure, x, y, side).picture(pixels)
            style.words(figure, x, y + side + 0.09, word, style.SMALL - 1, style.FAINT)
        top += height
    return figure


@style.as_written
def lists_figure(columns: Sequence[Mapping[str, Any]], width: float = style.COLUMN) -> Figure:
    """Return lists of scored texts as bars, one list below the other. columns: title, unit, rows of text and score."""
    letters = max(14, _letters(width) // 2)
    texts = [[textwrap.fill(str(row["text"]), letters) for row in one["rows"]] for one in columns]
    places = [_row_places(names) for names in texts]
    heights = [0.5 + height for _, height in places]
    figure, drawn = style.panels(len(columns), 1, width, sum(heights), height_ratios=heights)
    for axes, one, names, (positions, height) in zip(drawn[:, 0], columns, texts, places, strict=True):
        style.plain(axes, one["title"], one["unit"])
        axes.barh(positions, [row["score"] for row in one["rows"]], height=0.1, color=style.ACCENT)
        axes.set_yticks(positions, names)
        axes.set_ylim(height, 0)
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure


def _row_places(texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """Return the centres of rows of one or more lines, in inches from the top, and their total height."""
    heights = np.array([0.06 + 0.115 * (text.count("\n") + 1) for text in texts] or [0.175])
    ends = heights.cumsum()
    return (ends - heights / 2)[: len(texts)], float(ends[-1])


@style.as_written
def facts_figure(rows: Sequence[tuple[str, str]], title: str = "", width: float = style.COLUMN) -> Figure:
    """Return names and values, one pair below the other. rows: (name, value)."""
    letters = _letters(width, 0.68)
    texts = [textwrap.fill(value, letters) for _, value in rows]
    lines = [text.count("\n") + 1 for text in texts]
    head = 0.24 if title else 0.06
    figure = style.new(width, head + 0.145 * sum(lines) + 0.06, constrained=False)
    if title:
        style.words(figure, 0, 0.14, title, style.BODY, style.INK)
    y = head
    for (name, _), text, n_lines in zip(rows, texts, lines, strict=True):
        style.words(figure, 0, y, name, style.SMALL, style.FAINT, va="top")
        style.words(figure, 0.3 * width, y, text, style.SMALL, style.INK, va="top")
        y += 0.145 * n_lines
    return figure


def _letters(width: float, share: float = 0.86) -> int:
    """Return the number of letters of body text in a share of a width in inches."""
    return max(8, int(share * width * 72 / (0.54 * style.BODY)))


def _bar(figure: Figure, axes: Axes, image: Any, what: str) -> None:
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=style.SMALL, length=2)
    bar.ax.locator_params(nbins=5)
    bar.set_label(what, fontsize=style.SMALL, color=style.INK)
    bar.outline.set_visible(False)


@style.as_written
def atlas_figure(
    places: np.ndarray,
    colours: np.ndarray,
    groups: Sequence[Sequence[Any]],
    pictures: Sequence[tuple[int, np.ndarray]],
    title: str = "",
    share: float = 0.0,
    ends: Sequence[Sequence[str]] = (),
    regions: Sequence[Sequence[Any]] = (),
    width: float = style.PAGE,
) -> Figure:
    """Return the collection in the plane, with one scale for both axes.

    places: [point, 2]; colours: [point] bytes; groups: (byte, word, points, colour or "") of every byte that
    occurs, empty without colours; pictures: (point, uint8 [rows, cols, 3]); share: of variance in the plane;
    ends: texts at the low and high end of the first axis, then of the second; regions: (text, x, y, points),
    densest first; those that fit are drawn.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    figure = style.new(width, 0.62 * width)
    axes = figure.add_subplot()
    shade = {byte: colour or style.FAINT for byte, _, _, colour in groups}
    shades = [shade.get(byte, style.FAINT) for byte in colours.tolist()]
    edge = {"edgecolors": style.FAINT, "linewidths": 0.2} if groups else {"linewidths": 0}
    axes.scatter(places[:, 0], places[:, 1], s=3, c=shades, rasterized=len(places) > 20_000, **edge)
    for i, pixels in pictures:
        frame = {"edgecolor": shades[i] if groups else "white", "linewidth": 0.8}
        box = AnnotationBbox(
            OffsetImage(pixels, zoom=0.04 * width), tuple(places[i]), pad=0.1, bboxprops=frame
        )
        axes.add_artist(box)
    for _, word, n, colour in groups:
        axes.scatter(
            [],
            [],
            s=12,
            c=colour or style.FAINT,
            edgecolors=style.FAINT,
            linewidths=0.3,
            label=f"{word} ({n:,})",
        )
    if groups:
        axes.legend(fontsize=style.SMALL, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(ends) == 4:
        for name, (low, high), inches in (
            (axes.set_xlabel, ends[:2], width),
            (axes.set_ylabel, ends[2:], 0.62 * width),
        ):
            said = [
                textwrap.shorten(" · ".join(texts), _letters(inches, 0.36), placeholder="…")
                for texts in (low, high)
            ]
            name(f"← {said[0]}     {said[1]} →", fontsize=style.SMALL)
    _labels(axes, regions, places, width)
    axes.set_title(
        f"{title}: two directions, {share:.0%} of the variance",
        fontsize=style.BODY,
        loc="left",
        color=style.INK,
    )
    return figure


def _labels(axes: Axes, regions: Sequence[Sequence[Any]], places: np.ndarray, width: float) -> None:
    """Draw texts at dense regions, the densest first, omitting those that overlap an earlier one."""
    # about the extent of the plane per point
    unit = max(float(np.ptp(places, axis=0).max()), 1e-12) / (0.55 * width * 72)
    kept: list[tuple[float, float, float]] = []
    for text, x, y, _ in regions:
        half = 0.3 * style.SMALL * (len(text) + 2) * unit
        if any(
            abs(x - px) < half + other and abs(y - py) < 1.6 * style.SMALL * unit for px, py, other in kept
        ):
            continue
        kept.append((x, y, half))
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        axes.annotate(text, (x, y), ha="center", va="center", fontsize=style.SMALL, bbox=box, zorder=4)
