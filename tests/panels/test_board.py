"""The board's own panels: a selection in and the view follows, a request in and the selection follows."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from few_texts import COMMON
from PIL import Image

import clipviz
from clipviz.analysis.collection.text_pool import TextPool
from clipviz.demo import images as demo
from clipviz.lens import textspan
from clipviz.models.bundle import TourStep
from clipviz.panels import Heads, Heatmap, ImageGallery, Query, Receipts, TextSpan
from clipviz.panels.textspan import panel as textspan_panel
from clipviz.session import Board
from clipviz.values import Ablation
from panels.asking import ask

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = [*COMMON, "a flamingo", "a chair"]
PANELS = (Query, ImageGallery, Heatmap, Heads, TextSpan, Receipts)


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(24)), TEXTS) as session:
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


def test_heads_shows_the_sessions_own_numbers(session):
    panel = Heads(session)
    session.select(text="a red circle", image=4)
    session.wait(60)
    shown, scores = panel.data(), session.heads.effects("a red circle", 4)
    assert shown["heads"] == pytest.approx(scores.heads)
    assert shown["mlps"] == pytest.approx(scores.mlps)


def test_textspan_shows_every_text_beside_its_null(session):
    panel = TextSpan(session, n_texts=4)
    session.select(layer=5, head=1)
    session.wait(60)
    described = session.heads.textspan(5, 1, 4)
    assert [row["text"] for row in panel.view["rows"]] == list(described.texts)
    assert [row["gain"] for row in panel.view["rows"]] == pytest.approx(described.gains.tolist())
    assert [row["null"] for row in panel.view["rows"]] == pytest.approx(described.null_gains.mean(0).tolist())
    assert panel.view["n_used_up"] == described.n_used_up
    assert panel.view["label"]["p_value"] == session.heads.label(5, 1).p_value


def test_other_heads_are_described_between_clicks(session, monkeypatch):
    monkeypatch.setattr(textspan_panel, "AHEAD", 8)  # fewer than there are, hence those of the selected layer
    panel = TextSpan(session)
    session.select(layer=4, head=2)
    session.wait(60)
    session.wait(120, background=True)
    searched = []
    found = textspan.null_explained
    monkeypatch.setattr(textspan, "null_explained", lambda *a, **k: searched.append(1) or found(*a, **k))
    for head in (0, 7):
        ask(panel, {"layer": 4, "head": head})
        assert panel.view["rows"][0]["text"] == session.heads.textspan(4, head).texts[0]
    assert not searched
    ask(panel, {"layer": 3, "head": 1})
    assert len(searched) == 1


def test_images_and_map_are_shown_before_the_texts_of_the_pool_are_encoded(model, monkeypatch):
    session = clipviz.Session(model, demo().subset(range(6)), TEXTS, background=False)
    session.select(text="a red circle", image=2, layer=5, head=1)
    shown = {}
    step = TextPool._step

    def watched(pool):
        if session._state.worker.here and not shown:
            shown.update({panel.name: dict(panel.view) for panel in panels})
        return step(pool)

    monkeypatch.setattr(TextPool, "_step", watched)
    panels = []
    with session._state.worker._wake:  # no panel is computed before all of them are there
        panels += [TextSpan(session), Heatmap(session), Heads(session), ImageGallery(session)]
    session.wait(60)
    assert len(shown["images"]["ids"]) == 6
    assert shown["heatmap"]["cosine"] == shown["heads"]["cosine"] is not None
    assert shown["textspan"]["message"] == textspan_panel.ENCODING
    assert panels[0].view["rows"]
    assert panels[0].view["message"] == ""
    assert panels[1].view["context"]["nearest"]
    session.close()


def test_a_closed_panel_describes_no_further_heads(session):
    panel = TextSpan(session)
    session.wait(60)
    ahead = panel._ahead
    assert panel.wants_ahead(ahead)
    panel.close()
    assert not panel.wants_ahead(ahead)
    session.wait(60, background=True)


def test_a_texts_images_are_those_on_which_the_head_writes_most_along_it(session):
    panel = TextSpan(session)
    session.select(layer=5, head=1)
    ids = panel.data()["thumbnails"]["ids"]
    pool, order = session.texts.pool(), session.heads.textspan(5, 1).order
    assert ids == [[i for i, _ in session.images.top(pool[j], 5, 1, panel.n_images)] for j in order]


def test_a_click_on_another_head_marks_it_without_sending_the_effects_again(session):
    panel = Heads(session)
    session.select(text="a red circle", image=7, layer=4, head=2)
    before = panel.data()
    sent = []
    panel.observe(sent.append, "blob")
    ask(panel, {"layer": 1, "head": 6})
    after = panel.data()
    assert (after["selection"]["layer"], after["selection"]["head"]) == (1, 6)
    assert np.array_equal(after["heads"], before["heads"])
    assert not sent
    ask(panel, {"image": 3})
    assert sent
    assert not np.array_equal(panel.data()["heads"], before["heads"])


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


STEPS = (
    TourStep("One", "says", "heatmap", {"text": "a dog"}, {"heatmap": {"scope": "late"}}, image=lambda images: 3),
    TourStep("Two", "says", "ablate", {"text": "a cat"}, {"ablate": {"task": "birds"}},
             quality="a red circle", without_shortcut="birds"),
)  # fmt: skip


@pytest.fixture
def board(session):
    return clipviz.Dashboard(session, tour=STEPS)


def send(panel, **request):
    panel.set_state({"request": {"seq": panel.view.get("ack", 0) + 1, **request}})


def test_a_step_selects_and_sets_what_it_is_about(board, session):
    session.wait(30)
    send(board.query, action="tour")
    session.wait(30)
    assert board.tour.view["at"] == 1
    assert (session.selection.text, session.selection.image, board.heatmap.scope) == ("a dog", 3, "late")
    assert board.tour.view["steps"][0] == {"title": "One", "text": "says", "panel": "heatmap"}


def test_the_end_of_the_tour_gives_back_the_board_that_it_found(board, session):
    session.select(image=5, layer=5, head=1, text="a chair", ablation=Ablation(heads=frozenset({(5, 0)})))
    board.heatmap.scope = "layer"
    board.desks.show("words")
    found = session.view
    for step in (1, 2):
        board.tour.go(step)
    assert session.selection.ablation != found.selection.ablation
    send(board.tour, action="go", step=0)
    session.wait(60)
    assert board.tour.view["at"] == 0
    assert session.view == found
    assert (board.heatmap.scope, board.desks.shown) == ("layer", "words")
    session.undo()
    assert session.selection.text == "a cat"  # what the tour showed is one step back


def test_a_step_that_cannot_be_shown_yet_changes_nothing_and_says_why(board, session, monkeypatch):
    session.wait(30)
    board.tour.go(1)
    session.wait(30)
    monkeypatch.setattr(session.ablation, "presets", lambda **_: [])
    send(board.tour, action="go", step=2)
    session.wait(30)
    assert "Press Next when it is complete" in board.tour.error["message"]
    assert (board.tour.at, session.selection.text, board.desks.shown) == (1, "a dog", "")
    send(board.tour, action="go", step=9)
    assert "within 1..2" in board.tour.error["message"]


def test_the_strongest_head_is_selected_and_the_shortcuts_heads_are_removed(board, session):
    preset = [
        p for p in session.ablation.presets(task=session.ablation.tasks()["birds"]) if p.kind == "shortcut"
    ]
    board.tour.go(2)
    effects = session.heads.effects("a red circle").heads
    assert effects[session.selection.layer, session.selection.head] == effects.max()
    assert session.selection.ablation == Ablation(heads=preset[0].heads)
    assert board.desks.shown == "ablate"
    assert board.desks.built["ablate"].task == "birds"


def test_no_tour_no_button(session):
    assert clipviz.Dashboard(session, tour=()).query.n_steps == 0
    assert clipviz.Dashboard(session).query.n_steps == len(Board.of(session).tour) == 5


def turned(folder, session):
    """Photographs as a camera stores them: of several shapes, one turned as its EXIF says, in folders."""
    for i, (name, size, turn) in enumerate(
        (("animals", (640, 427), 1), ("animals", (427, 640), 6), ("things", (900, 300), 3))
    ):
        picture = Image.fromarray(session.images.pixels(i)).resize(size)
        exif = Image.Exif()
        exif[0x0112] = turn
        (folder / name).mkdir(exist_ok=True)
        picture.save(folder / name / f"IMG_{i}.jpg", exif=exif)
    return folder


def test_a_board_on_photographs_begins_with_their_own_text_and_says_that_they_are_others(session, tmp_path):
    photographs = clipviz.Session(session.model, turned(tmp_path, session), session.texts, background=False)
    board = clipviz.Dashboard(photographs)
    photographs.wait(60)
    selection = photographs.selection
    assert selection.text == photographs.texts.nearest(0, 1)[0][0]
    effects = photographs.heads.effects(selection.text, 0).heads
    assert effects[selection.layer, selection.head] == effects.max()
    assert board.query.n_steps == 0
    assert "a flamingo" not in board.query.view["examples"]
    assert "mask" not in board.heatmap.view["arrays"]
    assert "not from the collection" in board.heatmap.view["context"]["far"]["why"]
    assert {"animals": 2, "things": 1} in photographs.images.columns().values()
    for panel in board.panels:
        assert not panel.error, panel.name
    photographs.select(text="")
    clipviz.Dashboard(photographs)
    assert photographs.selection.text == ""  # what a person chose stays
    board.close()


def test_a_closed_board_that_python_forgets_leaves_the_session_to_the_next(session):
    session.close = lambda: None  # as where all widgets are closed and the session is kept
    clipviz.Dashboard(session).close()
    del session.close
    gc.collect()
    heads = Heads(session)
    session.wait(60)
    assert heads.view["selection"]
