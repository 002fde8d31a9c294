"""The trace: against the plain forward, and against the decomposition that forms every [token, token, head, d_model].

ViT-B/16 with random weights, processor time on one thread. The literal decomposition is timed in float32 on one
layer of the last four and counted four times; its memory is the one tensor of a layer's writes, which it cannot do
without, against all token inputs that a trace keeps for the same four layers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks._timing import best, one_thread, random_clip, row

LAYERS = range(8, 12)


@torch.no_grad()
def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import naive

    model = random_clip("ViT-B-16")
    images = torch.randn(8, 3, 224, 224)
    few = images[:2]
    block = model.visual.transformer.resblocks[LAYERS[0]]
    tokens = torch.randn(2, 197, 768)
    with one_thread():
        plain, traced, naively, factored = best(
            [
                lambda: model.encode_images(images),
                lambda: model.trace(images),
                lambda: naive.head_token_writes(block, tokens)[:, 0] @ model.visual.proj,
                lambda: model.trace(few).head_effects(layers=LAYERS),
            ],
            repeats=3,
        )
        forward = best([lambda: model.encode_images(few)], repeats=3)[0]
    literal_bytes = 2 * 197 * 197 * 12 * 768 * 4
    trace = model.trace(few)
    kept = sum(
        value.numel() * value.element_size()
        for value in vars(trace).values()
        if isinstance(value, torch.Tensor)
    )
    beyond = max(factored - forward, 1e-9)
    return [
        row("trace against the plain forward, ViT-B/16, batch 8, x", traced / plain, 1.15),
        row(
            "literal decomposition of 4 layers over trace with effects, batch 2, x faster",
            (forward + 4 * naively) / factored,
            80,
            at_least=True,
        ),
        row(
            "the same beyond the forward pass that both need, x faster",
            4 * naively / beyond,
            80,
            at_least=True,
        ),
        row(
            "memory: one layer's literal writes over the whole trace, x less",
            literal_bytes / kept,
            5,
            at_least=True,
        ),
    ]
