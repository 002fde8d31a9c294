"""The quiz in a real JupyterLab: by keys and by mouse, all wrong and all right; nothing to be peeked at before."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.test_accessible import AXE, reads_well, require_axe
from browser.test_dashboard import SESSION
from clipviz.lessons import Quiz

# What is right is written backwards, so that a cell's source, which the browser has, does not hold it.
SHOWN = """import numpy as np
from clipviz.lessons import Number, Option, Piles, Place, Question, Quiz
said = "detaler saw taht"[::-1]
maps = session.maps.tokens("a zebra", 2, "a bus").map("late")
questions = [
    Question("Which text did TextSpan give this head?", (0, 1, 2, 3, 4, 5),
             (Option("a zebra in the snow"), Option("something small in the middle"), Option("a forest")), 1, said),
    Question("Which of these galleries is the head's own?", (),
             (Option(pictures=(0, 1, 2, 3, 4, 5)), Option(pictures=(6, 7, 8, 9, 10, 11))), 0, said),
    Question("Which of these maps is that of “a zebra” minus “a bus”?", (2,),
             (Option(heatmap=maps), Option(heatmap=-maps)), 1, said, truth="In this world, it is so."),
    Number("How many of the birds are read rightly?", 0, 1, 0.05, float("27.0"[::-1]), 0.05, said, "{:.0%}"),
    Place("The zebra is moved to the right. Where will it be?", session.images.picture(2),
          tuple(float(one[::-1]) for one in ("53.0", "4.0", "5.0", "54.0")), said,
          np.roll(session.images.picture(2), 10, 1), name="a zebra"),
    Piles("Which of these is the head's own, which not?", (0, 1, 2, 3, 4, 5, 6, 7),
          tuple(map(int, "10110010"[::-1])), ("its own", "another one's"), said, at_least=7),
]
quiz = Quiz.of(session, questions)
panel = quiz.show()
quiz"""


@pytest.fixture
def asked(notebook):
    opened = notebook(SESSION, SHOWN)
    opened.panel("quiz", ready="true").wait_for()
    return opened


def draw(page, panel, left, top, width, height):
    """Draw a box with the mouse, in percent of the picture's sides; a drag begins within the picture."""
    panel.locator(".stage").scroll_into_view_if_needed()
    stage = panel.locator(".stage").bounding_box()
    corners = ((left, top), (left + width, top + height))
    start, end = (
        (
            stage["x"] + 1 + x * (stage["width"] - 2) / 100,
            stage["y"] + 1 + y * (stage["height"] - 2) / 100,
        )
        for x, y in corners
    )
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def sort(panel, piles):
    """Sort the pictures by clicks."""
    for number, pile in enumerate(piles, 1):
        picture = panel.get_by_role("button", name=f"Picture {number},")
        for _ in range(2):
            if picture.get_attribute("data-pile") != "AB"[pile]:
                picture.click()
        expect(picture).to_have_attribute("data-pile", "AB"[pile])


def answer(nb, at, option):
    """Answer the question on show, and go on."""
    panel = nb.panel("quiz", at=at)
    if panel.locator("input[type=range]").count():
        panel.locator("input[type=range]").fill(str(option))
    elif panel.locator(".stage").count():
        draw(nb.page, panel, *option)
    elif panel.locator(".sorting").count():
        sort(panel, option)
    else:
        panel.locator(".choice").nth(option).click()
    panel.get_by_role("button", name="Commit answer").click()
    nb.panel("quiz", at=at, answered=at + 1).wait_for()


