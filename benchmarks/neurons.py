"""Second-order effects of one layer's neurons: factored norms against the plain forward and the naive form.

ViT-B/32 with random weights, layer 9 of 0..11, two later attention layers. The naive form walks over later heads
and tokens and forms every effect (Eq. B.5 as written); it is timed on a part of the neurons and scaled. Times are
processor time on one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks._timing import best, one_thread, random_clip, row
from clipviz.lens.neurons import Passage
from clipviz.models.clip import ClipModel
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
            total += (written / passage.std[:, None, None]) @ weights.readout.matrices[0]
    return total


def run() -> list[dict[str, Any]]:
    """Return ratios of this run, a row each: what, measured, budget, ok."""
    with one_thread():
        return compare()


@torch.no_grad()
def compare() -> list[dict[str, Any]]:
    """Return the rows, on the threads that are set."""
    model = random_clip("ViT-B-32")
    images = torch.randn(BATCH, 3, 224, 224)
    few = images[:NAIVE_IMAGES]
    model.second_order(few, LAYER).norms()  # the basis and its Gram are made once per layer
    plain, norms, few_norms = best(
        [
            lambda: model.encode_images(images),
            lambda: model.second_order(images, LAYER).norms(),
            lambda: model.second_order(few, LAYER).norms(),
        ],
        REPEATS,
    )
    with recording_second(model.tower, [LAYER]) as recorder:
        embedding = model.encode_images(few)
    recorder.finish_pass()
    passage = recorder.passage(LAYER, embedding)
    (naive,) = best([lambda: naive_effects(model, passage, NAIVE_NEURONS)], repeats=2)
    naive *= basis_of(model.weights, LAYER).n_neurons / NAIVE_NEURONS
    expected = naive_effects(model, passage, NAIVE_NEURONS)
    found = model.second_order(few, LAYER).effects(range(NAIVE_NEURONS), shared=False, normalize=False)
    gap = float((found - expected).norm() / expected.norm())
    return [
        row("norms of all neurons against the plain forward, x", norms / plain, 1.3),
        row("naive form against factored norms, x faster", naive / few_norms, 300, at_least=True),
        row("relative difference of explicit effects", gap, 1e-5),
    ]
