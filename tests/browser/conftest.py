"""Fixtures: one JupyterLab, one Chromium, one page and one kernel. `notebook(cell, ...)` runs cells and returns it.

Every call runs its cells in the same page. Where the first cell is that of the call before, its `session` stays and
goes back to its first selection, its panels closed; else everything is closed and forgotten. A board stays where it
comes back to what it showed and held at first, to the last letter (`Notebook.note`). So tests share what is slow to
start and nothing else. A test that closes its session or restarts the kernel says so in its first cell, which
is then no other test's; it is marked `apart`, as is every test that opens a session of its own between others.
Where no Chromium is found the tests are skipped with the reason printed; with CI=true that is a failure.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

sys.path.insert(0, str(Path(__file__).parent))
from lab import SHUTDOWN, jupyterlab, open_notebook

ARTIFACTS = Path(__file__).parents[2] / "artifacts"


def pytest_collection_modifyitems(items):
    """Tests of one session follow each other, and those that open another come last, so that few are opened."""
    places = [place for place, item in enumerate(items) if Path(__file__).parent in item.path.parents]
    ours = [items[place] for place in places]
    sessions = list(dict.fromkeys(map(session_of, ours)))
    ours.sort(
        key=lambda item: (item.get_closest_marker("apart") is not None, sessions.index(session_of(item)))
    )
    for place, item in zip(places, ours, strict=True):
        item.add_marker(pytest.mark.browser)
        items[place] = item


def session_of(item):
    """The first cell of a module's notebooks; its name where it has no session, or one of its own."""
    from browser import test_dashboard

    known = vars(item.module)
    return known.get("SESSION", test_dashboard.SESSION if "dashboard" in known else item.path.name)


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """The run's own JupyterLab, whose sessions keep what they read of the same images for each other."""
    with jupyterlab(CLIPVIZ_CACHE=str(tmp_path_factory.mktemp("cache"))) as server:
        yield server


@pytest.fixture(scope="session")
def board():
    """A board on 40 of the demo's images, half of them of birds, for pages that are saved from this process."""
    import clipviz

    demo = clipviz.demo.images()
    birds = [i for i, group in enumerate(demo.attributes["bird group"]) if group][:20]
    session = clipviz.Session(clipviz.load("demo", device="cpu"), demo.subset([*range(20), *birds]), "demo")
    session.select(text="a flamingo", image=3, layer=4, head=2)
    made = clipviz.Dashboard(session)
    session.wait(120, background=True)
    yield made
    made.close()


@pytest.fixture(scope="session")
def artifacts():
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS


VIEW = {"width": 1500, "height": 1250}
TIMEOUT = 120_000
expect.set_options(timeout=60_000)  # what is expected may wait for a busy kernel


@pytest.fixture(scope="session")
def notebook(lab, chromium):
    """`notebook(cell, ...)`: the session's one notebook, showing these cells and nothing else."""
    url, folder = lab
    # A bar that moves while a panel waits is drawn 60 times a second.
    context = chromium.new_context(viewport=VIEW, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    kept = []

    def show(*cells):
        if not kept:
            kept.append(open_notebook(context, url, folder, *cells))
            return kept[0]
        page = kept[0].page
        page.set_default_timeout(TIMEOUT)
        page.set_viewport_size(VIEW)
        page.mouse.move(0, 0)
        kept[0].show(*cells)
        return kept[0]

    yield show
    for made in kept:
        made.page.evaluate(SHUTDOWN)
    context.close()
