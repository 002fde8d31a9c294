"""Every kind of question keeps one protocol: answers are read, judged, counted, coded and printed alike."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from lessons.kinds import KINDS, PIXELS, answers, questions
from matplotlib.patches import Rectangle

from clipviz.figures import lessons as figures
from clipviz.lessons import (
    Number,
    Option,
    Piles,
    Place,
    Question,
    Quiz,
    box_of,
    chance_of_overlap,
    chance_of_sorting,
    encode,
    overlap,
)


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
        "piles": {"right": (1, 0, 0, 0)},
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
        ("piles", (0, 1, 1), r"expected 4 whole numbers for an answer, got 3: \(0, 1, 1\)"),
        ("piles", (0, 1, 1, 2), "expected a pile within 0..1, got 2"),
        ("piles", (0, 1, 1, -1), "expected a pile within 0..1, got -1"),
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


def literal_chance(question):
    """The largest share of right answers among those with equally many pictures in the second pile."""
    answers = [*itertools.product((0, 1), repeat=len(question.pictures))]
    by_size = [
        [question.is_right(one) for one in answers if sum(one) == m] for m in range(len(answers[0]) + 1)
    ]
    return max(sum(right) / len(right) for right in by_size)


@pytest.mark.parametrize(
    ("right", "at_least"),
    [
        ((0, 1), 2),
        ((0, 1, 0, 0), 4),
        ((0, 1, 1, 0, 1, 0, 0, 1), 5),
        ((0, 1, 1, 0, 1, 0, 0, 1), 6),
        ((0, 1, 1, 0, 1, 0, 0, 1), 7),
        ((1, 1, 1, 0, 1, 1, 0, 1), 7),
        ((0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0), 9),
        ((0, 1) * 6, None),
        ((0, 0, 1) * 4, None),
    ],
)
def test_the_chance_of_sorting_is_that_of_the_best_guess_among_all_answers(right, at_least):
    question = Piles("?", tuple(range(len(right))), right, at_least=at_least)
    assert question.chance == pytest.approx(literal_chance(question), rel=1e-12)
    assert chance_of_sorting((right.count(0), right.count(1)), question.at_least or 11) == question.chance
    assert 0 < question.chance < 1


@pytest.mark.parametrize("n", [2, 3, 6, 9, 12])
def test_the_default_number_of_pictures_holds_for_all_piles_of_at_least_a_third(n):
    """It depends on how many pictures there are and on nothing else, and one fewer would be too easily guessed."""
    pictures = tuple(range(n))
    rules, chances = set(), {}
    for second in range(1, n):
        right = (1,) * second + (0,) * (n - second)
        if min(second, n - second) * 3 >= n or n == 2:
            rules.add(Piles("?", pictures, right).rule)
            for at_least in range(1, n + 1):
                chances.setdefault(at_least, []).append(chance_of_sorting((n - second, second), at_least))
    (rule,) = rules
    low = [at_least for at_least, found in chances.items() if max(found) <= 0.05]
    needed = min(low, default=n)
    said = f"all {n}" if needed == n else f"at least {needed} of the {n}"
    assert rule == f"An answer counts as right if {said} pictures lie in their pile."


def test_an_answer_is_right_if_enough_pictures_lie_in_their_pile(session):
    right = (0, 1, 1, 0, 1, 0, 0, 1)
    question = Piles("?", tuple(range(8)), right, at_least=7)
    for answer in itertools.product((0, 1), repeat=8):
        found = sum(put == own for put, own in zip(answer, right, strict=True))
        assert question.is_right(answer) == (found >= 7)
    assert question.best == right
    assert not question.is_right(())
    assert not question.is_right((-1,))
    assert question.verdict((1, 1, 1, 0, 1, 0, 0, 1)) == "Right: 7 of 8 pictures lie in their pile."
    few = "Not enough: 5 of 8 pictures lie in their pile, and 7 are needed."
    assert question.verdict((1, 0, 0, 0, 1, 0, 0, 1)) == few
    one = "Not enough: 1 of 8 pictures lies in their pile, and 7 are needed."
    assert question.verdict((0, 0, 0, 1, 0, 1, 1, 0)) == one
    assert question.guess.endswith(f"is right with a probability of at most {question.chance:.1%}.")
    assert question.before(session) == ({"piles": ["read rightly", "read wrongly"]}, {})
    assert Piles("?", (4, 5), [np.int64(0), True]).best == (0, 1)


def test_a_class_is_counted_by_the_pictures_in_their_pile(session):
    question = questions()["piles"]
    answers = [(0, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 0), (0, 1, 0, 1), (0, 1, 1, 1), ()]
    assert question.tally(answers) == [1, 0, 1, 2, 1]


def test_the_key_lists_the_pictures_of_each_pile_by_their_numbers_on_the_sheet(session):
    right = tuple(at % 3 % 2 for at in range(11))
    question = Piles("Which?", (3, *range(10, 20)), right, ("dogs", "cars"), "So it is.")
    assert question.key == "Pile A, dogs: 1, 3, 4, 6, 7, 9, 10. Pile B, cars: 2, 5, 8, 11. So it is."


def test_a_sheet_has_a_numbered_box_below_each_picture_to_sort(session):
    question = Piles("Which?", tuple(range(4)), (0, 1, 1, 0), ("dogs", "cars"))
    asked = question.on_paper(session.images.picture)
    many = dataclasses.replace(asked, pictures=[*asked.pictures] * 5)
    few = dataclasses.replace(asked, pictures=[*asked.pictures] * 2)
    pages = figures.sheet([many, few, many], "Quiz")
    assert len(pages) == 2
    for page in pages:  # each has one of the long questions
        words = [text.get_text() for text in page.texts]
        n_asked = sum("A for “dogs”, B for “cars”." in one for one in words)
        assert [words.count(str(number)) for number in range(9, 21)] == [1] * 12
        frames = [one.get_bbox() for one in page.artists if isinstance(one, Rectangle)]
        boxes = [one for one in frames if one.width < 0.05]
        assert len(boxes) == 20 + 8 * (n_asked - 1)
        assert all(0.05 < one.y0 < one.y1 < 0.95 and 0.05 < one.x0 < one.x1 < 0.95 for one in frames)
        for one, other in itertools.combinations(frames, 2):
            apart = one.x1 < other.x0 or other.x1 < one.x0 or one.y1 < other.y0 or other.y1 < one.y0
            assert apart


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pictures": (1,), "right": (0,)}, "expected 2 to 24 different pictures, got 1, of which 1 differ"),
        ({"pictures": (1, 2, 2, 3)}, "got 4, of which 3 differ; give each image once"),
        ({"pictures": tuple(range(25)), "right": (0,) * 24 + (1,)}, "got 25, of which 25 differ"),
        ({"piles": ("dogs", "dogs")}, r"two different names of piles, got \('dogs', 'dogs'\); give them as"),
        ({"piles": ("dogs", "")}, "two different names of piles"),
        ({"piles": ("a", "b", "c")}, "two different names of piles"),
        ({"piles": "ab"}, "two different names of piles, got 'ab'"),
        ({"right": (0, 1)}, r"the pile of each of 4 pictures as 0 or 1, got 2 numbers: \(0, 1\); give one"),
        ({"right": (0, 1, 2, 0)}, r"got 4 numbers: \(0, 1, 2, 0\)"),
        ({"right": (0, 0, 0, 0)}, "expected pictures of both piles, got 4 and 0 of them; choose other"),
        ({"right": (1, 1, 1, 1)}, "expected pictures of both piles, got 0 and 4"),
        (
            {"at_least": 2},
            "a chance of 1 for at_least=2 of 4 pictures in piles of 2 and 2; choose at_least fr",
        ),
        (
            {"right": (0, 1, 0, 0), "at_least": 3},
            r"a chance of 1 for at_least=3 .*; choose at_least from 4 to 4",
        ),
        ({"at_least": 5}, "a chance of 0 for at_least=5 of 4 pictures"),
    ],
)
def test_piles_need_pictures_of_both_and_a_number_that_is_not_guessed(given, message):
    with pytest.raises(ValueError, match=message):
        Piles("?", **{"pictures": (0, 1, 2, 3), "right": (0, 1, 1, 0), **given})
