"""Every panel as a figure: text stays text, inside the canvas, in a column and across the page; downloads are files."""

from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.text import Text

import clipviz
from clipviz import figures
from clipviz.figures.style import PRINTED, Print
from clipviz.panels.core import base
from clipviz.panels.core.base import Panel

pytestmark = pytest.mark.usefixtures("few_rotations")
N_READ = 16  # images whose neurons are read
FEW = {
    "Cues": {"n_images": N_READ, "n_sentences": 1, "n_pictures": 1, "layers": [3]},
    "Neurons": {"n_images": N_READ, "layer": 3},
}


@pytest.fixture(scope="module")
def panels(model):
    demo = clipviz.demo.images()
    birds = [i for i, group in enumerate(demo.attributes["bird group"]) if group][:24]
    session = clipviz.Session(
        model, demo.subset([*range(24), *birds]), list(clipviz.demo.texts())[::6], background=False
    )
    kinds = [getattr(clipviz.panels, name) for name in clipviz.panels.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Panel)]
    kinds = [kind for kind in kinds if kind.draw is not Panel.draw]
    made = {kind.__name__: kind(session, **FEW.get(kind.__name__, {})) for kind in kinds}
    session.wait(300, background=True)
    yield made
    session.close()


def outside(figure):
    """Texts that reach beyond the canvas by more than a point."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # lays everything out
    width, height, edge = figure.bbox.width, figure.bbox.height, figure.dpi / 72
    found, unseen = [], set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        unseen |= {text for tick in beyond for text in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            box = text.get_window_extent(canvas.get_renderer())
            if min(box.x0, box.y0) < -edge or box.x1 > width + edge or box.y1 > height + edge:
                found.append(text.get_text())
    return found


def covered(figure):
    """Texts that a legend lies on, and labels of an axis that lie on each other by more than a point, once drawn."""
    canvas, found = figure.canvas, []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        ticks = [text for text in ticks if text.get_visible() and text.get_text().strip()]
        boxes = [(text.get_window_extent(canvas.get_renderer()), text.get_text()) for text in ticks]
        for (one, said), (other, _) in itertools.pairwise(boxes):
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            down = min(one.y1, other.y1) - max(one.y0, other.y0)
            found += [said] if min(across, down) > figure.dpi / 72 else []
    for legend in figure.legends:
        own, box = set(legend.findobj(Text)), legend.get_window_extent(canvas.get_renderer())
        for text in set(figure.findobj(Text)) - own:
            if text.get_visible() and text.get_text().strip():
                found += (
                    [text.get_text()] if box.overlaps(text.get_window_extent(canvas.get_renderer())) else []
                )
    return found


def test_every_panel_prints_in_a_column_and_across_the_page(panels, tmp_path):
    assert len(panels) >= 13
    with PdfPages(tmp_path / "pages.pdf") as pages:  # one file of all, which embeds each font once
        for name, panel in panels.items():
            for width in (3.4, 7.0):
                figure = panel.figure(width, font=8)
                assert outside(figure) == [], (name, width)
                assert covered(figure) == [], (name, width)
                assert figure.get_figwidth() == width
                source = next(text for text in figure.texts if clipviz.__version__ in text.get_text())
                assert source.get_fontsize() >= 6, name  # letters that are read in print
            figure.set_layout_engine("none")  # it is laid out
            assert isinstance(figure, Print), name  # which sets what is written below, one figure at a time
            figure.savefig(pages, format="pdf")
            figure.savefig(tmp_path / "figure.svg")
            svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
            assert f"clipviz {clipviz.__version__}" in svg, name
            assert panel.session.model.fingerprint[:6] in svg, name
        with mpl.rc_context(PRINTED):
            pages.close()
    as_text(tmp_path / "pages.pdf")


def as_text(pdf):
    """Asserts that a PDF's letters are those of fonts, which other programs can search and edit."""
    content = pdf if isinstance(pdf, bytes) else pdf.read_bytes()
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content or b"/TrueType" in content


def test_sizes_are_what_was_asked_and_refused_where_absurd(panels):
    heads = panels["Heads"]
    small, large = (max(t.get_fontsize() for t in heads.figure(3.4, font).findobj(Text)) for font in (6, 12))
    assert large == pytest.approx(2 * small)
    for wrong in ({"width": 0}, {"font": 1000}, {"width": float("nan")}):
        with pytest.raises(ValueError, match=r"expected (width|font) within"):
            heads.figure(**wrong)


