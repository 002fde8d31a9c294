"""Figures of chapter 2: one function per table or figure of the thesis, from plain values to a matplotlib Figure.

Nothing is computed here: accuracies, curves, scores and maps are arguments. chapter2_interactive has the plotly
versions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from clipviz.figures import style

Curve = Mapping[int, float]
"""x -> accuracy in 0..1."""

MARKER_ROOM = 5
"""Points between a row's name and the axis, which leave room for half of a marker at 0."""

HEADS_ABREAST = 8
"""Number of heads whose texts fit side by side; further heads continue below."""


@style.as_written
def term_ablation(rows: Mapping[str, Mapping[str, float]], width: float = style.COLUMN) -> Figure:
    """Tables 2.1 and A.1: accuracy of each task with nothing, the class token, the MLPs, or both removed.

    rows: task -> {"nothing": .., "class token": .., "MLPs": .., "both": ..}, accuracies in 0..1.
    """
    names = list(rows)
    markers = (
        ("nothing", "o", style.INK),
        ("class token", "|", style.FAINT),
        ("MLPs", "D", style.ACCENT),
        ("both", "x", style.FAINT),
    )
    figure, axes = style.panels(1, 1, width, 0.95 + 0.28 * len(names))
    axis = style.plain(axes[0, 0], "What is left when terms are mean-ablated", "zero-shot accuracy")
    for row, name in enumerate(names):
        found = [rows[name][key] for key, _, _ in markers if key in rows[name]]
        axis.hlines(row, min(found), max(found), color=style.RULE, linewidth=2.5, zorder=1)
        for key, marker, color in markers:
            if key in rows[name]:
                label = key if row == 0 else None
                axis.plot(
                    rows[name][key],
                    row,
                    marker,
                    color=color,
                    markersize=5,
                    label=label,
                    linestyle="none",
                    clip_on=False,
                )
    _share_axis(axis)
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", pad=MARKER_ROOM)
    axis.set_ylim(len(names) - 0.5, -0.6)
    _legend_below(figure, 4)
    return figure


@style.as_written
def accumulated_ablation(
    curves: Mapping[str, Curve],
    chance: Mapping[str, float] | None = None,
    late: int = 4,
    width: float = style.COLUMN,
) -> Figure:
    """Figure 2.2: accuracy when the attention of the first n layers is mean-ablated, one line per task or model.

    curves: name -> {layers ablated: accuracy}; the last `late` layers are shaded.
    """
    figure, axes = style.panels(1, 1, width, 2.1)
    axis = style.plain(
        axes[0, 0], "Attention layers accumulated", "first layers mean-ablated", "zero-shot accuracy"
    )
    last = max(max(curve) for curve in curves.values())
    axis.axvspan(last - late, last, color=style.ZERO, zorder=0)
    axis.text(
        last - late / 2, 1.05, f"last {late} layers", fontsize=style.SMALL, color=style.FAINT, ha="center"
    )
    _lines(axis, curves, 1.04)
    for name, level in (chance or {}).items():
        axis.axhline(level, color=style.RULE, linewidth=0.6, zorder=0, label=f"chance, {name}")
    axis.set_xlim(0, last * 1.32)
    style.end_axis(axis, last)
    axis.set_xticks(range(0, last + 1, 1 if last <= 12 else 4))
    axis.set_ylim(0, 1.04)
    axis.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


@style.as_written
def textspan_accuracy(
    pools: Mapping[str, Curve], base: float, title: str = "", width: float = style.COLUMN
) -> Figure:
    """Figures 2.3 and A.1: accuracy when every late head is its projection on m texts, one line per pool.

    pools: name -> {m: accuracy}, the first accented; base: accuracy of the unchanged model.
    """
    figure, axes = style.panels(1, 1, width, 2.1)
    axis = style.plain(
        axes[0, 0], title or "Late heads projected on m texts", "texts per head, m", "zero-shot accuracy"
    )
    last = max(max(curve) for curve in pools.values())
    axis.hlines(base, 0, last, color=style.INK, linewidth=0.7, linestyle=(0, (1, 2)))
    highest = _lines(axis, pools, style.LEAST, {"unchanged model": base})
    axis.set_xlim(0, last * 1.32)
    style.end_axis(axis, last)
    axis.set_ylim(0, max(1.08 * base, 1.03 * highest, style.LEAST))
    axis.set_xticks(sorted({x for curve in pools.values() for x in curve}))
    axis.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


