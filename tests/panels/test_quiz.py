"""The Quiz panel without a browser: what is right is sent with the answer and not before; answers stay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import clipviz
from clipviz.lessons import Option, Question, Quiz, decode
from clipviz.panels.core.stored import Kept
from panels.asking import ask

TEXTS = ["a dog", "a car", "the sea"]
MAPS = np.random.default_rng(0).normal(size=(2, 12, 12))
ASKED = {
    "texts": Question(
        "Which text?", (3, 1), (Option("a"), Option("b"), Option("c")), 1, "b was measured.", "", "b"
    ),
    "galleries": Question(
        "Which one?", (), (Option(pictures=(0, 4)), Option(pictures=(2, 5))), 0, "The first."
    ),
    "maps": Question("Which map?", (2,), tuple(Option(heatmap=one) for one in MAPS), 0, "The first one."),
    "scale": Question(
        "How many?", (), tuple(Option(str(i)) for i in range(11)), 4, "4.", truth="4", on_scale=True, slack=1
    ),
}


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(model, clipviz.demo.images().subset(range(6)), TEXTS, background=False)
    yield made
    made.close()


@pytest.fixture
def shown(session):
    panels = []

    def show(*questions):
        panel = Quiz.of(session, questions).show()
        session.wait(60)
        panels.append(panel)
        return panel

    yield show
    for panel in panels:
        panel.close()


def sent(panel):
    """Everything that a browser has of a panel, but the names of other widgets."""
    return {name: value for name, value in panel.get_state().items() if name not in ("layout", "tooltip")}


@pytest.mark.parametrize("kind", ASKED)
def test_nothing_that_is_sent_before_the_answer_depends_on_it(shown, kind):
    one = ASKED[kind]
    last = len(one.options) - 1
    other = dataclasses.replace(one, right=last, because="Something else.", truth="c", unit="head L1·H1")
    before = [sent(shown(one, one)), sent(shown(other, other))]
    assert before[0] == before[1]
    panels = [shown(one, one), shown(other, other)]
    for panel in panels:
        ask(panel, action="commit", question=0, option=0)
    assert sent(panels[0])["view"]["answer"] != sent(panels[1])["view"]["answer"]
    for panel in panels:  # the next question is as closed as the first was, but for the score
        ask(panel, options={"at": 1})
    first, second = (dict(panel.view, score="", states=[]) for panel in panels)
    assert "answer" not in first
    assert first == second
    assert panels[0].blob == panels[1].blob


def test_a_committed_answer_stays_and_is_answered_with_what_was_measured(shown):
    panel = shown(ASKED["texts"], ASKED["scale"])
    ask(panel, action="commit", question=0, option=2)
    view = panel.data()
    assert view["answer"] == {
        "chosen": 2,
        "fits": False,
        "best": 1,
        "measured": "b",
        "right": [1],
        "because": "b was measured.",
        "truth": "b",
    }
    assert view["states"] == ["wrong", "open"]
    assert view["score"] == str(panel.quiz.score())
    assert decode(view["code"], panel.quiz.code) == [2, -1]
    ask(panel, action="commit", question=0, option=1)
    assert "an answer cannot be changed" in panel.error["message"]
    assert panel.quiz.given == [2, -1]


def test_a_question_is_shown_when_those_before_it_have_been_answered(shown):
    panel = shown(*ASKED.values())
    ask(panel, options={"at": 3})
    assert panel.view["at"] == 0
    panel.quiz.answer(0, 1)  # in a cell: the panel follows
    panel.session.wait(60)
    assert panel.view["answer"]["fits"]
    ask(panel, options={"at": 1})
    assert panel.view["at"] == 1
    assert "answer" not in panel.view
    ask(panel, options={"at": 0})
    assert panel.view["answer"]["chosen"] == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"question": 0, "option": 3}, "an option within 0..2, got 3"),
        ({"question": 7, "option": 0}, "a question within 0..0, got 7"),
        ({"question": 0, "option": "a"}, "expected option to be a whole number"),
        ({"question": 0}, "expected option to be a whole number, got None"),
    ],
)
def test_what_cannot_be_an_answer_is_refused_and_said(shown, asked, message):
    panel = shown(ASKED["texts"])
    ask(panel, action="commit", **asked)
    assert message in panel.error["message"]
    assert panel.quiz.given == [-1]


def test_pictures_and_maps_are_those_of_the_question(shown, session):
    panel = shown(ASKED["maps"])
    view = panel.data()
    np.testing.assert_allclose(view["maps"], MAPS, atol=1e-6)
    assert view["map"] == [12, 12]
    assert "outline" not in view
    ask(panel, action="commit", question=0, option=1)
    mask = session.maps.truth(2)
    assert np.array_equal(panel.data()["outline"].astype(bool).reshape(mask.shape), mask)
    panel = shown(ASKED["galleries"])
    assert [option["tiles"] for option in panel.view["options"]] == [[0, 1], [2, 3]]
    captions = session.images.opened.captions
    assert panel.view["names"] == [captions[image] for image in (0, 4, 2, 5)]


def test_a_saved_page_has_every_question_and_the_answers_that_were_told(shown, session):
    panel = shown(*ASKED.values())
    ask(panel, action="commit", question=0, option=2)
    (part,) = panel.stored(Kept.of(session))
    assert part.of == ()
    view, arrays, _ = part.make(session.selection)
    assert [one["words"] for one in view["saved"]] == [one.words for one in ASKED.values()]
    assert ["answer" in one for one in view["saved"]] == [True, False, False, False]
    maps = [*ASKED].index("maps")
    np.testing.assert_allclose(arrays[f"maps {maps}"], MAPS, atol=1e-6)
    assert f"outline {maps}" not in arrays
    assert [name for name in arrays if name.startswith("sprite")] == [f"sprite {at}" for at in range(4)]


def test_a_slider_counts_the_steps_around_what_was_measured(shown):
    panel = shown(ASKED["scale"])
    ask(panel, action="commit", question=0, option=5)
    assert panel.view["answer"]["right"] == [3, 4, 5]
    assert panel.view["answer"]["fits"]
    assert panel.view["chance"] == pytest.approx(3 / 11)


def test_one_quiz_has_one_panel_and_another_once_it_is_closed(session):
    quiz = Quiz.of(session, [ASKED["texts"]])
    panel = quiz.show()
    assert quiz.show() is panel
    assert (
        quiz._repr_mimebundle_()[0]["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    )
    panel.close()
    again = quiz.show()
    assert again is not panel
    again.close()
