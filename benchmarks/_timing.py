"""Times taken in turns, and one row of the printed table."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch


def best(
    works: list[Callable[[], Any]], repeats: int = 4, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Best seconds of each work, taken in turns; processor time by default, so that other work does not count."""
    found = [float("inf")] * len(works)
    for _ in range(repeats):
        for place, work in enumerate(works):
            started = clock()
            work()
            found[place] = min(found[place], clock() - started)
    return found


def row(what: str, measured: float, budget: float, at_least: bool = False) -> dict[str, Any]:
    """Return a measurement beside its budget, an upper bound unless at_least."""
    ok = measured >= budget if at_least else measured <= budget
    return {
        "what": what,
        "measured": measured,
        "budget": f"{'>=' if at_least else '<='} {budget:,g}",
        "ok": ok,
    }


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def random_clip(name: str) -> Any:
    """Return a wrapped open_clip model of a published architecture with random weights."""
    import open_clip
    from open_clip.model import CLIP

    import clipviz

    config = open_clip.get_model_config(name)
    torch.manual_seed(0)
    network = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    return clipviz.wrap(network, name=name)
