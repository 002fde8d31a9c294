"""Second-order effects of one layer's neurons: factored norms against the plain forward and the naive form.

ViT-B/32 with random weights, layer 9 of 0..11, two later attention layers. The naive form walks over later heads
and tokens and forms every effect (Eq. B.5 as written); it is timed on a part of the neurons and scaled. Times are
processor time on one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clipviz.lens.neurons import Passage
from clipviz.models.clip import ClipModel, wrap
from clipviz.models.second import basis_of, recording_second

LAYER, BATCH, NAIVE_IMAGES, NAIVE_NEURONS, REPEATS = 9, 8, 2, 16, 4


def naive_effects(model: ClipModel, passage: Passage, n_neurons: int) -> Tensor:
    """phi_n of the first neurons, a head and a token at a time, [image, neuron, d_embed], unnormalised."""
    weights, source = model.weights, model.weights.layers[LAYER]
    total = torch.zeros(len(passage.mean), n_neurons, weights.d_embed)
    for k, (later, head) in enumerate(basis_of(weights, LAYER).later):
        target = weights.layers[later]
        for token in range(passage.activations.shape[1]):
            writes = passage.activations[:, token, :n_neurons, None] * source.mlp_output.T[:n_neurons]
            normed = target.ln_gamma * writes * passage.attention[:, k, token, None, None]
            written = normed @ target.value[head].T @ target.output[head].T
            total += (weights.gamma * written / passage.std[:, None, None]) @ weights.projection
    return total


def _best(works: list[Callable[[], Any]], repeats: int = REPEATS) -> list[float]:
    """Best processor time of each, taken in turns."""
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for place, work in enumerate(works):
            started = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - started)
    return best


def run() -> list[dict[str, Any]]:
    """Ratios of this run, a row each: what, measured, budget, ok."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return compare()
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def compare() -> list[dict[str, Any]]:
    """The rows, on the threads that are set."""
    import open_clip
    from open_clip.model import CLIP

    config = open_clip.get_model_config("ViT-B-32")
    torch.manual_seed(0)
    model = wrap(CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"]), name="ViT-B-32")
    images = torch.randn(BATCH, 3, 224, 224)
    few = images[:NAIVE_IMAGES]
    model.second_order(few, LAYER).norms()  # the basis and its Gram are made once a layer
    plain, norms, few_norms = _best(
        [
            lambda: model.encode_images(images),
            lambda: model.second_order(images, LAYER).norms(),
            lambda: model.second_order(few, LAYER).norms(),
        ]
    )
    with recording_second(model.visual, model.weights, [LAYER]) as recorder:
        embedding = model.encode_images(few)
    passage = recorder.passage(LAYER, embedding)
    (naive,) = _best([lambda: naive_effects(model, passage, NAIVE_NEURONS)], repeats=2)
    naive *= basis_of(model.weights, LAYER).n_neurons / NAIVE_NEURONS
    expected = naive_effects(model, passage, NAIVE_NEURONS)
    found = model.second_order(few, LAYER).effects(range(NAIVE_NEURONS), shared=False, normalize=False)
    gap = float((found - expected).norm() / expected.norm())
    return [
        row("norms of all neurons against the plain forward, x", norms / plain, 1.3, norms / plain <= 1.3),
        row("naive form against factored norms, x faster", naive / few_norms, 300, naive / few_norms >= 300),
        row("relative difference of explicit effects", gap, 1e-5, gap <= 1e-5),
    ]


def row(what: str, measured: float, budget: float, ok: bool) -> dict[str, Any]:
    return {"what": what, "measured": measured, "budget": budget, "ok": bool(ok)}


def table(rows: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{'ok  ' if one['ok'] else 'MISS'} {one['measured']:>10.3g} (budget {one['budget']:g})  {one['what']}"
        for one in rows
    )


if __name__ == "__main__":
    print(table(run()))
