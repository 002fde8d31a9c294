"""The Atlas with many points, without a kernel: pixels on a canvas, or the kept WebGL library, in the same places."""

from __future__ import annotations

import numpy as np
import pytest

from clipviz.panels.atlas.panel import MANY, Atlas
from clipviz.panels.core.base import pack
from clipviz.panels.core.scripts import kit, text

GROUPS = [[0, "left", 0, "#0072b2"], [1, "right", 0, "#d55e00"]]
LONELY = (0.9, 0.85)  # a place with one point, of the second group

# The panel's script on a model that answers nothing, with its arrays in place, which the page reads from a file.
OPEN = """async ([script, style, kit, webgl, engine, view]) => {
  const content = await document.querySelector('input[type=file]').files[0].arrayBuffer();
  const values = { view, blob: new DataView(content), webgl, engine, by: 'model', column: '', labels: false,
    pictures: false, drag: 'pan', visible: true, request: { seq: 1 }, error: {}, doing: '', kit: 'IPY_MODEL_kit' };
  const model = { get: (name) => values[name], set: (name, value) => { values[name] = value; },
    save_changes() {}, on() {}, off() {}, send() {},
    widget_manager: { get_model: async () => ({ get: (name) => kit[name] }) } };
  document.body.replaceChildren();
  const sheet = document.createElement('style'), el = document.createElement('div');
  sheet.textContent = style;
  document.body.append(sheet, el);
  const { default: panel } = await import(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })));
  await panel.render({ model, el });
}"""
# Colour of a place of the plane on the points' canvas that is shown, the strongest pixel within 2.
COLOUR = """([x, y]) => { const root = document.querySelector('.cv-atlas'), d = root.dataset;
  const canvas = root.querySelector('canvas.points:not([hidden]), canvas.card:not([hidden])');
  const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width, k = d.scale * d.zoom;
  const left = (box.width / 2 + (x - d.x) * k) * ratio, top = (box.height / 2 - (y - d.y) * k) * ratio;
  const copy = document.createElement('canvas'); copy.width = canvas.width; copy.height = canvas.height;
  const g = copy.getContext('2d'); g.drawImage(canvas, 0, 0);
  const { data } = g.getImageData(Math.round(left) - 2, Math.round(top) - 2, 5, 5); let best = [0, 0, 0, 0];
  for (let i = 0; i < data.length; i += 4)
    if (data[i] - data[i + 2] > best[0] - best[2]) best = [...data.slice(i, i + 4)];
  return best; }"""
FRAMES = """async () => { const frame = () => new Promise(requestAnimationFrame); let n = 0, on = true;
  window.watched = (async () => { while (on) { await frame(); n++; } return n; })();
  window.stopped = () => (on = false); }"""


def content(n_points):
    """A view of two clouds and one lonely point, and its arrays."""
    generator = np.random.default_rng(0)
    colours = (np.arange(n_points) % 2).astype(np.uint8)
    places = generator.normal(0, 0.22, (n_points, 2)).astype(np.float32) + np.stack(
        [colours - 0.5, 0 * colours], 1
    )
    places = np.clip(places, -1, (1, 0.7)).astype(np.float32)
    colours[0], places[0] = 1, LONELY
    arrays = {"ids": np.arange(n_points, dtype=np.int32), "places": places, "colours": colours, "sprite": b""}
    spec, buffer = pack(arrays)
    selection = {"layer": None, "head": None, "image": None, "images": [], "text": "", "text_b": ""}
    view = {
        "seq": 1,
        "ack": 1,
        "message": "",
        "by": "model",
        "n_points": n_points,
        "n_images": n_points,
        "share": 0.5,
    }
    view |= {
        "columns": [],
        "column": "",
        "groups": GROUPS,
        "tiles": [],
        "names": [],
        "tile_columns": 1,
        "plane": "a",
    }
    return view | {"ends": [], "regions": [], "selection": selection, "arrays": spec}, buffer


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1300, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    context.close()


def show(page, folder, n_points, engine):
    view, buffer = content(n_points)
    (folder / "arrays").write_bytes(buffer)
    page.set_content('<input type="file">')
    page.locator("input").set_input_files(folder / "arrays")
    webgl = text("vendor/regl-scatterplot.js")
    shared = {"script": kit()}
    page.evaluate(OPEN, [Atlas._esm, Atlas._css, shared, webgl, engine, view])
    page.wait_for_selector('[data-panel="atlas"][data-ready="true"]')
    return page.locator('[data-panel="atlas"]')


def drag(page, box, steps=30):
    page.mouse.move(box["x"] + 600, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 480, box["y"] + 340, steps=steps)
    page.mouse.up()
    page.wait_for_timeout(500)


@pytest.mark.parametrize("engine", ["canvas", "webgl"])
def test_many_points_are_drawn_where_they_are_by_either_engine(page, engine, tmp_path):
    panel = show(page, tmp_path, MANY + 10_000, engine)
    wanted = {"canvas": "density", "webgl": "webgl"}[engine]
    page.wait_for_selector(f'[data-painter="{wanted}"]')
    if engine == "webgl":
        page.wait_for_selector("[data-card]")
        page.wait_for_timeout(500)
    for _ in range(2):  # at home, and after a drag
        red, _, blue, alpha = page.evaluate(COLOUR, LONELY)
        assert red > 150 > 60 > blue
        assert alpha > 0
        assert page.evaluate(COLOUR, (-0.9, 0.85))[0] < 60  # nothing lies there
        drag(page, panel.locator("canvas.over").bounding_box(), steps=4)
    assert page.complaints == []


def test_without_a_graphics_card_many_points_are_pixels_and_that_is_said(page, tmp_path):
    panel = show(page, tmp_path, MANY + 10_000, "auto")
    page.wait_for_selector('[data-painter="density"]')
    assert "drawn without a graphics card" in panel.inner_text()


def test_a_million_points_pan(page, capsys, tmp_path):
    panel = show(page, tmp_path, 1_000_000, "auto")
    before = float(panel.get_attribute("data-x"))
    page.evaluate(FRAMES)
    started = page.evaluate("performance.now()")
    drag(page, panel.locator("canvas.over").bounding_box())
    moved, scale = float(panel.get_attribute("data-x")) - before, float(panel.get_attribute("data-scale"))
    assert moved == pytest.approx(120 / scale, abs=0.5 / scale)
    red, _, blue, _ = page.evaluate(COLOUR, LONELY)
    assert red > blue + 60  # painted again where it belongs
    seconds = (page.evaluate("performance.now()") - started) / 1000
    page.evaluate("window.stopped()")
    frames = page.evaluate("window.watched")
    with capsys.disabled():
        print(
            f"\n1,000,000 points: {frames / seconds:.0f} frames per second while panning, "
            f"{panel.get_attribute('data-cost')} ms to paint, {panel.get_attribute('data-frames')} frames moved"
        )
    assert int(panel.get_attribute("data-frames")) >= 3
    assert page.complaints == []
