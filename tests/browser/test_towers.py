"""The whole dashboard on towers without CLIP's class token: every panel and desk works, or says in words why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

TESTS = Path(__file__).parents[1]
OPEN = """import sys
sys.path[:0] = [{root!r}, {tests!r}]
import clipviz
from few_texts import COMMON
from tests.models.families import with_texts
model = with_texts({family!r})
texts = [*COMMON, "a car", "a star"]
session = clipviz.Session(model, clipviz.demo.images().subset(range(24)), texts)
session.select(image=3, text="a dog", layer=model.n_layers - 1, head=1)"""
BOARD = """dashboard = clipviz.Dashboard(session)
dashboard"""
FAMILIES = {"SigLIP": "attention pooling, its MLP", "EVA-02": "class token"}
LINKS = {
    "SigLIP": "sigmoid of 14.3 × cosine − 3.0, each class separately",
    "EVA-02": "softmax of 14.3 × cosine",
}
DESKS = "from clipviz.panels.core.base import DESKS; print(','.join(DESKS))"
ERRORS = """session.wait(120)
every = [*dashboard.panels, *dashboard.desks.built.values()]
print([(panel.name, panel.error) for panel in every if panel.error])"""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_panel_and_desk_works_or_says_why_not(notebook, artifacts, family):
    cell = OPEN.format(root=str(TESTS.parent), tests=str(TESTS), family=family)
    opened = notebook(cell, BOARD)
    page = opened.page
    opened.kernel("session.wait(120, background=True)")
    opened.panel("textspan", complete="true").wait_for()
    expect(opened.panel("receipts")).to_contain_text(f"readout: {FAMILIES[family]}")
    choices = page.get_by_label("What is shown")
    expect(choices.locator('option[value="pool"]')).to_have_count(int(family == "SigLIP"))
    if family == "SigLIP":
        choices.select_option("pool")
        opened.panel("heatmap", show="pool").wait_for()
        drawn = float(opened.panel("heatmap").get_attribute("data-total"))
        assert drawn == pytest.approx(
            float(opened.kernel("print(session.maps.pool('a dog')[1:].sum())")), abs=1e-4
        )
        expect(page.get_by_role("row").filter(has_text="pool").first).to_be_visible()
        page.screenshot(path=str(artifacts / "towers-siglip-pool.png"))
        choices.select_option("effect")
    for name in opened.kernel(DESKS).strip().split(","):
        opened.kernel(f"dashboard.desks.show({name!r}); session.wait(120)")
        panel = opened.panel(name)
        panel.wait_for()
        assert panel.inner_text().strip(), name
        if name == "ablate":
            opened.kernel("dashboard.desks.built['ablate'].classes = 'dog, car'; session.wait(120)")
            expect(panel).to_contain_text(LINKS[family])
        panel.screenshot(path=str(artifacts / f"towers-{family}-{name}.png"))
    assert opened.kernel(ERRORS).strip() == "[]"
    assert not opened.console
