"""Searches of a few steps, for tests that ask what is done with a search and not how good it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from clipviz.analysis.generation import editing as generation
from clipviz.analysis.generation import starts as leaping
from clipviz.session import generation as shared
from clipviz.session import workbench


@contextmanager
def few_starts() -> Iterator[None]:
    """Copies, removals and inversions begin at the best of a few latents.

    How good the best of many is, is for the tests of leaping and of generation.
    """
    trial = replace(leaping.TRIAL, n_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaping, "SOUGHT", (12, 3, 3))
        patch.setattr(leaping, "N_DRAWN", 6)
        patch.setattr(leaping, "TRIAL", trial)
        patch.setattr(generation, "TRIAL", trial)
        patch.setattr(shared, "N_STARTS", 8)
        patch.setitem(generation.LEAPS, "copy", sum(leaping.SOUGHT) // leaping.TOGETHER)
        patch.setitem(generation.LEAPS, "remove", (1 + leaping.N_KEPT) * (trial.n_steps + 1))
        yield


@contextmanager
def few_steps(n: int) -> Iterator[None]:
    """The desk's searches end after n steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench, "LIVE", replace(workbench.LIVE, n_steps=n))
        yield
