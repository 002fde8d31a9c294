"""The Words panel without a browser: its texts are the session's, and follow the image."""

from __future__ import annotations

import functools

import pytest

import clipviz
from clipviz.panels import Words
from panels import asking

ask = functools.partial(asking.ask, background=True)

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = list(clipviz.demo.texts())[::12]


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(model, clipviz.demo.images().subset(range(12)), TEXTS, background=False)
    yield made
    made.close()


@pytest.fixture
def panel(session):
    panel = Words(session, n_texts=6)
    session.wait(120, background=True)
    session.wait(60)
    yield panel
    panel.close()


def listed(column):
    return [row["text"] for row in column["rows"]]


def test_both_lists_are_the_sessions(panel, session):
    session.select(image=3)
    session.wait(60)
    written, nearest = panel.data()["columns"]
    assert listed(written) == [text for text, _ in session.neurons.concepts(3, k=6)]
    assert listed(nearest) == [text for text, _ in session.texts.nearest(3, 6)]
    cosines = {text: session.heads.effects(text, 3).cosine for text in listed(nearest)}
    assert [row["score"] for row in nearest["rows"]] == pytest.approx(list(cosines.values()), abs=1e-5)
    assert list(cosines.values()) == sorted(cosines.values(), reverse=True)
    assert panel.data()["complete"]


def test_another_image_and_layer_change_the_words(panel, session):
    session.select(image=3)
    session.wait(60)
    before = listed(panel.data()["columns"][0])
    ask(panel, {"image": 8})
    assert listed(panel.data()["columns"][0]) != before
    ask(panel, options={"layer": 1})
    assert panel.data()["layer"] == 1
    assert listed(panel.data()["columns"][0]) == [text for text, _ in session.neurons.concepts(8, 1, 6)]


def test_without_an_image_it_says_what_to_do(panel, session):
    session.select(image=None)
    session.wait(60)
    assert panel.data()["message"] == "Select an image."


def test_a_hidden_desk_computes_nothing(session):
    panel = Words(session, visible=False)
    session.wait(60, background=True)
    assert panel.view["waiting"]
    panel.close()
