"""The board of a class in a real JupyterLab: answers appear by themselves, and what is right when it is revealed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.test_accessible import AXE, reads_well, require_axe
from browser.test_dashboard import SESSION
from browser.test_quiz import SHOWN as ASKED
from browser.test_quiz import answer
from clipviz.lessons import Quiz

SHARED = """import tempfile
from clipviz.lessons import Quiz
folder = tempfile.mkdtemp()
path = quiz.share(folder)"""
ROWS = (3, 2, 2, 0, 0, 0)
"""How many options the questions have."""
BOARD = """again = Quiz.of(session, questions)
board = again.classroom(folder)
board"""
TOLD = "that was related"
HEARD = """() => { window.heard = '';
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  kernel.anyMessage.connect((_, m) => {
    if (m.direction === 'recv' && m.msg.channel === 'iopub') window.heard += JSON.stringify(m.msg); }); }"""


@pytest.fixture
def opened(notebook):
    made = notebook(SESSION, ASKED, SHARED, BOARD)
    made.panel("quiz", ready="true").wait_for()
    made.panel("classroom", ready="true", joined=1).wait_for()
    return made


def test_an_answer_appears_by_itself_and_the_truth_when_it_is_revealed(opened, artifacts):
    page, board = opened.page, opened.panel("classroom")
    expect(opened.panel("quiz").get_by_text("Your answers are counted on your class's board")).to_be_visible()
    page.evaluate(HEARD)
    expect(board.locator(".attendance")).to_contain_text("0 students have answered")
    opened.kernel(
        "other = Quiz.of(session, questions)\nwhere = other.share(folder)\ndone = other.answer(0, 0)"
    )
    expect(board).to_have_attribute("data-students", "1", timeout=15_000)
    expect(board).to_have_attribute("data-counts", "1,0,0")
    assert TOLD not in page.evaluate("() => window.heard")
    assert TOLD not in board.evaluate("(node) => node.outerHTML")
    assert board.locator(".row.right, .told :first-child, .scored").count() == 0
    step = board.get_by_role("button", name="Question 1: 1 of 2 have answered")
    step.focus()
    answer(opened, 0, 1)  # of the student beside
    step = board.get_by_role("button", name="Question 1: 2 of 2 have answered")
    step.wait_for(timeout=15_000)
    expect(board).to_have_attribute("data-counts", "1,1,0")
    page.evaluate("() => { window.heard = ''; }")  # the student's panel was told
    page.screenshot(path=artifacts / "classroom-open.png")
    board.get_by_role("button", name="Reveal the answer").click()
    opened.panel("classroom", revealed="true").wait_for()
    expect(board.locator(".told")).to_contain_text(TOLD)
    expect(board.locator(".told")).to_contain_text("1 of 2 right: 50%")
    expect(board.locator(".row.right")).to_contain_text("something small in the middle")
    board.get_by_role("button", name="Hide the answer again").click()
    opened.panel("classroom", revealed="false").wait_for()
    expect(board.locator(".told")).to_be_empty()
    board.get_by_role("button", name="Reveal the answer").click()
    opened.panel("classroom", revealed="true").wait_for()
    board.get_by_role("button", name=re.compile("^Question 4: 0 of 2")).click()
    opened.panel("classroom", at=3, revealed="false").wait_for()
    expect(board.locator(".told")).to_be_empty()
    page.screenshot(path=artifacts / "classroom-revealed.png")
    assert not opened.console


def test_it_looks_while_it_is_seen_and_redraws_what_has_changed(opened):
    page, board = opened.page, opened.panel("classroom")
    opened.kernel("before = board.looks")
    step = board.get_by_role("button", name=re.compile("^Question 2"))
    step.focus()
    row = board.locator(".row").first.element_handle()
    page.wait_for_timeout(5000)
    n = int(opened.kernel("print(board.looks - before)"))
    assert 1 <= n <= 3
    assert row.evaluate("(node) => node.isConnected")  # nothing was drawn again
    opened.kernel("done = quiz.answer(0, 0)")
    expect(board).to_have_attribute("data-students", "1", timeout=15_000)
    expect(step).to_be_focused()
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.wait_for_timeout(500)
    opened.kernel("before = board.looks")
    page.wait_for_timeout(5000)
    assert opened.kernel("print(board.looks - before)") == "0\n"
    page.evaluate("() => { delete document.hidden; }")
    opened.kernel("board.close()")
    assert not opened.console


@pytest.fixture(scope="module")
def pages(board, tmp_path_factory):
    """The board of a class as saved pages: name -> the file; every question is open, or has been revealed."""
    session = board.session
    names = {"session": session}
    exec(ASKED.rsplit("\n", 1)[0], names)  # what the notebook's cell makes, here
    names["panel"].close()
    questions, found = names["questions"], {}
    folder, shared = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("class")
    for given in (
        ((0,), (1,), (0,), (3,), (2, 2, 30, 30), (1, 0, 1, 0, 0, 0, 1, 0)),
        ((1,), (0,), (1,), (15,), (35, 40, 50, 45), (0, 1, 0, 0, 1, 1, 0, 0)),
        ((1,),),
    ):
        quiz = Quiz.of(session, questions)
        quiz.share(shared)
        for at, one in enumerate(given):
            quiz.answer(at, one)
    (shared / quiz.code / "strange.txt").write_text("?")
    for name in ("open", "revealed", "lecture"):
        panel = quiz.classroom(shared, "lecture" if name == "lecture" else None)
        for at in range(len(questions)) if name != "open" else ():
            panel.reveal(at)
        session.wait(60)
        found[name] = panel.save_html(folder / f"{name}.html")
        panel.close()
    return found


@pytest.mark.parametrize("name", ["open", "revealed", "lecture"])
def test_a_saved_page_has_every_question_as_it_was_and_axe_finds_nothing(chromium, pages, name, artifacts):
    require_axe()
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.goto(pages[name].as_uri())
    panel = page.locator('[data-panel="classroom"][data-ready="true"]')
    expect(panel.locator(".attendance")).to_contain_text("3 students have answered")
    expect(panel.locator(".attendance")).to_contain_text("1 file could not be read")
    page.add_script_tag(path=AXE)
    for at in range(6):
        panel.get_by_role("button", name=re.compile(f"^Question {at + 1}:")).click()
        expect(panel).to_have_attribute("data-at", str(at))
        expect(panel).to_have_attribute("data-revealed", str(name != "open").lower())
        expect(panel.get_by_role("button", name="Reveal the answer")).to_be_hidden()
        expect(panel.locator(".row .letter")).to_have_count(ROWS[at])
        expect(panel.locator(".histogram")).to_have_count(int(at == 3 or (at == 5 and name != "open")))
        expect(panel.locator(".row.plain")).to_have_count(2 if at == 4 and name != "open" else 0)
        numbers = [str(number) for number in range(1, 9)] if at == 5 else []
        expect(panel.locator(".shown .number")).to_have_text(numbers)
        picture = f"classroom-{name}-{at}-{{}}-{{}}.png"
        reads_well(page, "classroom", lambda *shown, picture=picture: artifacts / picture.format(*shown))
    held = page.content()
    assert (TOLD in held) == (name != "open")
    context.close()
