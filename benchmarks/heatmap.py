"""A new heatmap for an encoded text on a traced image, all heads of four layers: wall-clock ms on one thread."""

from __future__ import annotations

import time
from typing import Any

import torch

import clipviz
from benchmarks._timing import best, one_thread, random_clip, row


@torch.no_grad()
def run() -> list[dict[str, Any]]:
    rows = []
    for model, size, budget in ((clipviz.load("demo"), 96, 10), (random_clip("ViT-B-16"), 224, 40)):
        trace = model.trace(torch.randn(1, 3, size, size))
        layers = range(model.n_layers - 4, model.n_layers)
        texts = iter(torch.randn(64, model.weights.d_embed))

        def draw(trace=trace, texts=texts, layers=layers) -> None:
            trace.heatmap(next(texts)[None], layers=layers)

        with one_thread():
            (seconds,) = best([draw], repeats=20, clock=time.perf_counter)
        rows.append(row(f"heatmap of a new text, {model.name}, ms", 1e3 * seconds, budget))
    return rows