@style.as_written
def spurious_groups(
    groups: Mapping[str, Sequence[float]],
    worst: Sequence[float],
    title: str = "Worst group, before and after",
    width: float = style.COLUMN,
    random: str = "best random draw",
    ablated: str = "background heads ablated",
    changes: Sequence[Sequence[float]] = (),
) -> Figure:
    """Tables 2.3 and A.7-A.10: accuracy by group for the model, under random heads, and without some heads.

    groups: name -> (model, random heads, ablated); worst: the same for the worst group, accuracies in 0..1.
    random: which draw of random heads is shown; ablated: what was removed, for the legend. changes: for every row
    the ends of the 95% interval of ablated - model, drawn as a line; the marker is hollow if the interval
    contains 0.
    """
    names = [*groups, "worst group"]
    values = np.array([*groups.values(), worst], float)
    figure, axes = style.panels(1, 1, width, 0.85 + 0.24 * len(names))
    axis = style.plain(axes[0, 0], title, "accuracy")
    rows = np.arange(len(names))
    axis.hlines(rows, values.min(1), values.max(1), color=style.RULE, linewidth=2.5, zorder=1)
    # the model's dot lies above the larger diamond, so that both are seen where nothing has changed
    looks = (
        ("model", "o", style.INK, 3),
        (random, "|", style.FAINT, 2),
        (ablated, "D", style.ACCENT, 2),
    )
    for column, (name, marker, color, above) in enumerate(looks):
        axis.plot(
            values[:, column],
            rows,
            marker,
            color=color,
            markersize=5,
            label=name,
            linestyle="none",
            clip_on=False,
            zorder=above,
        )
    if len(changes):
        _changes(axis, values, np.array(changes, float))
    axis.set_yticks(rows, names)
    axis.tick_params(axis="y", pad=MARKER_ROOM)
    axis.get_yticklabels()[-1].set_fontweight("bold")
    axis.set_ylim(len(names) - 0.5, -0.6)
    _share_axis(axis)
    _legend_below(figure, 3 if not len(changes) else 5 if width > 5 else 2)
    return figure


def _changes(axis: Any, values: np.ndarray, changes: np.ndarray) -> None:
    """Draw the interval of every row's change as a line around its last value, hollow if there is no change."""
    rows, ends = np.arange(len(values)), (values[:, :1] + changes).clip(0, 1)
    axis.hlines(
        rows, *ends.T, color=style.ACCENT, linewidth=1, label="95% interval of the change", zorder=1.5
    )
    none = (changes[:, 0] <= 0) & (changes[:, 1] >= 0)
    if none.any():
        look = {"markersize": 5, "markerfacecolor": "white", "color": style.ACCENT, "clip_on": False}
        axis.plot(values[none, 2], rows[none], "D", label="no difference", **look)


@style.as_written
def segmentation_scores(
    scores: Mapping[str, Mapping[str, float]], ours: str = "token decomposition", width: float = style.PAGE
) -> Figure:
    """Table 2.4: pixel accuracy, mIoU and mAP of every method; those whose name begins with `ours` are accented.

    scores: method -> {"pixel accuracy": .., "mIoU": .., "mAP": ..}, in the order to be shown.
    """
    measures = ("pixel accuracy", "mIoU", "mAP")
    methods = list(scores)
    figure, axes = style.panels(1, 3, width, 0.7 + 0.22 * len(methods), sharey=True)
    for axis, measure in zip(axes[0], measures, strict=True):
        values = [scores[method][measure] for method in methods]
        colors = [style.ACCENT if method.startswith(ours) else style.RULE for method in methods]
        style.plain(axis, measure)
        bars = axis.barh(range(len(methods)), values, height=0.66, color=colors)
        axis.bar_label(
            bars, [f"{100 * value:.1f}" for value in values], fontsize=style.SMALL, padding=2, color=style.INK
        )
        axis.set_xlim(0, 1.12)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    return figure


