"""Shapes in the lenses' signatures are checked under test, by jaxtyping and beartype."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import config, install_import_hook

# Small tensors everywhere: one thread is the fastest, and it leaves the other core to JupyterLab and Chromium.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CLIPVIZ_CACHE"] = "off"  # nobody's answers from before, none left behind

install_import_hook("clipviz.lens", "beartype.beartype")

# The same examples in every run, and no time limits: other work may share the processor. To look for new ones,
# `pytest --hypothesis-profile=search`.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("clipviz", settings.get_profile("search"), derandomize=True)
settings.load_profile("clipviz")

TESTS = Path(__file__).parent
SLOWEST_FIRST = [
    "browser",
    "mutations",
    "test_notebooks.py",
    "page",
    "reproduce",
    "test_pretend.py",
    "session",
    "panels",
]
SLOWEST_FIRST += ["demo", "indexing", "hostile", "models"]
SHARERS = {
    "panels/test_rosetta.py": "session/test_rosetta.py",  # the dictionary of `tiny_dictionary`
    "page/test_describing.py": "page/test_board.py",  # the folder that is published
}
"""Files -> the file on whose worker they run, for what both take."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items):
    """One group per file, so that a worker makes a file's fixtures once; the longest first, the browser's as one.

    (`pytest --numprocesses=3 --dist=loadgroup --no-loadscope-reorder`: browser and computing tests overlap.)
    """
    order = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(TESTS).parts[0], len(order)))
    for item in items:
        inside = item.path.relative_to(TESTS)
        file = inside.as_posix()
        group = "browser" if inside.parts[0] == "browser" else SHARERS.get(file, file)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def seeded():
    """Numbers that a test draws without a seed of its own are the same whatever ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def unchecked_shapes():
    """Signatures unchecked, so that a wrong shape meets the lens's own error, as it does for users."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def lend():
    """`lend(model, images, texts, as_new=False)`: a context that lends the module's session to one test.

    It comes back to its first selection, with its panels closed; as_new: with nothing computed but what it read of
    its images and texts. A session that a test closed or gave images to is made again.
    """
    import clipviz
    from clipviz.data.recent import Recent
    from clipviz.session import Board
    from clipviz.session.state import REMEMBERED

    kept = []

    @contextmanager
    def lent(model, images, texts, as_new=False):
        session = kept.pop() if kept else clipviz.Session(model, images, texts, background=False)
        n_images = len(session.images)
        yield session
        for panel in list(Board.of(session)._watchers):
            panel.close()
        if not session._state.worker.alive or len(session.images) != n_images:
            session.close()
            return
        session._state.worker.wait(60, background=True)
        while Board.of(session).can_undo:
            session.undo()
        session.view = clipviz.View(session.selection)
        if as_new:
            pool = session.texts.pool()
            session._state._memory, session._state._works = Recent(REMEMBERED), Recent(REMEMBERED)
            session._state.remember("pool", lambda: pool)
        kept.append(session)

    yield lent
    for session in kept:
        session.close()


@pytest.fixture(scope="module")
def few_rotations():
    """Heads are labelled on 20 random rotations, not 200: for modules that show labels and do not ask how sure."""
    from clipviz.analysis.heads import labels

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "N_DRAWS", 20)
        yield


@pytest.fixture(scope="session")
def model():
    """The embedded model on the CPU. Traces leave it as it is, so every test may share it."""
    import clipviz

    return clipviz.load("demo", device="cpu")


@pytest.fixture(scope="session")
def chromium():
    """The run's one Chromium; a second one could not be driven from the same process."""
    from tests.browser.lab import chromium_browser, find_chromium

    found = find_chromium()
    if found is None:
        reason = "no Chromium found; install one (apt-get install chromium, or playwright install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium_browser(found) as browser:
        yield browser
