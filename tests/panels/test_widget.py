"""A panel is one widget among the user's own: it takes a layout, and closing it leaves nothing behind."""

from __future__ import annotations

import gc
import re

import ipywidgets
import pytest
from few_texts import COMMON
from ipywidgets.widgets import widget as registry

import clipviz
from clipviz.demo import images as demo
from clipviz.panels import Heads, Query, Receipts
from clipviz.panels.core.scripts import Kit
from clipviz.panels.desks.panel import Desks

pytestmark = pytest.mark.usefixtures("few_rotations")


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(8)), [*COMMON, "a swan"]) as session:
        yield session


def open_widgets():
    """The widgets that are open, except the kit, which the process keeps."""
    gc.collect()
    return {name: type(one).__name__ for name, one in registry._instances.items() if not isinstance(one, Kit)}


@pytest.mark.parametrize("kind", [Heads, Query, Receipts, Desks])
def test_a_closed_panel_leaves_no_widget_behind(session, kind):
    before = open_widgets()
    for _ in range(3):
        kind(session).close()
    assert open_widgets() == before


def test_a_closed_board_leaves_no_widget_behind(model):
    before = open_widgets()
    session = clipviz.Session(model, demo().subset(range(8)), [*COMMON, "a swan"], background=False)
    board = clipviz.Dashboard(session)
    board.desks.show("words")
    board.desks.show("ablate")
    board.close()
    board.close()
    assert open_widgets() == before


def test_a_layout_is_taken_as_values_or_as_the_users_own_which_stays(session):
    own = ipywidgets.Layout(width="320px")
    given, made = Heads(session, layout=own), Query(session, layout={"width": "50%"})
    assert given.layout is own
    assert made.layout.width == "50%"
    for panel in (given, made):
        panel.close()
    assert own.comm is not None
    assert made.layout.comm is None
    own.close()


def test_a_board_takes_a_layout(model):
    session = clipviz.Session(model, demo().subset(range(8)), [*COMMON, "a swan"], background=False)
    board = clipviz.Dashboard(session, layout={"width": "800px"})
    assert board.layout.width == "800px"
    board.close()


def test_a_board_refers_to_its_panels_by_place(model):
    session = clipviz.Session(model, demo().subset(range(8)), [*COMMON, "a swan"], background=False)
    board = clipviz.Dashboard(session)
    desk = board.desks.show("words")
    shown = board.get_state()["shown"]
    assert list(shown) == ["query", "images", "heatmap", "heads", "textspan", "desks", "receipts", "tour"]
    assert shown["heads"] == f"anywidget:{board.heads.model_id}"
    assert board.desks.get_state()["panel"] == f"anywidget:{desk.model_id}"
    board.desks.show("")
    assert board.desks.get_state()["panel"] is None
    board.close()


def test_the_browser_cannot_replace_panels(session):
    desks = Desks(session)
    desks.set_state({"panel": "anywidget:1", "shown": "words", "desks": []})
    assert desks.panel is desks.built["words"]
    assert re.fullmatch("anywidget:[0-9a-f]+", desks.get_state()["panel"])
    desks.close()