@style.as_written
def segmentation_examples(
    pictures: Sequence[np.ndarray],
    texts: Sequence[str],
    maps: Mapping[str, np.ndarray],
    masks: Sequence[np.ndarray] | None = None,
    width: float = style.PAGE,
) -> Figure:
    """Figure A.4: each image, its true mask, and every method's map. maps: method -> [image, rows, cols]."""
    columns = ["image", *(["mask"] if masks is not None else []), *maps]
    size = width / len(columns)
    figure, axes = style.panels(len(pictures), len(columns), width, len(pictures) * (size + 0.06) + 0.3)
    for row, pixels in enumerate(pictures):
        cells = iter(axes[row])
        style.picture(next(cells), pixels)
        axes[row, 0].set_ylabel(texts[row], fontsize=style.SMALL, color=style.INK)
        if masks is not None:
            style.picture(next(cells), np.repeat((255 * (masks[row] > 0))[..., None], 3, -1).astype(np.uint8))
        for name, found in maps.items():
            style.overlay(
                next(cells),
                pixels,
                found[row],
                edge=style.ACCENT if name.startswith("token decomposition") else None,
            )
    for column, name in enumerate(columns):
        axes[0, column].set_title(
            textwrap.fill(name, 16),
            fontsize=style.SMALL,
            color=style.ACCENT if name.startswith("token decomposition") else style.INK,
            pad=3,
        )
    return figure


@style.as_written
def gallery(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    queries: Sequence[np.ndarray] | None = None,
    title: str = "",
    width: float = style.COLUMN,
) -> Figure:
    """Figures 2.4, 2.5, A.5, A.6: rows of retrieved images, each with its text or its head's name.

    rows: (label, images best first). queries: one image per row, shown first in an accented frame.
    """
    shift = 0 if queries is None else 1
    n_cols = max(len(pictures) for _, pictures in rows) + shift
    size = (width - 0.9) / n_cols
    figure, axes = style.panels(
        len(rows), n_cols, width, len(rows) * (size + 0.05) + (0.25 if title else 0.05)
    )
    for row, (label, pictures) in enumerate(rows):
        if queries is not None:
            style.picture(axes[row, 0], queries[row], edge=style.ACCENT)
        for column in range(n_cols - shift):
            style.picture(axes[row, column + shift], pictures[column] if column < len(pictures) else None)
        axes[row, 0].set_ylabel(
            _wrapped(label),
            fontsize=style.SMALL,
            color=style.INK,
            rotation=0,
            ha="right",
            va="center",
            labelpad=4,
        )
    if title:
        figure.suptitle(title, fontsize=style.BODY, x=0.01, ha="left", color=style.INK)
    return figure


@style.as_written
def joint_examples(examples: Sequence[Mapping[str, Any]], width: float = style.COLUMN) -> Figure:
    """Figure 2.6: for a head and an image, the texts that agree most and least, and the image regions of these
    scores.

    examples: dicts with head, image, positive_text, positive_map, negative_text, negative_map; in the maps orange
    writes towards the text and blue against it.
    """
    size = width / 3
    figure, axes = style.panels(len(examples), 3, width, len(examples) * (size + 0.32))
    for row, example in enumerate(examples):
        style.picture(axes[row, 0], example["image"], example["head"])
        for column, side, color in ((1, "positive", style.POSITIVE), (2, "negative", style.NEGATIVE)):
            text = _wrapped(example[f"{side}_text"], 22)
            style.signed_overlay(axes[row, column], example["image"], example[f"{side}_map"], text)
            for spine in axes[row, column].spines.values():
                spine.set(visible=True, color=color, linewidth=1.4)
    return figure


@style.as_written
def token_maps(
    rows: Sequence[tuple[np.ndarray, Sequence[tuple[str, np.ndarray]]]], width: float = style.COLUMN
) -> Figure:
    """Figure A.2: pictures in rows, each with one signed map per text: orange writes towards the text, blue away
    from it.

    rows: (uint8 picture, [(text, map [rows, cols])]), as many maps in each.
    """
    n_columns = 1 + max(len(maps) for _, maps in rows)
    size = width / n_columns
    figure, axes = style.panels(len(rows), n_columns, width, len(rows) * (size + 0.26))
    for row, (picture, maps) in enumerate(rows):
        style.picture(axes[row, 0], picture)
        for column, (text, heatmap) in enumerate(maps, start=1):
            style.signed_overlay(axes[row, column], picture, heatmap, _wrapped(text, 24))
    return figure


