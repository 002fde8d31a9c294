"""What a published page takes in headless Chromium: bytes and seconds to the first picture, milliseconds afterwards.

    python tools/page/measure.py [FOLDER]

Without a folder the demo is published with its default number of images. Everything is served from this machine
without compression or caching; the numbers are medians over a few texts and pictures.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

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


class Counting(http.server.SimpleHTTPRequestHandler):
    sent = 0

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: object, outputfile: object) -> None:
        Counting.sent += os.fstat(source.fileno()).st_size  # type: ignore[attr-defined]
        super().copyfile(source, outputfile)  # type: ignore[arg-type]


def measure(folder: Path, n: int = 7) -> dict[str, object]:
    from tests.browser.lab import chromium_browser, find_chromium

    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium was found; install one with: playwright install chromium")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Counting, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found: dict[str, object] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    with chromium_browser(path) as browser, tempfile.TemporaryDirectory() as place:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        began = time.perf_counter()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_selector(".cv-heatmap[data-drawn]")
        found |= {"first_picture_s": time.perf_counter() - began, "first_picture_MB": Counting.sent / 1e6}
        page.wait_for_selector("body[data-ready]", timeout=600_000)
        found |= {"ready_s": time.perf_counter() - began, "MB": Counting.sent / 1e6}
        page.wait_for_selector("body[data-busy=false]", timeout=600_000)
        texts, pictures = [], []
        for i in range(n):
            page.evaluate(
                """(text) => { window.act = () => {
                  const field = document.querySelector('.cv-query input');
                  field.value = text;
                  field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
                }; }""",
                f"a text that nobody has typed, number {i}",
            )
            texts.append(page.evaluate(PAINTED, "text"))
            page.wait_for_selector("body[data-busy=false]", timeout=600_000)
        draw = np.random.default_rng(0)
        for i in range(n):
            file = Path(place) / f"{i}.jpg"
            Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((640, 480)).save(file)
            content = list(file.read_bytes())
            page.evaluate(
                """(bytes) => { window.act = () => {
                  const data = new DataTransfer();
                  data.items.add(new File([new Uint8Array(bytes)], 'picture.jpg', { type: 'image/jpeg' }));
                  const options = { dataTransfer: data, bubbles: true, cancelable: true };
                  document.dispatchEvent(new DragEvent('drop', options));
                }; }""",
                content,
            )
            pictures.append(page.evaluate(PAINTED, "image"))
            page.wait_for_selector("body[data-busy=false]", timeout=600_000)
        found |= {"text_ms": statistics.median(texts), "picture_ms": statistics.median(pictures)}
    server.shutdown()
    server.server_close()
    return {name: round(float(value), 2) for name, value in found.items()}  # type: ignore[arg-type]


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
        return
    import clipviz

    session = clipviz.Session(clipviz.load("demo", device="cpu"))
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(measure(clipviz.publish(session, Path(place) / "site"))))
    session.close()


if __name__ == "__main__":
    main()
