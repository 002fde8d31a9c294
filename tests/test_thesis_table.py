"""docs/thesis.md: one line for every equation, table and figure, and everything that it names is there."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path

import pytest

import clipviz
from clipviz.reproduce import contents

ROOT = Path(__file__).parent.parent
DRAWINGS = {"Figure 2.1", "Figure 3.1", "Figure 3.2", "Figure 4.3"}
PROMPTS = {"Table A.2", "Table B.2", "Table B.3"}
EQUATIONS = {
    *(
        f"Equation {chapter}.{n}"
        for chapter, last in (("2", 7), ("3", 4), ("4", 7))
        for n in range(1, last + 1)
    ),
    *(f"Equation {chapter}.{n}" for chapter, last in (("A", 4), ("B", 5)) for n in range(1, last + 1)),
}
FORMS = ("as in the thesis", "deviates: ", "drawing", "own words", "as Figure ")


def rows():
    """item -> its cells."""
    lines = (ROOT / "docs" / "thesis.md").read_text(encoding="utf-8").splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")
    ]
    return [row for row in cells if row[0] not in ("in the thesis", "---")]


ROWS = rows()


def named(cell):
    return re.findall(r"`([^`]+)`", cell)


@functools.cache
def sections():
    """The titles of the reports' sections, without the numbers of what they show."""
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "clipviz" / "reproduce").rglob("*.py")
    )
    return {
        re.sub(r" \((Table|Figure)s? .*$", "", title)
        for title in re.findall(r'section\(\s*f?"([^"]+)"', sources)
    }


def find(name):
    """The object of a dotted name below clipviz, or what "session.heads.effects" is of every session's heads."""
    parts = name.split(".")
    if parts[0] == "session" and (ROOT / f"clipviz/session/topics/{parts[1]}.py").exists():
        room = importlib.import_module(f"clipviz.session.topics.{parts[1]}")
        (topic,) = [
            one
            for word, one in vars(room).items()
            if word.endswith("Topic") and one.__module__ == room.__name__
        ]
        return getattr(topic, parts[2])
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(["clipviz", *parts[:end]]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    return functools.reduce(getattr, parts, clipviz)


def test_there_is_one_line_for_each():
    items = [row[0] for row in ROWS]
    assert len(items) == len(set(items))
    every = {item for chapter in contents.ITEMS.values() for item in chapter}
    assert set(items) == every | EQUATIONS | DRAWINGS | PROMPTS | {"Algorithm 1"}
    assert all(len(row) == 7 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_everything_that_a_line_names_is_there(row):
    item, _, computed, seen, section, tested, form = row
    assert form.startswith(FORMS)
    if item in DRAWINGS:
        assert (computed, tested, form) == ("–", "–", "drawing")
        return
    assert named(computed)
    assert named(seen), "no panel or method of the session"
    for name in [*named(computed), *named(seen)]:
        assert callable(find(name)), name
    assert section in sections()
    assert named(tested)
    for test in named(tested):
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


def test_deviations_are_explained():
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    said = set(re.findall(r"(?:Equation|Table|Figure) [A-C2-4]\.\d+", text))
    assert {row[0] for row in ROWS if row[6].startswith("deviates")} <= said


def test_the_readme_leads_there():
    assert "(docs/thesis.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(fidelity.md" in (ROOT / "docs" / "thesis.md").read_text(encoding="utf-8")
