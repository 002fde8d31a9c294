"""What every panel promises: typed options, one way in for messages, errors that stay in their own panel."""

from __future__ import annotations

import inspect
import itertools
import json
import re
from functools import partial
from typing import get_args

import numpy as np
import pytest
import traitlets
from few_texts import COMMON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clipviz
from clipviz import panels
from clipviz.demo import images as demo
from clipviz.panels import (
    Cues,
    Generate,
    Heads,
    Heatmap,
    ImageGallery,
    Neurons,
    Query,
    Receipts,
    Rosetta,
    TextSpan,
)
from clipviz.panels.core.base import DESKS, Panel
from clipviz.panels.core.requests import Request
from clipviz.panels.heatmap.panel import NEURONS, OURS
from clipviz.session import BASELINES, BY, CODE_SIZES, FINDS, PIVOTS, POOLED_BASELINES, SORTS

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = [*COMMON, "a swan", "a tiger"]
ABLATION = clipviz.Ablation(heads={(5, 1), (4, 2)})
FEW = {Heatmap: {"show": "LRP"}, Cues: {"n_sentences": 1, "n_pictures": 1}}
KINDS = [getattr(panels, name) for name in panels.__all__ if name != "Dashboard"]


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(model, demo().subset(range(16)), TEXTS, background=False)
    yield made
    made.close()


