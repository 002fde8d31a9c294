"""The Atlas in a browser: wheel, drag, hover and loop; chosen images in TextSpan and the gallery; true colours."""

from __future__ import annotations

import pytest

from browser.lab import MESSAGES
from browser.test_dashboard import dashboard  # noqa: F401


def opened(board):
    board.page.locator('[data-panel="desks"] button[data-name="atlas"]').click()
    panel = board.panel("atlas", ready="true")
    panel.wait_for()
    panel.scroll_into_view_if_needed()
    return panel


def over(panel):
    return panel.locator("canvas.over").bounding_box()


def state(panel):
    """Where the camera is: what lies in the middle, and how near."""
    return [float(panel.get_attribute(f"data-{name}")) for name in ("x", "y", "zoom")]


def settled(page):
    page.wait_for_timeout(400)  # longer than the plane's own rest after a movement


def draw_loop(page, box):
    left, right = box["x"] + 0.2 * box["width"], box["x"] + 0.5 * box["width"]
    top, bottom = box["y"] + 0.1 * box["height"], box["y"] + 0.9 * box["height"]
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    page.keyboard.up("Shift")


def test_a_loop_chooses_images_for_textspan_and_the_gallery(dashboard, artifacts):  # noqa: F811
    panel = opened(dashboard)
    whole = dashboard.panel("textspan").get_attribute("data-first")
    draw_loop(dashboard.page, over(panel))
    dashboard.page.wait_for_function("document.querySelector('[data-panel=atlas]').dataset.images > 1")
    dashboard.kernel("session.wait(60)")
    count = int(panel.get_attribute("data-images"))
    assert 1 < count < 120
    chosen = {int(i) for i in dashboard.kernel("print(*session.selection.images)").split()}
    assert len(chosen) == count
    dashboard.panel("textspan", images=count).wait_for()
    dashboard.page.screenshot(path=artifacts / "atlas-loop.png")
    panel.get_by_role("button", name="see them in the gallery").click()
    gallery = dashboard.panel("images", order="chosen")
    gallery.wait_for()
    tiles = gallery.locator(".tile").evaluate_all("tiles => tiles.map((tile) => Number(tile.dataset.image))")
    assert tiles
    assert set(tiles) <= chosen
    panel.get_by_role("button", name="back to the whole collection").click()
    dashboard.panel("textspan", images=0, first=whole).wait_for()
    assert not dashboard.console


def test_the_wheel_zooms_about_the_pointer_and_a_drag_pans(dashboard):  # noqa: F811
    panel, page = opened(dashboard), dashboard.page
    box, home = over(panel), state(panel)
    assert home[2] == pytest.approx(1)
    scale = page.evaluate(
        """() => { const d = document.querySelector('[data-panel=atlas]').dataset; return Number(d.scale); }"""
    )
    left, top = (
        round(box["x"] + 0.6 * box["width"]) - box["x"],
        round(box["y"] + 0.3 * box["height"]) - box["y"],
    )
    page.mouse.move(box["x"] + left, box["y"] + top)  # a wheel tells whole pixels
    page.evaluate("window.scrolled = 0; addEventListener('scroll', () => window.scrolled++, true)")
    page.mouse.wheel(0, -500)
    settled(page)
    x, y, zoom = state(panel)
    assert zoom == pytest.approx(2.4596, abs=0.01)  # exp(0.0018 * 500)
    assert page.evaluate("window.scrolled") == 0
    dx, dy = left - box["width"] / 2, box["height"] / 2 - top  # what lies under the pointer has not moved
    assert x + dx / (scale * zoom) == pytest.approx(home[0] + dx / scale, abs=0.2 / scale)
    assert y + dy / (scale * zoom) == pytest.approx(home[1] + dy / scale, abs=0.2 / scale)
    page.mouse.down()
    page.mouse.move(box["x"] + left + 80, box["y"] + top - 40, steps=5)
    page.mouse.up()
    settled(page)
    moved = state(panel)
    # to the right: what was at the left
    assert moved[0] == pytest.approx(x - 80 / (scale * zoom), abs=0.2 / scale)
    assert moved[1] == pytest.approx(y - 40 / (scale * zoom), abs=0.2 / scale)
    assert moved[2] == pytest.approx(zoom)
    assert dashboard.kernel("print(len(session.selection.images))").strip() == "0"  # a drag chose nothing
    page.mouse.dblclick(box["x"] + 4, box["y"] + 4)
    settled(page)
    assert state(panel) == pytest.approx(home)
    panel.get_by_role("button", name="Zoom in").click()
    settled(page)
    assert state(panel)[2] == pytest.approx(1.5)
    panel.get_by_role("button", name="Reset").click()
    settled(page)
    assert state(panel) == pytest.approx(home)
    assert not dashboard.console


