"""One look for every printed figure: column widths, a restrained palette, direct labels, vector output.

The one accent marks what is ours or selected; everything else is ink and greys told apart by marker and dash, so
that a figure survives a photocopier and every kind of colour vision.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0
"""Widths in inches of a figure in one column and across the page."""

INK, FAINT, RULE = "#1c2430", "#7b8794", "#d5dae0"
ACCENT = "#0b6bcb"
POSITIVE, NEGATIVE, ZERO = "#c2410c", "#1d4ed8", "#f3f4f6"
DIVERGING = LinearSegmentedColormap.from_list("clipviz_diverging", [NEGATIVE, ZERO, POSITIVE])
SEQUENTIAL = "magma"

BASELINES = (
    {"color": INK, "marker": "s", "linestyle": "--"},
    {"color": FAINT, "marker": "^", "linestyle": "-."},
    {"color": FAINT, "marker": "D", "linestyle": ":"},
    {"color": INK, "marker": "v", "linestyle": ":"},
    {"color": FAINT, "marker": "P", "linestyle": "--"},
)
OURS = {"color": ACCENT, "marker": "o", "linestyle": "-"}
Given = ParamSpec("Given")
SMALL, BODY = 6.5, 7.5
"""Font sizes in points that stay readable at column width."""


def as_written(make: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Texts of a figure are shown letter by letter: a "$" in them begins no formula."""

    @functools.wraps(make)
    def made(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with mpl.rc_context({"text.parse_math": False}):
            return make(*args, **kwargs)

    return made


def panels(
    n_rows: int, n_cols: int, width: float = COLUMN, height: float = 2.2, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of n_rows x n_cols plain axes, without pyplot and its global state; axes [n_rows, n_cols]."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(n_rows, n_cols, squeeze=False, **options))
    return figure, axes


def plain(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Thin left and bottom spines, small labels, a left-aligned title."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_linewidth(0.6)
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=SMALL, length=2, width=0.6, color=FAINT, labelcolor=INK)
    axes.set_title(title, fontsize=BODY, loc="left", color=INK)
    axes.set_xlabel(x, fontsize=SMALL, color=INK)
    axes.set_ylabel(y, fontsize=SMALL, color=INK)
    return axes


def picture(axes: Axes, pixels: np.ndarray | None, title: str = "", edge: str | None = None) -> Axes:
    """An image without ticks, with an optional coloured frame; None leaves the place empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(edge is not None)
        spine.set_color(edge or RULE)
        spine.set_linewidth(1.4)
    if pixels is None:
        axes.axis("off")
    else:
        axes.imshow(pixels)
    axes.set_title(title, fontsize=SMALL, color=INK, pad=2)
    return axes


def overlay(
    axes: Axes, pixels: np.ndarray, heatmap: np.ndarray, title: str = "", edge: str | None = None
) -> Axes:
    """An image under its token map: clipped at 0, min-max, bilinear; strong where the map is."""
    rows, cols = pixels.shape[:2]
    grey = pixels.astype(float).mean(-1, keepdims=True).repeat(3, -1) / 255
    picture(axes, 0.65 * grey + 0.35, title, edge)
    strength = np.clip(heatmap, 0, None)
    top = float(strength.max())
    strength = strength / top if top > 0 else strength
    colours = mpl.colormaps[SEQUENTIAL](0.15 + 0.75 * strength)
    colours[..., 3] = strength**0.8
    axes.imshow(colours, extent=(-0.5, cols - 0.5, rows - 0.5, -0.5), interpolation="bilinear")
    return axes


def signed_overlay(axes: Axes, pixels: np.ndarray, heatmap: np.ndarray, title: str = "") -> Axes:
    """An image in grey under a signed token map: orange above 0, blue below, one scale for both."""
    rows, cols = pixels.shape[:2]
    grey = pixels.astype(float).mean(-1, keepdims=True).repeat(3, -1) / 255
    picture(axes, 0.55 * grey + 0.45, title)
    strength = heatmap / max(float(np.abs(heatmap).max()), 1e-12)
    colours = DIVERGING(0.5 + 0.5 * strength)
    colours[..., 3] = np.abs(strength) ** 0.7
    axes.imshow(colours, extent=(-0.5, cols - 0.5, rows - 0.5, -0.5), interpolation="bilinear")
    return axes


def label_end(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    """A line's name at its end, instead of a legend."""
    axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=SMALL, color=color)


def spread_labels(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart until neighbours are at least `gap` from each other, order kept."""
    order = np.argsort(heights)
    placed = np.asarray(heights, float).copy()
    for _ in range(60):
        moved = False
        for low, high in itertools.pairwise(order):
            overlap = gap - (placed[high] - placed[low])
            if overlap > 1e-9:
                placed[low] -= overlap / 2
                placed[high] += overlap / 2
                moved = True
        if not moved:
            break
    return placed.tolist()


def save(
    figure: Figure, path: str | os.PathLike[str], formats: Sequence[str] = ("svg", "pdf", "png")
) -> list[Path]:
    """Write a figure in vector formats with text kept as text, and as PNG at 200 dpi; returns the files.

    It is laid out once, for the first format, so that all files show the same.
    """
    stem, files = Path(path), []
    stem.parent.mkdir(parents=True, exist_ok=True)
    layout = figure.get_layout_engine()
    try:
        with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "clipviz"}):
            for kind in formats:
                file = stem.with_suffix(f".{kind}")
                metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
                figure.savefig(file, dpi=200, metadata=metadata)
                files.append(file)
                figure.set_layout_engine("none")
    finally:
        figure.set_layout_engine(layout or "none")
    return files
