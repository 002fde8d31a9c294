"""The common style of printed figures: column widths, a restrained palette, direct labels, vector output.

A single accent colour marks this library's method or the selection. Everything else is black or grey and
distinguished by marker and dash, so that figures remain legible in photocopies and with any colour vision.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox

COLUMN, PAGE = 3.4, 7.0
"""Widths in inches of a figure in one column and across the page."""

LEAST = 0.05
"""The least range of an axis of accuracies, so that its ticks differ."""

INK, FAINT, RULE = "#1c2430", "#7b8794", "#d5dae0"
ACCENT = "#0b6bcb"
POSITIVE, NEGATIVE, ZERO = "#c2410c", "#1d4ed8", "#f3f4f6"
DIVERGING = LinearSegmentedColormap.from_list("clipviz_diverging", [NEGATIVE, ZERO, POSITIVE])
SUN = "#facc15"
"""Colour map for maps without a sign (attention, activations, baselines), as on screen."""

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

READABLE = 6.0
"""The smallest font size in points for a line that has to be readable in print."""


def as_written(make: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Show texts in a figure literally, so that "$" does not start a formula."""

    @functools.wraps(make)
    def made(*args: Given.args, **kwargs: Given.kwargs) -> Figure:
        with mpl.rc_context({"text.parse_math": False}):
            return make(*args, **kwargs)

    return made


PRINTED: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.hashsalt": "clipviz",
}


class Print(Figure):
    """A figure independent of pyplot and its global state, whose files always keep text as text.

    sheet: the shift of its tiles, as shares of its size.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sheet = Affine2D()
        self._saving = False

    def savefig(self, fname: Any, **options: Any) -> None:
        self._saving = "bbox_inches" not in options
        try:
            with mpl.rc_context(PRINTED):
                super().savefig(fname, **options)
        finally:
            self._saving = False

    def draw(self, renderer: Any) -> None:
        """Draw without output for the layout that matplotlib requests before saving; only the layout is computed."""
        if not (self._saving and hasattr(renderer.open_group, "__wrapped__")):
            super().draw(renderer)
        elif self.axes and (engine := self.get_layout_engine()) is not None:
            with contextlib.suppress(ValueError):  # as matplotlib does
                engine.execute(self)


def new(width: float, height: float, constrained: bool = True) -> Print:
    """Return an empty figure of a size in inches."""
    return Print(figsize=(width, height), layout="constrained" if constrained else None)


def finish(figure: Figure, font: float = BODY, provenance: str = "") -> Figure:
    """Scale the figure's text so that body text has `font` points, add lines with its source below, and return it.

    These lines have at least READABLE points if the body does; parts of the source are not broken. The figure
    grows by their height, and its content keeps its size.
    """
    for text in figure.findobj(Text):
        text.set_fontsize(float(text.get_fontsize()) * font / BODY)
    if provenance:
        width, height = figure.get_size_inches()
        parts, across = provenance.split(" · "), 72 * (width - 0.08) / 0.6  # width of letters of one point
        points = min(font, max(READABLE, 0.8 * font), across / max(map(len, parts)))
        lines = _lines(parts, across / points)
        grown = height + (0.6 + 1.3 * len(lines)) * points / 72
        _make_room(figure, height / grown, grown)
        figure.set_size_inches(width, grown)
        figure.text(
            0.04 / width,
            0.35 * points / 72 / grown,
            "\n".join(lines),
            fontsize=points,
            linespacing=1.3,
            va="bottom",
            color=FAINT,
            parse_math=False,
        )
    return figure


def _lines(parts: Sequence[str], n_letters: float) -> list[str]:
    """Join parts into as few lines of about `n_letters` as possible."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} · {part}"
        lines[-1:] = [longer] if len(longer) <= n_letters else [lines[-1], part]
    return lines