def test_it_is_answered_by_keys_alone_and_the_focus_goes_along(asked, artifacts):
    page, panel = asked.page, asked.panel("quiz")
    commit = panel.get_by_role("button", name="Commit answer")
    expect(commit).to_be_disabled()
    expect(panel.locator(".told")).to_be_empty()
    page.screenshot(path=artifacts / "quiz-open.png")
    panel.locator("input[type=radio]").first.focus()
    page.keyboard.press("ArrowDown")
    expect(panel.locator("input[type=radio]").nth(1)).to_be_checked()
    page.keyboard.press("Enter")
    asked.panel("quiz", answered=1, right=1, fits="true").wait_for()
    expect(panel.get_by_role("button", name="Next question")).to_be_focused()
    expect(panel.locator(".told")).to_contain_text("that was related")
    expect(panel.locator(".choice.right")).to_contain_text("your answer")
    page.screenshot(path=artifacts / "quiz-answered.png")
    page.keyboard.press("Enter")
    asked.panel("quiz", at=1).wait_for()
    expect(panel.locator(".question")).to_be_focused()
    expect(panel.get_by_role("button", name="Question 4, not answered")).to_be_disabled()
    panel.get_by_role("button", name="Question 1, answered rightly").click()
    asked.panel("quiz", at=0).wait_for()
    expect(panel.locator("input[type=radio]").nth(1)).to_be_disabled()
    assert not asked.console


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ((0, 1, 0, 3, (2, 2, 30, 30), (1, 0, 1, 0, 0, 0, 1, 0)), 0),
        ((1, 0, 1, 15, (35, 40, 50, 45), (0, 1, 0, 0, 1, 1, 0, 1)), 6),
    ],
    ids=["wrong", "right"],
)
def test_all_wrong_and_all_right_are_scored_and_handed_in(asked, options, right, artifacts):
    page, panel = asked.page, asked.panel("quiz")
    for at, option in enumerate(options):
        if at:
            panel.get_by_role("button", name="Next question").click()
            asked.panel("quiz", at=at).wait_for()
        if at == 2:
            asked.panel("quiz", painted=2).wait_for()
        answer(asked, at, option)
        page.screenshot(path=artifacts / f"quiz-{right}-{at}.png")
    asked.panel("quiz", answered=6, right=right).wait_for()
    expect(panel.locator(".score")).to_contain_text(f"{right} of 6 right")
    code = panel.locator("code").inner_text()
    assert asked.kernel(f"print(quiz.score({code!r}).right.value, quiz.given)").split()[0] == str(right / 6)
    given = [option if isinstance(option, tuple) else (option,) for option in options]
    assert asked.kernel("print(quiz.given)").strip() == str(given)
    expect(panel.get_by_role("button", name="Next question")).to_be_hidden()
    assert not asked.console


def test_a_box_is_drawn_moved_and_resized_by_pointer_and_by_keys(asked, artifacts):
    page, panel = asked.page, asked.panel("quiz")
    asked.kernel("for at in range(4): done = quiz.answer(at, 0)\npanel.at = 4\nsession.wait(60)")
    asked.panel("quiz", at=4).wait_for()
    stage, commit = panel.locator(".stage"), panel.get_by_role("button", name="Commit answer")
    expect(commit).to_be_disabled()
    expect(stage.locator(".box")).to_be_hidden()

    def is_drawn(*box):
        expect(panel).to_have_attribute("data-chosen", ",".join(map(str, box)))
        left, top, width, height = box
        words = f"{left}% from the left, {top}% from the top, {width}% wide, {height}% high"
        expect(panel.locator("output")).to_have_text(words)
        assert words in stage.get_attribute("aria-label")

    draw(page, panel, 10, 20, 40, 30)
    is_drawn(10, 20, 40, 30)
    expect(commit).to_be_enabled()
    draw(page, panel, 20, 30, 10, 20)  # begins within the box: it moves
    is_drawn(20, 40, 40, 30)
    draw(page, panel, 20, 40, 90, 0)  # begins at a corner: the opposite one stays, and the pointer may leave
    is_drawn(60, 40, 40, 30)
    draw(page, panel, 5, 90, 0, 0)  # a click
    is_drawn(0, 70, 30, 30)
    stage.focus()
    for key, box in (
        ("ArrowRight", (2, 70, 30, 30)),
        ("ArrowDown", (2, 70, 30, 30)),  # at the edge
        ("ArrowUp", (2, 68, 30, 30)),
        ("Shift+ArrowRight", (2, 68, 32, 30)),
        ("Shift+ArrowUp", (2, 68, 32, 28)),
        ("ArrowLeft", (0, 68, 32, 28)),
    ):
        page.keyboard.press(key)
        is_drawn(*box)
    expect(stage).to_be_focused()
    page.screenshot(path=artifacts / "quiz-place.png")
    page.keyboard.press("Enter")
    asked.panel("quiz", answered=5, fits="false").wait_for()
    assert asked.kernel("print(quiz.given[4])").strip() == "(0, 68, 32, 28)"
    expect(panel.locator(".told h3")).to_contain_text("Not there: the two boxes overlap by 0%.")
    expect(panel.locator(".plates .box.true")).to_have_count(1)
    expect(panel.locator(".plates .box.yours")).to_have_count(2)
    page.screenshot(path=artifacts / "quiz-placed.png")
    assert not asked.console


def drag(page, picture, pile):
    """Drag a picture with the mouse into a pile."""
    picture.scroll_into_view_if_needed()
    start, end = picture.bounding_box(), pile.bounding_box()
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=5)


