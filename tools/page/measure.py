"""What a published page takes in headless Chromium: bytes and seconds to the first picture, milliseconds afterwards.

    python tools/page/measure.py                                   the demo
    python tools/page/measure.py "ViT-B/32:float16" "SigLIP B/16:float16"
    python tools/page/measure.py FOLDER ...                        folders that are published already

Everything is served from this machine without compression or caching. Numbers after opening are medians over a few
texts and pictures. Beside each time on the clock stands the processor time of all of Chromium's processes, which other
work on the machine changes less; the load is printed too. --screens FOLDER keeps what a phone's screen shows.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PHONE = {"width": 390, "height": 844}
N_IMAGES = 24  # published with a model that brings no collection
PAINTED = """(field) => new Promise((done) => {
  const map = document.querySelector('.cv-heatmap'), began = performance.now(), before = map.dataset[field];
  const watch = new MutationObserver(() => {
    if (map.dataset[field] === before) return;
    watch.disconnect();
    requestAnimationFrame(() => done(performance.now() - began));
  });
  watch.observe(map, { attributes: true });
  window.act();
})"""
# Panels of which at least a third is on the screen before anybody scrolls.
SHOWN = """() => [...document.querySelectorAll('[data-panel], .cv-top')].filter((one) => {
  const { top, bottom, height } = one.getBoundingClientRect();
  return height && (Math.min(bottom, innerHeight) - Math.max(top, 0)) / Math.min(height, innerHeight) > 1 / 3;
}).map((one) => one.dataset.panel ?? 'header')"""


class Counting(http.server.SimpleHTTPRequestHandler):
    sent = 0

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: object, outputfile: object) -> None:
        super().copyfile(source, outputfile)  # type: ignore[arg-type]
        Counting.sent += os.fstat(source.fileno()).st_size  # type: ignore[attr-defined]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder's address on a plain static server, which counts the bytes of files that were sent whole."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Counting, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Counting.sent = 0
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def processor() -> float:
    """Seconds of processor time of every process of Chromium that this one started, and of those that ended."""
    total = 0.0
    for one in psutil.Process().children(recursive=True):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def measure(folder: Path, n: int = 7, screens: Path | None = None) -> dict[str, Any]:
    """Open the page of a folder; return seconds, milliseconds and megabytes, and what a phone shows."""
    from tests.browser.lab import chromium_browser, find_chromium

    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium was found; install one with: playwright install chromium")
    found: dict[str, Any] = {}
    with chromium_browser(path) as browser, served(folder) as url:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(600_000)
        began, spent = time.perf_counter(), processor()

        def note(name: str) -> None:
            found[f"{name}_s"] = time.perf_counter() - began
            found[f"{name}_processor_s"] = processor() - spent
            found[f"{name}_MB"] = Counting.sent / 1e6

        page.goto(url)
        page.wait_for_selector(".cv-heatmap[data-drawn]")
        note("first_picture")
        page.wait_for_selector("body[data-ready]")
        note("ready")
        for name, times in (("text", _texts(page, n)), ("picture", _pictures(page, n))):
            found[f"{name}_ms"] = 1000 * statistics.median(wall for wall, _ in times)
            found[f"{name}_processor_ms"] = 1000 * statistics.median(cpu for _, cpu in times)
        page.close()
        phone = browser.new_context(viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True)
        page = phone.new_page()
        page.set_default_timeout(600_000)
        page.goto(url)
        page.wait_for_selector(".cv-heatmap[data-drawn]")
        found["phone"] = page.evaluate(SHOWN)
        found["phone_sideways"] = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if screens is not None:
            screens.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=screens / f"{folder.parent.name}-phone.png")
            page.screenshot(path=screens / f"{folder.parent.name}-phone-all.png", full_page=True)
    return found


def _painted(page: Any, field: str) -> tuple[float, float]:
    """Seconds until the action's map is painted, on the clock; and of the processor, until every panel has answered."""
    page.wait_for_selector("body[data-busy=false]")
    spent = processor()
    wall = page.evaluate(PAINTED, field) / 1000
    page.wait_for_selector("body[data-busy=false]")
    return wall, processor() - spent


def _texts(page: Any, n: int) -> list[tuple[float, float]]:
    times = []
    for i in range(n):
        page.evaluate(
            """(text) => { window.act = () => {
              const field = document.querySelector('.cv-query input');
              field.value = text;
              field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
            }; }""",
            f"a text that nobody has typed, number {i}",
        )
        times.append(_painted(page, "text"))
    return times


def _pictures(page: Any, n: int) -> list[tuple[float, float]]:
    draw, times = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as place:
        for i in range(n):
            file = Path(place) / f"{i}.jpg"
            Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((640, 480)).save(file)
            page.evaluate(
                """(bytes) => { window.act = () => {
                  const data = new DataTransfer();
                  data.items.add(new File([new Uint8Array(bytes)], 'picture.jpg', { type: 'image/jpeg' }));
                  const options = { dataTransfer: data, bubbles: true, cancelable: true };
                  document.dispatchEvent(new DragEvent('drop', options));
                }; }""",
                list(file.read_bytes()),
            )
            times.append(_painted(page, "image"))
    return times


@contextmanager
def published(what: str) -> Iterator[Path]:
    """The folder of what is named: a folder, or a model of compare.py, with its precision after a colon."""
    if Path(what).is_dir():
        yield Path(what)
        return
    import clipviz
    from tools.page import compare

    name, _, precision = what.partition(":")
    model, images, pool = compare.opened(name, N_IMAGES)
    session = clipviz.Session(model) if model.bundle else clipviz.Session(model, images=images, texts=pool)
    with tempfile.TemporaryDirectory(prefix=f"{name.replace('/', '').replace(' ', '-')}-") as place:
        yield clipviz.publish(session, Path(place) / "site", precision=precision or "float32")
    session.close()


ROWS = (
    (
        "first picture",
        "{first_picture_MB:.1f} MB, {first_picture_s:.1f} s",
        "{first_picture_processor_s:.1f} s",
    ),
    ("ready to answer", "{ready_MB:.0f} MB, {ready_s:.1f} s", "{ready_processor_s:.1f} s"),
    ("a new text, painted", "{text_ms:.0f} ms", "{text_processor_ms:.0f} ms"),
    ("a dropped picture, painted", "{picture_ms:.0f} ms", "{picture_processor_ms:.0f} ms"),
    ("first screen of a phone", "{phone}", "sideways: {phone_sideways} px"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["demo"], help="models of compare.py, or folders")
    parser.add_argument("--n", type=int, default=7, help="texts and pictures")
    parser.add_argument("--screens", type=Path, help="a folder for pictures of a phone's screen")
    options = parser.parse_args()
    for what in options.what:
        with published(what) as folder:
            load = os.getloadavg()[0]
            found = measure(folder, options.n, options.screens)
        print(f"\n{what}; {os.cpu_count()} cores, load {load:.1f} to {os.getloadavg()[0]:.1f}\n")
        print("| what | on the clock | of the processor |\n| --- | --- | --- |")
        for name, clock, spent in ROWS:
            print(f"| {name} | {clock.format(**found)} | {spent.format(**found)} |", flush=True)


if __name__ == "__main__":
    main()
