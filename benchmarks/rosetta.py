"""Rosetta correlation: the adjoint form against upsample-then-correlate, as a ratio in one run; a dictionary opened.

The baseline forms every upsampled map and multiplies at the larger size; both get the same batches, threads and
precision. 56x56 against 14x14 maps.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._timing import best, row
from clipviz.data import dictionary
from clipviz.lens.rosetta import CorrelationSums
from clipviz.values import Concepts

CASES = ((256, 768, 16, 4.0), (2000, 3000, 8, 8.0))  # units a, units b, images, budget


def upsample_then_correlate(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Eq. 4.2 the plain way: upsampled maps, float32 products, float64 totals."""
    total: list[Any] = [0, 0, 0, 0, 0, 0]
    for maps_a, maps_b in batches:
        maps_b = F.interpolate(maps_b, size=maps_a.shape[2:], mode="bilinear", align_corners=False)
        flat_a, flat_b = maps_a.transpose(0, 1).flatten(1), maps_b.transpose(0, 1).flatten(1)
        parts = (
            flat_a.sum(1),
            flat_b.sum(1),
            flat_a.square().sum(1),
            flat_b.square().sum(1),
            flat_a @ flat_b.T,
        )
        total = [t + part.double() for t, part in zip(total, parts, strict=False)] + [
            total[5] + flat_a.shape[1]
        ]
    sum_a, sum_b, square_a, square_b, cross, n = total
    scale_a, scale_b = (square_a - sum_a**2 / n).rsqrt(), (square_b - sum_b**2 / n).rsqrt()
    return ((cross - sum_a[:, None] * sum_b / n) * scale_a[:, None] * scale_b).float()


def adjoint_form(batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the product's own path."""
    sums = CorrelationSums(batches[0][0].shape[1], batches[0][1].shape[1])
    for maps_a, maps_b in batches:
        sums.update(maps_a, maps_b)
    return sums.correlation()


def compare(n_a: int, n_b: int, n_images: int, repeats: int = 3) -> tuple[float, float]:
    """Best-of-repeats time ratio and the largest difference of the two tables."""
    draw = torch.Generator().manual_seed(0)
    maps_a = torch.randn(n_images, n_a, 56, 56, generator=draw).relu_()
    maps_b = torch.randn(n_images, n_b, 14, 14, generator=draw).relu_()
    batches = list(zip(maps_a.split(8), maps_b.split(8), strict=True))
    slow, fast = best(
        [lambda: upsample_then_correlate(batches), lambda: adjoint_form(batches)], repeats, time.perf_counter
    )
    difference = (upsample_then_correlate(batches) - adjoint_form(batches)).abs().max()
    return slow / fast, float(difference)


MEMORY_PROBE = """
import torch
from clipviz.lens.rosetta import CorrelationSums
peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.set_num_threads(1)
maps = torch.rand(2, 10_000, 4, 4)
CorrelationSums(8, 8).update(maps[:, :8], maps[:, :8]).neighbours(5)
before = peak()
CorrelationSums(10_000, 10_000).update(maps, maps).neighbours(5).pairs()
print((peak() - before) * 1024)
"""


def peak_memory() -> float:
    """Return bytes that 10,000 x 10,000 units take at their peak, from the sums to the pairs, in a fresh process
    (Linux).
    """
    finished = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE], capture_output=True, text=True, check=True
    )
    return float(finished.stdout)


def opening() -> float:
    """Milliseconds to open a saved dictionary of 1,000 concepts of three models."""
    n, draw = 1000, np.random.default_rng(0)
    concepts = Concepts(
        models=("clip", "cnn", "vit"),
        layers=((("layer", 7),), (("stage", 5),), (("block", 5),)),
        units=draw.integers(0, 5, (n, 3)),
        correlation=draw.random((n, 3), np.float32),
        heldout=draw.random((n, 3), np.float32),
        cluster=np.arange(n),
        examples=draw.integers(0, 100, (n, 12)),
        n_pairs=np.zeros(3, np.int64),
        n_chance=np.zeros(3, np.int64),
        threshold=np.zeros(3, np.float32),
        labels=tuple(f"name {i}" for i in range(n)),
    )
    with tempfile.TemporaryDirectory() as folder:
        dictionary.save(concepts, folder)
        (seconds,) = best([lambda: dictionary.load(folder)], repeats=5, clock=time.perf_counter)
    return 1e3 * seconds


def run() -> list[dict[str, Any]]:
    """Return one row per budget: what, measured, budget, ok."""
    rows = []
    for n_a, n_b, n_images, budget in CASES:
        ratio, difference = compare(n_a, n_b, n_images, repeats=3 if n_a < 1000 else 2)
        name = f"{n_a} x 56x56 against {n_b} x 14x14 units"
        rows += [
            row(f"{name}: times faster", ratio, budget, at_least=True),
            row(f"{name}: difference", difference, 1e-5),
        ]
    stated = (8 * 10_000 + 20 * 1024) * 10_000 + 64e6  # the formula, and 64 MB for the maps
    rows.append(row("opening a dictionary of 1,000 concepts, ms", opening(), 30))
    return [*rows, row("10,000 x 10,000 units: peak GB", peak_memory() / 1e9, stated / 1e9)]
