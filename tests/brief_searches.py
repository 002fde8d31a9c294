"""Searches of a few steps, for tests that ask what is done with a search and not how good it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from clipviz.analysis.generation import editing, inversion, starts
from clipviz.session.topics import workbench


@contextmanager
def few_starts() -> Iterator[None]:
    """Copies, removals and inversions begin at the best of a few latents.

    How good the best of many is, is for the tests of starts and of edits.
    """
    trial = replace(starts.TRIAL, n_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starts, "SOUGHT", (12, 3, 3))
        patch.setattr(starts, "N_DRAWN", 6)
        patch.setattr(starts, "TRIAL", trial)
        patch.setattr(inversion, "TRIAL", trial)
        patch.setattr(inversion, "N_STARTS", 8)
        patch.setitem(editing.START_STEPS, "copy", sum(starts.SOUGHT) // starts.TOGETHER)
        patch.setitem(editing.START_STEPS, "remove", (1 + starts.N_KEPT) * (trial.n_steps + 1))
        yield


@contextmanager
def few_steps(n: int) -> Iterator[None]:
    """The desk's searches end after n steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench, "LIVE", replace(workbench.LIVE, n_steps=n))
        yield
