"""The Rosetta panel in a real JupyterLab: open the grid, sort, click a concept, see the other panels follow."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

SESSION = """import clipviz
session = clipviz.Session(clipviz.load("demo", device="cpu"))"""
SHOWN = """import ipywidgets
from clipviz.panels.heads.panel import Heads
from clipviz.panels.neurons.panel import Neurons
from clipviz.panels.rosetta.panel import Rosetta
panel, neurons, heads = Rosetta(session), Neurons(session, n_images=48), Heads(session)
ipywidgets.VBox([panel, neurons, heads])"""
LIT = """() => [...document.querySelectorAll('[data-panel="rosetta"] .stage .map')].filter(c =>
  c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 === 3 && v > 40)).length"""
ROWS = '[data-panel="rosetta"] .rows .row'


@pytest.fixture
def panel(notebook):
    opened = notebook(SESSION, SHOWN)
    opened.panel("rosetta", show="grid").wait_for()
    return opened


def concepts(opened, place="rows"):
    return [
        int(row.get_attribute("data-concept"))
        for row in opened.page.locator(f'[data-panel="rosetta"] .{place} [data-concept]').all()
    ]


def test_a_concept_is_clicked_and_the_other_panels_follow(panel):
    page = panel.page
    assert str(concepts(panel)) == panel.kernel("print(panel.dictionary().listed('named')[:8])").strip()
    expect(page.locator('[data-panel="rosetta"] .note')).to_contain_text("Names in italics are guesses")
    panel.kernel("session.select(layer=5, head=2); session.wait(60)")
    page.get_by_role("button", name="Layer", exact=True).click()
    panel.panel("rosetta", sort="layer").wait_for()
    assert str(concepts(panel)) == panel.kernel("print(panel.dictionary().listed('layer')[:8])").strip()
    page.get_by_role("button", name="Correlation", exact=True).click()
    panel.panel("rosetta", sort="correlation").wait_for()
    row = page.locator(ROWS).nth(2)
    concept = int(row.get_attribute("data-concept"))
    row.locator(".what").click()
    panel.panel("rosetta", concept=concept, chosen="true").wait_for()
    selected = panel.kernel("s = session.selection; print(s.concept, s.layer, s.head, s.neuron)").split()
    assert selected == [str(concept), "5", "2", "None"]  # the selected head stays
    panel.panel("heads", layer=5, head=2).wait_for()
    image = panel.kernel("print(session.selection.image)").strip()
    expect(panel.panel("rosetta")).to_have_attribute("data-map-of", image)
    shown = int(panel.panel("rosetta").get_attribute("data-lit"))
    looking = (
        f"d = panel.dictionary(); "
        f"print(sum(c is not None and not m.paints for c, m in zip(d.cells({concept}), d.columns)))"
    )
    assert shown == int(panel.kernel(looking))
    row.press("ArrowDown")
    panel.panel("rosetta", concept=concepts(panel)[3]).wait_for()
    expect(page.locator(ROWS).nth(3)).to_be_focused()
    own = page.locator(f"{ROWS} [data-neuron-link]").first  # the unit's own link goes to it
    layer, neuron = own.get_attribute("data-neuron-link").split(",")
    own.click()
    panel.panel("heads", layer=layer).wait_for()
    if int(layer) <= 4:  # the last layer's neurons are read by no later attention
        panel.panel("neurons", layer=layer, neuron=neuron, pinned="true").wait_for()
    assert not panel.console


def test_an_example_is_selected_and_partners_light_up_on_it(panel):
    page = panel.page
    tile = page.locator(f"{ROWS} [data-image]").first
    image = tile.get_attribute("data-image")
    tile.click()
    panel.panel("rosetta", image=image, mapOf=image).wait_for()
    assert panel.kernel("print(session.selection.image)").strip() == image
    assert page.evaluate(LIT) >= 2
    page.get_by_role("button", name="This image", exact=True).click()
    panel.panel("rosetta", show="image").wait_for()
    one = page.locator('[data-panel="rosetta"] .one').nth(3)
    concept = one.get_attribute("data-concept")
    one.click()
    panel.panel("rosetta", concept=concept, chosen="true").wait_for()
    page.get_by_role("button", name="vit", exact=True).click()
    panel.panel("rosetta", whose="vit").wait_for()
    assert (
        str(concepts(panel, "tiles")[:5])
        == panel.kernel(
            f"d = panel.dictionary(); print([x.concept for x in d.strongest({image}, d.listed('named'), 'vit')][:5])"
        ).strip()
    )
    assert not panel.console


def test_a_name_is_text_and_filters_work(panel):
    page, label = panel.page, "<img src=x onerror=alert(1)> sky"
    page.locator(ROWS).nth(1).locator(".what").click()
    concept = concepts(panel)[1]
    panel.panel("rosetta", concept=concept, chosen="true").wait_for()
    box = page.get_by_label("Name of the concept")
    box.fill(label)
    box.press("Enter")
    panel.panel("rosetta", named=label).wait_for()
    expect(page.locator(ROWS).nth(1).locator(".name")).to_have_text(label)
    assert page.locator('[data-panel="rosetta"] img').count() == 0
    assert panel.kernel(f"print(panel.dictionary().title({concept}))").strip() == label
    find = page.get_by_label("Find a concept")
    find.fill("onerror sky")
    find.press("Enter")
    panel.panel("rosetta", found=1, first=concept).wait_for()
    find.fill("")
    find.press("Enter")
    page.locator('[data-panel="rosetta"] [data-model="demo generator"]').click()
    panel.panel("rosetta", models="demo generator").wait_for()
    expected = panel.kernel("print(panel.dictionary().listed('named', ['demo generator'])[:8])").strip()
    assert str(concepts(panel)) == expected
    page.get_by_role("button", name="Pairs", exact=True).click()
    page.get_by_role("button", name="demo generator", exact=True).click()
    panel.panel("rosetta", show="pair", other="demo generator").wait_for()
    # the pivot's: the generator did not paint these
    assert page.locator(ROWS).first.locator(".lit").count() == 6
    assert not panel.console


def test_no_dictionary_is_said(notebook):
    opened = notebook(SESSION, SHOWN.replace("Rosetta(session)", "Rosetta(session, folder='nowhere')"))
    opened.panel("rosetta", rows=0).wait_for()
    expect(opened.page.get_by_text("This folder holds no dictionary for demo.")).to_be_visible()
    assert not opened.console
