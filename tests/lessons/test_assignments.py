"""Assignments: what a marker runs gives a point for each right answer, and no file says what is right."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from lessons.kinds import answers, questions

import clipviz
from clipviz import extras
from clipviz.lessons import Quiz

FLAGS = {
    "grade": bool,
    "solution": bool,
    "locked": bool,
    "task": bool,
    "grade_id": str,
    "schema_version": int,
}
"""The keys of nbgrader's metadata of a cell, version 3, and the types of their values; a test has points too."""


@pytest.fixture
def quiz(session):
    return Quiz.of(session, list(questions().values()))


def handed_in(quiz, n_right):
    """The code of a student whose first answers are right and whose others are wrong."""
    own = Quiz.of(quiz.session, quiz.questions, quiz.kind)
    for at, question in enumerate(own.questions):
        own.answer(at, answers(question)[at >= n_right])
    return own.answers_code


def cells_of(path):
    import nbformat  # reads grammars for seconds

    made = nbformat.read(path, 4)
    nbformat.validate(made)
    return made.cells


def marked(path, quiz, code):
    """Run a notebook's cells as a marker does: an error of one does not stop the others. Returns the tests' errors."""
    names, found = {"made": quiz}, []
    for cell in cells_of(path):
        if cell.cell_type != "code":
            continue
        source = (
            cell.source.replace('""', repr(code), 1) if cell.source.startswith("handed_in") else cell.source
        )
        try:
            exec(source, names)
            error = ""
        except Exception as raised:
            error = str(raised) or type(raised).__name__
        if cell.metadata.get("nbgrader", {}).get("grade"):
            found.append(error)
        else:
            assert not error, error
    return found


def test_marks_are_those_that_the_score_counts(quiz):
    n = len(quiz.questions)
    for n_right in range(n + 1):
        code = handed_in(quiz, n_right)
        assert quiz.marks(code) == [at < n_right for at in range(n)]
        assert quiz.score(code).right.value * n == pytest.approx(n_right)
    quiz.answer(1, answers(quiz.questions[1])[0])
    assert quiz.marks(quiz.answers_code) == [at == 1 for at in range(n)]  # a skipped question has no mark
    with pytest.raises(
        ValueError, match=f"expected a code of the quiz {quiz.code}, got none; answer the questions"
    ):
        quiz.marks(" - ")


def test_a_notebook_gives_a_point_for_every_right_answer(quiz, tmp_path):
    path = quiz.save_assignment(tmp_path / "new" / "folder", "quiz = made")
    n = len(quiz.questions)
    assert path == tmp_path / "new" / "folder" / "quiz.ipynb"
    for n_right in (0, 1, n):
        wrong = [f"Question {at + 1} was not answered correctly." for at in range(n_right, n)]
        assert marked(path, quiz, handed_in(quiz, n_right)) == [""] * n_right + wrong
    for code, said in (
        ("", "got none; answer the questions"),
        ("aaaa-aaaa", "mistyped or answers another quiz"),
    ):
        errors = marked(path, quiz, code)
        assert len(errors) == n
        assert all(said in error for error in errors)
    other = Quiz.of(quiz.session, quiz.questions[:1])
    with pytest.raises(AssertionError, match=f"expected the quiz {quiz.code}, got {other.code}"):
        marked(path, other, "")


def test_cells_have_nbgraders_metadata_and_only_the_pasted_code_can_be_edited(quiz, tmp_path):
    cells = cells_of(quiz.save_assignment(tmp_path, "quiz = made"))
    kept = [cell.metadata["nbgrader"] for cell in cells if "nbgrader" in cell.metadata]
    for own in kept:
        assert {name: type(value) for name, value in own.items() if name != "points"} == FLAGS
        assert own["schema_version"] == 3
        assert own["locked"]
        assert not own["solution"]
        assert ("points" in own) == own["grade"]
    names = [own["grade_id"] for own in kept]
    assert len(set(names)) == len(names)
    assert [own["points"] for own in kept if own["grade"]] == [1] * len(quiz.questions)
    (open_cell,) = (cell for cell in cells if "nbgrader" not in cell.metadata)
    assert open_cell.source.startswith('handed_in = ""')
    assert all(cell.metadata["deletable"] is False for cell in cells)
    again = tmp_path / "quiz.ipynb"
    before = again.read_bytes()
    quiz.save_assignment(tmp_path, "quiz = made")
    assert again.read_bytes() == before


