"""tools/page/compare.py, with which larger models are compared, on a tiny CLIPA."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.models.families import with_texts
from tests.page.sites import NEEDS_EXPORTER
from tools.page import compare

pytestmark = NEEDS_EXPORTER

CLOSE = 1e-5


def pictures(n: int) -> list[Image.Image]:
    draw = np.random.default_rng(3)
    return [Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(n)]


def test_page_and_python_agree():
    pool = [
        f"{thing} number {i}" for i in range(6) for thing in ("a swan", "the sea", "a red boat", "two owls")
    ]
    found = compare.compare(with_texts("CLIPA"), pictures(24), pool, 4, "float16")
    for name in ("embedding", "heads", "mlps", "tokens", "cosine"):
        assert found.difference[name] < CLOSE, name
    same, n_heads = found.heads_described
    assert same == n_heads
    assert found.gain < CLOSE
    assert len(found.accuracies) == 6
    assert found.n_same_accuracies == 6
    assert found.ties == []
    assert len({python for python, _ in found.accuracies}) > 1
    assert CLOSE < found.rounded["tokens"] < 0.1  # rounding the weights changes more than the page does
    assert found.rounded["cosine"] > found.difference["cosine"]
    cells = compare.row("CLIPA", "float16", found)
    assert len(cells) == len(compare.COLUMNS)
    assert cells[-3:-1] == (f"{found.gain:.0e}", "6 of 6")
