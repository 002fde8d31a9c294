"""Panels beside a user's own widgets keep their width and answer, in rows, columns and grids of ipywidgets."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.test_dashboard import SESSION

ROWS = """import ipywidgets as w
from clipviz.panels import Heads, Heatmap, Query
session.select(layer=5, head=0, image=0, text="a flamingo")
maps, narrow, wide = Heatmap(session), Heads(session), Heads(session, layout=w.Layout(width="420px"))
w.VBox([
    w.HBox([maps, w.IntSlider(description="k")]),
    w.HBox([narrow], layout=w.Layout(width="320px")),
    w.HBox([wide, Query(session)]),
    w.GridBox([Heads(session), Heads(session)], layout=w.Layout(grid_template_columns="auto auto")),
])"""


@pytest.fixture
def rows(notebook):
    opened = notebook(SESSION, ROWS)
    for panel in opened.page.locator("[data-panel]").all():
        expect(panel).to_have_attribute("data-ready", "true")
    return opened


def test_panels_keep_their_width_beside_other_widgets_and_answer(rows):
    widths = rows.page.locator("[data-panel]").evaluate_all("(all) => all.map((one) => one.clientWidth)")
    page = rows.page.locator(".jp-OutputArea-output").first.evaluate("(one) => one.clientWidth")
    beside, narrow, wide, query, *grid = widths
    assert beside > page - 420  # all that the slider leaves
    assert 310 < narrow <= 320
    assert wide == 420
    assert query > page - 420 - 60
    assert all(width > page / 2 - 60 for width in grid)
    heads = rows.page.locator('[data-panel="heads"]').first
    before = rows.page.evaluate("() => document.querySelector('canvas.map').toDataURL()")
    rows.page.get_by_role("button", name="Head L5·H0").first.click()
    heads.locator('button[data-layer="4"][data-head="2"]').click()
    rows.panel("heatmap", layer=4, head=2).wait_for()
    assert rows.page.evaluate("() => document.querySelector('canvas.map').toDataURL()") != before
    assert rows.page.evaluate("document.documentElement.scrollWidth") <= rows.page.viewport_size["width"]
    assert not rows.console