def test_otters_tests_are_the_same_and_in_its_format(quiz, tmp_path):
    cells = cells_of(quiz.save_assignment(tmp_path, "quiz = made"))
    tests = [cell.source for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert len(tests) == len(quiz.questions)
    assert {path.name for path in (tmp_path / "tests").iterdir()} == {
        f"q{at + 1}.py" for at in range(len(tests))
    }
    for number, source in enumerate(tests, 1):
        made = runpy.run_path(str(tmp_path / "tests" / f"q{number}.py"))
        assert made["OK_FORMAT"] is True
        assert made["test"]["name"] == f"q{number}"
        assert made["test"]["points"] == 1
        (suite,) = made["test"]["suites"]
        assert (suite["type"], suite["setup"], suite["teardown"]) == ("doctest", "", "")
        assert [case["code"] for case in suite["cases"]] == [f">>> {source}\n"]


def test_no_file_depends_on_what_is_right_or_holds_it(session, tmp_path):
    told, written = [], []
    for right in (0, 1):
        question = clipviz.lessons.Question(
            "Which?", (), tuple(map(clipviz.lessons.Option, "abc")), right, "It is so!"
        )
        folder = tmp_path / str(right)
        Quiz.of(session, [question] * 2).save_assignment(folder, "quiz = made")
        written.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        told.append(question.because)
    assert written[0] == written[1]
    assert not any(one.encode() in content for one in told for content in written[0].values())


def test_words_of_a_quiz_are_text_and_neither_code_nor_a_markers_sign(session, tmp_path):
    kind = "### BEGIN SOLUTION\n'\"{1/0}\u2028\\"
    quiz = Quiz.of(session, list(questions().values()), kind)
    path = quiz.save_assignment(tmp_path, "quiz = made")
    n = len(quiz.questions)
    assert marked(path, quiz, handed_in(quiz, n)) == [""] * n
    assert "BEGIN SOLUTION" in path.read_text("utf-8")
    assert "### BEGIN" not in path.read_text("utf-8")


def test_what_cannot_be_written_is_said(quiz, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="expected code that defines `quiz`, got 'q = made'; give the lines"):
        quiz.save_assignment(tmp_path, "q = made")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "q99.py").write_text("")
    with pytest.raises(ValueError, match=r"without tests of other questions, got q99\.py in"):
        quiz.save_assignment(tmp_path, "quiz = made")
    monkeypatch.setitem(extras.EXTRAS, "lab", extras.Extra("", ("no_such_module",)))
    with pytest.raises(
        ImportError, match=r"an assignment is a notebook, and no_such_module is not installed; pip"
    ):
        quiz.save_assignment(tmp_path / "b", "quiz = made")


SETUP = """import clipviz
from clipviz.lessons import Number, Option, Question, Quiz
session = clipviz.Session(clipviz.load("demo"), clipviz.demo.images().subset(range(4)), ["a dog", "a car"])
quiz = Quiz.of(session, [
    Question("Which?", (1,), (Option("a"), Option("b"), Option("c")), 1, "It is b."),
    Number("How much?", 0, 1, 0.1, 0.42, 0.1),
])"""
STUDENTS = {"right": 2, "half": 1, "empty": 0, "mistyped": 0}
"""A student's name, and the points that they get."""


@pytest.fixture(scope="module")
def class_of_students():
    """The quiz of SETUP, and what each student pastes."""
    names = {}
    exec(SETUP, names)
    quiz = names["quiz"]
    codes = {"right": handed_in(quiz, 2), "half": handed_in(quiz, 1), "empty": "", "mistyped": "aaaa-bbbb"}
    yield quiz, codes
    names["session"].close()


def handed(path, code):
    """A student's copy of a notebook."""
    import nbformat

    made = nbformat.read(path, 4)
    (cell,) = (cell for cell in made.cells if cell.source.startswith("handed_in"))
    cell.source = cell.source.replace('""', repr(code), 1)
    return nbformat.writes(made)


def ran(folder, *command):
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PATH": scripts},
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("nbgrader"), reason="nbgrader is not installed: pip install nbgrader"
)
def test_nbgrader_marks_a_class(class_of_students, tmp_path):
    quiz, codes = class_of_students
    quiz.save_assignment(tmp_path / "source" / "first", SETUP)
    ran(tmp_path, "nbgrader", "generate_assignment", "first")
    released = tmp_path / "release" / "first" / "quiz.ipynb"
    assert [cell.source for cell in cells_of(released)] == [
        cell.source for cell in cells_of(tmp_path / "source" / "first" / "quiz.ipynb")
    ]
    for name, code in codes.items():
        folder = tmp_path / "submitted" / name / "first"
        folder.mkdir(parents=True)
        (folder / "quiz.ipynb").write_text(handed(released, code), "utf-8")
    ran(tmp_path, "nbgrader", "autograde", "first")
    with sqlite3.connect(tmp_path / "gradebook.db") as book:
        rows = book.execute(
            "select s.student_id, sum(g.auto_score) from submitted_assignment s join submitted_notebook n on "
            "n.assignment_id = s.id join grade g on g.notebook_id = n.id group by s.student_id"
        ).fetchall()
    assert dict(rows) == STUDENTS


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("otter"), reason="otter is not installed: pip install otter-grader"
)
def test_otter_marks_a_class(class_of_students, tmp_path):
    quiz, codes = class_of_students
    path = quiz.save_assignment(tmp_path, SETUP)
    ran(tmp_path, "otter", "generate", "--no-environment")
    for name, code in codes.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "quiz.ipynb").write_text(handed(path, code), "utf-8")
        ran(tmp_path, "otter", "run", "-a", "autograder.zip", "-o", str(folder), str(folder / "quiz.ipynb"))
        found = json.loads((folder / "results.json").read_text("utf-8"))["tests"]
        points = {one["name"]: one.get("score") for one in found if one["name"].startswith("q")}
        assert sum(points.values()) == STUDENTS[name], Path(folder, "results.json").read_text("utf-8")
