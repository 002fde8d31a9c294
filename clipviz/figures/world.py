"""Figures of the demo world's report card, from plain values to a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from clipviz.figures import style


@style.as_written
def families(rows: Mapping[str, tuple[float, float | None, float]], width: float = style.COLUMN) -> Figure:
    """Zero-shot accuracy of each family of attributes on held-out scenes and on unseen views, with chance.

    rows: family -> (held out, unseen views or None, chance), accuracies in 0..1.
    """
    names = list(rows)
    figure, axes = style.panels(1, 1, width, 0.75 + 0.21 * len(names))
    axis = style.plain(axes[0, 0], "What the model tells apart", "zero-shot accuracy")
    places = np.arange(len(names))
    seen = np.array([rows[name][0] for name in names])
    unseen = np.array([np.nan if rows[name][1] is None else rows[name][1] for name in names], float)
    chance = np.array([rows[name][2] for name in names])
    axis.hlines(places, chance, seen, color=style.RULE, linewidth=2.5, zorder=1)
    for values, marker, color, label in (
        (seen, "D", style.ACCENT, "held-out scenes"),
        (unseen, "o", style.INK, "unseen views"),
        (chance, "|", style.FAINT, "chance"),
    ):
        axis.plot(values, places, marker, color=color, markersize=4.5, linestyle="none", label=label)
    axis.set_yticks(places, names)
    axis.set_ylim(len(names) - 0.5, -0.6)
    axis.set_xlim(0, 1.03)
    axis.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    figure.legend(fontsize=style.SMALL, frameon=False, loc="outside lower center", ncols=3)
    return figure


@style.as_written
def grid(
    values: Mapping[str, Mapping[str, float]],
    title: str = "",
    top: float = 1.0,
    width: float = style.PAGE,
    marked: Mapping[str, str] | None = None,
) -> Figure:
    """Return a table as a picture: rows x columns of numbers in 0..`top`, darker where larger, printed in each cell.

    values: row -> column -> number. marked: row -> the column to frame.
    """
    rows = list(values)
    columns = list(dict.fromkeys(column for row in values.values() for column in row))
    figure, axes = style.panels(1, 1, width, 0.75 + 0.19 * len(rows))
    axis = style.plain(axes[0, 0], title)
    array = np.array([[values[row].get(column, np.nan) for column in columns] for row in rows], float)
    axis.imshow(np.clip(array / top, 0, 1), cmap="Blues", vmin=0, vmax=1.35, aspect="auto")
    for (row, column), value in np.ndenumerate(array):
        if not np.isnan(value):
            strong = value / top > 0.75
            color = "white" if strong else style.INK
            text = f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".", 1)
            axis.text(column, row, text, ha="center", va="center", fontsize=style.SMALL - 1, color=color)
    for name, column in (marked or {}).items():
        x, y = columns.index(column), rows.index(name)
        axis.add_patch(_frame(x, y))
    axis.set_xticks(range(len(columns)), [name.replace(" ", "\n") for name in columns])
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


@style.as_written
def head_counts(
    found: Mapping[int, int], null: Mapping[int, Sequence[float]], n_heads: int, width: float = style.COLUMN
) -> Figure:
    """Draw how many late heads have k of their first five texts from one family, beside the null's draws.

    found: k -> heads; null: k -> heads in each draw.
    """
    figure, axes = style.panels(1, 1, width, 2.1)
    axis = style.plain(
        axes[0, 0], "Heads with a property", "at least k of 5 texts from one family", f"heads of {n_heads}"
    )
    ks = sorted(found)
    low = [min(null[k]) for k in ks]
    high = [max(null[k]) for k in ks]
    axis.fill_between(ks, low, high, color=style.RULE, linewidth=0, zorder=0)
    _line(axis, ks, [float(np.mean(null[k])) for k in ks], style.BASELINES[0])
    _line(axis, ks, [found[k] for k in ks], style.OURS)
    ours, theirs = style.spread_labels([found[ks[-1]], float(np.mean(null[ks[-1]]))], 0.09 * n_heads)
    style.label_end(axis, ks[-1], ours, "the model", style.ACCENT)
    style.label_end(axis, ks[-1], max(0.0, theirs), "random rotations", style.INK)
    axis.set_xticks(ks)
    axis.set_xlim(ks[0] - 0.1, ks[-1] + 1.6)
    style.end_axis(axis, ks[-1])
    axis.set_ylim(0, n_heads * 1.03)
    return figure


@style.as_written
def map_depths(
    scores: Mapping[str, Mapping[int, float]], measure: str, width: float = style.COLUMN
) -> Figure:
    """Quality of the token maps and of raw attention by how many late layers are summed; the first is accented."""
    figure, axes = style.panels(1, 1, width, 2.0)
    axis = style.plain(axes[0, 0], f"Maps of the last k layers: {measure}", "layers summed, k", measure)
    last = _curves(axis, scores, 0.06)
    axis.set_xlim(0.8, last * 1.35)
    style.end_axis(axis, last)
    axis.set_xticks(range(1, last + 1))
    axis.set_ylim(0, 1)
    return figure


@style.as_written
def neuron_curves(curves: Mapping[str, Mapping[int, float]], width: float = style.COLUMN) -> Figure:
    """Return second-order effects by layer, one line per measure, all as shares in 0..1; the first is accented."""
    figure, axes = style.panels(1, 1, width, 2.1)
    axis = style.plain(axes[0, 0], "Second-order effects of neurons", "MLP layer (from 0)", "share")
    last = _curves(axis, curves, 0.075)
    axis.set_xlim(-0.2, last * 1.7 + 0.5)
    style.end_axis(axis, last)
    axis.set_xticks(range(last + 1))
    axis.set_ylim(0, 1.03)
    axis.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


def _curves(axis: Any, curves: Mapping[str, Mapping[int, float]], gap: float) -> int:
    """Draw a named line for each curve, the first accented; return the last place. gap: least distance of names."""
    ends = style.spread_labels([curve[max(curve)] for curve in curves.values()], gap)
    for (name, curve), look, height in zip(
        curves.items(), (style.OURS, *style.BASELINES), ends, strict=False
    ):
        places = sorted(curve)
        _line(axis, places, [curve[place] for place in places], look)
        style.label_end(axis, places[-1], height, name, str(look["color"]))
    return max(max(curve) for curve in curves.values())


def _line(axis: Any, xs: Sequence[float], ys: Sequence[float], look: Mapping[str, Any]) -> None:
    axis.plot(xs, ys, linewidth=1.2, markersize=3.5, **look)


def _frame(column: float, row: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column - 0.48, row - 0.46), 0.96, 0.92, fill=False, edgecolor=style.ACCENT, linewidth=1.4
    )
