"""A JupyterLab and a Chromium as context managers, and a notebook open in both: for tests and benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import nbformat  # takes seconds to import, so the functions below do it: every worker reads this file

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera, which the machines of tests lack
    "--use-fake-ui-for-media-stream",  # the shell without windows cannot ask whether a page may use it
]

READY = """async path => {
  const nap = () => new Promise(r => setTimeout(r, 20));
  while (!window.jupyterapp) await nap();
  const app = window.jupyterapp; await app.restored;
  let w; while (!((w = app.shell.currentWidget) && w.context && w.context.path === path)) await nap();
  await w.context.ready; await w.revealed; await w.sessionContext.ready;
  while (w.sessionContext.session?.kernel?.status !== 'idle') await nap();
}"""
RUN = r"""async () => { const app = window.jupyterapp; await app.commands.execute('notebook:run-all-cells');
  return app.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code').map(c => ({
    n: c.model.executionCount,
    err: c.model.outputs.toJSON().filter(o => o.output_type === 'error')
      .map(o => (o.traceback || []).join('\n') || o.evalue)})); }"""
EXECUTE = r"""async code => {
  const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const f = k.requestExecute({code, store_history: false}); let out = '', err = null;
  f.onIOPub = m => { if (m.header.msg_type === 'stream') out += m.content.text;
    if (m.header.msg_type === 'error') err = m.content.ename + ': ' + m.content.evalue; };
  await f.done; return [out.replace(/[^\n]*\r(?!\n)/g, ''), err]; }"""
SHUTDOWN = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"
# Counts what the page sends to the kernel from now on; may be asked for again in the same page.
MESSAGES = """() => { window.sent = 0; if (window.counting) return; window.counting = true;
  const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  k.anyMessage.connect((_, m) => { if (m.direction === 'send') window.sent += 1; }); }"""
REPLACE = """async cells => { const w = window.jupyterapp.shell.currentWidget; w.context.model.fromJSON(cells);
  w.content.node.scrollTop = 0; }"""
# Every panel closed, the session as it was at its first selection.
CLEAR = """import ipywidgets
session.close = lambda: None  # which a dashboard that closes would call
ipywidgets.Widget.close_all()
del session.close
while session._history.can_undo:
    session.undo()
session._options.known = {}
session.wait(60)"""
TOP = """() => { window.jupyterapp.shell.currentWidget.content.node.scrollTop = 0;
  document.activeElement?.blur(); }"""
# The view that the board opened with, desks built since closed.
BACK = """while session._history.can_undo:
    session.undo()
session.view = opened_at
for name in set(dashboard.desks.built) - {dashboard.desks.shown}:
    dashboard.desks.built.pop(name).close()
