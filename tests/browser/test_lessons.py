"""Each lesson in a real JupyterLab, from first cell to last, as two students: one always wrong, one always right.

The first lesson is run whenever browsers are; CLIPVIZ_LESSONS=all runs the others too, which takes minutes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.test_quiz import draw, sort

FOLDER = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(path.stem for path in FOLDER.glob("lesson*.ipynb"))
ALL = os.environ.get("CLIPVIZ_LESSONS") == "all"
AGAIN = """from clipviz.lessons import Quiz
from IPython.display import display
asked = [value for value in Out.values() if isinstance(value, Quiz)]
for quiz in asked:
    display(Quiz.of(session, quiz.questions))
session.wait(60)"""
ASKED = """import itertools, json
def wrong(question):
    for answer in itertools.product(*(range(0, n, max(1, n // 5)) for n in question.parts)):
        try:
            if not question.is_right(question.read(answer)):
                return answer
        except ValueError:
            pass
print(json.dumps([[
    {"right": question.best, "wrong": wrong(question), "because": question.because, "truth": question.truth}
     for question in quiz.questions] for quiz in asked]))"""
HEARD = """() => { window.heardOfLesson = '';
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  kernel.anyMessage.connect((_, m) => { if (m.direction === 'recv' && m.msg.header.msg_type.startsWith('comm'))
    window.heardOfLesson += JSON.stringify(m.msg); }); }"""


def cells_of(stem):
    """A lesson's code, and its questions once more for the second student in place of what closes the session."""
    found = json.loads((FOLDER / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]
    return [*code[:-1], AGAIN]


def choose(page, panel, answer):
    """Answer as a student does: by clicks, on the slider, or by drawing."""
    slider, stage = panel.locator("input[type=range]"), panel.locator(".stage")
    if slider.count():
        slider.fill(str(answer[0]))
    elif stage.count():
        draw(page, panel, *answer)
    elif panel.locator(".sorting").count():
        sort(panel, answer)
    else:
        panel.locator(".choice").nth(answer[0]).click()
    panel.get_by_role("button", name="Commit answer").click()


def sat(page, panel, questions, good, known):
    """Answer every question of a panel rightly or wrongly; nothing that is told may be in the page before.

    known: what the cells' source says whatever was measured, and what earlier answers told.
    """
    for at, question in enumerate(questions):
        if at:
            panel.get_by_role("button", name="Next question").click()
            expect(panel).to_have_attribute("data-at", str(at))
        expect(panel.locator(".told")).to_be_empty()
        expect(panel).to_have_attribute("data-best", "")
        words = [question["because"], *filter(None, [question["truth"]])]
        if good is False:  # the first to sit it
            held = page.evaluate("() => window.heardOfLesson + document.documentElement.outerHTML")
            new = [one for one in words if not any(one in told for told in known)]
            assert not [one for one in new if json.dumps(one)[1:-1] in held or one in held]
            known += words
        choose(page, panel, question["right" if good else "wrong"])
        expect(panel).to_have_attribute("data-answered", str(at + 1))
        expect(panel).to_have_attribute("data-fits", str(good).lower())
        for one in words:
            assert one.split("\n")[0] in panel.locator(".told").inner_text()
    expect(panel).to_have_attribute("data-right", str(len(questions) if good else 0))


@pytest.mark.slow
@pytest.mark.apart
@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_is_sat_by_one_who_is_always_wrong_and_one_who_is_always_right(notebook, stem, artifacts):
    if stem != LESSONS[0] and not ALL:
        pytest.skip("takes minutes; CLIPVIZ_LESSONS=all runs it")
    opened = notebook(*cells_of(stem))
    page = opened.page
    page.evaluate(HEARD)
    asked = json.loads(opened.kernel(ASKED))
    assert len(asked) >= 3
    panels = page.locator('[data-panel="quiz"][data-ready="true"]')
    expect(panels).to_have_count(2 * len(asked))
    known = cells_of(stem)
    for place, questions in enumerate(asked):
        panels.nth(place).scroll_into_view_if_needed()
        sat(page, panels.nth(place), questions, False, known)
        if place == 0:
            page.screenshot(path=artifacts / f"{stem}-wrong.png")
    for place, questions in enumerate(asked, start=len(asked)):
        panels.nth(place).scroll_into_view_if_needed()
        sat(page, panels.nth(place), questions, True, known)
    page.screenshot(path=artifacts / f"{stem}-right.png")
    codes = json.loads(opened.kernel("print(json.dumps([quiz.answers_code for quiz in asked]))"))
    for place, code in enumerate(codes):
        assert opened.kernel(f"print(asked[{place}].score({code!r}).right.value)") == "0.0\n"
    assert not opened.console
