"""A click on a feature of a large dictionary beside a click on a neuron, in a real JupyterLab and Chromium.

The model is a random ViT-B/32 with a random TopK dictionary of 4,096 features of its stream after layer 9, beside the
3,072 neurons of that layer: what is measured is the work, which is the same for trained ones. Neurons and features are
clicked in turns, since the machine may be busy with other things.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks._timing import row
from benchmarks.dashboard import NEURON

LAYER, N_FEATURES, K, N_IMAGES, ROUNDS = 9, 4096, 32, 64, 3
PLACES = (1, 4, 2, 7, 5)
CELL = f"""import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import clipviz, torch
from benchmarks._timing import random_clip
model = random_clip("ViT-B-32")
rows = torch.randn({N_FEATURES}, 768, generator=torch.Generator().manual_seed(0))
rows = rows / rows.norm(dim=1, keepdim=True)
nothing, bias = torch.zeros({N_FEATURES}), torch.zeros(768)
features = clipviz.Dictionary({LAYER}, "residual", rows, nothing, rows, bias, "topk", k={K})
images = clipviz.demo.images().subset(range({N_IMAGES}))
session = clipviz.Session(model, images, list(clipviz.demo.texts())[:600], background=False)
name = session.neurons.use(features).name
session.select(image=3)
desk = clipviz.panels.Neurons(session, find="strength", layer={LAYER}, m=32)
session.wait(600, background=True)
desk"""


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from browser.lab import chromium_browser, find_chromium, jupyterlab, open_notebook

    chromium = find_chromium()
    if chromium is None:
        print("no Chromium found: the desk is not measured")
        return []
    times: dict[str, list[float]] = {"neurons": [], "features": []}
    with jupyterlab() as (url, folder), chromium_browser(chromium) as browser:
        context = browser.new_context(viewport={"width": 1500, "height": 1000})
        opened = open_notebook(context, url, folder, CELL)
        opened.panel("neurons", complete="true").wait_for()
        for turn in range(ROUNDS):
            for whose, layer in (("neurons", str(LAYER)), ("features", "name")):
                opened.kernel(
                    f"session.select(neuron=None); desk.layer = {layer}; session.wait(600, background=True)"
                )
                wanted = "" if whose == "neurons" else opened.kernel("print(name)").strip()
                opened.panel("neurons", complete="true", dictionary=wanted).wait_for()
                opened.page.evaluate(NEURON, 9 + turn)  # the first after a change warms what follows
                times[whose] += [opened.page.evaluate(NEURON, place) for place in PLACES]
        context.close()
    neurons, features = (statistics.median(times[whose]) for whose in ("neurons", "features"))
    return [
        row("click on one of 4,096 features to its images painted, ViT-B/32, median ms", features, 100),
        row("the same for one of the layer's 3,072 neurons, median ms", neurons, 100),
        row("a feature's click against a neuron's, x", features / neurons, 1.5),
    ]