session.wait(60)"""
# What the panels show and hold; not what they count, say aloud, or are marked with by JupyterLab.
SHOWN = r"""() => [...document.querySelectorAll('[data-panel]')].map((panel) => {
  const controls = [...panel.querySelectorAll('input, select, textarea')].map((one) => `${one.value} ${one.checked}`);
  const scrolled = [...panel.querySelectorAll('*')].filter((one) => one.scrollTop || one.scrollLeft).length;
  const copy = panel.cloneNode(true);
  for (const name of ['seq', 'drawn', 'painted', 'busy', 'hover', 'lost', 'mapOf']) delete copy.dataset[name];
  copy.querySelectorAll('[hidden], .tip, [aria-live], [role=status]').forEach((one) => one.remove());
  const passing = /blob:[^"')]+|cv-roles-\w+|\d+ ms| style=""| data-(lm|spoken)[^ >]*="[^"]*"/g;
  return [controls.join('\n'), scrolled, copy.outerHTML.replace(passing, '')].join('\n'); })"""
# Every session closed (panels, worker), every variable and shown value of the user's forgotten.
FORGET = """import gc, sys
for item in gc.get_objects() if "clipviz.session.session" in sys.modules else ():
    if type(item) is sys.modules["clipviz.session.session"].Session:
        item.close()
item = None
get_ipython().reset()
import gc
gc.collect()"""


# A shell without windows and menus comes first: the same pages with an eighth less computing.
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


def find_chromium() -> str | None:
    named = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named:
        return named
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        bundled = playwright.chromium.executable_path
    return bundled if Path(bundled).exists() else None


@contextmanager
def chromium_browser(path: str) -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(folder: Path) -> None:
    """A quiet Lab: no news, no autosave, every cell in the page."""
    wanted = {
        "@jupyterlab/apputils-extension/notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
            "doNotDisturbMode": True,
        },
        "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
        "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    }
    for plugin, values in wanted.items():
        target = folder / f"{plugin}.jupyterlab-settings"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(values))


def environment_in(own: Path) -> dict[str, str]:
    """An environment in which Jupyter keeps to a folder."""
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "run"),
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }


@contextmanager
def jupyterlab(**variables: str) -> Iterator[tuple[str, Path]]:
    """A quiet JupyterLab in a folder of its own: its address and its notebooks' folder.

    variables: of the kernels' environment.
    """
    root = Path(tempfile.mkdtemp(prefix="clipviz-lab-"))
    notebooks, own = root / "notebooks", root / "own"
    notebooks.mkdir()
    settings(own / "settings")
    port = free_port()
    environment = environment_in(own) | variables
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += ["--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={notebooks}"]
    command += [
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None",
        "--LabApp.extension_manager=readonly",
    ]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += [f"--LabApp.user_settings_dir={own}/settings", f"--LabApp.workspaces_dir={own}/workspaces"]
    log = root / "lab.log"
    with log.open("w") as sink:
        server = subprocess.Popen(command, env=environment, stdout=sink, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    for _ in range(480):
        try:
            with urllib.request.urlopen(url + "/api/status", timeout=1):
                break
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
    else:
        raise RuntimeError("JupyterLab did not start: " + log.read_text())
    try:
        yield url, notebooks
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(root, ignore_errors=True)


class Notebook:
    """A notebook open in the browser: .page (Playwright), .kernel(code) -> printed text, .console (errors)."""

    def __init__(self, page, cells: tuple[str, ...] = ()) -> None:
        self.page = page
        self.cells = cells
        self.noted: list[str] = []
        self.console: list[str] = []
        page.on("console", lambda message: message.type == "error" and self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))

    def show(self, *cells: str) -> None:
        """Run other cells in the page and kernel that are there.

        When these ran before and what they showed was noted, it stays where it can be brought back to that. When the
        first cell, which makes `session`, is the one that ran before, the session stays, with its panels closed and
        its first selection; else nothing is left of what ran before.
        """
        if cells == self.cells and self.noted and self.returned():
            return
        self.noted = []
        kept = len(cells) > 1 and self.cells[:1] == cells[:1]
        self.page.evaluate(REPLACE, document([]))
        self.kernel(CLEAR if kept else FORGET)
        self.console.clear()
        self.page.evaluate(REPLACE, document(cells[kept:]))
        self.cells = cells
        self.run_all()

    def note(self) -> None:
        """Note what the board shows, now that it is at rest, so that the next test may begin with it."""
        if not self.noted:
            self.kernel("opened_at = session.view\nsession.wait(120, background=True)")
            before = None
            while before != (shown := self.page.evaluate(SHOWN)):
                before = shown
                self.page.wait_for_timeout(100)
            self.noted = shown

    def returned(self) -> bool:
        """Whether the panels show and hold again what was noted, to the last letter."""
        from playwright.sync_api import TimeoutError

        self.page.evaluate(TOP)
        self.kernel(BACK)
        try:
            same = f"(noted) => JSON.stringify(({SHOWN})()) === JSON.stringify(noted)"
            self.page.wait_for_function(same, arg=self.noted, timeout=500, polling=50)
        except TimeoutError:
            return False
        self.console.clear()
        return True

    def run_all(self) -> None:
        cells = self.page.evaluate(RUN)
        assert cells, "no code cell"
        assert all(cell["n"] and not cell["err"] for cell in cells), cells

    def kernel(self, code: str) -> str:
        """What the code prints, as it is left on screen: a wait's line gives way to what comes next."""
        output, error = self.page.evaluate(EXECUTE, code)
        assert error is None, error
        return "\n".join(line.rpartition("\r")[2] for line in output.split("\n"))

    def panel(self, name: str, **data: object):
        """Locator of a panel whose data-* attributes have these values."""
        dashed = {"".join(f"-{c.lower()}" if c.isupper() else c for c in key): v for key, v in data.items()}
        wanted = "".join(f'[data-{key}="{value}"]' for key, value in dashed.items())
        return self.page.locator(f'[data-panel="{name}"]{wanted}')


def document(cells: Sequence[str]) -> nbformat.NotebookNode:
    """A notebook of these code cells for the kernel of this Python."""
    import nbformat

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def open_notebook(context: Any, url: str, folder: Path, *cells: str, name: str = "test.ipynb") -> Notebook:
    """Write a notebook of code cells, open it in a new page, run every cell."""
    import nbformat

    nbformat.write(document(cells), folder / name)
    page = context.new_page()
    page.set_default_timeout(120_000)
    made = Notebook(page, cells)
    page.goto(f"{url}/lab/tree/{name}?reset")
    page.evaluate(READY, name)
    made.run_all()
    return made
