"""Every kind of question keeps one protocol: answers are read, judged, counted, coded and printed alike."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from lessons.kinds import KINDS, PIXELS, answers, questions
from matplotlib.patches import Rectangle

import clipviz
from clipviz.lessons import Number, Option, Place, Question, Quiz, box_of, chance_of_overlap, encode, overlap


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(
        model, clipviz.demo.images().subset(range(4)), ["a dog", "a car"], background=False
    )
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_answers_travel_in_codes_and_are_scored(session, kind):
    question = questions()[kind]
    right, wrong = answers(question)
    assert question.is_right(right)
    codes = []
    for given in (right, wrong, None):
        quiz = Quiz.of(session, [question, question])
        if given is not None:
            said = quiz.answer(0, given)
            assert said == f"{'Right' if given is right else 'Wrong'}. {question.told}"
            assert quiz.given == [given, ()]
            with pytest.raises(ValueError, match="an answer cannot be changed"):
                quiz.answer(0, right)
        codes.append(quiz.answers_code)
        assert quiz.answers(codes[-1]) == quiz.given
    score = quiz.score(codes[0], codes[1])
    assert score.right.n == 4
    assert score.right.value * 4 == question.is_right(right) + question.is_right(wrong)
    assert score.chance == pytest.approx(question.chance)
    assert sum(quiz.counts(*codes)[1]) == 0  # nobody has answered it
    assert sum(quiz.counts(codes[0], codes[0], codes[2])[0]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_stands_before_the_answer_depends_on_it(session, kind):
    one = questions()[kind]
    changed = {
        "choice": {"right": 2},
        "number": {"measured": 0.98},
        "place": {"box": (0.5, 0.1, 0.1, 0.1), "result": PIXELS[0]},
    }[kind]
    other = dataclasses.replace(one, because="Something else.", truth="c", **changed)
    assert other.best != one.best
    assert one.rule == other.rule
    assert Quiz.of(session, [one]).code == Quiz.of(session, [other]).code
    (view, arrays), (view_b, arrays_b) = one.before(session), other.before(session)
    assert view == view_b
    assert arrays.keys() == arrays_b.keys()
    assert all(np.array_equal(arrays[name], arrays_b[name]) for name in arrays)
    pages = [[text.get_text() for text in Quiz.of(session, [q]).sheet()[0].texts] for q in (one, other)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_is_printed_and_its_answer_comes_last(session, kind):
    question = questions()[kind]
    first, last = Quiz.of(session, [question]).sheet(answers=True)
    assert any(question.words in text.get_text() for text in first.texts)
    assert not any(question.because in text.get_text() for text in first.texts)
    assert question.because in " ".join(text.get_text() for text in last.texts)
    assert min(text.get_position()[1] for text in first.texts) > 0.02


def test_pages_break_before_a_picture_that_does_not_fit(session):
    place, number = questions()["place"], questions()["number"]
    pages = Quiz.of(session, [place, place, number, place, place]).sheet()
    frames = [[one.get_bbox() for one in page.artists if isinstance(one, Rectangle)] for page in pages]
    assert [len(page) for page in frames] == [2, 2]
    for page in frames:
        assert all(0.05 < frame.y0 < frame.y1 < 0.95 for frame in page)
        for above, below in itertools.pairwise(page):
            assert below.y1 < above.y0


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("choice", (3,), "expected an option within 0..2, got 3"),
        ("choice", (1, 2), r"expected 1 whole number for an answer, got 2: \(1, 2\)"),
        ("number", (-1,), "expected a position of the slider within 0..10, got -1"),
        ("number", (0.5,), "expected a position of the slider within 0..10, got 0.5"),
        ("number", (True,), "expected a position of the slider within 0..10, got True"),
        ("place", 3, "expected 4 whole numbers for an answer, got 1"),
        ("place", (0, 0, 101, 5), "a side of the box, in percent, within 0..100, got 101"),
        ("place", (80, 0, 30, 5), r"a box within the picture, got \(80, 0, 30, 5\); give left, top, width"),
        ("place", (0, 0, 0, 5), "expected a box within the picture"),
        ("place", (0, 97, 5, 5), "expected a box within the picture"),
    ],
)
def test_what_cannot_be_an_answer_is_refused(session, kind, given, message):
    quiz = Quiz.of(session, [questions()[kind]])
    with pytest.raises(ValueError, match=message):
        quiz.answer(0, given)
    assert quiz.given == [()]


def test_codes_that_hold_what_cannot_be_an_answer_are_refused(session):
    quiz = Quiz.of(session, [questions()["place"], questions()["choice"]])
    for numbers, message in (
        ([90, 0, 20, 5, 0], "a box within the picture"),
        ([10, 0, 20, 5, 7], "an option within 0..2, got 7"),
        ([10, 0, 20, 5], f"expected 5 numbers in a code of the quiz {quiz.code}, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            quiz.score(encode(numbers, quiz.code))
    assert quiz.answers(encode([10, 0, 20, 5, -1], quiz.code)) == [(10, 0, 20, 5), ()]


@pytest.mark.parametrize(
    ("low", "high", "step", "measured", "tolerance", "right"),
    [
        (0, 1, 0.1, 0.42, 0.1, (4, 5)),  # 0.32 to 0.52
        (0, 1, 0.1, 0.4, 0.1, (3, 4, 5)),  # 0.30000000000000004 counts
        (0, 1, 0.1, 0.0, 0.1, (0, 1)),
        (-20, 30, 5, 31.0, 7, (9, 10)),
        (0, 48, 1, 8, 3, (5, 6, 7, 8, 9, 10, 11)),
    ],
)
def test_a_number_is_right_within_its_tolerance_and_chance_is_the_share_of_such_positions(
    low, high, step, measured, tolerance, right
):
    number = Number("?", low, high, step, measured, tolerance)
    positions = range(number.parts[0])
    assert tuple(position for position in positions if number.is_right(position)) == right
    assert number.chance == len(right) / len(positions)
    assert not number.is_right(())
    assert not number.is_right((-1,))
    nearest = min(positions, key=lambda position: abs(low + position * step - measured))
    assert number.best == (nearest,)


def test_the_place_of_the_measured_number_on_the_slider_is_exact(session):
    number = Number("?", -1, 1, 0.5, 0.3, 0.4, form="{:+.1f} s")
    view, _ = number.before(session)
    assert view["steps"] == ["-1.0 s", "-0.5 s", "+0.0 s", "+0.5 s", "+1.0 s"]
    told, _ = number.after((0,), session)
    assert told["measured"] == "+0.3 s"
    assert told["exact"] == pytest.approx(0.65)
    assert told["band"] == pytest.approx([0.45, 0.85])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step": 0}, "a slider of 2 to 254 steps"),
        ({"step": 1e-4}, "a slider of 2 to 254 steps"),
        ({"measured": 1.2}, "holds what was measured, got 0 to 1 for 1.2; widen it"),
        ({"tolerance": 0.001}, "got 0 right ones of 11 with tolerance=0.001; choose a tolerance"),
        ({"tolerance": 2}, "got 11 right ones of 11"),
    ],
)
def test_a_slider_needs_right_and_wrong_positions(given, message):
    known = {"low": 0, "high": 1, "step": 0.1, "measured": 0.42, "tolerance": 0.1}
    with pytest.raises(ValueError, match=message):
        Number("?", **{**known, **given})


def test_an_option_needs_wrong_ones():
    with pytest.raises(ValueError, match="a right option among wrong ones, got 2 options and right=2"):
        Question("?", (), (Option("a"), Option("b")), 2, "")


BOXES = [(20, 30, 40, 50), (0, 0, 25, 10), (70.4, 12.6, 29.6, 30.3), (3.5, 80.2, 60, 19.8)]


def literal_overlap(one, other):
    """Count the points of a fine grid within both boxes and within any."""
    places = np.arange(0.05, 100, 0.1)
    inside = [
        ((places >= top) & (places < top + height))[:, None] & ((places >= left) & (places < left + width))
        for left, top, width, height in (one, other)
    ]
    return (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()


def test_the_overlap_of_two_boxes_is_that_of_their_points():
    for one, other in itertools.product(BOXES, repeat=2):
        assert overlap(one, other) == pytest.approx(literal_overlap(one, other), abs=2e-3)
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("at_least", [0.3, 0.5])
def test_the_chance_of_a_place_is_a_literal_count(box, at_least):
    place = Place("?", PIXELS[0], tuple(side / 100 for side in box), at_least=at_least)
    width, height = round(box[2]), round(box[3])
    right = [
        place.is_right((left, top, width, height))
        for left in range(101 - width)
        for top in range(101 - height)
    ]
    assert place.chance == sum(right) / len(right)
    assert chance_of_overlap(box, at_least) == pytest.approx(place.chance)
    assert 0 < place.chance < 0.5


def test_a_place_is_right_when_the_boxes_overlap_enough(session):
    place = Place("?", PIXELS[0], (0.2, 0.3, 0.4, 0.5))
    assert place.best == (20, 30, 40, 50)
    assert place.is_right(place.best)
    assert place.verdict(place.best) == "Right: the two boxes overlap by 100%."
    assert place.is_right((33, 30, 40, 50))  # 27 of 53
    assert not place.is_right((34, 30, 40, 50))  # 26 of 54
    assert place.verdict((34, 30, 40, 50)) == "Not there: the two boxes overlap by 48%."
    assert not place.is_right((60, 30, 40, 50))
    assert not place.is_right(())
    told, arrays = place.after((60, 30, 40, 50), session)
    assert told == {"box": [20, 30, 40, 50]}
    assert not arrays  # both boxes are shown on the picture that was drawn on


def test_the_box_around_a_mask():
    mask = np.zeros((10, 20), bool)
    mask[3:6, 4], mask[4, 4:9] = True, True
    assert box_of(mask) == (4 / 20, 3 / 10, 5 / 20, 3 / 10)
    with pytest.raises(ValueError, match="true somewhere"):
        box_of(np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"box": (0.5, 0, 0.6, 0.2)}, r"a box within the picture, got \(0.5, 0, 0.6, 0.2\); give left"),
        ({"box": (0.5, 0, 0, 0.2)}, "a box within the picture"),
        ({"box": (0, 0, 1, 1)}, "got a chance of 1 for at_least=0.5"),
        ({"at_least": 1.5}, "got a chance of 0 for at_least=1.5"),
        (
            {"result": np.zeros((4, 4, 3))},
            r"expected pixels as uint8 \[rows, cols, 3\], got float64 \[4, 4, 3\]",
        ),
        ({"result": PIXELS[1][..., 0]}, r"got uint8 \[40, 60\]; convert the picture to RGB"),
    ],
)
def test_a_place_needs_right_and_wrong_boxes(given, message):
    with pytest.raises(ValueError, match=message):
        Place("?", PIXELS[0], **{"box": (0.2, 0.3, 0.4, 0.5), **given})


def test_places_on_other_pictures_have_other_codes(session):
    box = (0.2, 0.3, 0.4, 0.5)
    codes = {Quiz.of(session, [Place("?", on, box)]).code for on in (0, 1, PIXELS[0], PIXELS[1])}
    assert len(codes) == 4
