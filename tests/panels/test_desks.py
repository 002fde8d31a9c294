"""The row of desks: built when first opened, silent when closed, gone at the end."""

from __future__ import annotations

import gc
import random
import sys
import time
import types
import weakref

import pytest
from few_texts import COMMON

import clipviz
from clipviz.demo import images as demo
from clipviz.panels.desks.panel import DESKS, Desks
from clipviz.session.topics import readings

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = [*COMMON, "a zebra", "a chair"]


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(24)), TEXTS) as session:
        yield session


def test_nothing_is_built_before_it_is_opened(session):
    desks = Desks(session)
    assert not desks.built
    assert desks.panel is None
    desks.close()


def test_where_scripts_are_served_from_cells_alone_every_desk_is_built_with_the_row(session, monkeypatch):
    running = types.SimpleNamespace(running_in_notebook=lambda: True)
    monkeypatch.setitem(sys.modules, "marimo", running)
    build = Desks._build

    def slowly(desks, name, **closed):  # so that the worker has time for a desk that is not yet closed
        panel = build(desks, name, **closed)
        session.wait(60)
        return panel

    monkeypatch.setattr(Desks, "_build", slowly)
    desks = Desks(session)
    assert list(desks.built) == list(DESKS)
    assert all(panel.closed for panel in desks.built.values())
    session.wait(60)
    assert not any(panel.view for panel in desks.built.values())  # nothing has been computed
    words = desks.built["words"]
    assert desks.show("words") is words
    session.wait(60)
    assert words.view["selection"]
    desks.close()


@pytest.mark.parametrize("name", DESKS)
def test_every_desk_opens(session, name):
    desks = Desks(session)
    panel = desks.show(name)
    session.wait(120)
    assert desks.panel is panel
    assert panel.name == name
    assert panel.view
    assert not panel.error
    desks.close()


def test_a_closed_desk_follows_no_selection_and_catches_up_when_shown(session):
    desks = Desks(session)
    panel = desks.show("ablate")
    session.wait(60)
    desks.show("")
    assert desks.panel is None
    shown = panel.view
    session.select(image=5)
    session.wait(60)
    assert panel.view is shown
    assert desks.show("ablate") is panel
    session.wait(60)
    assert panel.view["selection"]["image"] == 5
    desks.close()


def test_the_reading_of_a_closed_desk_stops_and_goes_on_when_it_is_shown(model, monkeypatch):
    monkeypatch.setattr(readings, "BATCH", 4)
    monkeypatch.setattr(readings, "FIRST", 8)
    session = clipviz.Session(model, demo().subset(range(24)), TEXTS, background=False)
    desks = Desks(session)
    neurons = desks.show("neurons")
    session.wait(120)
    cues = desks.show("cues")
    cues.layers, cues.n_sentences, cues.n_pictures = [session.neurons.default_layer], 1, 1
    session.wait(120, background=True)
    assert neurons.progress[0] < 24  # cues read the rest: nothing read for the closed desk
    assert cues.view["words"]
    assert desks.show("neurons") is neurons
    session.wait(120, background=True)
    assert neurons.view["complete"]
    session.close()


def test_the_browser_opens_a_desk_by_a_trait(session):
    desks = Desks(session)
    desks.shown = "neurons"
    assert list(desks.built) == ["neurons"]
    desks.shown = "nothing of this name"
    assert desks.panel is None
    desks.close()


def test_an_unknown_desk_is_refused(session):
    desks = Desks(session)
    with pytest.raises(
        ValueError,
        match="expected one of ablate, atlas, cues, generate, neurons, rosetta, words or '' for none, got 'x'",
    ):
        desks.show("x")
    desks.close()


def test_closing_leaves_nothing(session):
    desks = Desks(session)
    gone = weakref.ref(desks.show("ablate"))
    session.wait(60)
    desks.close()
    del desks
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("back", ["before it computes", "afterwards"])
@pytest.mark.parametrize("name", ["closed", "visible"])
def test_a_desk_that_goes_off_screen_as_it_begins_to_compute_is_shown_later(model, monkeypatch, name, back):
    session = clipviz.Session(model, demo().subset(range(6)), TEXTS, background=False)
    desk = Desks(session).show("atlas")
    session.wait(60)
    away, here = (True, False) if name == "closed" else (False, True)
    real, shown = desk.marks, desk._show

    def marks(selection):  # the browser's message comes when the key has been made
        monkeypatch.setattr(desk, "marks", real)
        setattr(desk, name, away)
        return real(selection)

    def show(*view):
        shown(*view)
        if back == "before it computes":
            setattr(desk, name, here)

    monkeypatch.setattr(desk, "marks", marks)
    monkeypatch.setattr(desk, "_show", show)
    session.select(layer=2)
    session.wait(60)
    setattr(desk, name, here)
    session._state.refresh()
    session.wait(60)
    assert desk.view["selection"]["layer"] == 2
    assert not desk.view.get("waiting")
    assert desk.view["n_points"] == 6
    session.close()


def test_desks_switched_two_hundred_times_at_random_moments_all_finish_their_work(model, monkeypatch):
    monkeypatch.setattr(readings, "BATCH", 3)
    monkeypatch.setattr(readings, "FIRST", 6)
    moments = random.Random(20)
    names = ("neurons", "words", "cues")
    stalls = []
    session = clipviz.Session(model, demo().subset(range(24)), TEXTS, background=False)
    desks = Desks(session)
    panels = {name: desks.show(name) for name in names}
    panels["cues"].n_sentences = panels["cues"].n_pictures = 1
    for layer in range(session.model.n_layers - 1):
        panels["neurons"].layer = panels["words"].layer = layer
        panels["cues"].layers = [layer]
        for _ in range(40):
            desks.show(moments.choice(["", *names]))
            time.sleep(moments.uniform(0, 0.02))
        for name in names:  # shown once more and left alone: what each began is finished
            desks.show(name)
            session.wait(120, background=True)
            if not panels[name].view.get("complete"):
                stalls.append((layer, name))
    session.close()
    assert stalls == []
