"""Letters of a lesson's figures can be read."""

from __future__ import annotations

import numpy as np
from matplotlib.text import Text

from clipviz.figures import panels
from clipviz.lessons import readable


def test_no_letter_is_smaller_than_nine_points_and_larger_ones_stay():
    def sizes(figure):
        figure.canvas.draw()
        return [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]

    heads, mlps = np.linspace(-1, 1, 48).reshape(6, 8), np.linspace(-1, 1, 7)
    assert min(sizes(panels.heads_figure(heads, mlps, "a title", width=7))) < 9
    figure = panels.heads_figure(heads, mlps, "a title", width=7)
    figure.text(0.5, 0.5, "large", fontsize=15)
    found = sizes(readable(figure))
    assert min(found) == 9
    assert max(found) == 15
    assert figure.get_size_inches()[0] == 7
