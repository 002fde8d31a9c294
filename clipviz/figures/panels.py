"""The dashboard's panels as matplotlib figures for print: values in, a Figure out (save as PDF, SVG or PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from clipviz.figures.style import as_written

POSITIVE, NEGATIVE, ZERO = "#c2410c", "#1d4ed8", "#f3f4f6"
ACCENT, INK, FAINT = "#0b6bcb", "#1c2430", "#98a2b0"
DIVERGING = LinearSegmentedColormap.from_list("clipviz_diverging", [NEGATIVE, ZERO, POSITIVE])


@as_written
def heads_figure(heads: np.ndarray, mlps: np.ndarray, title: str = "", width: float = 3.4) -> Figure:
    """The layer x head grid with the MLP column. heads: [layer, head]; mlps: [1 + layer]; width in inches."""
    n_layers, n_heads = heads.shape
    both = np.concatenate([heads, np.full((n_layers, 1), np.nan), mlps[1 : 1 + n_layers, None]], 1)
    limit = float(np.nanmax(np.abs(both))) or 1.0
    figure = Figure(figsize=(width, 0.75 + width * 0.82 * n_layers / (n_heads + 2)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(both, cmap=DIVERGING, vmin=-limit, vmax=limit, origin="lower", aspect="auto")
    labels = [*range(n_heads), n_heads + 1]
    step = 1 if n_heads <= 12 else 4
    axes.set_xticks(
        labels[:-1:step] + labels[-1:], [f"H{h}" for h in range(0, n_heads, step)] + ["MLP"], fontsize=7
    )
    axes.set_yticks(range(0, n_layers, step), [f"L{layer}" for layer in range(0, n_layers, step)], fontsize=7)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=8, loc="left", color=INK)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@as_written
def heatmap_figure(pixels: np.ndarray, heatmap: np.ndarray, title: str = "", width: float = 2.2) -> Figure:
    """An image with its token map laid over it. pixels: uint8 [rows, cols, 3]; heatmap: [rows, cols]."""
    figure = Figure(figsize=(width, width + 0.25), layout="constrained")
    axes = figure.add_subplot()
    rows, cols = pixels.shape[:2]
    limit = float(np.abs(heatmap).max()) or 1.0
    axes.imshow(pixels, extent=(0, cols, rows, 0))
    strength = np.clip(np.abs(heatmap) / limit, 0, 1) ** 0.85
    colours = DIVERGING(np.where(heatmap < 0, 0.0, 1.0))
    colours[..., 3] = 0.8 * strength
    axes.imshow(colours, extent=(0, cols, rows, 0), interpolation="bilinear")
    axes.set_title(title, fontsize=8, loc="left", color=INK)
    axes.axis("off")
    return figure


@as_written
def textspan_figure(rows: Sequence[dict[str, Any]], title: str = "", width: float = 3.4) -> Figure:
    """A head's texts with the variance each explains (bars) and its null (ticks). rows: text, gain, null."""
    figure = Figure(figsize=(width, 0.45 + 0.19 * max(1, len(rows))), layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(rows))[::-1]
    gains = 100 * np.array([row["gain"] for row in rows])
    null = 100 * np.array([row["null"] for row in rows])
    colours = [ACCENT if row["gain"] > row.get("null_high", row["null"]) else FAINT for row in rows]
    axes.barh(positions, gains, height=0.55, color=colours)
    axes.vlines(null, positions - 0.42, positions + 0.42, color=INK, linewidth=1.1)
    axes.set_yticks(positions, [row["text"] for row in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("variance explained, % (tick: rotated null)", fontsize=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(title, fontsize=8, loc="left", color=INK)
    return figure


CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8c564b", "#6a5acd")


@as_written
def atlas_figure(
    places: np.ndarray,
    colours: np.ndarray,
    values: Sequence[str],
    tiles: Sequence[int],
    pictures: Sequence[np.ndarray],
    title: str = "",
    share: float = 0.0,
    width: float = 6.0,
) -> Figure:
    """The collection in the plane. places: [point, 2]; colours: [point] index into `values`, 255 for none.

    tiles: points drawn as pictures; pictures: [tile] of [rows, cols, 3] uint8; share: of variance in the plane.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    figure = Figure(figsize=(width, 0.62 * width), layout="constrained")
    axes = figure.add_subplot()
    shades = [CATEGORIES[c % len(CATEGORIES)] if c < len(values) else FAINT for c in colours.tolist()]
    axes.scatter(places[:, 0], places[:, 1], s=2, c=shades, linewidths=0)
    for i, pixels in zip(tiles, pictures, strict=True):
        frame = {"edgecolor": shades[i] if colours[i] < len(values) else "white", "linewidth": 0.8}
        box = AnnotationBbox(OffsetImage(pixels, zoom=0.28), tuple(places[i]), pad=0.1, bboxprops=frame)
        axes.add_artist(box)
    for i, value in enumerate(values):
        axes.scatter([], [], s=12, c=CATEGORIES[i % len(CATEGORIES)], label=value)
    if values:
        axes.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{title}: two directions, {share:.0%} of the variance", fontsize=8, loc="left", color=INK)
    return figure