CHOICES = {
    (Heatmap, "show"): {*OURS, *NEURONS, *BASELINES, *POOLED_BASELINES},
    (ImageGallery, "by"): {*BY},
    (Neurons, "find"): {*FINDS},
    (Neurons, "m"): {*CODE_SIZES},
    (Rosetta, "sort"): {*SORTS},
    (Rosetta, "pivot"): {*PIVOTS},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_is_declared_once_and_all_else_follows(kind):
    parameters = inspect.signature(kind).parameters
    assert sorted(parameters) == sorted(["session", "layout", *kind.options()])
    for name, option in kind.options().items():
        assert parameters[name].default == option.default()
        assert option.validate(None, option.default()) == option.default()
        assert f"    {name}: {option.help} (default {option.default()!r})" in kind.__doc__.splitlines()
        assert option.help.endswith(".")
        assert (option.metadata.get("sync") or False) is option.sync


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_choices_are_those_that_the_session_knows(kind, name):
    literal = kind.options()[name].kind
    known = {value for one in (literal, *get_args(literal)) for value in get_args(one)}
    assert known - {type(None)} >= CHOICES[kind, name]
    assert all(isinstance(value, str | int) for value in CHOICES[kind, name])


@pytest.mark.parametrize(
    ("kind", "name", "value", "wanted"),
    [
        (Heads, "quantity", "size", "one of 'effect', 'variance', 'property'"),
        (Heads, "find", 3, "a text"),
        (Heatmap, "opacity", 1.5, "a number from 0 to 1"),
        (Heatmap, "opacity", float("nan"), "a number from 0 to 1"),
        (Heatmap, "outline", 1, "True or False"),
        (Heatmap, "scale", 0, "a number of at least 1e-09 or None"),
        (Neurons, "m", 5, "one of 4, 8, 16, 32, 64, 128 or None"),
        (Neurons, "layer", True, "a whole number of at least 0 or a text or None"),
        (Neurons, "layer", -1, "a whole number of at least 0 or a text or None"),
        (ImageGallery, "page", 1.0, "a whole number of at least 0"),
        (Cues, "layers", [1, "2"], "a list, each of them a whole number"),
        (Generate, "move", [1.0, 0.0], "a list of 4, each of them a number"),
        (Rosetta, "partners", [], "a mapping"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(session, kind, name, value, wanted):
    option = kind.options()[name]
    words = re.escape(f"expected {name} to be {wanted}, got {value!r}")
    with pytest.raises(traitlets.TraitError, match=f"^{words}$"):
        option.validate(None, value)


def test_what_a_browser_sends_becomes_the_options_kind():
    assert Generate.options()["move"].validate(None, [1, 0, 0.5, 1]) == (1.0, 0.0, 0.5, 1.0)
    assert type(Heatmap.options()["opacity"].validate(None, 1)) is float
    assert Cues.options()["layers"].validate(None, (1, 2)) == [1, 2]
    given, first = [3], Cues.options()["layers"]
    assert first.validate(None, given) is not given
    assert first.default() is not first.default()


def test_every_panel_is_exported():
    assert {kind.__name__ for kind in DESKS.values()} <= set(panels.__all__)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert issubclass(kind, Panel)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["image", "images", "layer", "head", "token", "neuron", "text", "text_b", "concept", "ablation", "x"]
)
OPTIONS = st.sampled_from(
    ["order", "page", "column", "value", "n_shown", "scope", "quantity", "visible", "x"]
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "seq": st.integers(0, 9) | JSON,
        "changes": st.dictionaries(FIELDS, JSON, max_size=3) | JSON,
        "options": st.dictionaries(OPTIONS, JSON, max_size=3) | JSON,
        "action": st.sampled_from(["undo", "open", "upload", "describe", "hello"]) | JSON,
        "token": JSON,
        "name": JSON,
        "content": JSON,
    },
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=MESSAGE, kind=st.sampled_from([Query, ImageGallery, Heads]))
def test_no_message_of_a_browser_raises(session, message, kind):
    tried = session.__dict__.setdefault("tried", {})
    if kind not in tried:
        tried[kind] = kind(session)
        session.wait(240, background=True)  # nothing runs beside Hypothesis's own draws
    tried[kind].set_state({"request": message})
    session.wait(60)  # raises what is a bug


def test_options_come_with_the_request(session):
    panel = ImageGallery(session)
    panel.request = {"seq": 1, "options": {"order": "all", "page": 0}}
    session.wait(60)
    assert (panel.order, panel.view["order"], panel.view["ack"]) == ("all", "all", 1)
    for options, said in [
        ({"order": "sideways"}, "order"),
        ({"n_shown": 9}, "expected options among by, column, order, page, value, got 'n_shown'"),
    ]:
        panel.request = {"seq": panel.request["seq"] + 1, "options": options}
        session.wait(60)
        assert said in panel.error["message"]
        assert not panel.error["detail"]
    panel.close()


def test_the_error_of_a_request_stays_until_the_next_one_or_another_selection(session):
    panel = ImageGallery(session)
    session.wait(60)
    for goes in ("request", "selection"):
        panel.request = {"seq": panel.view["ack"] + 1, "action": "upload", "name": "x.jpg", "content": "AAAA"}
        session.wait(60)
        said = panel.error["message"]
        assert "x.jpg" in said or "image" in said
        panel._key = None  # as when more images are read: a new view
        session._state.refresh()
        session.wait(60)
        assert panel.error["message"] == said
        if goes == "request":
            panel.request = {"seq": panel.view["ack"] + 1, "options": {"order": "near"}}
        else:
            session.select(image=11 if session.selection.image != 11 else 12)
        session.wait(60)
        assert not panel.error
    panel.close()


def test_a_message_that_repeats_its_number_brings_options_alone(session):
    panel = Heatmap(session)
    session.select(image=3, text="a dog")
    panel.request = {"seq": 4, "changes": {"image": 5}}
    session.wait(60)
    session.select(image=6)
    session.wait(60)
    panel.request = {"seq": 4, "changes": {"image": 5}, "options": {"scope": "all", "opacity": 0.5}}
    session.wait(60)
    assert (panel.scope, panel.opacity, session.selection.image) == ("all", 0.5, 6)
    panel.close()


@pytest.mark.parametrize("wrong", [KeyError("gone"), RuntimeError("broken")])
def test_a_panel_that_fails_says_so_and_the_others_go_on(session, monkeypatch, wrong):
    failing, others = Heads(session), [ImageGallery(session), Receipts(session)]
    session.wait(60)

    def fail(*_):
        raise wrong

    monkeypatch.setattr(failing, "compute", fail)
    session.select(image=9, layer=4, head=1, text="a red circle")
    with pytest.raises(type(wrong)):
        session.wait(60)
    assert type(wrong).__name__ in failing.error["message"]
    assert "Traceback" in failing.error["detail"]
    assert all(panel.view["selection"] == session.selection.to_dict() for panel in others)
    monkeypatch.undo()
    session.select(image=10)
    session.wait(60)
    assert not failing.error
    for panel in (failing, *others):
        panel.close()


def whole(rest):
    """Do what a panel left for later."""
    while rest is not None:
        rest = rest()


def test_what_can_wait_comes_after_the_panels_of_the_next_cost(session, monkeypatch):
    panels, shown = [TextSpan(session), Heatmap(session), Receipts(session)], []
    session.select(image=3, layer=4, head=1, text="a dog")
    session.wait(60, background=True)
    for panel in panels:
        show = panel._show
        monkeypatch.setattr(
            panel, "_show", lambda *a, p=panel, show=show: (shown.append((p.name, {**a[1]})), show(*a))
        )
    session.select(layer=5, head=2)
    session.wait(60)
    assert [name for name, _ in shown] == ["heatmap", "textspan", "heatmap", "receipts"]
    assert [view["joint"] is None for name, view in shown if name == "heatmap"] == [True, False]
    for panel in panels:
        panel.close()


def test_a_part_that_fails_is_said_and_one_of_a_closed_panel_is_not_made(session, monkeypatch):
    heatmap, textspan = Heatmap(session), TextSpan(session)
    session.wait(60, background=True)
    asked = []

    def fail(*_, **__):
        asked.append(True)
        raise ValueError("expected a part, got none; ask again")

    monkeypatch.setattr(session.maps, "joint", fail)
    session.select(image=3, layer=3, head=1, text="a dog")
    session.wait(60)
    assert heatmap.error["message"] == "expected a part, got none; ask again"
    assert heatmap.view["selection"] == textspan.view["selection"] == session.selection.to_dict()
    asked.clear()
    monkeypatch.setattr(textspan, "compute", lambda *_: heatmap.close() or ({}, {}))
    session.select(layer=3, head=2)
    session.wait(60)
    assert not asked
    textspan.close()


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind is not Generate]
)  # its picture is the session's
def test_a_selection_that_is_left_again_before_it_is_shown_leaves_nothing_behind(session, kind):
    """From A to B and back, the panel overtaken at any of its stages on the way: it shows A as before."""
    session.select(image=3, layer=4, head=1, text="a dog")
    there = session.selection.replace(image=7, layer=5, head=2, text="a red circle", ablation=ABLATION)
    panel = kind(session, **FEW.get(kind, {}))
    session.wait(60, background=True)
    session.wait(60)
    before, pixels = panel.data(), getattr(panel, "picture", None)
    for stage in range(4):
        asked = itertools.count()
        whole(panel.refresh(there, lambda asked=asked, stage=stage: next(asked) >= stage))
        whole(panel.refresh(session.selection, lambda: False))
        assert not panel.error
        after = panel.data()
        assert before["selection"] == after["selection"], stage
        assert before.keys() == after.keys(), stage
        assert getattr(panel, "picture", None) == pixels, stage
    panel.close()