def test_pictures_are_sorted_by_clicks_drags_and_keys_and_the_focus_stays(asked, artifacts):
    page, panel = asked.page, asked.panel("quiz")
    asked.kernel(
        f"for at, one in enumerate({FIRST}): done = quiz.answer(at, one)\npanel.at = 5\nsession.wait(60)"
    )
    asked.panel("quiz", at=5).wait_for()
    commit, said = panel.get_by_role("button", name="Commit answer"), panel.locator("output")
    pictures = [panel.get_by_role("button", name=f"Picture {number},") for number in range(1, 9)]
    piles = [panel.get_by_role("group", name=f"Pile {letter},") for letter in "AB"]
    expect(panel.locator(".shown .tile")).to_have_count(0)  # the pictures to sort are shown once

    pictures[0].click()
    expect(piles[0].get_by_role("button", name="Picture 1,")).to_be_focused()
    expect(said).to_have_text("Picture 1 is in pile A, its own. 7 pictures left to sort.")
    pictures[0].click()
    expect(piles[1].get_by_role("button", name="Picture 1,")).to_be_focused()
    expect(pictures[0]).to_have_accessible_name(re.compile("^Picture 1, .*: pile B, another one's$"))
    pictures[0].click()
    expect(pictures[0]).to_have_attribute("data-pile", "A")
    drag(page, pictures[1], piles[1])
    expect(piles[1]).to_have_class(re.compile("under"))
    page.screenshot(path=artifacts / "quiz-dragged.png")
    page.mouse.up()
    expect(pictures[1]).to_have_attribute("data-pile", "B")
    drag(page, pictures[2], panel.locator(".question"))
    page.mouse.up()
    expect(pictures[2]).to_have_attribute("data-pile", "")  # a drag that ends elsewhere is no click either
    drag(page, pictures[2], piles[1])
    page.mouse.up()
    expect(pictures[2]).to_have_attribute("data-pile", "B")
    expect(commit).to_be_disabled()
    pictures[2].focus()
    for key, at, pile in (
        ("a", 2, "A"),
        ("ArrowRight", 3, ""),
        ("2", 3, "B"),
        ("ArrowRight", 4, ""),
        ("Enter", 4, "A"),
        ("ArrowRight", 5, ""),
        (" ", 5, "A"),
        ("End", 7, ""),
        ("B", 7, "B"),
        ("ArrowLeft", 6, ""),
    ):
        page.keyboard.press(key)
        expect(pictures[at]).to_be_focused()
        expect(pictures[at]).to_have_attribute("data-pile", pile)
    expect(panel).to_have_attribute("data-chosen", "")
    expect(commit).to_be_disabled()
    expect(said).to_have_text("Picture 8 is in pile B, another one's. 1 picture left to sort.")
    page.keyboard.press("1")
    expect(said).to_have_text("Picture 7 is in pile A, its own. All pictures are sorted.")
    expect(panel).to_have_attribute("data-chosen", "0,1,0,1,0,0,0,1")
    page.keyboard.press("b")
    expect(panel).to_have_attribute("data-chosen", "0,1,0,1,0,0,1,1")
    expect(panel.locator(".sort[tabindex='0']")).to_have_count(1)
    page.screenshot(path=artifacts / "quiz-sorted.png")
    page.keyboard.press("Tab")
    expect(commit).to_be_focused()
    page.keyboard.press("Enter")
    asked.panel("quiz", answered=6, fits="false").wait_for()
    assert asked.kernel("print(quiz.given[5])").strip() == "(0, 1, 0, 1, 0, 0, 1, 1)"
    expect(panel.locator(".told h3")).to_contain_text(
        "Not enough: 4 of 8 pictures lie in their pile, and 7 are"
    )
    yours = [panel.get_by_role("group", name=f"Your pile {letter},") for letter in "AB"]
    for pile, name, said in zip(
        yours,
        ("its own: 2 of 4 right", "another one's: 2 of 4 right"),
        (["1✓", "3✓", "5✗measured B", "6✗measured B"], ["2✓", "4✗measured A", "7✗measured A", "8✓"]),
        strict=True,
    ):
        expect(pile).to_have_accessible_name(re.compile(f"{name}$"))
        expect(pile.locator(".sort")).to_have_text(said)
    fifth = "pile A, its own. It was measured in pile B, another one's."
    expect(yours[0].get_by_role("img").nth(2)).to_have_accessible_name(re.compile(fifth))
    expect(panel.locator(".sorting button")).to_have_count(0)
    page.screenshot(path=artifacts / "quiz-judged.png")
    assert not asked.console


def test_what_is_right_does_not_reach_the_browser_before_the_answer(asked):
    page, said = asked.page, "that was related"
    page.evaluate("""() => { window.heard = '';
      const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
      kernel.anyMessage.connect((_, m) => { window.heard += JSON.stringify(m.msg); }); }""")
    asked.kernel("again = Quiz.of(session, questions)\nshown = again.show()\nsession.wait(60)")
    page.wait_for_function("window.heard.includes('Which text did TextSpan give this head?')")
    asked.kernel("session.wait(60)")
    assert said not in page.evaluate("() => window.heard + document.documentElement.outerHTML")
    asked.kernel("answered = again.answer(0, 0)\nsession.wait(60)")
    page.wait_for_function(f"window.heard.includes({said!r})")
    answer(asked, 0, 0)
    expect(asked.panel("quiz").locator(".told")).to_contain_text(said)


