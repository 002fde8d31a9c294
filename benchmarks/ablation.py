"""Ablating heads over an indexed collection: ViT-L/14 sizes, 50,000 images, 1,000 classes.

Codes are random and in half precision, as an index keeps them; the unablated logits are in memory, as a session keeps
them. The naive way forms the effect of every ablated head in the embedding and classifies again; it is timed on a part
of the images and scaled. Times are processor time on one thread, so that other work on the machine does not count,
halved for the two cores that the budget speaks of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks._timing import best, one_thread, row
from clipviz.lens import ablate, headset, subsets
from clipviz.lens.ablate import Terms
from clipviz.values import Ablation, Codes, Head, HeadBasis

N_IMAGES, N_CLASSES, CORES, REPEATS = 50_000, 1_000, 2, 3
LAYERS, N_HEADS, D_HEAD, D_EMBED = (20, 21, 22, 23), 16, 64, 768
NAIVE_IMAGES = 2_000
SETS = (1, 8, 16, 32, 38, 48, 64)
BUDGET = 1.5


def collection(n_images: int = N_IMAGES) -> Terms:
    """Return terms of ViT-L/14's last four layers with random numbers."""
    torch.manual_seed(0)
    n_layers = len(LAYERS)
    codes = torch.empty(n_images, n_layers, N_HEADS, D_HEAD, dtype=torch.float16)
    for part in codes.split(4096):
        part.copy_(torch.randn(part.shape))
    kept = Codes(codes, torch.zeros(n_images), torch.ones(n_images), torch.randn(n_images, D_EMBED), LAYERS)
    basis = HeadBasis(
        torch.randn(n_layers, N_HEADS, D_HEAD, D_EMBED) / D_EMBED**0.5,
        torch.zeros(n_layers, D_EMBED),
        torch.zeros(D_EMBED),
        torch.zeros(D_EMBED),
        LAYERS,
    )
    return Terms(kept, basis)


def naive(terms: Terms, heads: list[Head], classes: Tensor, means: Tensor) -> Tensor:
    """Return every head's effect formed and removed from the embedding, head after head."""
    after = terms.embedding.clone()
    for layer, head in heads:
        after -= headset.summed_effects(terms.codes, terms.basis, [(layer, head)]) - means
    return (after @ classes.T).argmax(1)


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Best processor time of one work, over the cores of the budget."""
    return best([work], repeats)[0] / CORES


@torch.inference_mode()
def measure() -> list[dict[str, Any]]:
    terms = ablate.with_rest(collection())
    classes = torch.nn.functional.normalize(torch.randn(N_CLASSES, D_EMBED), dim=1)
    means, logits = ablate.means_of(terms), terms.embedding @ classes.T
    heads = headset.all_heads(terms.codes)
    order = torch.randperm(len(heads), generator=torch.Generator().manual_seed(0)).tolist()
    rows = []
    for n_heads in SETS:
        chosen = [heads[i] for i in order[:n_heads]]
        ablation = Ablation(heads=frozenset(chosen))
        took = seconds(lambda a=ablation: ablate.predict_after(terms, a, classes, means, logits))  # type: ignore[misc]
        rows.append(row(f"ablating {n_heads} of 64 heads, 50,000 images x 1,000 classes, s", took, BUDGET))
    part = terms.select(slice(0, NAIVE_IMAGES))
    chosen = [heads[i] for i in order[:8]]
    shift = torch.zeros(D_EMBED)
    slow = seconds(lambda: naive(part, chosen, classes, shift), 2) * N_IMAGES / NAIVE_IMAGES
    fast = rows[SETS.index(8)]["measured"]
    rows.append(row("8 heads: naive over factored, x", slow / fast, 1, at_least=True))
    one = terms.select([0])
    took = seconds(
        lambda: subsets.subset_logits(ablate.with_rest(one), 0, classes, mlps=(0,), means=None, how="zero"), 5
    )
    rows.append(row("what the browser needs to toggle one image's heads, ms", 1e3 * took, 100))
    return rows


def run() -> list[dict[str, Any]]:
    """Return measurements of this run, a row each: what, measured, budget, ok."""
    with one_thread():
        return measure()