@pytest.mark.parametrize("kind", [Heads, partial(ImageGallery, order="text")], ids=["heads", "images"])
def test_a_view_says_what_its_selection_removes(session, kind):
    session.select(image=3, ablation=clipviz.Ablation())
    panel = kind(session)
    session.wait(60)
    assert panel.data()["removed"] == ""
    session.select(ablation=ABLATION)
    session.wait(60)
    assert panel.data()["removed"] == "without 2 heads"
    session.select(ablation=clipviz.Ablation())
    panel.close()


def test_an_option_that_does_not_fit_changes_nothing(session):
    """Neither in the panels that are open, nor in those that are opened later."""
    heatmap, texts = Heatmap(session, scope="head", show="effect"), TextSpan(session, n_texts=10)
    before = session.view
    options = {"textspan": {"n_texts": 5}, "heatmap": {"show": "attention", "scope": "nonsense"}}
    with pytest.raises(ValueError, match=r"expected scope to be one of 'all', .*, got 'nonsense'"):
        session.view = clipviz.View(session.selection.replace(image=5), options)
    assert session.view == before
    assert (heatmap.scope, heatmap.show, texts.n_texts) == ("head", "effect", 10)
    for panel in (heatmap, texts):
        panel.close()
    # there is no panel yet to refuse it
    session.view = clipviz.View(session.selection, {"heatmap": {"scope": "nonsense"}})
    later = Heatmap(session)
    assert later.scope == "late"
    assert session.view.panels.get("heatmap", {}) == {}
    later.close()


