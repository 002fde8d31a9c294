"""The board in other hosts than JupyterLab: Notebook 7, Voila, marimo, and a notebook exported with its saved page.

A host that is not installed is skipped, with the reason printed. Notebook 7 and Voila are served by the run's own
JupyterLab; Notebook 7 shows the kernel that is there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import urllib.request

import pytest
from playwright.sync_api import expect

from browser.lab import document, free_port
from browser.test_dashboard import BOARD, SMALL, open_board, type_text

MAP = "() => document.querySelector('[data-panel=heatmap] canvas.map').toDataURL()"
# marimo draws in shadow roots, which a selector of the page does not enter.
DEEP_MAP = """() => { const find = (root) => { for (const one of root.querySelectorAll('*')) {
    if (one.matches('canvas.map')) return one; const found = one.shadowRoot && find(one.shadowRoot);
    if (found) return found; } return null; }; return find(document).toDataURL(); }"""
MARIMO = f"""import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    {SMALL.replace(chr(10), chr(10) + "    ")}
    session.select(layer=5, head=0, text="a flamingo")
    return clipviz, mo, session


@app.cell
def _(clipviz, session):
    dashboard = clipviz.Dashboard(session)
    dashboard
    return


@app.cell
def _(clipviz, mo, session):
    panel = mo.ui.anywidget(clipviz.panels.Heads(session))
    mo.hstack([panel, mo.ui.slider(1, 10)])
    return (panel,)


@app.cell
def _(mo, panel):
    mo.md(f"Chosen: {{panel.value['layer']}} and {{panel.value['head']}}")
    return


if __name__ == "__main__":
    app.run()
