"""Figures whose smallest letters can be read from a printed page or from a few rows away."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 9.0
"""The size of the smallest letters, in points."""


def readable(figure: Figure, least: float = LEAST) -> Figure:
    """Enlarge the letters of a figure that are smaller than `least` points, and return the figure."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for label in axis.get_ticklabels():
                axis.set_tick_params(labelsize=max(float(label.get_fontsize()), least))
    for text in figure.findobj(Text):
        text.set_fontsize(max(float(text.get_fontsize()), least))
    return figure