def test_a_panel_gives_its_numbers_without_being_waited_for(session):
    session.select(image=6, layer=5, head=1, text="a dog")
    panel = Heads(session)
    assert np.allclose(panel.data()["heads"], session.heads.effects("a dog").heads)
    session.select(image=7)
    assert panel.data()["selection"]["image"] == 7
    session.select(image=8)
    assert panel.figure().axes
    assert panel.view["selection"]["image"] == 8
    panel.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"changes": {"text": "a \ud83d dog"}},
        {"action": "role", "text": "\ud83d", "head": [4, 1]},
        {"options": {"\ud83d": 1}},
        {"changes": 3},
        {"options": "x"},
        {"action": 7},
    ],
)
def test_every_numbered_message_is_answered(session, monkeypatch, fields):
    """Also one that cannot be read or echoed: what comes back is a message that a kernel can send."""
    panel = TextSpan(session)
    panel.data()
    sent, seq = [], panel.view["ack"] + 1
    monkeypatch.setattr(
        panel, "_send", lambda msg, buffers=None: sent.append(json.dumps(msg, ensure_ascii=False).encode())
    )
    panel.set_state({"request": {"seq": seq, **fields}})
    assert panel.error["seq"] == seq
    assert "expected" in panel.error["message"]
    session.wait(60)
    assert panel.view["ack"] == seq
    assert sent
    panel.close()


def test_a_view_that_cannot_be_sent_is_an_error_in_its_panel(session, monkeypatch):
    panel = Receipts(session)
    session.wait(60)
    monkeypatch.setattr(panel, "compute", lambda *_: ({"share": np.int64(3)}, {}))
    monkeypatch.setattr(panel, "send_state", _as_json)
    session.select(image=11)
    with pytest.raises(TypeError):
        session.wait(60)
    assert "TypeError" in panel.error["message"]
    monkeypatch.undo()
    session.select(image=12)
    session.wait(60)
    assert panel.view["selection"]["image"] == 12
    panel.close()


def _as_json(key=None):
    sent = {key} if isinstance(key, str) else set(key)
    if not sent <= set(Receipts.choices()):  # those are numbers and texts
        raise TypeError("Object of type int64 is not JSON serializable")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("x", "expected a request as a mapping"),
        ({}, "numbered by a whole seq"),
        ({"seq": True}, "numbered by a whole seq"),
        ({"seq": -1}, "numbered by a whole seq"),
        ({"seq": 1, "changes": [1]}, "expected changes as a mapping"),
        ({"seq": 1, "options": 3}, "expected options as a mapping"),
        ({"seq": 1, "action": 3}, "name of an action"),
    ],
)
def test_what_is_no_request_is_refused(raw, said):
    with pytest.raises(ValueError, match=said):
        Request.read(raw)


def test_fields_of_a_request_are_checked():
    request = Request.read({"seq": 1, "action": "look", "method": "x" * 30, "place": "3"})
    with pytest.raises(ValueError, match="at most 10 characters, got 30"):
        request.text("method", 10)
    with pytest.raises(ValueError, match="expected place to be a whole number, got '3'"):
        request.number("place")
    with pytest.raises(ValueError, match="expected method to be a text"):
        Request.read({"seq": 1, "method": 4}).text("method")
