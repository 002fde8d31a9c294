"""Printed figures: texts come from users and files, and are shown letter by letter."""

from __future__ import annotations

import importlib
import inspect

import numpy as np
import pytest
from matplotlib.text import Text

from clipviz.figures import panels, style

MODULES = ("composer", "panels", "chapter2", "chapter3", "chapter4", "world")
HOSTILE = ["$\\frac{$", "from $3 to $5", "a_b^c $x$", "{}%s\\n"]


@pytest.mark.parametrize("name", MODULES)
def test_every_figure_shows_texts_as_written(name):
    module = importlib.import_module(f"clipviz.figures.{name}")
    made = [
        make
        for _, make in inspect.getmembers(module, inspect.isfunction)
        if make.__module__ == module.__name__
    ]
    figures = [make for make in made if make.__annotations__.get("return") == "Figure"]
    assert figures
    for make in figures:
        wrapped = inspect.getsource(make).lstrip().startswith(("@style.as_written", "@as_written"))
        assert wrapped, f"{make.__name__} lacks @as_written"


def test_dollars_in_texts_and_titles_begin_no_formula(tmp_path):
    rows = [{"text": text, "gain": 0.2, "null_high": 0.1} for text in HOSTILE]
    figures = [
        panels.textspan_figure(rows, HOSTILE[0]),
        panels.heads_figure(np.ones((2, 2)), np.ones(3), HOSTILE[1]),
    ]
    for i, figure in enumerate(figures):
        style.save(figure, tmp_path / str(i), ["svg", "png"])
    shown = [text.get_text() for text in figures[0].findobj(Text)]
    assert set(HOSTILE) <= set(shown)
    svg = (tmp_path / "0.svg").read_text(encoding="utf-8")
    assert "from $3 to $5" in svg
    assert "a_b^c $x$" in svg
