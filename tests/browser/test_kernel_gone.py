"""After a restart a click says that nobody answers; run the cell, and everything is back."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.test_dashboard import head, open_board

RESTART = """async () => {
  const context = window.jupyterapp.shell.currentWidget.sessionContext;
  await context.session.kernel.restart();
  await context.session.kernel.info;
}"""


@pytest.mark.fresh
def test_a_restarted_kernel_is_told_and_the_cell_brings_the_board_back(notebook):
    opened = open_board(notebook)
    page, lost = opened.page, opened.page.locator('[data-panel="heads"] .cv-lost')
    expect(lost).to_be_hidden()
    page.evaluate(RESTART)
    head(opened, 4, 3).click()
    expect(lost).to_have_text(
        "No answer from the kernel. If it was restarted, run the cell again.", timeout=9000
    )
    expect(lost).to_be_visible()
    expect(page.locator('[data-panel="heads"]')).to_have_attribute("data-busy", "false")
    opened.run_all()
    opened.panel("heads", ready="true").wait_for()
    expect(opened.page.locator('[data-panel="heads"] .cv-lost')).to_be_hidden()
    head(opened, 4, 3).click()
    opened.panel("heatmap", layer=4, head=3).wait_for()
    expect(opened.page.locator('[data-panel="heads"] .cv-lost')).to_be_hidden()