"""


def needs(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed; pip install {name} lets this test run")


class Shown:
    """A page of a host, with what `Notebook` has for tests that drive panels."""

    def __init__(self, page, drawing=MAP):
        self.page, self.drawing, self.console = page, drawing, []
        page.set_default_timeout(120_000)
        page.on("console", lambda message: message.type == "error" and self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))

    def panel(self, name, **data):
        return self.page.locator(
            f'[data-panel="{name}"]' + "".join(f'[data-{k}="{v}"]' for k, v in data.items())
        )

    def answers(self, theme="light"):
        """A click on a head changes the map, a typed text answers, every panel has the theme, nothing complains."""
        self.panel("heads", ready="true").first.wait_for()
        self.panel("heatmap", ready="true").wait_for()
        assert not [said for said in self.console if re.search("anywidget|clipviz", said)]
        self.console.clear()  # what a host says of itself while it starts
        self.page.get_by_role("button", name="Head L5·H0").click()
        self.panel("heatmap", scope="head").wait_for()
        before = self.page.evaluate(self.drawing)
        self.panel("heads").first.locator('button[data-layer="4"][data-head="2"]').click()
        self.panel("heatmap", layer=4, head=2).wait_for()
        assert self.page.evaluate(self.drawing) != before
        type_text(self, "Text A", "a red circle")
        self.panel("heads", text="a red circle").first.wait_for()
        self.panel("heatmap", text="a red circle").wait_for()
        themes = self.page.locator("section.cv").evaluate_all("(all) => all.map((one) => one.dataset.theme)")
        assert set(themes) == {theme}
        assert not self.console


@pytest.fixture
def shown(chromium):
    contexts = []

    def open_page(drawing=MAP, **how):
        contexts.append(chromium.new_context(viewport={"width": 1400, "height": 1200}, **how))
        return Shown(contexts[-1].new_page(), drawing)

    yield open_page
    for context in contexts:
        context.close()


def test_notebook_7_shows_the_board(notebook, lab, shown):
    needs("notebook")
    open_board(notebook).page.evaluate(
        "async () => { await window.jupyterapp.commands.execute('docmanager:save'); }"
    )
    page = shown()
    page.page.goto(f"{lab[0]}/notebooks/test.ipynb")
    page.answers()


@pytest.mark.apart
def test_voila_shows_the_board_in_the_dark(lab, shown):
    import nbformat

    needs("voila")
    nbformat.write(document([SMALL, BOARD]), lab[1] / "voila.ipynb")
    page = shown()
    page.page.goto(f"{lab[0]}/voila/render/voila.ipynb?theme=dark", timeout=120_000)
    page.answers("dark")


@pytest.mark.apart
def test_marimo_shows_the_board_and_a_panel_in_a_row(shown, tmp_path):
    needs("marimo")
    (tmp_path / "board.py").write_text(MARIMO)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "marimo",
        "-q",
        "run",
        "board.py",
        "--headless",
        "--no-token",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)})
    try:
        page = shown(DEEP_MAP, color_scheme="dark")  # marimo is light unless it is told
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1).close()
                break
            except OSError:
                page.page.wait_for_timeout(200)
        page.page.goto(f"http://127.0.0.1:{port}")
        page.answers()
        beside = page.panel("heads").nth(1)
        assert beside.evaluate("(one) => one.clientWidth") > 300
        beside.locator('button[data-layer="3"][data-head="6"]').click()
        page.panel("heatmap", layer=3, head=6).wait_for()
        expect(page.page.get_by_text("Chosen: 3 and 6")).to_be_visible()
        page.page.locator('.cv-desks-bar button[data-name="words"]').click()
        page.panel("words").wait_for()
        assert page.panel("images").locator(".tile").first.evaluate("(one) => one.clientHeight") > 20
        assert not page.console
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def exported(board, tmp_path, monkeypatch):
    """The board as `jupyter nbconvert --to html --execute` leaves it: the output of an unattended run, exported."""
    pytest.importorskip("nbconvert")
    from nbconvert import HTMLExporter
    from nbformat.v4 import new_output

    board.session.select(text="a flamingo", image=3, layer=4, head=2)
    monkeypatch.setattr(board, "_answered", False)
    made = document([BOARD])
    made.cells[0].outputs = [new_output("display_data", board._repr_mimebundle_())]
    place = tmp_path / "board.html"

    def write(theme):
        place.write_text(HTMLExporter(theme=theme).from_notebook_node(made)[0], encoding="utf-8")
        return place.as_uri()

    return write


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_exported_notebook_answers_what_is_stored_without_a_network(exported, shown, artifacts, theme):
    page = shown(color_scheme="light", offline=True)
    page.page.goto(exported(theme), wait_until="commit")
    frame = page.page.frame_locator(".clipviz-output iframe")
    heads, heatmap = (frame.locator(f'[data-panel="{name}"]') for name in ("heads", "heatmap"))
    expect(heads).to_have_attribute("data-ready", "true")
    expect(heatmap).to_have_attribute("data-theme", theme)
    frame.get_by_role("button", name="Head L4·H2").click()
    before = heatmap.locator("canvas.map").evaluate("(canvas) => canvas.toDataURL()")
    heads.locator('button[data-layer="5"][data-head="1"]').click()
    expect(heatmap).to_have_attribute("data-layer", "5")
    assert heatmap.locator("canvas.map").evaluate("(canvas) => canvas.toDataURL()") != before
    unstored = heads.locator('button[data-layer="1"][data-head="1"]').bounding_box()
    page.page.mouse.click(unstored["x"] + 9, unstored["y"] + 9)
    expect(frame.locator(".cv-asked")).to_be_visible()  # it needs Python, which is said
    expect(heatmap).to_have_attribute("data-layer", "5")
    inside, high = page.page.locator(".clipviz-output iframe").evaluate(
        "(one) => [one.contentDocument.documentElement.scrollHeight, one.clientHeight]"
    )
    assert inside == pytest.approx(high, abs=2)  # nothing to scroll in the frame
    page.page.screenshot(path=artifacts / f"exported-{theme}.png", full_page=True)
    own = [said for said in page.console if not re.search(r"ERR_INTERNET_DISCONNECTED|require|MathJax", said)]
    assert not own  # the exporter itself asks for scripts that the board does not need


def test_a_viewer_without_scripts_shows_pictures(exported, shown):
    page = shown(java_script_enabled=False, offline=True)
    page.page.goto(exported("light"), wait_until="commit")
    pictures = page.page.locator(".clipviz-output img")
    expect(pictures).to_have_count(3)
    assert pictures.first.bounding_box()["width"] > 200
    expect(page.page.get_by_text("this viewer runs no scripts")).to_be_visible()
