"""Quizzes: what is asked is true of the model, what is shown was not measured on, and nothing learnt gives chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import clipviz
from clipviz.demo.world.truth import TRUE
from clipviz.lessons import KINDS, Quiz, score
from clipviz.lessons.quiz import SHOWN, halves
from clipviz.models.clip import ClipModel
from clipviz.models.untrained import untrained_module

N_IMAGES = 120


@pytest.fixture(scope="module")
def session():
    made = clipviz.Session(clipviz.load("demo"), clipviz.demo.images().subset(range(N_IMAGES)), "demo")
    yield made
    made.close()


@pytest.fixture(scope="module")
def quizzes(session):
    return {kind: Quiz(session, kind, 8, seed=1) for kind in KINDS}


def random_session(seed):
    demo = clipviz.load("demo")
    network = untrained_module(demo.network, seed)
    model = ClipModel(network, demo.tokenizer, demo.preprocess, name=f"random {seed}")
    return clipviz.Session(model, clipviz.demo.images().subset(range(N_IMAGES)), demo.bundle.texts())


def student(session, question):
    """Somebody who sees the pictures and knows what is on them, and nothing else: the option that they would choose."""
    images = session.images
    if question.options[0].heatmap is not None:  # the map that is brighter where the asked thing is
        asked, told = question.words.split("“")[1].split("”")[0], question.words.split("“")[2].split("”")[0]
        (image,) = question.pictures
        true = [known(session, [text], [image])[0, 0] == TRUE for text in (asked, told)]
        mask = session.maps.truth(image)
        if mask is None or mask.all() or not mask.any() or true[0] == true[1]:
            return 0
        rows, columns = question.options[0].heatmap.shape
        small = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(mask)[None].float(), (rows, columns))[
            0
        ].numpy()
        on = [float((o.heatmap * small).sum() / small.sum() - o.heatmap.mean()) for o in question.options]
        return int(np.argmax(on)) if true[0] else int(np.argmin(on))
    if question.pictures:  # the text that is true of most of the pictures
        found = known(session, [o.words for o in question.options], question.pictures) == TRUE
        return int(found.sum(0).argmax())
    columns = images.columns()  # the gallery that has most in common

    def shared(pictures):
        return max(
            len(set(images.where(column, word)) & set(pictures))
            for column in columns
            for word in columns[column]
        )

    return int(np.argmax([shared(option.pictures) for option in question.options]))


def known(session, texts, pictures):
    table = clipviz.demo.images().subset(range(N_IMAGES))
    truth = clipviz.load("demo").bundle.truths
    answers = [truth(list(texts), table, image) for image in pictures]
    return np.array([[TRUE if answer else 0 for answer in row] for row in answers])


@pytest.mark.parametrize("kind", KINDS)
def test_a_quiz_is_the_same_again_and_shows_what_was_not_measured_on(session, quizzes, kind):
    quiz = quizzes[kind]
    again = Quiz(session, kind, 8, seed=1)
    assert again.code == quiz.code != Quiz(session, kind, 8, seed=2).code
    measured, shown = map(set, halves(N_IMAGES, 1))
    assert measured.isdisjoint(shown)
    assert len(measured | shown) == N_IMAGES
    for question in quiz.questions:
        assert len(question.options) == (4 if kind == "head" else 2)
        assert 0 <= question.right < len(question.options)
        galleries = [question.pictures, *(option.pictures for option in question.options)]
        if kind != "map":
            assert all(set(gallery) <= shown and len(gallery) in (0, SHOWN) for gallery in galleries)
    rights = [question.right for question in quiz.questions]
    assert len(set(rights)) > 1


def test_the_right_text_is_the_heads_own_and_no_other_is(session, quizzes):
    measured, shown = halves(N_IMAGES, 1)
    for question in quizzes["head"].questions[:2]:
        layer, head = (int(part[1:]) for part in question.unit.removeprefix("head ").split("·"))
        own = session.heads.textspan(layer, head, 1, measured).texts[0]
        words = [option.words for option in question.options]
        assert words.index(own) == question.right
        assert len(set(words)) == 4
        effects = {
            image: float(session.heads.effects(own, image, ablation=clipviz.Ablation()).heads[layer, head])
            for image in shown
        }
        # The order is by the head's product before the embedding is normalised.
        products = {
            image: effect * float(session.images.trace(image).norm[0]) for image, effect in effects.items()
        }
        best = sorted(products, key=products.get, reverse=True)[:SHOWN]
        assert list(question.pictures) == best


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
    with pytest.raises(ValueError, match="an answer stays as it was given"):
        quiz.answer(0, 1)
    assert (quiz.score().right.value, quiz.score().right.n) == (2 / 3, 3)
    assert quiz.score(quiz.answers_code, quiz.answers_code).right.n == 8
    with pytest.raises(ValueError, match=r"a question within 0..3, got 4"):
        quiz.answer(4, 0)
    with pytest.raises(ValueError, match=r"an option within 0..3, got -1"):
        quiz.answer(3, -1)


def test_what_cannot_be_asked_is_said(session):
    with pytest.raises(ValueError, match="a kind among head, gallery, map, got 'neuro'"):
        Quiz(session, "neuro")
    with pytest.raises(ValueError, match="at least one question, got n=0"):
        Quiz(session, n=0)
    with pytest.raises(ValueError, match=r"expected 900 questions, but this session has \d+"):
        Quiz(session, "gallery", 900)
    few = clipviz.Session(clipviz.load("demo"), clipviz.demo.images().subset(range(9)), "demo")
    with pytest.raises(ValueError, match="at least 24 images, got 9"):
        Quiz(few)
    few.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_has_learnt_nothing_gives_chance(kind):
    right, n_options = [], 2
    for seed in range(3):
        made = random_session(seed)
        for again in range(2):
            try:
                quiz = Quiz(made, kind, 12, seed=again)
            except ValueError:  # a random network may give too few heads a text of their own
                continue
            n_options = quiz.n_options
            right += [student(made, question) == question.right for question in quiz.questions]
        made.close()
    found = score(right, n_options)
    print(kind, found)
    assert found.right.low <= found.chance


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
