"""Figures of chapter 3 (neurons): one function per table or figure of the thesis, from plain values to a Figure.

Nothing is computed here: accuracies, shares, maps and words are arguments.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from clipviz.figures import style

Curve = Mapping[int, float]
"""x -> accuracy in 0..1."""


@style.as_written
def layer_ablation(
    curves: Mapping[str, Curve], baseline: float, title: str = "", width: float = style.COLUMN
) -> Figure:
    """Figures 3.3, B.2, B.3: accuracy by layer when second-order effects are mean-ablated or rebuilt.

    curves: "w/o all neurons", "w/o small norm", "w/o large norm", "reconstruction from PC 1" -> {layer: accuracy};
    the last one is accented. baseline: accuracy with nothing changed.
    """
    figure, axes = style.panels(1, 1, width, 2.3)
    axis = style.plain(axes[0, 0], title, "MLP layer (from 0)", "zero-shot accuracy")
    _lines(axis, curves, {"baseline": baseline})
    layers = sorted({layer for curve in curves.values() for layer in curve})
    axis.set_xticks(layers[:: 1 if len(layers) <= 12 else 4])
    return figure


@style.as_written
def effect_comparison(rows: Mapping[str, tuple[float, float]], width: float = style.COLUMN) -> Figure:
    """Table 3.1: indirect against second-order effects of one layer, two small bar charts.

    rows: effect type -> (accuracy after mean-ablation, share of variance of the first component), 0..1. Low
    accuracy and high share speak for an effect type.
    """
    names = list(rows)
    figure, axes = style.panels(1, 2, width, 0.6 + 0.32 * len(names), sharey=True)
    titles = ("accuracy, mean-ablated", "variance of PC 1")
    for column, title in enumerate(titles):
        axis = style.plain(axes[0, column], title)
        values = [rows[name][column] for name in names]
        colours = [style.ACCENT if name.startswith("second") else style.FAINT for name in names]
        axis.barh(range(len(names)), values, 0.55, color=colours)
        for place, value in enumerate(values):
            axis.text(value, place, f" {value:.1%}", va="center", fontsize=style.SMALL, color=style.INK)
        axis.set_xlim(0, max(values) * 1.35 + 1e-9)
        axis.set_xticks([])
        axis.spines["bottom"].set_visible(False)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
    return figure


@style.as_written
def sparse_accuracy(
    curves: Mapping[str, Curve], levels: Mapping[str, float], width: float = style.COLUMN
) -> Figure:
    """Figure 3.4: accuracy when every neuron's direction is replaced by its sparse text code.

    curves: pool -> {number of texts m: accuracy}, the first accented; levels: horizontal references such as
    "nothing changed" and "rank 1".
    """
    figure, axes = style.panels(1, 1, width, 2.3)
    axis = style.plain(axes[0, 0], "", "texts per neuron, m", "zero-shot accuracy")
    names = list(curves)
    axis.set_xscale("log", base=2)
    _lines(axis, {name: curves[name] for name in [*names[1:], names[0]]}, levels)
    ticks = sorted({m for curve in curves.values() for m in curve})
    axis.set_xticks(ticks, [str(m) for m in ticks])
    axis.minorticks_off()
    return figure


@dataclass(frozen=True)
class NeuronRow:
    """One neuron of a gallery: its name, its texts with signed weights, its images [image][rows, cols, 3] uint8
    and their activation maps [image][rows, cols]."""

    name: str
    texts: Sequence[tuple[str, float]]
    images: Sequence[np.ndarray]
    maps: Sequence[np.ndarray]


@style.as_written
def gallery(neurons: Sequence[NeuronRow], width: float = style.PAGE) -> Figure:
    """Figure 3.5 with Table 3.2: texts of each neuron beside the images of largest second-order norm."""
    columns = max(len(neuron.images) for neuron in neurons)
    left = max(2.4, 0.28 * (columns + 2.4))
    size = width / (columns + left)
    letters = int(left * size * 72 / (0.55 * style.SMALL)) - 2
    said = [
        "\n".join(
            textwrap.fill(f"{'+' if weight >= 0 else '−'} {text}", letters, subsequent_indent="   ")
            for text, weight in neuron.texts
        )
        for neuron in neurons
    ]
    heights = [max(1.08 * size, 0.24 + 0.112 * (words.count("\n") + 1)) for words in said]
    figure, axes = style.panels(
        len(neurons),
        columns + 1,
        width,
        sum(heights),
        width_ratios=[left, *[1] * columns],
        height_ratios=heights,
    )
    for row, (neuron, words) in enumerate(zip(neurons, said, strict=True)):
        axis = axes[row, 0]
        axis.axis("off")
        axis.text(0, 1, neuron.name, va="top", fontsize=style.BODY, color=style.INK, weight="bold")
        top = 1 - 0.17 / heights[row]
        axis.text(0, top, words, va="top", fontsize=style.SMALL, color=style.INK, parse_math=False)
        for column in range(columns):
            if column < len(neuron.images):
                style.overlay(axes[row, column + 1], neuron.images[column], neuron.maps[column])
            else:
                style.picture(axes[row, column + 1], None)
    return figure


@style.as_written
def contact_sheets(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], across: int = 25, width: float = style.PAGE
) -> Figure:
    """Figures B.6 and B.7: many images of each neuron, strongest first, in lines of `across`.

    rows: (neuron, uint8 pictures).
    """
    gap, head = 0.02, 0.2
    side = (width - gap * (across - 1)) / across
    lines = [-(-len(pictures) // across) for _, pictures in rows]
    figure = style.new(width, sum(head + n * (side + gap) + 0.06 for n in lines), constrained=False)
    top = 0.0
    for (name, pictures), n in zip(rows, lines, strict=True):
        style.words(figure, 0, top + 0.14, name, style.SMALL, style.INK)
        for place, pixels in enumerate(pictures):
            row, column = divmod(place, across)
            x, y = column * (side + gap), top + head + row * (side + gap)
            style.place(figure, x, y, side).picture(pixels)
        top += head + n * (side + gap) + 0.06
    return figure


@style.as_written
def attack_success(
    rows: Mapping[str, Mapping[str, tuple[float, float]]], width: float = style.COLUMN
) -> Figure:
    """Table 3.3: share of drawn images that fool the classifier, one group per task, one mark per method.

    rows: task -> method -> (mean, standard deviation over repeats), 0..1; "second order" is accented.
    """
    tasks = list(rows)
    methods = list(dict.fromkeys(method for row in rows.values() for method in row))
    figure, axes = style.panels(1, 1, width, 0.9 + 0.42 * len(tasks))
    axis = style.plain(axes[0, 0], "", "images that fool the classifier")
    for place, method in enumerate(methods):
        ours = method == "second order"
        look = style.OURS if ours else style.BASELINES[place % len(style.BASELINES)]
        offset = (place - (len(methods) - 1) / 2) * 0.13
        present = [task for task in tasks if method in rows[task]]
        axis.errorbar(
            [rows[task][method][0] for task in present],
            [tasks.index(task) + offset for task in present],
            xerr=[
                [min(rows[task][method]) for task in present],  # shares cannot be negative
                [rows[task][method][1] for task in present],
            ],
            fmt=look["marker"],
            color=look["color"],
            markersize=4.5 if ours else 3.5,
            elinewidth=0.8,
            label=method,
            clip_on=False,
        )
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_xlim(left=0)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_ylim(len(tasks) - 0.5, -0.5)
    figure.legend(fontsize=style.SMALL, frameon=False, loc="outside lower center", ncols=3)
    return figure


@style.as_written
def cue_words(
    rows: Sequence[tuple[str, float, float]], title: str = "", width: float = style.COLUMN
) -> Figure:
    """Return the contribution scores w_j of the first words of a class pair (Eq. 3.4), largest first.

    rows: text, score, and the maximum over random rotations, drawn as a tick; the bar is pale if it does not
    exceed it.
    """
    figure, axes = style.panels(1, 1, width, 0.7 + 0.17 * len(rows))
    axis = style.plain(axes[0, 0], title, "contribution score w")
    scores, nulls = (np.array([row[column] for row in rows], float) for column in (1, 2))
    axis.barh(
        range(len(rows)), scores, 0.6, color=[style.ACCENT if ok else style.FAINT for ok in scores > nulls]
    )
    axis.plot(
        nulls, range(len(rows)), "|", color=style.INK, markersize=8, label="the most of 40 random rotations"
    )
    axis.set_yticks(range(len(rows)), [text for text, *_ in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    figure.legend(fontsize=style.SMALL, frameon=False, loc="outside lower center")
    return figure


@style.as_written
def concepts(
    images: Sequence[np.ndarray], words: Sequence[Sequence[str]], width: float = style.PAGE
) -> Figure:
    """Figure B.1: images, each with the words of highest image-contribution score below it."""
    size, columns = width / len(images), len(images)
    longest = max(_wrapped(found, columns).count("\n") + 1 for found in words)
    figure, axes = style.panels(1, len(images), width, size + 0.13 * longest + 0.1)
    for column, (pixels, found) in enumerate(zip(images, words, strict=True)):
        axis = style.picture(axes[0, column], pixels)
        axis.set_anchor("N")  # the texts below need the space that a square leaves
        axis.set_xlabel(_wrapped(found, columns), fontsize=style.SMALL, color=style.INK)
    return figure


def _wrapped(texts: Sequence[str], columns: int) -> str:
    """Return texts one below the other, wrapped to the width of one of `columns` pictures across the page."""
    return "\n".join(textwrap.fill(text, max(12, 120 // columns), subsequent_indent="   ") for text in texts)


@dataclass(frozen=True)
class AttackExample:
    """A picture that fools the classifier: (source class, target class), its sentence, its margin in cosine, the
    picture [rows, cols, 3] uint8 and a map [rows, cols], above 0 where tokens write towards the wrong class.
    """

    pair: tuple[str, str]
    sentence: str
    margin: float
    picture: np.ndarray
    heatmap: np.ndarray


@style.as_written
def attack_examples(examples: Sequence[AttackExample], width: float = style.PAGE) -> Figure:
    """Figure 3.6: pictures above, what writes towards the wrong class (orange) and the class drawn (blue) below."""
    n = max(4, len(examples))
    size = width / n
    figure, axes = style.panels(2, n, width, 2 * size + 0.75)
    for column in range(n):
        if column >= len(examples):
            style.picture(axes[0, column], None)
            style.picture(axes[1, column], None)
            continue
        one = examples[column]
        style.picture(axes[0, column], one.picture, f"{one.pair[0]} → {one.pair[1]}")
        axis = style.signed_overlay(axes[1, column], one.picture, one.heatmap)
        said = f"{one.sentence} ({one.margin:+.3f})"
        axis.set_xlabel(textwrap.fill(said, max(12, 120 // n)), fontsize=style.SMALL, color=style.INK)
    return figure


def _lines(axis: Axes, curves: Mapping[str, Curve], levels: Mapping[str, float]) -> None:
    """Draw curves of shares with their names at the end, the last one accented, among named levels."""
    names = list(curves)
    ends = []
    for place, name in enumerate(names):
        look: Any = style.OURS if place == len(names) - 1 else style.BASELINES[place % len(style.BASELINES)]
        x, y = list(curves[name]), list(curves[name].values())
        axis.plot(x, y, label=name, linewidth=1.2, markersize=3.5, **look)
        ends.append((name, x[-1], y[-1], look["color"]))
    left, right = min(min(curve) for curve in curves.values()), max(end[1] for end in ends)
    axis.hlines(list(levels.values()), left, right, color=style.RULE, linewidth=1.2, zorder=0)
    ends += [(name, right, level, style.FAINT) for name, level in levels.items()]
    low, high = axis.get_ylim()
    low, high = min(low, *(end[2] for end in ends)), max(high, *(end[2] for end in ends))
    if high - low < style.LEAST:
        low = max(0.0, (low + high - style.LEAST) / 2)
        high = low + style.LEAST
    axis.set_ylim(low, high + 0.03 * (high - low))
    heights = style.spread_labels([end[2] for end in ends], 0.075 * (high - low))
    axis.set_ylim(min(low, *heights), max(high + 0.03 * (high - low), *heights))
    for (name, _, _, color), height in zip(ends, heights, strict=True):
        style.label_end(axis, right, height, name, str(color))
    style.end_axis(axis, right)
    _percentages(axis)


def _percentages(axis: Axes) -> None:
    """Return ticks at round percentages between 0 and 100 whose labels all differ."""
    low, high = axis.get_ylim()
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(max(0.0, low), min(1.0, high))
    kept = [float(tick) for tick in ticks if max(0.0, low) - 1e-9 <= tick <= min(1.0, high) + 1e-9]
    n_digits = 0 if len(kept) < 2 or kept[1] - kept[0] > 0.0099 else 1
    axis.set_yticks(kept, [f"{100 * tick:.{n_digits}f}%" for tick in kept])
