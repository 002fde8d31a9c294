"""The Atlas in a browser: a loop drawn with the mouse chooses images, TextSpan reads those alone."""

from __future__ import annotations

from browser.lab import MESSAGES
from browser.test_dashboard import dashboard  # noqa: F401


def opened(board):
    board.page.locator('[data-panel="desks"] button[data-name="atlas"]').click()
    panel = board.panel("atlas", ready="true")
    panel.wait_for()
    panel.scroll_into_view_if_needed()
    return panel


def draw_loop(page, box):
    left, right = box["x"] + 0.02 * box["width"], box["x"] + 0.55 * box["width"]
    top, bottom = box["y"] + 0.05 * box["height"], box["y"] + 0.95 * box["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
        page.mouse.move(x, y, steps=6)
    page.mouse.up()


def test_a_loop_chooses_images_and_textspan_follows(dashboard):  # noqa: F811
    panel = opened(dashboard)
    whole = dashboard.panel("textspan").get_attribute("data-first")
    draw_loop(dashboard.page, panel.locator("canvas").bounding_box())
    dashboard.page.wait_for_function("document.querySelector('[data-panel=atlas]').dataset.images > 1")
    dashboard.kernel("session.wait(60)")
    count = int(panel.get_attribute("data-images"))
    assert 1 < count < 120
    assert int(dashboard.kernel("print(len(session.selection.images))")) == count
    dashboard.panel("textspan", images=count).wait_for()
    panel.get_by_role("button", name="back to the whole collection").click()
    dashboard.panel("textspan", images=0, first=whole).wait_for()
    assert not dashboard.console


def test_a_click_and_the_arrow_keys_select_images(dashboard):  # noqa: F811
    panel = opened(dashboard)
    before = dashboard.panel("heatmap").get_attribute("data-image")
    panel.locator("canvas").focus()
    dashboard.page.keyboard.press("ArrowRight")
    dashboard.page.wait_for_function(
        "before => document.querySelector('[data-panel=heatmap]').dataset.image !== before", arg=before
    )
    dashboard.kernel("session.wait(60)")
    shown = panel.get_attribute("data-image")
    assert shown == dashboard.panel("heatmap").get_attribute("data-image") != before


def test_hovering_sends_nothing_and_heads_move_the_plane(dashboard):  # noqa: F811
    panel = opened(dashboard)
    dashboard.page.evaluate(MESSAGES)
    box = panel.locator("canvas").bounding_box()
    for step in range(20):
        dashboard.page.mouse.move(box["x"] + step * box["width"] / 20, box["y"] + box["height"] / 2)
    assert dashboard.page.evaluate("window.sent") == 0
    dashboard.page.locator('[data-panel="heads"] button[data-layer="2"][data-head="4"]').click()
    dashboard.panel("atlas", layer=2, head=4).wait_for()
    assert "L2·H4" in panel.inner_text()
