"""The dashboard in a real JupyterLab and Chromium: click to painted, hover, first display.

A click is timed in the page from the event to the frame in which the panel publishes what it has drawn. Nothing is
measured, and that is said, where there is no Chromium.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._timing import row

CLICK = """async ([layer, head]) => {
  const grid = document.querySelector('[data-panel="heads"]');
  const shown = document.querySelector('[data-panel="textspan"]');
  const map = document.querySelector('[data-panel="heatmap"]');
  const there = (p) => p.dataset.layer === String(layer) && p.dataset.head === String(head);
  const started = performance.now();
  grid.querySelector(`button[data-layer="${layer}"][data-head="${head}"]`).click();
  while (!(there(shown) && there(map))) await new Promise(r => requestAnimationFrame(r));
  return performance.now() - started; }"""
NEURON = """async place => {
  const root = document.querySelector('[data-panel="neurons"]');
  const row = root.querySelectorAll('[role=option]')[place], wanted = row.dataset.neuron;
  const started = performance.now();
  row.click();
  while (root.dataset.neuron !== wanted || root.ariaBusy !== "false") await new Promise(r => requestAnimationFrame(r));
  return performance.now() - started; }"""
CLICKS = [(layer, (3 * layer + step) % 8) for step in range(4) for layer in (5, 4, 3, 2)]


CELL = """import clipviz
session = clipviz.Session(clipviz.load("demo"))
dashboard = clipviz.Dashboard(session)
dashboard"""
SIZES = """import json
from ipywidgets.embed import dependency_state
size = lambda p: len(p.blob) + len(p._esm) + len(p._css) + len(getattr(p, "picture", b""))
states = {at: held["state"] for at, held in dependency_state([dashboard], drop_defaults=False).items()}
scripts = [value for state in states.values() for name, value in state.items()
           if name in ("_esm", "_css", "script", "style")]
print(max(map(size, dashboard.panels)), sum(len(value.encode()) for value in scripts if isinstance(value, str)))"""


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from browser.lab import MESSAGES, chromium_browser, find_chromium, jupyterlab, open_notebook

    chromium = find_chromium()
    if chromium is None:
        print("no Chromium found: the dashboard is not measured")
        return []
    with jupyterlab() as (url, folder), chromium_browser(chromium) as browser:
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        started = time.perf_counter()
        opened = open_notebook(context, url, folder, CELL)
        opened.panel("textspan", complete="true").wait_for()
        first = time.perf_counter() - started
        opened.kernel("session.heads.summaries(); session.wait(60, background=True)")
        times = sorted(opened.page.evaluate(CLICK, list(where)) for where in CLICKS)
        opened.page.evaluate(MESSAGES)
        box = opened.page.locator("[data-panel=heatmap] canvas").first.bounding_box()
        for step in range(40):
            opened.page.mouse.move(box["x"] + step * box["width"] / 40, box["y"] + step * box["height"] / 40)
        sent = opened.page.evaluate("window.sent")
        largest, scripts = map(int, opened.kernel(SIZES).split())
        opened.kernel("dashboard.desks.show('neurons'); session.wait(120, background=True)")
        opened.panel("neurons", complete="true").wait_for()
        neurons = sorted(opened.page.evaluate(NEURON, place) for place in (1, 4, 2, 7, 5, 9, 3, 8, 6))
        context.close()
    return [
        row("click on a head to texts and map painted, median ms", times[len(times) // 2], 40),
        row("click on a neuron to its images painted, median ms", neurons[len(neurons) // 2], 50),
        row("kernel messages while hovering", sent, 0),
        row("first display of the largest panel, MB", largest / 1e6, 1),
        row("scripts and style sheets of a whole board, MB", scripts / 1e6, 0.25),
        row("open the notebook to everything painted, warm, s", first, 5),
    ]