def _make_room(figure: Figure, share: float, grown: float) -> None:
    """Move everything into the upper `share` of the figure, which grows to `grown` inches.

    Space for a legend below must be reserved here, since the layout reserves none for a legend that is moved.
    """
    engine, low = figure.get_layout_engine(), 1 - share
    for legend in figure.legends:
        renderer = FigureCanvasAgg(figure).get_renderer()
        low += (legend.get_window_extent(renderer).height / figure.dpi + 0.05) / grown
        legend.set_bbox_to_anchor((0, 1 - share, 1, share), transform=figure.transFigure)
    if engine is not None:
        engine.set(rect=(0, low, 1, 1 - low))  # type: ignore[call-arg]
        return
    if isinstance(figure, Print):
        figure.sheet.scale(1, share).translate(0, 1 - share)
    for axes in figure.axes:
        x, y, width, height = axes.get_position().bounds
        axes.set_position((x, 1 - share + share * y, width, share * height))
    for text in figure.texts:
        text.set_y(1 - share + share * text.get_position()[1])


def panels(
    n_rows: int, n_cols: int, width: float = COLUMN, height: float = 2.2, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of n_rows x n_cols plain axes; axes [n_rows, n_cols]."""
    figure = new(width, height)
    axes = np.atleast_1d(figure.subplots(n_rows, n_cols, squeeze=False, **options))
    return figure, axes


def plain(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Style an axis: thin left and bottom spines, small labels, a left-aligned title."""
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
    """Draw an image without ticks, with an optional coloured frame; None leaves the axis empty."""
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


def laid(
    axes: Axes,
    pixels: np.ndarray,
    heatmap: np.ndarray,
    kind: str = "signed",
    **how: Any,
) -> Axes:
    """Draw an image under a token map as on screen: the image in grey and slightly darker, the map smooth.

    kind, how: as in `layers_of`.
    """
    rows, cols = pixels.shape[:2]
    quiet, layer = layers_of(pixels, heatmap, kind, **how)
    picture(axes, quiet)
    axes.imshow(layer, extent=(-0.5, cols - 0.5, rows - 0.5, -0.5), interpolation="bilinear")
    return axes


def layers_of(
    pixels: np.ndarray,
    heatmap: np.ndarray,
    kind: str = "signed",
    limit: float | None = None,
    opacity: float = 0.75,
    floor: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in grey and slightly darker [rows, cols, 3], and the colours and opacity of a map over it, in
    0..1.

    kind: "signed" is orange above 0 and blue below, "plain" yellow above 0 and blue below, "glow" yellow above 0
    and nothing below. limit: the value at full strength, the map's maximum if None; floor: the value that is not
    drawn at all, see floor_of.
    """
    grey = pixels[..., :3].astype(float) @ (0.3, 0.59, 0.11) / 255
    away = min(1.0, 1.15 * opacity)
    quiet = away * grey[..., None] + (1 - away) * pixels[..., :3] / 255
    dark = 0.28 * opacity
    quiet = (1 - dark) * quiet + dark * np.array([17, 24, 31]) / 255
    size = np.clip(heatmap, 0, None) if kind == "glow" else np.abs(heatmap)
    limit = float(size.max()) if limit is None else limit
    floor = floor_of(kind, heatmap) if floor is None else floor
    strength = (
        np.clip((size - floor) / (limit - floor), 0, 1) if limit > floor else np.zeros_like(size, float)
    )
    up = to_rgb(POSITIVE if kind == "signed" else SUN)
    colours = np.where((heatmap < 0)[..., None], to_rgb(NEGATIVE), up)
    return quiet, np.concatenate([colours, opacity * strength[..., None] ** 0.75], -1)


def floor_of(kind: str, *maps: np.ndarray) -> float:
    """Return where the scale of maps starts: for plain maps, whose values may all be far above 0, at the minimum."""
    return max(0.0, min(float(one.min()) for one in maps)) if kind == "plain" else 0.0


def overlay(
    axes: Axes, pixels: np.ndarray, heatmap: np.ndarray, title: str = "", edge: str | None = None
) -> Axes:
    """Draw an image under a map without a sign, on the map's own scale."""
    laid(axes, pixels, heatmap, "glow")
    return _titled(axes, title, edge)


def signed_overlay(axes: Axes, pixels: np.ndarray, heatmap: np.ndarray, title: str = "") -> Axes:
    """Draw an image under a signed token map: orange above 0, blue below, one scale for both."""
    return _titled(laid(axes, pixels, heatmap), title, None)


def _titled(axes: Axes, title: str, edge: str | None) -> Axes:
    axes.set_title(title, fontsize=SMALL, color=INK, pad=2)
    for spine in axes.spines.values():
        spine.set(visible=edge is not None, color=edge or RULE, linewidth=1.4)
    return axes


class Tile:
    """A square of a figure for a picture, without axes, so that a page of a hundred pictures costs as much as three
    axes.

    bounds: left, bottom, width and height as shares of the figure's size. A picture that is not square lies in the
    middle, and the frame is drawn around it.
    """

    def __init__(self, figure: Print, bounds: tuple[float, float, float, float]) -> None:
        self.figure, self.bounds = figure, bounds
        if not figure.lines:  # a notebook treats a figure without axes and lines as empty
            unseen = Line2D([], [], visible=False)
            unseen.set_figure(figure)
            figure.lines.append(unseen)

    def picture(self, pixels: np.ndarray, edge: str | None = None) -> None:
        """Draw an image, with an optional coloured frame."""
        pixels = np.asarray(pixels)
        self._narrow(pixels)
        self._show(pixels)
        self.frame(edge, 1.4)

    def laid(self, pixels: np.ndarray, heatmap: np.ndarray, kind: str = "signed", **how: Any) -> None:
        """Draw an image under a map, see `layers_of`."""
        quiet, layer = layers_of(pixels, heatmap, kind, **how)
        self._narrow(pixels)
        self._show(quiet)
        self._show(layer, "bilinear")
        self.frame(None)

    def frame(self, color: str | None, linewidth: float = 0.5) -> None:
        """Draw a frame, invisible without a colour; it keeps vector files from merging the image with the next."""
        left, bottom, width, height = self.bounds
        line = Rectangle((left, bottom), width, height, fill=False, edgecolor=color, linewidth=linewidth)
        line.set(zorder=0, visible=color is not None)  # images have the same order
        line.set_transform(self.figure.sheet + self.figure.transFigure)
        self.figure.add_artist(line)

    def _narrow(self, pixels: np.ndarray) -> None:
        """Fit the tile to the picture's aspect ratio."""
        rows, cols = pixels.shape[:2]
        left, bottom, width, height = self.bounds
        across, up = width * min(1.0, cols / rows), height * min(1.0, rows / cols)
        self.bounds = left + (width - across) / 2, bottom + (height - up) / 2, across, up

    def _show(self, pixels: np.ndarray, interpolation: str | None = None) -> None:
        box = TransformedBbox(Bbox.from_bounds(*self.bounds), self.figure.sheet + self.figure.transFigure)
        shown = BboxImage(box, interpolation=interpolation, resample=True)
        shown.set_data(pixels)
        self.figure.add_artist(shown)


def place(figure: Print, x: float, y: float, side: float) -> Tile:
    """Return a square for a picture at a position in inches from the figure's top left corner."""
    width, height = figure.get_size_inches()
    return Tile(figure, (x / width, 1 - (y + side) / height, side / width, side / height))


def words(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    size: float,
    color: str,
    ha: str = "left",
    va: str = "baseline",
) -> None:
    """Write a text at a position in inches from the figure's top left corner; dollar signs are literal."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, fontsize=size, color=color, ha=ha, va=va, parse_math=False)


def label_end(axes: Axes, x: float, y: float, text: str, color: str) -> None:
    """Write a line's name at its end, instead of a legend."""
    axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=SMALL, color=color)


def end_axis(axes: Axes, x: float) -> None:
    """End the horizontal axis at the data, not below the names beside them; call this once its limits are set."""
    axes.spines["bottom"].set_bounds(axes.get_xlim()[0], x)


def spread_labels(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights moved apart until neighbours differ by at least `gap`, in the same order."""
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
    found: list[float] = placed.tolist()
    return found


def save(
    figure: Figure, path: str | os.PathLike[str], formats: Sequence[str] = ("svg", "pdf", "png")
) -> list[Path]:
    """Write a figure as vector formats with text kept as text, and as PNG at 200 dpi; return the files.

    The layout is computed once, for the first format, so that all files look the same.
    """
    stem, files = Path(path), []
    stem.parent.mkdir(parents=True, exist_ok=True)
    layout = figure.get_layout_engine()
    try:
        with mpl.rc_context(PRINTED):
            for kind in formats:
                file = stem.with_name(f"{stem.name}.{kind}")
                metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
                figure.savefig(file, dpi=200, metadata=metadata)
                files.append(file)
                figure.set_layout_engine("none")
    finally:
        figure.set_layout_engine(layout or "none")
    return files
