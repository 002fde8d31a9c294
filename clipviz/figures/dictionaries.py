"""Figures of dictionaries of directions, from plain values to a Figure."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from clipviz.figures import style
from clipviz.values.training import TrainingLog


@style.as_written
def training(log: TrainingLog, width: float = style.COLUMN) -> Figure:
    """Return the course of a training run: the shares of variance explained and of dead features, over steps."""
    figure, axes = style.panels(1, 1, width, 2.1)
    axis = style.plain(axes[0, 0], "", "step", "share")
    axis.plot(log.steps, log.explained, color=style.ACCENT, label="variance explained")
    axis.plot(log.steps, log.dead, color=style.INK, linestyle="--", label="features dead")
    axis.set_ylim(min((0.0, *log.explained)), 1.02)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axis.legend(frameon=False, fontsize=style.SMALL, loc="center right")
    return figure
