"""After a restart, even amid a search, a click says that nobody answers; run the cell, and everything is back."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.test_dashboard import SMALL, head, open_board

RESTART = """async () => {
  const context = window.jupyterapp.shell.currentWidget.sessionContext;
  await context.session.kernel.restart();
  await context.session.kernel.info;
}"""
WORKERS = "import threading; print([one.name for one in threading.enumerate() if 'clipviz' in one.name])"


def middle(stage, right=0.0):
    box = stage.bounding_box()
    return box["x"] + box["width"] * (0.5 + right), box["y"] + box["height"] / 2


@pytest.mark.apart
def test_a_restarted_kernel_is_told_and_the_cell_brings_the_board_back(notebook):
    opened = open_board(notebook, SMALL + "  # whose kernel is restarted")
    page, lost = opened.page, opened.page.locator('[data-panel="heads"] .cv-lost')
    expect(lost).to_be_hidden()
    page.locator('[data-panel="desks"] button[data-name="generate"]').click()
    stage = opened.panel("generate", state="settled").locator(".stage")
    stage.hover()
    page.mouse.down()
    page.mouse.move(*middle(stage, right=0.2), steps=5)
    opened.panel("generate", state="moving").wait_for()  # the kernel goes while a search runs
    page.evaluate(RESTART)
    page.mouse.up()
    assert opened.kernel(WORKERS).strip() == "[]"
    head(opened, 4, 3).click()
    expect(lost).to_have_text("No answer from the kernel. If it was restarted, run the cell again.")
    expect(lost).to_be_visible()
    expect(page.locator('[data-panel="heads"]')).to_have_attribute("data-busy", "false")
    for name in ("heads", "textspan"):  # the whole board is dimmed: none of it follows
        expect(page.locator(f'[data-panel="{name}"] > .cv-main')).to_have_css("opacity", "0.45")
    opened.run_all()
    opened.panel("heads", ready="true").wait_for()
    expect(opened.page.locator('[data-panel="heads"] .cv-lost')).to_be_hidden()
    head(opened, 4, 3).click()
    opened.panel("heatmap", layer=4, head=3).wait_for()
    expect(opened.page.locator('[data-panel="heads"] .cv-lost')).to_be_hidden()
