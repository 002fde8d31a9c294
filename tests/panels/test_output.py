"""A cell's output where no front end answers: the saved page and pictures, and next to nothing of the widgets."""

from __future__ import annotations

import base64
import gzip
import io
import re
import types

import IPython
import ipywidgets
import numpy as np
import pytest
from few_texts import COMMON
from PIL import Image

import clipviz
from clipviz.demo import images as demo
from clipviz.panels import Heads
from clipviz.panels.core import fronts, pictures
from clipviz.panels.core.scripts import Kit
from clipviz.panels.tour.panel import Tour

pytestmark = pytest.mark.usefixtures("few_rotations")


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(8)), [*COMMON, "a swan"]) as session:
        session.select(image=2, layer=5, head=1, text="a swan")
        yield session


@pytest.fixture
def kernel(monkeypatch):
    """`kernel(content)`: this process as a kernel that runs a cell asked for in this way."""

    def run(content):
        stand_in = types.SimpleNamespace(get_parent=lambda channel: {"content": content})
        monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=stand_in))

    return run


def page_in(output):
    return gzip.decompress(base64.b64decode(re.search(r"atob\('([^']+)'\)", output)[1])).decode()


def test_who_runs_a_cell_says_whether_somebody_answers(kernel, monkeypatch):
    assert fronts.answered()  # no kernel
    kernel({"code": "1", "allow_stdin": True})
    assert fronts.answered()
    kernel({})
    assert fronts.answered()
    kernel({"code": "1", "allow_stdin": False})
    assert not fronts.answered()
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    assert fronts.answered()


def test_a_live_front_end_gets_the_widget_alone(session):
    panel = Heads(session)
    bundle = panel._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/plain"}


def test_a_panel_without_a_front_end_is_its_saved_page_and_a_picture(session, kernel):
    kernel({"allow_stdin": False})
    panel = Heads(session)
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    output = bundle["text/html"]
    page = page_in(output)
    assert page.startswith("<!doctype html>")
    assert "<h1>clipviz · heads</h1>" in page
    assert 'alt="Figure of the panel heads"' in output
    assert len(output) < 120_000
    assert "src=" not in re.sub(r'src="data:[^"]+"', "", output)  # nothing is fetched
    assert panel._repr_mimebundle_() == bundle  # the same letters, so that outputs can be compared


def test_a_board_without_a_front_end_is_small_and_stores_the_heads_of_two_layers(model, kernel):
    kernel({"allow_stdin": False})
    session = clipviz.Session(model, demo().subset(range(8)), [*COMMON, "a swan"], background=False)
    session.select(image=2, layer=5, head=1, text="a swan")
    board = clipviz.Dashboard(session)
    output = board._repr_mimebundle_()["text/html"]
    assert output.count('src="data:image/webp') == 3
    assert len(output) < 500_000
    assert "and 16 heads" in standalone_told(page_in(output))
    board.close()


def standalone_told(page):
    packed = re.search(r'id="panels">([^<]+)<', page)[1]
    return gzip.decompress(base64.b64decode(packed)).decode()


def test_what_is_sent_without_a_front_end_says_only_what_a_widget_is(session, kernel, monkeypatch):
    kernel({"allow_stdin": False})
    monkeypatch.setattr(Kit, "_shown", None)
    panel = Heads(session)
    session.wait(60)
    for widget in (panel, panel.kit):
        state = widget.get_state()
        assert state["_model_module"]
        assert len(str(state)) < 400
    assert ipywidgets.VBox([panel]).children == (panel,)  # a user's own box can still be made


def test_a_panel_that_shows_nothing_says_why(session, kernel):
    kernel({"allow_stdin": False})
    panel = Tour(session, (), lambda name: None)
    session.wait(60)
    panel.view = {}
    assert "shows nothing to save" in panel._repr_mimebundle_()["text/html"]


def test_a_sheet_in_a_saved_page_is_small_and_shows_the_same_pictures():
    sheet, columns = demo().sprite(range(24), 56, 6)
    compact = pictures.compact(sheet)
    assert len(compact) < 0.7 * len(sheet)
    before, now = (np.asarray(pictures.cut(one, 56, columns, 24), float) for one in (sheet, compact))
    assert np.abs(before - now).mean() < 6
    wide = io.BytesIO()
    Image.new("RGB", (pictures.WEBP_SIDE + 1, 1)).save(wide, "JPEG")
    assert pictures.compact(wide.getvalue()) == wide.getvalue()