STATES = {
    "open texts": (0, None),
    "texts": (0, 0),
    "galleries": (1, 0),
    "maps": (2, 1),
    "open number": (3, None),
    "number": (3, 10),
    "open place": (4, None),
    "place": (4, (20, 30, 50, 45)),
    "open piles": (5, None),
    "piles": (5, (0, 1, 0, 1, 0, 0, 1, 1)),
    "right piles": (5, (0, 1, 0, 0, 1, 1, 0, 1)),
}
FIRST = (0, 0, 0, 0, (2, 2, 30, 30))
"""Options of the questions before the one on show."""


@pytest.fixture(scope="module")
def pages(board, tmp_path_factory):
    """The quiz as saved pages: name -> the file of a question that is open or has been answered."""
    session = board.session
    names = {"session": session}
    exec(SHOWN.rsplit("\n", 1)[0], names)  # what the notebook's cell makes, here
    folder, found = tmp_path_factory.mktemp("quiz"), {}
    for name, (at, option) in STATES.items():
        quiz = Quiz.of(session, names["questions"])
        for earlier in range(at):
            quiz.answer(earlier, FIRST[earlier])
        panel = quiz.show()
        panel.at = at
        if option is not None:
            quiz.answer(at, option)
        session.wait(60)
        found[name] = panel.save_html(folder / f"{name}.html")
        panel.close()
    names["panel"].close()
    return found


def test_a_saved_page_can_be_read_to_its_end_and_chosen_from(chromium, pages, artifacts):
    context = chromium.new_context(viewport={"width": 390, "height": 720}, has_touch=True)
    page = context.new_page()
    page.goto(pages["open texts"].as_uri())
    panel = page.locator('[data-panel="quiz"][data-ready="true"]')
    expect(page.get_by_role("note")).to_contain_text("one view, offline")
    expect(panel.get_by_role("button", name="Commit answer")).to_be_hidden()
    panel.locator(".choice").nth(1).click()
    expect(panel).to_have_attribute("data-chosen", "1")
    for at in (1, 2, 3, 4, 5):
        panel.get_by_role("button", name="Next question").click()
        expect(panel).to_have_attribute("data-at", str(at))
        expect(panel.locator(".told")).to_be_empty()
        expect(panel.locator(".question")).to_be_focused()
        if at == 2:
            expect(panel).to_have_attribute("data-painted", "2")
        page.screenshot(path=artifacts / f"quiz-saved-{at}.png", full_page=True)
        if at == 3:
            panel.locator("input[type=range]").fill("4")
            expect(panel.locator("output")).to_have_text("20%")
        if at == 4:
            draw(page, panel, 10, 20, 30, 40)
            expect(panel).to_have_attribute("data-chosen", "10,20,30,40")
    first = panel.get_by_role("button", name="Picture 1,")
    for pile in ("A", "B", "A", "B"):
        first.tap()
        expect(first).to_have_attribute("data-pile", pile)
    sort(panel, (1, 0, 1, 0, 0, 0, 1, 0))
    expect(panel).to_have_attribute("data-chosen", "1,0,1,0,0,0,1,0")
    expect(panel.get_by_role("button", name="Next question")).to_be_hidden()
    panel.get_by_role("button", name="Question 2, not answered").click()
    expect(panel.locator(".choice .gallery .tile")).to_have_count(12)
    expect(panel).to_have_attribute("data-chosen", "")
    context.close()


def test_a_saved_page_tells_of_a_question_only_what_was_told_of_it(chromium, pages):
    context = chromium.new_context(viewport={"width": 760, "height": 720})
    page = context.new_page()
    page.goto(pages["texts"].as_uri())
    panel = page.locator('[data-panel="quiz"][data-ready="true"]')
    expect(panel.locator(".told")).to_contain_text("that was related")
    panel.get_by_role("button", name="Next question").click()
    expect(panel).to_have_attribute("data-at", "1")
    expect(panel.locator(".told")).to_be_empty()
    expect(panel.locator("input:disabled")).to_have_count(0)
    context.close()


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(chromium, pages, name, artifacts):
    require_axe()
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.goto(pages[name].as_uri())
    page.wait_for_selector('[data-panel="quiz"][data-ready="true"]')
    page.add_script_tag(path=AXE)
    reads_well(page, "quiz", lambda theme, width: artifacts / f"quiz-{name}-{theme}-{width}.png")
    context.close()
