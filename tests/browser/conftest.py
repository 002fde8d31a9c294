"""Fixtures: one JupyterLab, one Chromium, one page a test. `notebook(cell, ...)` opens, runs and returns it.

Where no Chromium is found the tests are skipped with the reason printed; with CI=true that is a failure.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lab import SHUTDOWN, chromium_browser, find_chromium, jupyterlab, open_notebook

ARTIFACTS = Path(__file__).parents[2] / "artifacts"


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


@pytest.fixture
def notebook(lab, chromium):
    url, folder = lab
    context = chromium.new_context(viewport={"width": 1500, "height": 1250})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = []

    def open_(*cells, name="test.ipynb"):
        opened.append(open_notebook(context, url, folder, *cells, name=name))
        return opened[-1]

    yield open_
    for made in opened:
        made.page.evaluate(SHUTDOWN)
    context.close()
