"""The dashboard in a real JupyterLab and Chromium: click to painted, hover, first display.

A click is timed in the page from the event to the frame in which the panel publishes what it has drawn. Nothing is
measured, and that is said, where there is no Chromium.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

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

# Milliseconds of the clock that the kernel and the page share: when it hears the click, begins, and ends each panel.
NOTED = """import time
from clipviz.panels.core.base import Panel
from clipviz.session.board import Board
noted = []
def note(cls, name, told):
    real = getattr(cls, name)
    def noting(self, *given):
        noted.append((told(self) + " begins", 1000 * time.time()))
        found = real(self, *given)
        noted.append((told(self) + " ends", 1000 * time.time()))
        return found
    setattr(cls, name, noting)
note(Panel, "set_state", lambda panel: "message")
note(Board, "update", lambda board: "update")
note(Panel, "refresh", lambda panel: panel.name)"""
READ = """import json
print(json.dumps(noted))
noted.clear()"""
LISTEN = """() => { window.heard = []; window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
  .anyMessage.connect((_, m) => window.heard.push([m.direction, performance.timeOrigin + performance.now()])); }"""
OPENING = (
    "JupyterLab and an idle kernel",
    "the cell: import, model, session, board",
    "the cell's end to painted",
)
CLICK_BY_PARTS = CLICK.replace("const started", "window.heard.length = 0; const started").replace(
    "return performance.now() - started",
    "const now = performance.now(), at = performance.timeOrigin; return [at + started, at + now, window.heard]",
)


def by_parts(opened: Any) -> list[dict[str, Any]]:
    """Where the time of a click on a head goes, medians over the clicks; parts follow one another."""
    opened.kernel(NOTED)
    opened.page.evaluate(LISTEN)
    spent: dict[str, list[float]] = {}
    for where in CLICKS:
        clicked, painted, messages = opened.page.evaluate(CLICK_BY_PARTS, list(where))
        opened.kernel("session.wait(60)")
        noted: dict[str, float] = {}
        for what, at in json.loads(opened.kernel(READ)):
            noted.setdefault(what, at)
        asked = next(at for direction, at in messages if direction == "send")
        steps = [
            ("event to request", clicked, asked),
            ("request to kernel", asked, noted["message begins"]),
            ("kernel to worker", noted["message begins"], noted["update begins"]),
            ("worker to Heatmap", noted["update begins"], noted["heatmap begins"]),
            ("Heatmap", noted["heatmap begins"], noted["heatmap ends"]),
            ("TextSpan", noted["heatmap ends"], noted["textspan ends"]),
            ("kernel to painted", noted["textspan ends"], painted),
        ]
        for what, start, end in steps:
            spent.setdefault(what, []).append(end - start)
    return [
        part(f"of a click on a head: {what}, median ms", statistics.median(times))
        for what, times in spent.items()
    ]


def part(what: str, measured: float) -> dict[str, Any]:
    """Return a part of what another row measures whole."""
    return {"what": what, "measured": measured, "budget": "none", "ok": True}


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from browser.lab import MESSAGES, Notebook, chromium_browser, find_chromium, jupyterlab, open_notebook

    chromium = find_chromium()
    if chromium is None:
        print("no Chromium found: the dashboard is not measured")
        return []
    with jupyterlab() as (url, folder), chromium_browser(chromium) as browser:
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        at, run_all = [time.perf_counter()], Notebook.run_all

        def noting(notebook: Any) -> None:
            at.append(time.perf_counter())
            run_all(notebook)
            at.append(time.perf_counter())

        with patch.object(Notebook, "run_all", noting):
            opened = open_notebook(context, url, folder, CELL)
        opened.panel("textspan", complete="true").wait_for()
        at.append(time.perf_counter())
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
        parts = by_parts(opened)
        context.close()
    return [
        row("click on a head to texts and map painted, median ms", times[len(times) // 2], 40),
        *parts,
        row("click on a neuron to its images painted, median ms", neurons[len(neurons) // 2], 50),
        row("kernel messages while hovering", sent, 0),
        row("first display of the largest panel, MB", largest / 1e6, 1),
        row("scripts and style sheets of a whole board, MB", scripts / 1e6, 0.25),
        row("open the notebook to everything painted, warm, s", at[-1] - at[0], 5),
        *(
            part(f"of opening: {what}, s", end - start)
            for what, start, end in zip(OPENING, at[:-1], at[1:], strict=True)
        ),
    ]
