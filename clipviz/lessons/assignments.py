"""An assignment that nbgrader and otter-grader can mark: a notebook in which a quiz is answered, and its tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clipviz import extras
from clipviz.files import path_of, write_whole

if TYPE_CHECKING:
    import nbformat

NAME = "quiz.ipynb"

SCHEMA = 3
"""The version of nbgrader's cell metadata."""

INTRODUCTION = """# A quiz

Run all cells and answer the questions in the panel. Then copy the code that the panel shows below them, paste it \
between the quotation marks of `handed_in`, save the notebook and hand it in."""

PASTE = 'handed_in = ""  # paste your code between the quotation marks'


def save(folder: str | Path, setup: str, code: str, n_questions: int) -> Path:
    """Write quiz.ipynb, and tests/q1.py and so on, into a folder: see Quiz.save_assignment. Returns the notebook's
    path.

    Args:
        folder: the folder, which is created if it does not exist.
        setup: code that defines `quiz`.
        code: the code of the quiz, which the notebook checks.
        n_questions: the number of questions.

    Raises:
        ValueError: for a setup that does not name `quiz`, and for a folder that has tests of other questions.
        ImportError: if nbformat is not installed.
    """
    if lacking := extras.lacking("lab"):
        raise ImportError(f"an assignment is a notebook, and {lacking}")
    if "quiz" not in setup:
        raise ValueError(
            f"expected code that defines `quiz`, got {setup[:80]!r}; give the lines that open the session and make the "
            "quiz"
        )
    import nbformat

    folder = path_of(folder, "a folder for the assignment")
    tests = {f"q{number}.py": _ok_test(number) for number in range(1, n_questions + 1)}
    others = sorted({path.name for path in (folder / "tests").glob("*.py")} - tests.keys())
    if others:
        raise ValueError(
            f"expected a folder without tests of other questions, got {', '.join(others)} in {folder / 'tests'}; "
            "remove them, or choose another folder"
        )
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    for name, content in tests.items():
        write_whole(folder / "tests" / name, content.encode())
    notebook = _notebook(setup, code, n_questions)
    write_whole(folder / NAME, (nbformat.writes(notebook) + "\n").encode())
    return folder / NAME


def _notebook(setup: str, code: str, n_questions: int) -> nbformat.NotebookNode:
    from nbformat import v4

    ours = _escaped(code)
    check = f'assert quiz.code == {ours}, "expected the quiz " + {ours} + ", got " + quiz.code'
    paste = v4.new_code_cell(PASTE, id="handed-in", metadata={"deletable": False})
    cells = [
        v4.new_markdown_cell(INTRODUCTION, id="introduction", metadata=_locked("introduction")),
        v4.new_code_cell(setup.strip(), id="setup", metadata=_locked("setup")),
        v4.new_code_cell(check, id="check", metadata=_locked("check")),
        v4.new_code_cell("quiz", id="panel", metadata=_locked("panel")),
        paste,  # nbgrader replaces the source of a solution cell by its own words, so this is none
    ]
    for number in range(1, n_questions + 1):
        name = f"question-{number}"
        graded = _locked(name, points=1)
        cells.append(v4.new_code_cell(_test(number), id=name, metadata=graded))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made: nbformat.NotebookNode = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    return made


def _locked(name: str, points: int | None = None) -> dict[str, object]:
    """Return the metadata of a cell that nbgrader restores before it marks; one with points is a test."""
    graded = {} if points is None else {"points": points}
    own = {"grade": points is not None, "solution": False, "locked": True, "task": False}
    return {
        "deletable": False,
        "editable": False,
        "nbgrader": {**own, **graded, "grade_id": name, "schema_version": SCHEMA},
    }


def _test(number: int) -> str:
    return f'assert quiz.marks(handed_in)[{number - 1}], "Question {number} was not answered correctly."'


def _ok_test(number: int) -> str:
    """Return a question's test in otter-grader's format."""
    case = {"code": f">>> {_test(number)}\n", "hidden": False, "locked": False}
    suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
    test = {"name": f"q{number}", "points": 1, "suites": [suite]}
    return f"OK_FORMAT = True\n\ntest = {test!r}\n"


def _escaped(text: str) -> str:
    """Return a text as a literal without nbgrader's own markers, such as ### BEGIN SOLUTION."""
    return ascii(text).replace("#", r"\x23")
