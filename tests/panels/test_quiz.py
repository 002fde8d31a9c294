"""The Quiz panel without a browser: what is right is sent with the answer and not before; answers stay."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import clipviz
from clipviz.lessons import Number, Option, Piles, Place, Question, Quiz, decode
from clipviz.panels.core.stored import Kept
from panels.asking import ask

TEXTS = ["a dog", "a car", "the sea"]
MAPS = np.random.default_rng(0).normal(size=(2, 12, 12))
PIXELS = np.random.default_rng(3).integers(0, 255, (2, 24, 24, 3), dtype=np.uint8)
ASKED = {
    "texts": Question(
        "Which text?", (3, 1), (Option("a"), Option("b"), Option("c")), 1, "b was measured.", "", "b"
    ),
    "galleries": Question(
        "Which one?", (), (Option(pictures=(0, 4)), Option(pictures=(2, 5))), 0, "The first."
    ),
    "maps": Question("Which map?", (2,), tuple(Option(heatmap=one) for one in MAPS), 0, "The first one."),
    "number": Number("How many?", 0, 10, 1, 4, 1, "Four.", truth="4"),
    "place": Place("Where is it?", PIXELS[0], (0.2, 0.3, 0.4, 0.5), "There.", PIXELS[1], truth="there"),
    "piles": Piles("Which is which?", (5, 0, 2, 4), (0, 1, 1, 0), ("dogs", "cars"), "So it is."),
}
CHANGED = {
    "texts": {"right": 2},
    "galleries": {"right": 1},
    "maps": {"right": 1},
    "number": {"measured": 10},
    "place": {"box": (0.5, 0.1, 0.1, 0.1), "result": PIXELS[0]},
    "piles": {"right": (0, 0, 1, 0)},
}
"""Name -> what makes the question one with another right answer."""
GIVEN = {
    "texts": [0],
    "galleries": [0],
    "maps": [0],
    "number": [2],
    "place": [10, 20, 30, 40],
    "piles": [0, 1, 0, 0],
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
    more = {"because": "Something else.", "truth": "c", "unit": "head L1·H1"}
    other = dataclasses.replace(one, **CHANGED[kind], **more)
    before = [sent(shown(one, one)), sent(shown(other, other))]
    assert before[0] == before[1]
    panels = [shown(one, one), shown(other, other)]
    for panel in panels:
        ask(panel, action="commit", question=0, answer=GIVEN[kind])
    assert sent(panels[0])["view"]["answer"] != sent(panels[1])["view"]["answer"]
    for panel in panels:  # the next question is as closed as the first was, but for the score
        ask(panel, options={"at": 1})
    first, second = (dict(panel.view, score="", states=[]) for panel in panels)
    assert "answer" not in first
    assert first == second
    assert panels[0].blob == panels[1].blob


def test_a_committed_answer_stays_and_is_answered_with_what_was_measured(shown):
    panel = shown(ASKED["texts"], ASKED["number"])
    ask(panel, action="commit", question=0, answer=[2])
    view = panel.data()
    assert view["answer"] == {
        "chosen": [2],
        "fits": False,
        "best": [1],
        "verdict": "Not this one: the answer is B.",
        "guess": "A guess is right with a probability of 33.3%.",
        "because": "b was measured.",
        "truth": "b",
    }
    assert view["states"] == ["wrong", "open"]
    assert view["score"] == str(panel.quiz.score())
    assert decode(view["code"], panel.quiz.code) == [2, -1]
    ask(panel, action="commit", question=0, answer=[1])
    assert "an answer cannot be changed" in panel.error["message"]
    assert panel.quiz.given == [(2,), ()]


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
    assert panel.view["answer"]["chosen"] == [1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"question": 0, "answer": [3]}, "an option within 0..2, got 3"),
        ({"question": 0, "answer": [1, 1]}, "expected 1 whole number for an answer, got 2"),
        ({"question": 0, "answer": []}, "expected 1 whole number for an answer, got 0"),
        ({"question": 7, "answer": [0]}, "a question within 0..0, got 7"),
        ({"question": 0, "answer": ["a"]}, "expected answer to be a list of whole numbers, got ['a']"),
        ({"question": 0, "answer": [1.5]}, "expected answer to be a list of whole numbers"),
        ({"question": 0, "answer": [True]}, "expected answer to be a list of whole numbers"),
        ({"question": 0, "answer": 1}, "expected answer to be a list of whole numbers, got 1"),
        ({"question": 0, "answer": [0] * 5000}, "expected answer to have at most 200 numbers, got 5,000"),
        ({"question": 0}, "expected answer to be a list of whole numbers, got None"),
    ],
)
def test_what_cannot_be_an_answer_is_refused_and_said(shown, asked, message):
    panel = shown(ASKED["texts"])
    ask(panel, action="commit", **asked)
    assert message in panel.error["message"]
    assert panel.quiz.given == [()]


def test_pictures_and_maps_are_those_of_the_question(shown, session):
    panel = shown(ASKED["maps"])
    view = panel.data()
    np.testing.assert_allclose(view["maps"], MAPS, atol=1e-6)
    assert view["map"] == [12, 12]
    assert "outline" not in view
    ask(panel, action="commit", question=0, answer=[1])
    mask = session.maps.truth(2)
    assert np.array_equal(panel.data()["outline"].astype(bool).reshape(mask.shape), mask)
    panel = shown(ASKED["galleries"])
    assert [option["tiles"] for option in panel.view["options"]] == [[0, 1], [2, 3]]
    captions = session.images.opened.captions
    assert panel.view["names"] == [captions[image] for image in (0, 4, 2, 5)]


def test_a_saved_page_has_every_question_and_the_answers_that_were_told(shown, session):
    panel = shown(*ASKED.values())
    ask(panel, action="commit", question=0, answer=[2])
    (part,) = panel.stored(Kept.of(session))
    assert part.of == ()
    view, arrays, _ = part.make(session.selection)
    assert [one["words"] for one in view["saved"]] == [one.words for one in ASKED.values()]
    assert ["answer" in one for one in view["saved"]] == [True, *[False] * 5]
    maps = [*ASKED].index("maps")
    np.testing.assert_allclose(arrays[f"maps {maps}"], MAPS, atol=1e-6)
    assert f"outline {maps}" not in arrays
    assert [name for name in arrays if name.startswith("sprite")] == [f"sprite {at}" for at in range(6)]


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 10], [90, 0, 20, 10], [0, 0, 10], [-5, 0, 10, 10], [0, 0, 10, 101]]
)
def test_a_box_that_cannot_be_drawn_is_refused(shown, box):
    panel = shown(ASKED["place"])
    ask(panel, action="commit", question=0, answer=box)
    assert "expected" in panel.error["message"]
    assert panel.quiz.given == [()]
    assert "answer" not in panel.view


def test_the_true_box_and_the_result_come_with_the_answer(shown):
    panel = shown(ASKED["place"])
    assert panel.view["kind"] == "place"
    assert "intersection over union) is at least 50%" in panel.view["rule"]
    pixels = np.asarray(Image.open(io.BytesIO(panel.data()["picture"])))
    assert np.array_equal(pixels, PIXELS[0])
    assert "result" not in panel.data()
    ask(panel, action="commit", question=0, answer=[10, 30, 40, 50])
    answer = panel.data()["answer"]
    assert answer["box"] == [20, 30, 40, 50]
    assert answer["verdict"] == "Right: the two boxes overlap by 60%."
    assert answer["chosen"] == [10, 30, 40, 50]
    assert answer["fits"]
    assert answer["guess"] == (
        f"A box of the true size at a random place is right with a probability of {ASKED['place'].chance:.1%}."
    )
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(panel.data()["result"]))), PIXELS[1])


def test_the_piles_of_an_answer_come_with_those_that_were_measured(shown, session):
    panel = shown(ASKED["piles"])
    assert panel.view["kind"] == "piles"
    assert panel.view["piles"] == ["dogs", "cars"]
    captions = session.images.opened.captions
    assert panel.view["names"] == [captions[image] for image in (5, 0, 2, 4)]
    assert panel.view["rule"] == "An answer counts as right if all 4 pictures lie in their pile."
    ask(panel, action="commit", question=0, answer=[0, 1, 1])
    assert "expected 4 whole numbers for an answer, got 3" in panel.error["message"]
    ask(panel, action="commit", question=0, answer=[0, 1, 0, 0])
    answer = panel.view["answer"]
    assert (answer["chosen"], answer["best"], answer["fits"]) == ([0, 1, 0, 0], [0, 1, 1, 0], False)
    assert answer["verdict"] == "Not enough: 3 of 4 pictures lie in their pile, and 4 are needed."
    assert answer["guess"].endswith("with a probability of at most 16.7%.")  # one of six pairs


def test_a_number_shows_what_counts_as_right_with_the_answer(shown):
    panel = shown(ASKED["number"])
    assert panel.view["steps"] == [str(number) for number in range(11)]
    assert panel.view["rule"] == "A prediction counts as right if it is at most 1 away on the slider."
    ask(panel, action="commit", question=0, answer=[5])
    answer = panel.view["answer"]
    assert answer["fits"]
    assert (answer["measured"], answer["exact"], answer["band"]) == ("4", 0.4, [0.3, 0.5])
    assert answer["guess"] == "A guess is right with a probability of 27.3%."


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
