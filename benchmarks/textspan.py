"""TextSpan at ViT-L/14 sizes: all 64 heads of the last 4 layers, one head, and Algorithm 1 on the raw matrix.

Random codes with falling variances, 3,498 texts, 60 of them chosen; wall-clock time on the threads that torch has.
The raw form gets one head's effects of 5,000 images in float32; both must choose the same texts in float64.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks._timing import best, row
from clipviz.lens.textspan import textspan_from_covariance

N_HEADS, D_HEAD, D_EMBED, N_POOL, N_TEXTS, N_IMAGES = 64, 64, 768, 3498, 60, 5000


def literally(effects: Tensor, pool: Tensor, n_texts: int) -> list[int]:
    """Algorithm 1 as printed: project every text on the whole matrix, take the best, subtract, repeat."""
    data = effects - effects.mean(0)
    right = torch.linalg.svd(data, full_matrices=False)[2][:D_HEAD]
    texts = pool @ right.T @ right
    order = []
    for _ in range(n_texts):
        best_text = int((texts @ data.T).square().sum(1).argmax())
        order.append(best_text)
        unit = texts[best_text] / texts[best_text].norm()
        data = data - (data @ unit)[:, None] * unit
        texts = texts - (texts @ unit)[:, None] * unit
    return order


@torch.no_grad()
def run() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(1, 0.1, D_HEAD)
    span = torch.linalg.qr(torch.randn(N_HEADS, D_EMBED, D_HEAD, generator=generator))[0]
    mixing = torch.linalg.qr(torch.randn(N_HEADS, D_HEAD, D_HEAD, generator=generator))[0]
    pool = torch.randn(N_POOL, D_EMBED, generator=generator)
    codes = torch.randn(N_IMAGES, D_HEAD, generator=generator) * spread @ mixing[0].T
    codes = codes - codes.mean(0)
    covariance = torch.einsum("hab,b,hcb->hac", mixing, spread.square(), mixing).contiguous()
    covariance[0] = codes.T @ codes / N_IMAGES
    every, one = best(
        [
            lambda: textspan_from_covariance(covariance, span, pool, N_TEXTS),
            lambda: textspan_from_covariance(covariance[:1], span[:1], pool, N_TEXTS),
        ],
        clock=time.perf_counter,
    )
    effects = codes @ span[0].T
    (raw,) = best([lambda: literally(effects, pool, N_TEXTS)], repeats=1, clock=time.perf_counter)
    exact = textspan_from_covariance(covariance[:1].double(), span[:1].double(), pool.double(), N_TEXTS)
    same = exact.order[0].tolist() == literally(effects.double(), pool.double(), N_TEXTS)
    return [
        row("TextSpan of 64 heads, pool 3498, 60 texts, s", every, 1.0),
        row("TextSpan of one head, ms", 1e3 * one, 30),
        row(
            "Algorithm 1 on the raw matrix against one of 64 factored heads, x",
            raw / (every / N_HEADS),
            300,
            True,
        ),
        row("the same texts in the same order in float64 (1 yes)", float(same), 1, True),
    ]
