"""Torch threads for small passes that run while a browser paints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Step = TypeVar("Step")


@contextmanager
def spare_core() -> Iterator[None]:
    """Run torch with one thread fewer, but at least one, inside the block.

    Threads wait for each other at the end of every operation. If a browser occupies one of their cores to paint,
    all of them stall, and small passes take many times as long as on the free cores alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def with_spare_core(steps: Iterator[Step]) -> Iterator[Step]:
    """Yield the same steps, each computed inside `spare_core`; between them torch has all its threads."""
    while True:
        with spare_core():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step
