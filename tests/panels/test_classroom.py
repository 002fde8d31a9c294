"""The board of a class without a browser: what is right is sent for a question once it has been revealed."""

from __future__ import annotations

import dataclasses

import pytest

from clipviz.lessons import Question, Quiz, classroom
from clipviz.panels.core.stored import Kept
from panels.asking import ask
from panels.test_quiz import ASKED, CHANGED, GIVEN, sent
from panels.test_quiz import session as session


@pytest.fixture
def opened(session, tmp_path):
    """opened(questions, answers) -> the board of a class; answers: for each student those of the first questions."""
    panels = []

    def show(questions, students=(), folder=tmp_path):
        for given in students:
            quiz = Quiz.of(session, questions)
            quiz.share(folder)
            for at, answer in enumerate(given):
                quiz.answer(at, answer)
        panel = Quiz.of(session, questions).classroom(folder)
        session.wait(60)
        panels.append(panel)
        return panel

    yield show
    for panel in panels:
        panel.close()


def look(panel):
    """Do what the browser does every two seconds."""
    request = panel.request or {"seq": 0, "changes": {}}
    panel.request = {**request, "options": {"looks": panel.looks + 1}}
    panel.session.wait(60)


@pytest.mark.parametrize("kind", ASKED)
def test_nothing_that_is_sent_before_a_question_is_revealed_depends_on_what_is_right(opened, kind, tmp_path):
    one = ASKED[kind]
    other = dataclasses.replace(one, **CHANGED[kind], because="Something else.", truth="c", unit="head L1·H1")
    given, best = GIVEN[kind], one.best  # of which the second is wrong for the other question
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    panels = [
        opened([question] * 2, [[given, best], [best]], folder)
        for question, folder in zip((one, other), folders, strict=True)
    ]
    first, second = map(sent, panels)
    assert first == second
    assert first["view"]["students"] == 2
    for panel in panels:
        ask(panel, action="reveal", question=0)
    assert panels[0].view["revealed"] != panels[1].view["revealed"]
    for panel in panels:  # the other question is as closed as the first was, but for the score
        ask(panel, options={"at": 1})
    first, second = (dict(panel.view, score=None) for panel in panels)
    assert "revealed" not in first
    assert first == second
    assert panels[0].blob == panels[1].blob


@pytest.mark.parametrize("kind", ASKED)
def test_counts_are_the_questions_own_and_what_is_right_is_marked(opened, kind):
    question = ASKED[kind]
    best = tuple(question.best)
    given = tuple(GIVEN[kind])
    panel = opened([question, question], [[best], [best, given], [given], []])
    tally = question.tally([best, best, given])
    is_open = len(question.parts) == 1
    view = panel.data()
    assert view["counts"] == (tally if is_open else [])
    assert view["progress"] == [{"n": 3, "revealed": False}, {"n": 1, "revealed": False}]
    assert (view["students"], view["joined"], view["unread"], view["score"]) == (3, 4, 0, None)
    panel.reveal(0)
    view = panel.data()
    assert view["counts"] == tally
    revealed = view["revealed"]
    n_right = 2 + question.is_right(given)
    assert revealed["score"]["right"] == pytest.approx(n_right / 3)
    assert revealed["score"]["said"].startswith(f"{n_right} of 3 right")
    assert revealed["score"]["chance"] == pytest.approx(question.chance)
    assert view["score"] == revealed["score"]
    assert revealed["told"] == question.key
    if is_open:
        assert revealed["right"] == [question.is_right((value,)) for value in range(len(tally))]
        assert view["labels"] == []
    else:
        assert len(view["labels"]) == len(tally)


def test_the_browser_asks_for_the_folder_and_gets_what_has_changed(opened, session, tmp_path):
    questions = [ASKED["texts"]]
    panel = opened(questions)
    assert (panel.view["joined"], panel.view["counts"]) == (0, [0, 0, 0])
    student = Quiz.of(session, questions)
    path = student.share(tmp_path)
    student.answer(0, 2)
    look(panel)
    assert (panel.view["students"], panel.view["counts"]) == (1, [0, 0, 1])
    told = repr(sent(panel))
    assert path.stem not in told
    assert str(tmp_path) not in told
    before = panel.view["seq"]
    refreshed = []
    panel.board.refresh, real = (lambda: refreshed.append(1)), panel.board.refresh
    look(panel)
    look(panel)
    panel.board.refresh = real
    assert refreshed == []  # another panel's work is not interrupted
    assert panel.view["seq"] == before


def test_what_was_revealed_is_hidden_again_and_sends_what_a_closed_question_does(opened):
    panel = opened([ASKED["texts"]] * 2, [[(1,), (2,)]])
    closed = panel.data()
    ask(panel, action="reveal", question=0)
    assert "revealed" in panel.view
    ask(panel, action="hide", question=0)
    assert "revealed" not in panel.view
    assert (panel.view["score"], panel.view["progress"]) == (None, closed["progress"])
    assert repr(panel.data()) == repr(closed)
    with pytest.raises(ValueError, match=r"within 0\.\.1, got 2"):
        panel.hide(2)


def test_what_cannot_be_revealed_is_refused(opened):
    panel = opened([ASKED["texts"]])
    for question, message in (
        (1, "a question within 0..0, got 1"),
        (-1, "within 0..0"),
        ("0", "a whole number"),
    ):
        ask(panel, action="reveal", question=question)
        assert message in panel.error["message"]
    assert panel.revealed == frozenset()
    ask(panel, options={"at": 7})
    assert panel.view["at"] == 0


def test_a_saved_page_has_every_question_and_what_was_revealed(opened, session):
    panel = opened([*ASKED.values()], [[GIVEN[kind] for kind in ASKED]])
    panel.reveal(1)
    (part,) = panel.stored(Kept.of(session))
    view, arrays, _ = part.make(session.selection)
    assert [one["words"] for one in view["saved"]] == [one.words for one in ASKED.values()]
    assert ["revealed" in one for one in view["saved"]] == [at == 1 for at in range(len(ASKED))]
    assert [name for name in arrays if name.startswith("sprite")] == [
        f"sprite {at}" for at in range(len(ASKED))
    ]


def test_a_student_is_told_of_an_answer_that_could_not_be_handed_in(session, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    quiz = Quiz.of(session, [ASKED["texts"]] * 2)
    panel = quiz.show()
    quiz.share(tmp_path)
    monkeypatch.setattr(classroom, "replacing", refused)
    ask(panel, action="commit", question=0, answer=[1])
    assert "The answers could not be handed in" in panel.error["message"]
    assert "Permission denied" in panel.error["message"]
    assert panel.view["answer"]["chosen"] == [1]
    monkeypatch.undo()
    ask(panel, options={"at": 1})
    ask(panel, action="commit", question=1, answer=[1])
    assert not panel.error
    room = classroom.Classroom(tmp_path, quiz)
    assert room.now.answers == (((1,), (1,)),)
    panel.close()


def test_size_is_that_of_a_projector_where_it_is_asked_for(session, tmp_path):
    panel = Quiz.of(session, [Question("Which?", (), ASKED["texts"].options, 0, "")]).classroom(
        tmp_path, "lecture"
    )
    assert panel.data()["size"] == "lecture"
    panel.close()
