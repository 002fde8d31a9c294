"""Shapes in the lenses' signatures are checked under test, by jaxtyping and beartype."""

from __future__ import annotations

import os

import pytest
from jaxtyping import config, install_import_hook

# Small tensors everywhere: one thread is the fastest, and it leaves the other core to JupyterLab and Chromium.
os.environ.setdefault("OMP_NUM_THREADS", "1")

install_import_hook("clipviz.lens", "beartype.beartype")


@pytest.fixture
def unchecked_shapes():
    """Signatures unchecked, so that a wrong shape meets the lens's own error, as it does for users."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def model():
    """The embedded model on the CPU. Traces leave it as it is, so every test may share it."""
    import clipviz

    return clipviz.load("demo", device="cpu")
