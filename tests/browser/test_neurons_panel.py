"""The Neurons panel in a real JupyterLab: search by text, open a neuron, its gallery and maps, click a word."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.test_dashboard import SESSION

SHOWN = """from clipviz.panels.neurons.panel import Neurons
panel = Neurons(session)
panel"""
LIT = """() => [...document.querySelectorAll('[data-panel="neurons"] .tile .map')].filter(c =>
  c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 === 3 && v > 60)).length"""


@pytest.fixture
def panel(notebook):
    opened = notebook(SESSION, SHOWN)
    opened.panel("neurons", complete="true").wait_for()
    return opened


def find(opened, text):
    box = opened.page.get_by_label("Find neurons that write towards")
    box.fill(text)
    box.press("Enter")


def test_a_text_finds_neurons_and_a_neuron_shows_its_images(panel):
    page = panel.page
    find(panel, "a green object")
    panel.panel("neurons", text="a green object", find="text").wait_for()
    expect(page.get_by_text("Towards “a green object”")).to_be_visible()
    code = "k = session.neurons.layer(3); "
    code += "print([f.neuron for f in k.towards(session.neurons.direction('a green object'), 14)])"
    rows = page.locator('[data-panel="neurons"] [role=option]')
    shown = [int(row.get_attribute("data-neuron")) for row in rows.all()]
    assert str(shown) == panel.kernel(code).strip()
    rows.nth(2).click()
    panel.panel("neurons", neuron=shown[2], pinned="true").wait_for()
    assert panel.kernel("print(session.selection.layer, session.selection.neuron)").strip() == f"3 {shown[2]}"
    assert page.locator('[data-panel="neurons"] .tile').count() == 24
    assert page.evaluate(LIT) >= 12
    expect(panel.panel("neurons")).to_have_attribute(
        "data-map-of", panel.kernel("print(session.selection.image)").strip()
    )
    rows.nth(2).press("ArrowDown")
    panel.panel("neurons", neuron=shown[3]).wait_for()
    expect(rows.nth(3)).to_be_focused()
    assert not panel.console


def test_a_word_searches_and_the_galleries_are_honest(panel):
    page = panel.page
    word = page.locator('[data-panel="neurons"] .code button').first
    text = word.inner_text()
    word.click()
    panel.panel("neurons", text=text, find="text", pinned="false").wait_for()
    assert panel.kernel("print(session.selection.text)").strip() == text
    for name in ("Groups", "Quantiles", "Random", "Top"):
        page.get_by_role("button", name=name, exact=True).click()
        panel.panel("neurons", show=name.lower()).wait_for()
    tile = page.locator('[data-panel="neurons"] .tile').nth(4)
    image = tile.get_attribute("data-image")
    tile.click()
    panel.panel("neurons", image=image, mapOf=image).wait_for()
    page.get_by_role("button", name="L1", exact=True).click()
    panel.panel("neurons", layer=1, complete="true").wait_for()
    page.get_by_role("button", name="Image", exact=True).click()
    panel.panel("neurons", find="image").wait_for()
    page.get_by_label("Neuron number").fill("12")
    page.get_by_label("Neuron number").press("Enter")
    panel.panel("neurons", layer=1, neuron=12, pinned="true").wait_for()
    assert not panel.console


def test_an_unknown_number_is_said_and_the_panel_lives_on(panel):
    box = panel.page.get_by_label("Neuron number")
    box.fill("99999")
    box.press("Enter")
    expect(panel.page.get_by_role("alert")).to_contain_text("expected neuron within 0..767")
    find(panel, "a dog")
    panel.panel("neurons", text="a dog").wait_for()
    expect(panel.page.get_by_role("alert")).to_be_empty()


def test_of_quick_clicks_the_last_one_is_painted(panel):
    rows = panel.page.locator('[data-panel="neurons"] [role=option]')
    wanted = rows.nth(6).get_attribute("data-neuron")
    panel.page.evaluate(
        """() => { const rows = document.querySelectorAll('[data-panel="neurons"] [role=option]');
          [1, 4, 2, 7, 5, 9, 3, 8, 6].forEach(place => rows[place].click()); }"""
    )
    panel.panel("neurons", neuron=wanted).wait_for()
    expect(panel.panel("neurons")).to_have_attribute("aria-busy", "false")
    assert panel.kernel("print(session.selection.neuron)").strip() == wanted
    assert not panel.console


def test_hidden_and_shown_again(notebook):
    opened = notebook(SESSION, SHOWN.replace("Neurons(session)", "Neurons(session, visible=False)"))
    opened.panel("neurons", complete="true").wait_for()
    assert opened.kernel("print(panel.visible)").strip() == "True"


def test_a_dictionary_is_chosen_and_its_features_are_clicked_like_neurons(panel):
    page, name = panel.page, panel.kernel("print(*session.neurons.dictionaries)").strip()
    page.get_by_role("button", name=name, exact=True).click()
    panel.panel("neurons", dictionary=name, complete="true").wait_for()
    expect(page.locator("[data-reconstruction]")).to_contain_text("of the variance with 16.0 active features")
    row = page.locator('[data-panel="neurons"] [role=option]').nth(2)
    feature = row.get_attribute("data-neuron")
    row.click()
    panel.panel("neurons", neuron=feature, pinned="true", dictionary=name).wait_for()
    code = "s = session.selection; print(s.layer, s.neuron, s.dictionary)"
    assert panel.kernel(code).strip() == f"{name[1]} {feature} {name}"
    expect(page.get_by_text(f"Feature {feature}", exact=False).first).to_be_visible()
    page.get_by_role("button", name="compare with the indirect effect").click()
    expect(page.get_by_text("the model runs again with the feature at its mean")).to_be_visible()
    page.get_by_role("button", name="L3", exact=True).click()
    panel.panel("neurons", layer=3, dictionary="", complete="true").wait_for()
    assert not panel.console
