"""Seconds of wall clock in fresh processes: until `import clipviz` returns, until the demo's session answers, and until
a board on a ViT-B/16 (random weights, 200 images, the general pool) does, for the first and the second time."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks._timing import row

IMPORT = "import time; t = time.perf_counter(); import clipviz; print(time.perf_counter() - t)"
SESSION = """import time; t = time.perf_counter()
import clipviz
session = clipviz.Session(clipviz.load("demo"))
session.textspan(5, 0); print(time.perf_counter() - t)
session.close()"""
REAL = """import time; t = time.perf_counter()
import open_clip, torch, clipviz
torch.manual_seed(0)
network, _, preprocess = open_clip.create_model_and_transforms("ViT-B-16")
model = clipviz.wrap(network, open_clip.get_tokenizer("ViT-B-16"), preprocess, name="ViT-B-16 (random)")
made = time.perf_counter() - t
images = clipviz.demo.images().subset(range(200))
session = clipviz.Session(model, images)
board = clipviz.Dashboard(session)
told = []
board.textspan.observe(lambda _: told.append(time.perf_counter()) if board.textspan.view.get("rows") else None, "view")
session.wait(900)
while not told:
    session.wait(900); time.sleep(0.1)
first, cpu = told[0] - t - made, time.process_time()
session.wait(900)
painted = time.perf_counter() - t - made
clicks = []
for layer, head in ((11, 3), (10, 7), (9, 1), (11, 8), (8, 5)):
    t = time.perf_counter()
    session.select(layer=layer, head=head)
    session.wait(60)
    clicks.append(time.perf_counter() - t)
print(first, painted, sorted(clicks)[2], cpu)
board.close()"""
"""Times after the model is made: TextSpan shown, everything painted, a click on another head while the images are
being read; and CPU seconds until TextSpan is shown, making the model included."""


def real() -> list[list[float]]:
    """What REAL prints, with an empty cache and then with what that start has kept."""
    with tempfile.TemporaryDirectory() as cache:
        kept = {**os.environ, "CLIPVIZ_CACHE": cache}
        runs = [
            subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=True, env=kept)
            for _ in range(2)
        ]
    return [[float(number) for number in done.stdout.split()[-4:]] for done in runs]


def seconds(code: str, repeats: int = 3) -> float:
    """Median over fresh processes of what the code prints."""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    return statistics.median(float(done.stdout.split()[-1]) for done in runs)


def run() -> list[dict[str, Any]]:
    first, second = real()
    return [
        row("import clipviz, s", seconds(IMPORT), 0.2),
        row("import, load the demo, describe a head over the embedded collection, s", seconds(SESSION), 15),
        row("ViT-B/16, first start: TextSpan is shown, s", first[0], 40),
        row("ViT-B/16, second start of the same view: everything is painted, s", second[1], 10),
        row("ViT-B/16: a click on another head, s", second[2], 0.25),
    ]
