"""Printed figures: texts come from users and files, and are shown letter by letter."""

from __future__ import annotations

import importlib
import inspect
import io

import numpy as np
import pytest
from IPython.core.pylabtools import print_figure
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.text import Text

from clipviz.figures import chapter2, panels, style

MODULES = ("composer", "panels", "chapter2", "chapter3", "chapter4", "world", "dictionaries")
RNG = np.random.default_rng(0)
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


def drawn(figure):
    """The figure's pixels at 100 dpi."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.mark.parametrize("constrained", [True, False])
def test_a_saved_figure_is_the_one_that_is_drawn(tmp_path, constrained):
    """Saving lays a figure out before it draws it, which is not to be seen."""
    figures = [style.new(3, 2, constrained) for _ in range(2)]
    for figure in figures:
        axes = style.plain(figure.add_subplot(), "a title", "along", "a long name\nup")
        axes.plot([1, 20, 300], color=style.ACCENT)
        if not constrained:
            style.place(figure, 2, 0.1, 0.8).picture(np.full((4, 4, 3), 200, np.uint8))
    figures[1].set_dpi(200)
    expected = drawn(figures[1])
    assert (expected < 255).any(-1).mean() > 0.01
    style.save(figures[0], tmp_path / "one", ["png", "svg"])
    found = (255 * imread(tmp_path / "one.png")[..., :3]).round().astype(int)
    assert np.array_equal(found, expected)
    assert "a title" in (tmp_path / "one.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(("rows", "cols"), [(48, 48), (30, 48), (48, 20)])
def test_tiles_show_what_axes_show(rows, cols):
    pixels = RNG.integers(0, 256, (rows, cols, 3)).astype(np.uint8)
    heatmap = RNG.normal(size=(6, 6))
    tiled, plain = style.new(3, 1.5, constrained=False), style.new(3, 1.5, constrained=False)
    style.place(tiled, 0.1, 0.25, 1).picture(pixels, edge=style.ACCENT)
    style.place(tiled, 1.5, 0.25, 1).laid(pixels, heatmap, limit=2)
    style.picture(plain.add_axes((0.1 / 3, 0.25 / 1.5, 1 / 3, 1 / 1.5)), pixels, edge=style.ACCENT)
    style.laid(plain.add_axes((1.5 / 3, 0.25 / 1.5, 1 / 3, 1 / 1.5)), pixels, heatmap, limit=2)
    found, expected = drawn(tiled), drawn(plain)
    assert (expected < 255).any(-1).mean() > 0.15
    edges = np.abs(found - expected).max(-1) > 24  # a picture may begin a pixel earlier
    assert edges.mean() < 0.01


def test_tiles_stay_above_a_line_about_the_source():
    figure = style.new(2, 1, constrained=False)
    style.place(figure, 0, 0, 1).picture(np.zeros((8, 8, 3), np.uint8))
    before = drawn(figure)
    style.finish(figure, provenance="ten images")
    after = drawn(figure)
    assert len(after) > len(before) == 100
    black = (after == 0).all(-1)
    assert black[:99, :99].all()
    assert not black[102:].any()


def test_a_notebook_shows_a_page_of_tiles_whole():
    figure = style.new(2.0, 1.0, constrained=False)
    for x in (0.1, 1.1):
        style.place(figure, x, 0.1, 0.8).picture(np.full((4, 4, 3), 200, np.uint8))
    style.words(figure, 0.1, 0.95, "below", 5, style.INK)
    shown = imread(io.BytesIO(print_figure(figure, dpi=100)))
    used = np.nonzero((shown[..., :3] < 0.9).any(0))[0]
    assert used.min() < 20
    assert used.max() > 180


def test_vector_files_keep_the_pictures_of_a_page_apart(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    style.save(
        panels.gallery_figure([("", [(pixels, str(i)) for i in range(9)])]), tmp_path / "page", ["svg"]
    )
    assert (tmp_path / "page.svg").read_text(encoding="utf-8").count("<image") == 9


def test_where_nothing_changes_the_model_and_what_was_removed_are_both_seen():
    same = (0.5, 0.2, 0.5)
    figure = chapter2.spurious_groups({"birds": same}, same)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    axis = figure.axes[0]
    x, y = (round(float(one)) for one in axis.transData.transform((same[0], 0)))
    marker = drawn[len(drawn) - y - 8 : len(drawn) - y + 8, x - 8 : x + 8].reshape(-1, 3)
    for color in (style.INK, style.ACCENT):
        assert np.abs(marker - to_rgb(color)).max(1).min() < 0.02, color
