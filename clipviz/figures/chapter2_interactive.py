"""The figures of chapter 2 in plotly, where hovering helps: from the same values to a plotly Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from clipviz.figures import style
from clipviz.figures.chapter2 import Curve

_COLOURS = (style.ACCENT, style.INK, style.FAINT, "#a16207", "#6b21a8", "#0f766e")


def accumulated_ablation(curves: Mapping[str, Curve]) -> go.Figure:
    """Figure 2.2: hover a point for the exact accuracy after ablating the first n layers."""
    return _curves(curves, "first attention layers mean-ablated", "after %{x} layers: %{y:.1%}")


def textspan_accuracy(pools: Mapping[str, Curve], base: float) -> go.Figure:
    """Figures 2.3 and A.1: one line per pool, the unchanged model dotted."""
    figure = _curves(pools, "texts per head, m", "m = %{x}: %{y:.1%}")
    figure.add_hline(y=base, line_dash="dot", line_color=style.INK, annotation_text="unchanged model")
    return figure


def term_ablation(rows: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Tables 2.1 and A.1: grouped dots, one row per task."""
    figure = go.Figure()
    kinds = list(next(iter(rows.values())))
    for kind, colour in zip(kinds, (style.INK, style.FAINT, style.ACCENT, "#a16207"), strict=False):
        figure.add_scatter(
            x=[row.get(kind) for row in rows.values()],
            y=list(rows),
            mode="markers",
            name=kind,
            marker={"size": 10, "color": colour},
            hovertemplate=f"{kind} ablated, %{{y}}: %{{x:.1%}}<extra></extra>",
        )
    return _plain(figure, "zero-shot accuracy", percent="x")


def spurious_groups(
    groups: Mapping[str, Sequence[float]], worst: Sequence[float], random: str = "best random draw"
) -> go.Figure:
    """Tables 2.3 and A.7-A.10: three dots per group; random: which draw of random heads is shown."""
    names = [*groups, "worst group"]
    values = [*groups.values(), worst]
    figure = go.Figure()
    kinds = (
        ("model", style.INK),
        (random, style.FAINT),
        ("background heads ablated", style.ACCENT),
    )
    for column, (kind, colour) in enumerate(kinds):
        figure.add_scatter(
            x=[row[column] for row in values],
            y=names,
            mode="markers",
            name=kind,
            marker={"size": 11, "color": colour},
            hovertemplate=f"{kind}, %{{y}}: %{{x:.1%}}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed")
    return _plain(figure, "accuracy", percent="x")


def segmentation_scores(
    scores: Mapping[str, Mapping[str, float]], ours: str = "token decomposition"
) -> go.Figure:
    """Table 2.4: three bars per method."""
    measures = ("pixel accuracy", "mIoU", "mAP")
    figure = make_subplots(1, 3, subplot_titles=measures, shared_yaxes=True, horizontal_spacing=0.04)
    for column, measure in enumerate(measures, 1):
        figure.add_bar(
            x=[scores[method][measure] for method in scores],
            y=list(scores),
            orientation="h",
            marker_color=[style.ACCENT if method.startswith(ours) else style.RULE for method in scores],
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed")
    return _plain(figure, "", percent="x").update_layout(showlegend=False)


def _curves(curves: Mapping[str, Curve], x: str, hover: str) -> go.Figure:
    figure = go.Figure()
    for position, (name, curve) in enumerate(curves.items()):
        xs = sorted(curve)
        figure.add_scatter(
            x=xs,
            y=[curve[value] for value in xs],
            mode="lines+markers",
            name=name,
            line={"color": _COLOURS[position % len(_COLOURS)]},
            hovertemplate=f"{name}, {hover}<extra></extra>",
        )
    return _plain(figure, x, "zero-shot accuracy", percent="y")


def _plain(figure: go.Figure, x: str, y: str = "", percent: str = "") -> go.Figure:
    figure.update_layout(
        template="simple_white",
        font={"size": 12, "color": style.INK},
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        height=340,
    )
    if percent == "x":
        figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    if percent == "y":
        figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
