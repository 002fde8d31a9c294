"""Quizzes: what is asked is true of the model, what is shown was not measured on, and nothing learnt gives chance."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import clipviz
from clipviz.figures import lessons as figures
from clipviz.lessons import KINDS, Option, Question, Quiz, drawn, predict, score
from clipviz.lessons.drawn import SHOWN, SHOWN_OF_NEURON, halves

N_IMAGES = 120


@pytest.fixture(scope="module")
def session():
    made = clipviz.Session(clipviz.load("demo"), clipviz.demo.images().subset(range(N_IMAGES)), "demo")
    yield made
    made.close()


@pytest.fixture(scope="module")
def quizzes(session):
    return {kind: Quiz(session, kind, 8, seed=1) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_quiz_is_the_same_again_and_shows_what_was_not_measured_on(session, quizzes, kind):
    quiz = quizzes[kind]
    again = Quiz(session, kind, 8, seed=1)
    assert again.code == quiz.code
    if kind != "neuron":  # which reads the images of other halves
        assert Quiz(session, kind, 8, seed=2).code != quiz.code
    measured, shown = map(set, halves(N_IMAGES, 1))
    assert measured.isdisjoint(shown)
    assert len(measured | shown) == N_IMAGES
    for question in quiz.questions:
        assert len(question.options) == (4 if kind in ("head", "neuron") else 2)
        assert 0 <= question.right < len(question.options)
        galleries = [question.pictures, *(option.pictures for option in question.options)]
        if kind != "map":
            assert all(
                set(gallery) <= shown and len(gallery) in (0, SHOWN, SHOWN_OF_NEURON) for gallery in galleries
            )
    rights = [question.right for question in quiz.questions]
    assert len(set(rights)) > 1


def most_written(session, text, layer, head, shown):
    """The images on which a head writes most along a text, by its product before the embedding is normalised."""
    products = {}
    for image in shown:
        effects = session.heads.effects(text, image, ablation=clipviz.Ablation()).heads
        products[image] = float(effects[layer, head]) * float(session.images.trace(image).norm[0])
    return tuple(sorted(products, key=products.get, reverse=True)[:SHOWN])


def test_the_right_text_is_the_heads_own_and_no_other_is(session, quizzes):
    measured, shown = halves(N_IMAGES, 1)
    for question in quizzes["head"].questions[:2]:
        layer, head = (int(part[1:]) for part in question.unit.removeprefix("head ").split("·"))
        own = session.heads.textspan(layer, head, 1, measured).texts[0]
        words = [option.words for option in question.options]
        assert words.index(own) == question.right
        assert len(set(words)) == 4
        assert question.pictures == most_written(session, own, layer, head, shown)


def test_the_galleries_are_those_of_two_heads_and_the_text_is_that_of_the_right_one(session, quizzes):
    measured, shown = halves(N_IMAGES, 1)
    asked = []
    for question in quizzes["gallery"].questions:
        heads = [
            tuple(int(part[1:]) for part in unit.split("·"))
            for unit in re.findall(r"L\d+·H\d+", question.unit + question.because.split("The other")[1])
        ]
        asked += heads
        own, other = (session.heads.textspan(*head, 1, measured).texts[0] for head in heads)
        assert f"“{own}”" in question.words
        assert other not in question.words
        galleries = [option.pictures for option in question.options]
        assert set(galleries[0]).isdisjoint(galleries[1])
        for (layer, head), text, gallery in (
            (heads[0], own, galleries[question.right]),
            (heads[1], other, galleries[1 - question.right]),
        ):
            if len(asked) < 6:  # two questions
                assert gallery == most_written(session, text, layer, head, shown)
    assert len(set(asked)) == len(asked)


def test_the_right_map_is_the_texts_and_the_other_its_reverse(session, quizzes):
    for question in quizzes["map"].questions:
        asked, told = question.words.split("“")[1].split("”")[0], question.words.split("“")[2].split("”")[0]
        tokens = session.maps.tokens(asked, question.pictures[0], told, clipviz.Ablation())
        right, wrong = question.options[question.right].heatmap, question.options[1 - question.right].heatmap
        np.testing.assert_allclose(right, tokens.map("late"), atol=1e-7)
        np.testing.assert_allclose(wrong, -right, atol=1e-7)


def test_answers_stay_and_are_scored(session):
    quiz = Quiz(session, "head", 4, seed=3)
    assert str(quiz.score()) == "No question has been answered."
    for at, question in enumerate(quiz.questions[:3]):
        option = question.right if at else (question.right + 1) % 4
        said = quiz.answer(at, option)
        assert said.startswith("Right. " if at else "Wrong. ")
        assert question.because in said
    with pytest.raises(ValueError, match="an answer cannot be changed"):
        quiz.answer(0, 1)
    assert (quiz.score().right.value, quiz.score().right.n) == (2 / 3, 3)
    assert quiz.score(quiz.answers_code, quiz.answers_code).right.n == 8
    with pytest.raises(ValueError, match=r"a question within 0..3, got 4"):
        quiz.answer(4, 0)
    with pytest.raises(ValueError, match=r"an option within 0..3, got -1"):
        quiz.answer(3, -1)


def test_the_truth_of_the_world_is_counted_over_all_pictures(session):
    """A picture for which it is not known, such as a gray one without a colour of its own, is counted as such."""
    text, pictures = "something gray", range(40)
    known = [session.model.bundle.truths([text], session.images.opened, image)[0] for image in pictures]
    counted = [known.count(one) for one in (True, False, None)]
    assert all(counted)
    assert drawn._true_of(session, text, pictures) == (
        f"In this world, “{text}” is true of {counted[0]} of the 40 pictures, and it is not known for {counted[2]} of "
        "them."
    )
    surely = [image for image in pictures if known[image] is not None]
    told = drawn._true_of(session, text, surely)
    assert told.endswith(f"true of {counted[0]} of the {len(surely)} pictures.")


def test_what_cannot_be_asked_is_said(session):
    with pytest.raises(ValueError, match="a kind among head, gallery, map, neuron, got 'neuro'"):
        Quiz(session, "neuro")
    with pytest.raises(ValueError, match="at least one question, got n=0"):
        Quiz(session, n=0)
    with pytest.raises(ValueError, match=r"expected 900 questions, but this session has \d+"):
        Quiz(session, "gallery", 900)
    few = clipviz.Session(clipviz.load("demo"), clipviz.demo.images().subset(range(9)), "demo")
    with pytest.raises(ValueError, match="at least 24 images, got 9"):
        Quiz(few)
    few.close()


@pytest.fixture(scope="module")
def null():
    path = Path(__file__).parents[2] / "tools/quiz_null.py"
    spec = importlib.util.spec_from_file_location("quiz_null", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="module")
def student(null, session):
    return null.Student(session)


@pytest.fixture(scope="module")
def untrained(null):
    made = null.opened(null.network(0))
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_has_learnt_nothing_gives_chance(kind, null, student, untrained):
    (right,) = null.shares(kind, student, iter([untrained]), 1)
    found = score(right, 1 / (4 if kind in ("head", "neuron") else 2))
    print(kind, found)
    assert len(right) == 12
    assert found.right.low <= found.chance


def test_looks_alone_do_not_tell_galleries_apart(null, student, session, untrained, monkeypatch):
    """Pictures that are alike, or alike in brightness, are no hint; their meaning is one in a trained network."""
    for rule in null.RULES["gallery"]:
        monkeypatch.setattr(student, "rule", rule)
        for network in (untrained, session):
            right = [
                question.is_right(student.answer(question))
                for seed in range(4)
                for question in Quiz(network, "gallery", 20, seed).questions
            ]
            found = score(right, 0.5)
            print(rule, found)
            expected = rule == "text" and network is session
            assert found.above_chance == expected, rule
            assert found.right.high >= 0.5, rule


def test_the_student_reads_a_network_that_sees_what_they_see(student, quizzes):
    assert all(question.is_right(student.answer(question)) for question in quizzes["map"].questions)


def test_pages_have_every_question_and_the_answers_come_last(quizzes, tmp_path):
    for kind, quiz in quizzes.items():
        pages = quiz.sheet(answers=True)
        words = [[text.get_text() for text in page.texts] for page in pages]
        for number, question in enumerate(quiz.questions, 1):
            start = f"{number}. {question.words}"[:40]
            assert sum(line.startswith(start) for page in words[:-1] for line in page) == 1, kind
            assert any(line.startswith(f"{number}. {chr(65 + question.right)}.") for line in words[-1])
            assert not any(question.because[:30] in line for page in words[:-1] for line in page)
        for page in pages:
            low = min(text.get_position()[1] for text in page.texts)
            assert low > 0.02
        path = quiz.save_sheet(tmp_path / f"{kind}.pdf", answers=True)
        assert path.read_bytes().startswith(b"%PDF")


def test_a_number_is_written_on_paper_and_not_ticked(session):
    quiz = predict(session, "How much?", scale=(0, 1, 0.02), measured=0.63, form="{:.0%}", because="So.")
    first, last = ([text.get_text() for text in page.texts] for page in quiz.sheet(answers=True))
    assert "Your prediction, from 0% to 100%: ______________" in first
    assert not any("☐" in line or "63%" in line for line in first)
    assert "1. Measured: 63%. So." in last


def test_many_pictures_on_paper_stand_in_rows_of_a_size_that_can_be_seen(monkeypatch):
    tiles, real = [], figures.style.Tile
    monkeypatch.setattr(figures.style, "Tile", lambda *given: tiles.append(given[1]) or real(*given))
    black = np.zeros((8, 8, 3), np.uint8)
    (page,) = figures.sheet([figures.Asked("How many?", [black] * 15, ends=("0", "15"))], "Lesson")
    assert len(tiles) == 15
    assert all(width * figures.WIDTH > 0.7 for _, _, width, _ in tiles)
    assert all(left > 0 and left + width < 1 for left, _, width, _ in tiles)
    rows = sorted({round(bottom, 6) for _, bottom, _, _ in tiles})
    assert len(rows) == 2
    line = next(text for text in page.texts if "prediction" in text.get_text())
    assert line.get_position()[1] < rows[0]


def test_a_neurons_text_is_measured_on_the_one_half_and_its_pictures_are_the_strongest_of_the_other(
    session, quizzes
):
    measured, shown = halves(N_IMAGES, 1)
    on, off = drawn._layers(session, session.neurons.default_layer, measured, shown)
    for known, half in ((on, measured), (off, shown)):  # read from these images and no others
        assert sorted(known.ids.tolist()) == list(range(len(half)))
        for place, row in zip(known.embedded.tolist()[:5], known.embedding[:5], strict=True):
            torch.testing.assert_close(row, session.images.embedding(half[place]), atol=1e-5, rtol=1e-4)
    pool = torch.nn.functional.normalize(session.texts.pool() - session.texts.pool().mean(0), dim=1)
    for question in quizzes["neuron"].questions[:3]:
        number = int(question.unit.split()[1])
        cosines = pool @ on.line.directions[number]
        assert question.options[question.right].words == session.texts[int(cosines.abs().argmax())]
        norms = dict(zip(off.ids.tolist(), off.norms[:, number].float().tolist(), strict=True))
        strengths = [norms[shown.index(image)] for image in question.pictures]
        assert strengths == sorted(strengths, reverse=True)
        assert len(set(question.pictures)) == SHOWN_OF_NEURON
        top = off.top(number)
        along = dict(zip(top.ids, top.along, strict=True))
        agree = float(off.line.directions[number] @ on.line.directions[number])
        pull = agree * float(cosines[cosines.abs().argmax()])
        assert all(along[shown.index(image)] * pull > 0 for image in question.pictures)


def test_a_quiz_has_one_code_whatever_is_right(session):
    one = Question("Which?", (1,), (Option("a"), Option("b")), 0, "a")
    other = Question("Which?", (1,), (Option("a"), Option("b")), 1, "b")
    assert Quiz.of(session, [one]).code == Quiz.of(session, [other]).code
    assert Quiz.of(session, [one]).code != Quiz.of(session, [one, one]).code


def test_a_prediction_is_a_quiz_of_one_question(session):
    asked = predict(session, "Which?", ["a", "b", "c"], measured="c", because="It is c.", pictures=[4])
    assert asked.questions[0].right == 2
    assert asked.answer(0, 2) == "Right. It is c."
    number = predict(
        session, "How much?", scale=(0, 1, 0.1), measured=0.63, form="{:.0%}", because="See below."
    )
    assert number.questions[0].steps[:3] == ["0%", "10%", "20%"]
    assert number.answer(0, 7) == "Right. Measured: 63%. See below."
    assert number.score().chance == pytest.approx(2 / 11)  # 60% and 70%
    assert number.show().data()["answer"]["measured"] == "63%"  # and not 60%, the nearest step
    number.show().close()
    wide = {"scale": (0, 1, 0.1), "measured": 0.63, "slack": 2}
    for position, said in ((4, "Wrong"), (5, "Right"), (8, "Right"), (9, "Wrong")):
        assert predict(session, "?", **wide).answer(0, position).startswith(f"{said}. ")


def test_the_answers_of_a_class_are_counted(session):
    questions = [Question("Which?", (), (Option("a"), Option("b")), 0, "a")] * 2
    codes = []
    for answers in ((0, 1), (0, 0), (1,)):
        quiz = Quiz.of(session, questions)
        for at, answer in enumerate(answers):
            quiz.answer(at, answer)
        codes.append(quiz.answers_code)
    assert quiz.counts(*codes) == [[2, 1], [1, 1]]
    assert quiz.score(*codes).right.n == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"measured": "a"}, "either choices or a scale, got both or neither"),
        ({"choices": ["a"], "scale": (0, 1, 0.1), "measured": "a"}, "either choices or a scale"),
        ({"choices": ["a", "b"], "measured": "c"}, "one of a, b, got 'c'"),
        ({"scale": (0, 1, 0.1), "measured": 1.2}, "holds what was measured, got 0 to 1 for 1.2"),
        ({"scale": (0, 1, 0), "measured": 1}, "a slider of 2 to 254 steps"),
        ({"scale": (0, 1, 1), "measured": 1}, "got 2 right ones of 2 with tolerance=1"),
        ({"choices": ["a"], "measured": "a"}, "a right option among wrong ones, got 1 options"),
    ],
)
def test_what_cannot_be_predicted_is_said(session, given, message):
    with pytest.raises(ValueError, match=message):
        predict(session, "?", **given)
    with pytest.raises(ValueError, match="at least one question, got none"):
        Quiz.of(session, [])
