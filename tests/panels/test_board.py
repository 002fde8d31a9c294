"""The board's own panels: a selection in and the view follows, a request in and the selection follows."""

from __future__ import annotations

import gc
import weakref

import pytest

from clipviz.demo import images as demo
from clipviz.panels import Heads, Heatmap, ImageGallery, Query, Receipts, TextSpan

PANELS = (Query, ImageGallery, Heatmap, Heads, TextSpan, Receipts)


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(40)), "demo") as session:
        yield session


@pytest.mark.parametrize("panel_class", PANELS)
def test_the_view_follows_the_selection(session, panel_class):
    panel = panel_class(session)
    session.select(image=7, layer=4, head=2, text="a red circle")
    session.wait(60)
    assert not panel.error
    shown = panel.view["selection"]
    assert (shown["image"], shown["layer"], shown["head"], shown["text"]) == (7, 4, 2, "a red circle")
    assert panel.data()["selection"] == shown


@pytest.mark.parametrize("panel_class", PANELS)
def test_the_selection_follows_a_request_and_its_answer_names_it(session, panel_class):
    panel = panel_class(session)
    session.wait(60)
    panel.request = {"seq": 5, "changes": {"layer": 2, "head": 6, "image": 9}}
    session.wait(60)
    assert (session.selection.layer, session.selection.head, session.selection.image) == (2, 6, 9)
    assert panel.view["ack"] == 5


@pytest.mark.parametrize("panel_class", PANELS)
def test_an_impossible_request_is_told_and_nothing_is_lost(session, panel_class):
    panel = panel_class(session)
    session.wait(60)
    before, shown = session.selection, panel.data()
    panel.request = {"seq": 2, "changes": {"layer": 77}}
    session.wait(60)
    assert session.selection == before
    assert "77" in panel.error["message"]
    assert panel.error["detail"] == ""
    assert panel.data().keys() == shown.keys()
    session.select(image=11, head=3)
    session.wait(60)
    assert panel.view["selection"] == session.selection.to_dict()


@pytest.mark.parametrize("panel_class", PANELS)
def test_an_unknown_action_and_option_are_refused(session, panel_class):
    panel = panel_class(session)
    session.wait(60)
    panel.request = {"seq": 2, "action": "fly"}
    session.wait(60)
    assert "knows no action 'fly'" in panel.error["message"]
    with pytest.raises(TypeError, match="'colour'"):
        panel_class(session, colour=1)


@pytest.mark.parametrize("panel_class", PANELS)
def test_a_closed_panel_is_gone(session, panel_class):
    panel = panel_class(session)
    session.wait(60)
    gone = weakref.ref(panel)
    panel.close()
    del panel
    gc.collect()
    session.select(image=3)
    session.wait(60)
    assert gone() is None


@pytest.mark.parametrize("panel_class", [Heatmap, Heads, TextSpan])
def test_a_panel_is_a_figure_for_print(session, panel_class, tmp_path):
    panel = panel_class(session)
    session.select(text="a red circle")
    session.wait(60)
    panel.figure().savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_heads_shows_the_sessions_own_numbers(session):
    panel = Heads(session)
    session.select(text="a red circle", image=4)
    session.wait(60)
    shown, scores = panel.data(), session.head_scores("a red circle", 4)
    assert shown["heads"] == pytest.approx(scores.heads)
    assert shown["mlps"] == pytest.approx(scores.mlps)


def test_textspan_shows_every_text_beside_its_null(session):
    panel = TextSpan(session, n_texts=4)
    session.select(layer=5, head=1)
    session.wait(60)
    described = session.textspan(5, 1, 4)
    assert [row["text"] for row in panel.view["rows"]] == list(described.texts)
    assert [row["gain"] for row in panel.view["rows"]] == pytest.approx(described.gains.tolist())
    assert [row["null"] for row in panel.view["rows"]] == pytest.approx(described.null_gains.mean(0).tolist())


def test_undo_and_redo_are_asked_by_the_query_panel(session):
    panel = Query(session)
    session.select(text="a dog")
    session.select(text="a car")
    panel.request = {"seq": 2, "action": "undo"}
    session.wait(60)
    assert session.selection.text == "a dog"
    panel.request = {"seq": 3, "action": "redo"}
    session.wait(60)
    assert session.selection.text == "a car"
