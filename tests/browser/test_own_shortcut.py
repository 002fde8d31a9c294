"""A folder of one's own with a metadata.csv, in a real JupyterLab: group rows, a typed shortcut, a given role."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect
from waterbirds import write_birds

from browser.test_ablate import settle

SHOWN = """from clipviz.panels.ablate.panel import Ablate
from clipviz.panels.textspan.panel import TextSpan
from IPython.display import display
panel, spans = Ablate(session), TextSpan(session, n_texts=6)
display(spans, panel)"""


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    write_birds(folder)
    return folder


@pytest.fixture
def desk(notebook, birds):
    opened = notebook(
        f"import clipviz\nsession = clipviz.Session(clipviz.load('demo', device='cpu'), images={str(birds)!r})",
        SHOWN,
    )
    opened.panel("ablate", complete="true", measured=0, task="birds").wait_for()
    return opened


def test_groups_shortcut_and_role_of_ones_own(desk):
    page, ablate = desk.page, desk.page.locator('[data-panel="ablate"]')
    lines = ablate.locator(".line .group")
    expect(lines).to_have_count(6)
    kinds = [f"{bird} on {place}" for bird in ("landbird", "waterbird") for place in ("land", "water")]
    assert sorted(lines.all_inner_texts()) == sorted(["all images", "worst group", *kinds])
    expect(ablate.locator('.preset[data-kind="shortcut"]')).to_contain_text("heads that tell water from land")
    page.get_by_label("First text of the shortcut").fill("the <b>sea</b>")
    page.get_by_label("First text of the shortcut").press("Enter")
    expect(ablate.locator(".shortcut small")).to_have_text("type both texts")
    page.get_by_label("Second text of the shortcut").fill("a forest")
    page.get_by_label("Second text of the shortcut").press("Enter")
    preset = ablate.locator('.preset[data-kind="shortcut"]').nth(1)
    expect(preset).to_contain_text("heads that tell the <b>sea</b> from a forest")
    preset.click()
    settle(desk, heads=6, measured=6)
    found = json.loads(desk.kernel("print(panel.view['outcome']['worst']['after'])"))
    assert float(desk.panel("ablate").get_attribute("data-worst")) == pytest.approx(found, abs=1e-6)
    desk.kernel("session.select(layer=5, head=3)")
    desk.panel("textspan", layer=5, head=3).wait_for()
    page.get_by_role("button", name="+ your role").click()
    page.get_by_label("Your own role for this head").fill("background")
    page.get_by_label("Your own role for this head").press("Enter")
    desk.panel("textspan", role="background").wait_for()
    expect(page.get_by_role("button", name="yours: background")).to_be_visible()
    given = ablate.locator('.preset[data-kind="role"]')
    expect(given).to_have_text("heads you called background1")
    assert desk.kernel("print(dict(session.heads.roles()))").strip() == "{(5, 3): 'background'}"
    desk.kernel("session.heads.set_role(5, 3, '')")
    expect(given).to_have_count(0)
    assert not desk.console
