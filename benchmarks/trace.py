"""The trace: against the plain forward, and against the decomposition that forms every [token, token, head, d_model].

ViT-B/16 with random weights, processor time on one thread. The literal decomposition is timed in float32 on one of
the twelve layers, all alike, and counted twelve times; its memory is the one tensor of a layer's writes, which it
cannot do without, against everything that a trace keeps of all layers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks._timing import best, one_thread, random_clip, row
from clipviz.lens.trace import Trace

N_LAYERS = 12


def tensors(trace: Trace) -> list[torch.Tensor]:
    """Everything kept of the images, weights left out."""
    values = [value for name, value in vars(trace).items() if name != "weights"]
    flat = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
    return [item for item in flat if isinstance(item, torch.Tensor)]


@torch.no_grad()
def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import naive

    model = random_clip("ViT-B-16")
    images = torch.randn(8, 3, 224, 224)
    few = images[:2]
    block = model.visual.transformer.resblocks[0]
    tokens = torch.randn(2, 197, 768)
    with one_thread():
        plain, traced, naively, factored = best(
            [
                lambda: model.encode_images(images),
                lambda: model.trace(images),
                lambda: naive.head_token_writes(block, tokens)[:, 0] @ model.visual.proj,
                lambda: model.trace(few).head_effects(),
            ],
            repeats=3,
        )
        forward = best([lambda: model.encode_images(few)], repeats=3)[0]
    writes = 2 * 197 * 197 * 12 * 768 * 4
    kept = sum(tensor.numel() * tensor.element_size() for tensor in tensors(model.trace(few)))
    literal = forward + N_LAYERS * naively
    return [
        row("trace against the plain forward, ViT-B/16, batch 8, x", traced / plain, 1.15),
        row(
            "literal decomposition over the trace with its effects, batch 2, x", literal / factored, 80, True
        ),
        row("memory of one layer's literal writes over the whole trace, x", writes / kept, 5, True),
    ]
