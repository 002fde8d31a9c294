"""Fixtures: one JupyterLab, one Chromium, one page and one kernel. `notebook(cell, ...)` runs cells and returns it.

Every call runs its cells in the same page. Where the first cell is that of the call before, its `session` stays and
goes back to its first selection, its panels closed; else everything is closed and forgotten. So tests share what is
slow to start and nothing else. Tests marked `fresh` get a page and a kernel of their own.
Where no Chromium is found the tests are skipped with the reason printed; with CI=true that is a failure.
"""

from __future__ import annotations

import itertools
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

sys.path.insert(0, str(Path(__file__).parent))
from lab import SHUTDOWN, chromium_browser, find_chromium, jupyterlab, open_notebook

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
NUMBERS = itertools.count()


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    found = find_chromium()
    if found is None:
        reason = "no Chromium found; install one (apt-get install chromium, or playwright install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium_browser(found) as browser:
        yield browser


@pytest.fixture(scope="session")
def lab(chromium):
    with jupyterlab() as server:
        yield server


@pytest.fixture(scope="session")
def artifacts():
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


VIEW = {"width": 1500, "height": 1250}
TIMEOUT = 120_000
expect.set_options(timeout=60_000)  # what is expected may wait for a busy kernel


@contextmanager
def notebooks(lab, chromium):
    """A function that opens a notebook of cells in a page and kernel of its own; all shut down at the end."""
    url, folder = lab
    context = chromium.new_context(viewport=VIEW)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = []

    def open_(*cells):
        opened.append(open_notebook(context, url, folder, *cells, name=f"test-{next(NUMBERS)}.ipynb"))
        return opened[-1]

    yield open_
    for made in opened:
        made.page.evaluate(SHUTDOWN)
    context.close()


@pytest.fixture(scope="session")
def shared(lab, chromium):
    """`shared(cell, ...)`: the session's one notebook, showing these cells and nothing else."""
    with notebooks(lab, chromium) as open_:
        kept = []

        def show(*cells):
            if not kept:
                kept.append(open_(*cells))
                return kept[0]
            page = kept[0].page
            page.set_default_timeout(TIMEOUT)
            page.set_viewport_size(VIEW)
            page.mouse.move(0, 0)
            kept[0].show(*cells)
            return kept[0]

        yield show


@pytest.fixture
def notebook(request, lab, chromium):
    if request.node.get_closest_marker("fresh") is None:
        yield request.getfixturevalue("shared")
    else:
        with notebooks(lab, chromium) as open_:
            yield open_
