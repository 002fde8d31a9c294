"""A drag on the Generate desk in a real JupyterLab and Chromium: first new picture, pictures per second, settled.

Beside each is what a bare step of the generator (a forward and a backward pass) takes in the same kernel just before,
so that the ratios hold on a busy machine too. Nothing is measured, and that is said, where there is no Chromium.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks._timing import row

SESSION = """import clipviz
session = clipviz.Session(clipviz.load("demo"), clipviz.demo.images().subset(range(24)), "demo")
desk = clipviz.panels.Generate(session)
desk"""
STEP = """import time
def bare(n=12):
    latents = session.generator.workbench.latents
    z = latents.z.detach().clone().requires_grad_(True)
    times = []
    for _ in range(n):
        started = time.perf_counter()
        images, maps = session.generator.model.generate(latents.moved(z))
        (images.sum() + sum(found.sum() for found in maps.values())).backward()
        times.append(time.perf_counter() - started)
    return 1000 * sorted(times)[n // 2]
print(bare())"""
WATCH = """() => { const root = document.querySelector('[data-panel=generate]');
  window.frames_seen = [];
  window.grasped = 0;
  window.watcher?.disconnect();
  window.watcher = new MutationObserver(() => window.frames_seen.push([performance.now(), root.dataset.state]));
  window.watcher.observe(root, {attributes: true, attributeFilter: ['data-frames']});
  root.querySelector('.stage').addEventListener('pointermove', (e) => {
    if (!e.buttons) return;
    window.grasped ||= performance.now();
    window.dropped = performance.now(); }); }"""
SECONDS = 2.0


def drag(opened: Any, right: float) -> tuple[float, float, float]:
    """ms to the first new picture, pictures per second while the hand moves, and ms from the last move to settled."""
    page, stage = opened.page, opened.panel("generate").locator(".stage")
    page.evaluate(WATCH)
    box = stage.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    n_moves = int(SECONDS * 50)
    for move in range(1, n_moves + 1):
        page.mouse.move(x + right * box["width"] * move / n_moves, y)
        page.wait_for_timeout(1000 / 50)
    page.mouse.up()
    opened.kernel("session.wait(120)")
    opened.panel("generate", state="settled").wait_for()
    page.wait_for_function("() => window.frames_seen.at(-1)?.[1] === 'settled'")
    seen, grasped, dropped = page.evaluate("[window.frames_seen, window.grasped, window.dropped]")
    held = [at for at, _ in seen if at <= dropped]
    return (
        seen[0][0] - grasped,
        1000 * len(held) / (dropped - grasped),
        max(0.0, seen[-1][0] - dropped),
    )


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from browser.lab import chromium_browser, find_chromium, jupyterlab, open_notebook

    chromium = find_chromium()
    if chromium is None:
        print("no Chromium found: the drag is not measured")
        return []
    with jupyterlab() as (url, folder), chromium_browser(chromium) as browser:
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        opened = open_notebook(context, url, folder, SESSION)
        opened.panel("generate", state="settled").wait_for()
        found, steps = [], []
        for right in (0.15, -0.15, 0.15):
            steps.append(float(opened.kernel(STEP)))
            found.append(drag(opened, right))
        context.close()
    step = statistics.median(steps)
    first, a_second, settled = (statistics.median(column) for column in zip(*found, strict=True))
    return [
        row("a bare step of the generator, ms", step, 60),
        row("drag to the first new picture, ms", first, 150),
        row("drag to the first new picture, in bare steps", first / step, 6),
        row("new pictures per second while the hand moves", a_second, 5, at_least=True),
        row("time of a picture on the way, in bare steps", 1000 / max(a_second, 1e-9) / step, 4),
        row("last move to settled, s", settled / 1000, 3),
        row("last move to settled, in bare steps", settled / step, 90),
    ]
