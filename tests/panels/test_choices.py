"""Text, layer, head, image and neuron as single traits: they follow the session, select, and can be linked."""

from __future__ import annotations

import gc
import weakref

import pytest
import traitlets
from few_texts import COMMON

from clipviz.demo import images as demo
from clipviz.panels import Heads, Heatmap, Neurons, Query
from clipviz.panels.core.standalone import traits

pytestmark = pytest.mark.usefixtures("few_rotations")
NAMES = ["head", "image", "layer", "neuron", "text"]


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(8)), [*COMMON, "a swan"]) as session:
        session.select(image=2, layer=5, head=1, text="a swan")
        yield session


def chosen(panel):
    return {name: getattr(panel, name) for name in NAMES}


def test_the_traits_follow_the_selection_at_once(session):
    panel, seen = Heads(session), []
    assert sorted(panel.choices()) == NAMES
    assert chosen(panel) == {"head": 1, "image": 2, "layer": 5, "neuron": None, "text": "a swan"}
    panel.observe(lambda change: seen.append((change["name"], change["new"])), NAMES)
    session.select(layer=3, neuron=7, text="a red circle")
    assert chosen(panel) == {"head": 1, "image": 2, "layer": 3, "neuron": 7, "text": "a red circle"}
    assert sorted(seen) == [("layer", 3), ("neuron", 7), ("text", "a red circle")]


def test_what_changes_together_is_told_in_one_message(session, monkeypatch):
    panel, told = Heads(session), []
    session.wait(60)
    monkeypatch.setattr(panel, "_send", lambda message, buffers=None: told.append(message["state"]))
    session.select(layer=3, head=6, text="a red circle")
    session.wait(60)
    assert [sorted({"view", *NAMES} & set(state)) for state in told] == [["head", "layer", "text", "view"]]
    chosen = [{name: state[name] for name in NAMES if name in state} for state in told]
    assert [one for one in chosen if one] == [{"layer": 3, "head": 6, "text": "a red circle"}]
    panel.observe(lambda change: session.select(head=2), "layer")  # selects while it is told
    del told[:]
    session.select(layer=4, head=5)
    session.wait(60)
    chosen = [{name: state[name] for name in NAMES if name in state} for state in told]
    assert [one for one in chosen if one] == [{"layer": 4, "head": 2}]
    assert (panel.layer, panel.head, session.selection.head) == (4, 2, 2)


def test_links_of_a_panel_that_draws_nothing_or_late_are_told_before_slow_panels(session, monkeypatch):
    panel, slow, order = Query(session), Neurons(session), []
    session.wait(60)
    refreshed = slow.refresh
    monkeypatch.setattr(slow, "refresh", lambda *given: order.append("slow") or refreshed(*given))
    for one, name in ((panel, "query"), (slow, "its choices")):
        monkeypatch.setattr(one, "_send", lambda message, buffers=None, name=name: order.append(name))
    session.select(head=6)
    session.wait(60)
    assert order[:3] == ["query", "its choices", "slow"]


def test_a_trait_that_is_set_selects_for_every_panel(session):
    heads, query = Heads(session), Query(session)
    heads.layer, heads.head, query.text, query.image = 4, 6, "a dog", 3
    selection = session.selection
    assert (selection.layer, selection.head, selection.text, selection.image) == (4, 6, "a dog", 3)
    assert chosen(heads) == chosen(query)
    session.undo()
    assert heads.image == query.image == 2


def test_an_impossible_value_raises_and_is_taken_back(session):
    panel, before = Heads(session), session.selection
    with pytest.raises(ValueError, match="77"):
        panel.layer = 77
    assert (session.selection, panel.layer) == (before, 5)


def test_two_panels_of_two_sessions_are_linked(session, model):
    import clipviz

    other = clipviz.Session(model, demo().subset(range(8)), [*COMMON, "a dog"], background=False)
    here, there = Heads(session), Heads(other)
    link = traitlets.link((here, "text"), (there, "text"))
    session.select(text="a dog")
    assert other.selection.text == "a dog"
    there.text = "a red circle"
    assert session.selection.text == "a red circle"
    session.wait(60), other.wait(60)
    assert session.selection.text == other.selection.text == "a red circle"
    link.unlink()
    other.close()


def test_what_jslink_sends_is_taken_over_together(session):
    panel, steps = Heatmap(session), []
    session.observe(lambda change: steps.append(change["new"]), "selection")
    panel.set_state({"layer": 3, "head": 7, "scope": "late"})
    assert (session.selection.layer, session.selection.head, panel.scope) == (3, 7, "late")
    assert len(steps) == 1
    session.unobserve_all("selection")


def test_what_jslink_sends_and_is_impossible_is_told_and_taken_back(session):
    panel, before, sent = Heatmap(session), session.selection, []
    session.wait(60)
    panel.send_state = lambda key=None: sent.append(key)
    for wrong in ({"layer": 77}, {"head": "x"}, {"text": "\udcff"}, {"scope": "nowhere"}, {"text": 5}):
        panel.set_state(wrong)
        assert session.selection == before, wrong
        assert chosen(panel) == {"head": 1, "image": 2, "layer": 5, "neuron": None, "text": "a swan"}
        assert panel.error["message"], wrong
        assert sent[-1] == list(wrong)
        panel.error = {}


def test_nothing_else_is_taken_from_a_browser(session):
    panel = Heads(session)
    session.wait(60)
    before = panel.view
    panel.set_state({"view": {}, "blob": b"x", "error": {"message": "x"}, "_esm": "alert(1)", "kit": None})
    assert panel.view is before
    assert (panel.error, panel._esm) == ({}, Heads._esm)


def test_a_desk_of_neurons_keeps_its_own_layer(session):
    panel = Neurons(session)
    assert sorted(panel.choices()) == ["head", "image", "neuron", "text"]
    panel.layer = 2
    assert session.selection.layer == 5


def test_a_panel_that_is_closed_or_forgotten_is_not_followed(session):
    panel = Heads(session)
    panel.close()
    session.select(text="a dog")
    assert panel.text == "a swan"
    gone = weakref.ref(panel)
    session.wait(60)
    del panel
    gc.collect()
    assert gone() is None


def test_a_saved_page_has_no_need_of_them(session):
    panel = Heads(session)
    session.wait(60)
    assert not set(traits(panel)) & set(NAMES)