@style.as_written
def head_roles(
    labels: Mapping[tuple[int, int], str],
    confidence: Mapping[tuple[int, int], float],
    texts: Mapping[tuple[int, int], Sequence[str]] | None = None,
    width: float = style.PAGE,
) -> Figure:
    """Table 2.2: the layer x head grid with each late head's property, faint where there is no clear role.

    labels, confidence: (layer, head) -> name, 0..1. texts: (layer, head) -> its first texts, shown small.
    """
    layers, n_heads = sorted({layer for layer, _ in labels}), 1 + max(head for _, head in labels)
    n_bands = -(-n_heads // HEADS_ABREAST)
    n_abreast = -(-n_heads // n_bands)
    height = 0.42 if texts is None else 0.62
    figure, axes = style.panels(n_bands, 1, width, 0.5 + height * len(layers) * n_bands + 0.3 * (n_bands - 1))
    for band, axis in enumerate(axes[:, 0]):
        style.plain(axis, "" if band else "What the late heads are about")
        heads = range(band * n_abreast, min((band + 1) * n_abreast, n_heads))
        axis.set_xlim(heads[0] - 0.5, heads[0] + n_abreast - 0.5)
        axis.set_ylim(len(layers) - 0.5, -0.5)
        axis.set_xticks(heads, [f"head {head}" for head in heads])
        axis.set_yticks(range(len(layers)), [f"layer {layer}" for layer in layers])
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    for (layer, head), label in labels.items():
        axis, clear = axes[head // n_abreast, 0], label != "no clear role"
        row = layers.index(layer)
        axis.add_patch(
            _cell(head, row, style.ACCENT, 0.10 + 0.22 * confidence[(layer, head)] if clear else 0.0)
        )
        axis.text(
            head,
            row - (0.22 if texts else 0),
            label if clear else "–",
            ha="center",
            va="center",
            fontsize=style.SMALL,
            color=style.INK if clear else style.FAINT,
        )
        for line, text in enumerate((texts or {}).get((layer, head), ())[:2]):
            axis.text(
                head,
                row + 0.08 + 0.24 * line,
                _short(text, 19),
                ha="center",
                va="center",
                fontsize=4.6,
                color=style.INK if clear else style.FAINT,
            )
    return figure


def _legend_below(figure: Figure, n_cols: int) -> None:
    """Draw a legend in the given number of columns, or in fewer if the figure is too narrow for its names."""
    names = [len(name) for axes in figure.axes for name in axes.get_legend_handles_labels()[1]]
    room = 72 * figure.get_size_inches()[0]
    while n_cols > 1 and _width(names, n_cols) > room:
        n_cols -= 1
    figure.legend(
        fontsize=style.SMALL,
        frameon=False,
        loc="outside lower center",
        ncols=n_cols,
        handletextpad=0.2,
        columnspacing=0.9,
    )


def _width(names: Sequence[int], n_cols: int) -> float:
    """Return the width of a legend in points, from the letters of its names, which fill one column after the other."""
    n_rows = -(-len(names) // n_cols)
    columns = [names[start : start + n_rows] for start in range(0, len(names), n_rows)]
    return sum(26 + 0.54 * style.SMALL * max(column) for column in columns)


def _lines(
    axis: Any, curves: Mapping[str, Curve], top: float, levels: Mapping[str, float] | None = None
) -> float:
    """Draw one line per curve with its name at its end, the first accented; return the height of the highest name.

    top: the least upper limit of the axis. levels: horizontal levels that are already drawn, by name, whose names
    are placed among the others.
    """
    looks, levels = [style.OURS, *style.BASELINES], levels or {}
    heights = [*(curve[max(curve)] for curve in curves.values()), *levels.values()]
    ends = style.spread_labels(heights, 0.078 * max(_top(curves), *levels.values(), top))
    lift = max(0.0, -min(ends))  # a label below the axis would be clipped
    for position, (name, curve) in enumerate(curves.items()):
        look = looks[position % len(looks)]
        xs = sorted(curve)
        axis.plot(xs, [curve[x] for x in xs], linewidth=1.2, markersize=3, clip_on=False, **look)
        style.label_end(axis, xs[-1], ends[position] + lift, name, str(look["color"]))
    right = max(max(curve) for curve in curves.values())
    for name, height in zip(levels, ends[len(curves) :], strict=True):
        style.label_end(axis, right, height + lift, name, style.INK)
    return max(ends) + lift


def _top(curves: Mapping[str, Curve]) -> float:
    return max(max(curve.values()) for curve in curves.values()) or 1.0


def _share_axis(axis: Any) -> None:
    axis.set_xlim(0, 1.02)
    axis.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def _cell(column: float, row: float, color: str, strength: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, facecolor=color, alpha=strength, linewidth=0)


def _wrapped(text: str, length: int = 14) -> str:
    """Return a label broken into lines at its spaces."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:4])


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
