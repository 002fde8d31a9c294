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
session.heads.textspan(5, 0); print(time.perf_counter() - t)
session.close()"""
REAL = """import time; t = time.perf_counter()
import open_clip, torch, clipviz
torch.manual_seed(0)
network, _, preprocess = open_clip.create_model_and_transforms("ViT-B-16")
model = clipviz.wrap(network, open_clip.get_tokenizer("ViT-B-16"), preprocess, name="ViT-B-16 (random)")
made = time.perf_counter() - t
images = clipviz.demo.images().subset(range(200))
pixels, passes = model.prepare(images[0]), []
for _ in range(4):
    c = time.process_time()
    with torch.no_grad():
        network.encode_image(pixels)
    passes.append(time.process_time() - c)
t = time.perf_counter() - made
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
def clicks(*heads):
    found = []
    for layer, head in heads:
        time.sleep(0.3)  # a person's, so that what runs behind has begun again
        t, c = time.perf_counter(), time.process_time()
        session.select(layer=layer, head=head)
        session.wait(60)
        found.append((time.perf_counter() - t, time.process_time() - c))
    return [sorted(numbers)[len(numbers) // 2] for numbers in zip(*found)]
reading = clicks((11, 3), (10, 7), (9, 1), (11, 8), (8, 5)) if board.board.reading.line else [0, 0]
while not board.board.waiting.startswith("Labelling") and not session.heads.labelled:
    time.sleep(0.1)
labelling = clicks((11, 4), (10, 8), (9, 2), (11, 9), (8, 6)) if not session.heads.labelled else [0, 0]
while not session.heads.labelled:
    time.sleep(0.5)
rest = clicks((11, 5), (10, 9), (9, 3), (11, 10), (8, 7))
print(first, painted, cpu, min(passes), *reading, *labelling, *rest)
board.close()"""
"""Times after the model is made: TextSpan shown, everything painted. CPU seconds: until TextSpan is shown, making the
model included; a bare pass of one image. Then of a click on another head until everything shows it, wall clock and CPU:
while images are read (the first start alone), while heads are labelled, and at rest."""


def real() -> list[list[float]]:
    """Return what REAL prints, with an empty cache and then with what that start has kept."""
    with tempfile.TemporaryDirectory() as cache:
        kept = {**os.environ, "CLIPVIZ_CACHE": cache}
        runs = [
            subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=True, env=kept)
            for _ in range(2)
        ]
    return [[float(number) for number in done.stdout.split()[-10:]] for done in runs]


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
        row("ViT-B/16: a click on another head while images are read, s", first[4], 0.25),
        row("ViT-B/16: a click on another head while heads are labelled, s", second[6], 0.25),
        row("ViT-B/16: a click on another head at rest, s", second[8], 0.25),
        row("the same, CPU seconds in bare passes of one image", second[9] / second[3], 1.0),
    ]
