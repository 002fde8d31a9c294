"""What all panels share is loaded once in a page: by a board, by a panel alone, late, and again after a failure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import clipviz.panels
from browser.test_dashboard import SESSION, open_board
from clipviz.panels.core.scripts import kit, kit_key
from clipviz.panels.desks.panel import Desks

# Desk buttons on models without a kernel; the widget that holds the kit is there after `missing` questions.
OPEN = """async ([script, style, shared, missing, rows]) => {
  window.asked = 0;
  const kit = { get: (name) => { window.read = (window.read ?? 0) + (name === 'script'); return shared[name]; } };
  const values = { kit: 'IPY_MODEL_one', desks: [['words', 'Words', 'Which?']], shown: '' };
  const get_model = async (id) => {
    if (++window.asked <= missing || id !== 'one') throw new Error('not yet');
    return kit;
  };
  const model = { get: (name) => values[name], set() {}, save_changes() {}, on() {}, off() {}, send() {},
    widget_manager: { get_model } };
  const sheet = document.createElement('style');
  Object.assign(sheet, { id: 'clipviz.panels.desks.panel.Desks', textContent: style });
  document.head.append(sheet);
  const shown = [];
  for (let row = 0; row < rows; row++) {
    const { default: panel } = await import(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })));
    const el = document.body.appendChild(document.createElement('div'));
    shown.push(panel.render({ model, el }).then(() => 'drawn', (error) => `${error.message}: ${el.textContent}`));
  }
  return Promise.all(shown);
}"""
KITS = "[...globalThis[Symbol.for('clipviz.kits')].keys()]"


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def opened(page, missing=0, rows=2):
    shared = {"script": kit()}
    return page.evaluate(OPEN, [Desks._esm, Desks._css, shared, missing, rows])


def test_two_panels_load_one_kit_and_one_style_sheet(page):
    page.set_content("<!doctype html>")
    assert opened(page) == ["drawn", "drawn"]
    assert (page.evaluate("window.asked"), page.evaluate("window.read")) == (1, 1)
    assert page.evaluate(KITS) == [kit_key()]
    assert page.locator(".cv-desks-bar button").count() == 2
    sheets = page.evaluate("[...document.head.querySelectorAll('style')].map((one) => one.id)")
    assert sheets == ["", "clipviz.panels.desks.panel.Desks"]  # a panel's own sheet has the last word


def test_a_kit_that_is_restored_after_the_panels_is_waited_for(page):
    page.set_content("<!doctype html>")
    assert opened(page, missing=3) == ["drawn", "drawn"]
    assert page.evaluate("window.asked") == 4


def test_a_panel_without_a_kit_says_so_and_the_next_one_asks_again(page):
    page.set_content("<!doctype html>")
    message = "not yet: This panel could not be loaded. Run the cell again to show it."
    assert opened(page, missing=1000, rows=1) == [message]
    assert opened(page, rows=1) == ["drawn"]


def test_a_notebook_loads_the_kit_once_however_many_panels_it_shows(notebook):
    board = open_board(notebook)
    loaded = board.page.evaluate(
        """async () => (await Promise.all([...globalThis[Symbol.for('clipviz.kits')].values()])).length"""
    )
    assert loaded == 1
    sent = board.kernel(
        "import json\nfrom ipywidgets.embed import dependency_state\n"
        "state = json.dumps(dependency_state([dashboard], drop_defaults=False), default=str)\n"
        "print(state.count('const gridKeys = '), len(state))"
    )
    kits, size = map(int, sent.split())
    assert kits == 1
    assert size < 500_000


def test_a_panel_alone_is_drawn_and_drawn_again_when_the_notebook_is_opened_again(notebook):
    shown = notebook(SESSION, "panel = clipviz.panels.Heads(session)\npanel")
    shown.panel("heads", ready="true").wait_for()
    shown.page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save'); }")
    shown.page.reload()
    shown.panel("heads", ready="true").wait_for()


CONTRASTS = """async (source) => {
  const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const { diverging, inkOn, rgb } = await import(url);
  const found = [];
  for (const theme of ['light', 'dark'])
    for (let value = -1; value <= 1; value += 0.01) {
      const colour = diverging(value, 1, theme);
      found.push([colour, [1, 3, 5].map((at) => parseInt(inkOn(colour).slice(at, at + 2), 16))]);
    }
  return found;
}"""


def luminance(colour):
    """By WCAG 2, of red, green and blue in 0..255."""
    shares = [value / 255 for value in colour]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_words_on_any_colour_of_a_value_can_be_read(page):
    path = Path(clipviz.panels.__file__).parent / "kit" / "figure.js"
    source = re.sub(r"^import .*$", "const closest = null, h = null;", path.read_text("utf-8"), flags=re.M)
    pairs = page.evaluate(CONTRASTS, source)
    assert len(pairs) >= 400
    for ground, ink in pairs:
        low, high = sorted((luminance(ground) + 0.05, luminance(ink) + 0.05))
        assert high / low >= 4.5, (ground, ink)