def test_what_is_printed_is_what_is_on_screen(panels):
    heatmap, session = panels["Heatmap"], panels["Heatmap"].session
    words = {text.get_text() for text in heatmap.figure().findobj(Text)}
    cosine = session.heads.effects(session.selection.text, session.selection.image).cosine
    assert f"cosine {cosine:+.3f}" in words
    assert "token effect, heads of the last 4 layers" in words
    bar = heatmap.figure().axes[1]
    assert max(np.abs(bar.get_ylim())) == pytest.approx(float(np.abs(heatmap.map()).max()), rel=1e-6)
    legend = {text.get_text() for text in panels["Ablate"].figure().legends[0].get_texts()}
    assert "nothing removed" in legend  # not "background heads ablated", whatever was
    session.select(ablation=clipviz.Ablation(heads={(5, 0), (5, 7), (3, 2)}))
    session.wait(60)
    for width in (3.4, 7.0):
        figure = panels["Ablate"].figure(width)
        assert outside(figure) == covered(figure) == [], width
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "without 3 heads" in legend
        assert "95% interval of the change" in legend
    session.select(ablation=clipviz.Ablation())
    session.wait(60)


def test_a_map_without_a_sign_is_printed_on_the_scale_of_the_screen(panels):
    heatmap, session = panels["Heatmap"], panels["Heatmap"].session
    heatmap.show = "rollout"
    session.wait(60)
    values = heatmap.map()
    figure = heatmap.figure()
    assert values.min() > 0
    assert figure.axes[1].get_ylim() == pytest.approx((values.min(), values.max()), rel=1e-6)
    alpha = figure.axes[0].images[1].get_array()[..., 3]
    assert alpha.min() == 0  # the least value is not drawn, as in heatmap.js
    np.testing.assert_allclose(
        alpha, 0.75 * ((values - values.min()) / (values.max() - values.min())) ** 0.75, rtol=1e-4, atol=1e-6
    )
    heatmap.show = "effect"
    session.wait(60)
    made = figures.composer.map_grid(session, [0, 5], ["a swan"], ["rollout"])
    assert made.columns[0].floor == min(float(maps[0].min()) for maps in made.maps) > 0


def test_a_download_is_the_figure_as_a_file(panels, monkeypatch):
    heads, sent = panels["Heads"], []
    monkeypatch.setattr(heads, "send", lambda content, buffers: sent.append((content, buffers)))
    begins = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    for seq, kind in enumerate(base.FIGURES, 1000):
        heads.request = {"seq": seq, "action": "figure", "kind": kind}
        content, buffers = sent[-1]
        assert content == {"file": f"clipviz-heads.{kind}", "type": base.FIGURES[kind]}
        assert bytes(buffers[0]).startswith(begins[kind])
        if kind == "pdf":
            as_text(bytes(buffers[0]))
    heads.request = {"seq": 2000, "action": "figure", "kind": "exe"}
    assert re.search("svg, pdf, png", heads.error["message"])
    assert len(sent) == 3


def test_a_grid_shares_its_scales(panels):
    session = panels["Heads"].session
    texts, methods = ["a <b>swan</b>", "a tiger"], [figures.composer.TOKENS, "rollout"]
    made = figures.composer.map_grid(session, [0, 5], texts, methods, [(5, 3)])
    assert [column.method for column in made.columns] == [*methods, "L5·H3"] * 2
    for at, column in enumerate(made.columns):
        same = [
            float(np.abs(maps[other]).max())
            for maps in made.maps
            for other, one in enumerate(made.columns)
            if one.method == column.method
        ]
        assert column.limit == pytest.approx(max(same)), at
    np.testing.assert_array_equal(made.maps[1][4], session.maps.compare("a tiger", 5)["rollout"])
    np.testing.assert_array_equal(made.maps[0][2], session.maps.tokens(texts[0], 0).map("head", 5, 3))
    for width in (3.4, 7.0):
        assert outside(figures.grid(session, [0, 5], texts, methods, [(5, 3)], width=width)) == []
    for wrong, said in (
        ({"methods": ["LRPP"]}, "expected methods among"),
        ({"images": []}, "at least one image"),
        ({"images": [10**9]}, "image"),
        ({"heads": [(99, 0)]}, "expected heads"),
        ({"scope": "some"}, "expected scope"),
        ({"images": list(range(300))}, "at most 400 maps"),
    ):
        with pytest.raises(ValueError, match=said):
            figures.grid(session, **{"images": [0], "texts": texts, **wrong})