def test_keys_move_zoom_and_select(dashboard):  # noqa: F811
    panel, page = opened(dashboard), dashboard.page
    home = state(panel)
    panel.locator("canvas.over").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert state(panel)[0] > home[0]
    page.keyboard.press("+")
    settled(page)
    assert state(panel)[2] == pytest.approx(1.4)
    page.keyboard.press("-")
    page.keyboard.press("0")
    settled(page)
    assert state(panel) == pytest.approx(home)
    before = dashboard.panel("heatmap").get_attribute("data-image")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('[data-panel=heatmap]').dataset.image !== before", arg=before
    )
    dashboard.kernel("session.wait(60)")
    shown = panel.get_attribute("data-image")
    assert shown == dashboard.panel("heatmap").get_attribute("data-image") != before


def test_hovering_shows_a_picture_and_sends_few_messages(dashboard, artifacts):  # noqa: F811
    panel, page = opened(dashboard), dashboard.page
    page.evaluate(MESSAGES)
    box = over(panel)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -700)
    settled(page)
    for step in range(60):
        page.mouse.move(
            box["x"] + (0.2 + 0.01 * step) * box["width"], box["y"] + (0.3 + 0.006 * step) * box["height"]
        )
    assert page.evaluate("window.sent") <= 6
    page.keyboard.press("Escape")
    panel.get_by_role("button", name="Reset").click()
    settled(page)
    own = [float(n) for n in panel.get_attribute("data-own-at").split(",")]
    page.mouse.move(box["x"] + own[0], box["y"] + own[1], steps=3)
    tip = panel.locator('.tip[data-pictured="true"]')
    tip.wait_for()
    page.screenshot(path=artifacts / "atlas-hover.png")
    assert "image " in tip.inner_text()
    assert not dashboard.console


DRAWN = """() => { window.drawn = []; const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, left, top) {
    if (this.canvas.className === 'over') window.drawn.push([text, left, top - 10, this.measureText(text).width, 13]);
    return draw.apply(this, arguments); }; }"""
WORDS = """() => { const canvas = document.querySelector('.cv-atlas canvas.over');
  const frame = canvas.getBoundingClientRect();
  const ends = [...canvas.parentElement.querySelectorAll('.end')].filter((end) => !end.hidden);
  const boxes = ends.map((end) => { const { left, top, width, height } = end.getBoundingClientRect();
    return [end.textContent, left - frame.left, top - frame.top, width, height]; });
  const cut = ends.filter((end) => end.scrollWidth > end.clientWidth || end.scrollHeight > end.clientHeight + 1);
  return [frame.width, frame.height, boxes, window.drawn, cut.map((end) => end.textContent)]; }"""


def words_apart(panel):
    """That the texts of axes and dense places lie whole on the canvas, none on another; how many places are named."""
    panel.page.evaluate("window.drawn = []")
    panel.get_by_role("button", name="Reset").click()
    settled(panel.page)
    width, height, ends, labels, cut = panel.page.evaluate(WORDS)
    labels = [list(label) for label in {label[0]: label for label in labels}.values()]  # of the last drawing
    assert len(ends) == 4
    assert cut == []
    everything = ends + labels
    for place, (text, left, top, wide, high) in enumerate(everything):
        assert left >= 0, text
        assert top >= 0, text
        assert left + wide <= width, text
        assert top + high <= height, text
        for other, x, y, w, h in everything[:place]:
            apart = left >= x + w or x >= left + wide or top >= y + h or y >= top + high
            assert apart, (text, other)
    return len(labels)


def test_groups_have_their_true_colours_and_heads_move_the_plane(dashboard):  # noqa: F811
    panel, page = opened(dashboard), dashboard.page
    panel.get_by_label("Colour by").select_option("colour")
    dashboard.panel("atlas", column="colour").wait_for()
    assert panel.locator('.legend [data-group="orange"]').get_attribute("data-colour") == "#ffa500"
    assert panel.locator('.legend [data-group="blue"]').get_attribute("data-colour") == "#0000ff"
    for name in ("pictures", "labels"):
        panel.get_by_label(name).uncheck()
    count = """wanted => { const canvas = document.querySelector('.cv-atlas canvas.points');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); let n = 0;
      for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 200 && wanted.every((v, k) => Math.abs(data[i + k] - v) < 6)) n++;
      return n; }"""
    for colour in ([255, 165, 0], [0, 0, 255]):
        assert page.evaluate(count, colour) > 5
    for name in ("pictures", "labels"):
        panel.get_by_label(name).check()
    ends = panel.get_attribute("data-ends")
    page.locator('[data-panel="heads"] button[data-layer="2"][data-head="4"]').click()
    dashboard.panel("atlas", layer=2, head=4).wait_for()
    assert "L2·H4" in panel.inner_text()
    assert panel.get_attribute("data-ends") != ends
    page.evaluate(DRAWN)
    for width in (1280, 640):
        page.set_viewport_size({"width": width, "height": 720})
        panel.scroll_into_view_if_needed()
        settled(page)
        assert words_apart(panel) >= (3 if width == 1280 else 0)  # beside Lab's own columns 242 px are left
    panel.get_by_label("Colour by").select_option("")
