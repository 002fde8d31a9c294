"""`clipviz demo` as a user starts it: the board is alive without a key press; "Next" alone finishes the tour."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
from playwright.sync_api import expect

import clipviz
from browser.lab import READY, Notebook, environment_in, free_port


@pytest.fixture(scope="module")
def started(chromium, tmp_path_factory):
    """The notebook as it is opened, and the server's log."""
    root = tmp_path_factory.mktemp("demo")
    log, port = root / "log", free_port()
    command = [sys.executable, "-m", "clipviz.cli", "demo", "--no-browser", "--folder", str(root / "demo")]
    command += [f"--port={port}", "--", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    command += [f"--LabApp.workspaces_dir={root / 'workspaces'}"]
    with log.open("w") as sink:
        server = subprocess.Popen(command, env=environment_in(root), stdout=sink, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 180
        while "the board is ready" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        context = chromium.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(60_000)
        opened = Notebook(page)
        # what a person clicks
        page.goto(re.search(rf"http://127\.0\.0\.1:{port}/\S+", log.read_text()).group())
        page.evaluate(READY, "dashboard.ipynb")
        yield opened, log
        context.close()
    finally:
        server.terminate()
        server.wait(30)


def test_the_board_is_painted_and_alive_without_a_key_press(started):
    opened, log = started
    for name in ("query", "images", "heatmap", "heads", "textspan", "receipts"):
        opened.panel(name, ready="true").wait_for()
    picture = opened.page.locator('[data-panel="heatmap"] canvas.map').bounding_box()
    assert picture["y"] + picture["height"] <= 700  # a whole picture on the first screen of 1280 x 720
    opened.page.locator('[data-panel="heads"] button[data-layer="4"][data-head="3"]').click()
    opened.panel("textspan", layer=4, head=3).wait_for()
    assert not opened.console
    expect(opened.page.get_by_text("Jupyter news")).to_have_count(0)
    said = log.read_text()
    assert "Traceback" not in said
    assert "Error" not in said


def told(opened, name):
    """What the step's text says is so."""
    if name == "heatmap":
        share = "m = dashboard.heatmap.map().clip(0); import numpy as np; big = np.kron(m, np.ones((8, 8)))\n"
        on_bird = float(opened.kernel(share + "print(big[session.maps.truth()].sum() / big.sum())"))
        assert on_bird > 0.5
    elif name == "textspan":
        row = "next(r for r in dashboard.textspan.view['rows'] if r['text'] == session.selection.text)"
        assert opened.kernel(f"r = {row}; print(r['gain'] > r['null_high'])").strip() == "True"
    elif name == "images":
        shown = opened.kernel(
            "ids = dashboard.images.view['ids'][-14:]\n"
            "print(sum(session.images.opened.attributes['background'][i] == 'forest' for i in ids))"
        )
        assert int(shown) >= 13


def test_next_alone_finishes_the_tour_and_every_step_changes_the_board(started, artifacts):
    opened, log = started
    page = opened.page
    found = opened.kernel("print(session.view)")
    page.get_by_role("button", name="Tour", exact=True).click()
    seen = []
    for number, name in enumerate(("heatmap", "heads", "textspan", "images", "ablate"), start=1):
        opened.panel(name, toured="true", ready="true").wait_for()
        card = page.locator(".cv-tour-card")
        expect(card).to_contain_text(f"Step {number} of 5")
        expect(card.locator(".next")).to_be_focused()
        opened.kernel("session.wait(60, background=True)")
        page.wait_for_timeout(100)
        panel = opened.panel(name)
        seen.append(
            (panel.locator(".cv-body").inner_html(), opened.panel("heatmap").get_attribute("data-text"))
        )
        told(opened, name)
        around, inside = card.bounding_box(), panel.locator(".cv-body").bounding_box()
        assert around["y"] + around["height"] <= inside["y"]  # not on top of what it explains
        assert 0 <= around["y"] <= 720 - around["height"]
        page.screenshot(path=artifacts / f"tour-{number}.png")
        if number == 5:
            expect(panel.locator(".verdict")).to_contain_text("waterbird")
        page.keyboard.press("Enter")
    expect(page.locator(".cv-tour-card")).to_have_count(0)
    expect(page.get_by_role("button", name="Tour", exact=True)).to_be_focused()
    expect(opened.panel("heads", ablated="0")).to_be_visible()  # the board that the tour found is given back
    expect(opened.panel("ablate")).to_have_count(0)
    assert opened.kernel("print(session.view)") == found
    texts = [step.select.get("text") for step in clipviz.demo.bundle().tour]
    assert [text for _, text in seen] == [*texts[:3], texts[2], texts[4]]
    assert not opened.console
    assert "Traceback" not in log.read_text()
