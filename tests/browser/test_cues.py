"""The Cues panel in a real JupyterLab: choose classes, see words, neurons and pictures, look at one closely."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from browser.test_dashboard import SESSION

SHOWN = """import ipywidgets
from clipviz.panels.cues.panel import Cues
from clipviz.panels.neurons.panel import Neurons
cues = Cues(session, drawn="horse", mistaken="zebra", n_sentences=3, n_images=40)
neurons = Neurons(session, n_images=40)
ipywidgets.VBox([cues, neurons])"""
# One layer's neurons in short codes: enough where neither is asked about.
FEWER = SHOWN.replace("Cues(session,", "Cues(session, layers=[3], m=8,")
ALONE = FEWER[: FEWER.index("neurons =")] + "cues"
PANEL = '[data-panel="cues"]'
COLOURED = """() => { const c = document.querySelector('[data-panel="cues"] .stage canvas');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
  for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - d[i + 2]) > 40; return n; }"""


@pytest.fixture
def panel(notebook, request):
    opened = notebook(SESSION, getattr(request, "param", SHOWN))
    opened.panel("cues", done="true").wait_for()
    return opened


def test_words_neurons_and_pictures(panel):
    page = panel.page
    root = page.locator(PANEL)
    assert root.locator(".word").count() > 3
    panel.panel("cues", layers="2,3,4", m=32).wait_for()
    root.locator(".layers button").nth(2).click()
    root.locator('.sizes button[data-value="8"]').click()
    panel.panel("cues", layers="3,4", m=8, done="true").wait_for()
    assert panel.kernel("print(cues.layers, cues.m)").strip() == "[3, 4] 8"
    assert root.locator(".strip").count() == 3
    fooled = panel.kernel("print(cues.results()['second order'][1].n_fooled)").strip()
    expect(root.locator('.strip[data-method="second order"]')).to_have_attribute("data-fooled", fooled)
    assert root.locator('.strip[data-method="second order"] .tile.fooled').count() == int(fooled)
    shares = root.locator(".strip .caption small").all_inner_texts()
    said = panel.kernel("print([list(row['interval']) for row in cues.view['attempts']][::-1])")
    for share, (low, high) in zip(shares, json.loads(said), strict=True):
        assert share.strip() == f"{100 * low:.0f}%–{100 * high:.0f}%"
    words = json.loads(panel.kernel("import json; print(json.dumps(cues.view['words']))"))
    most = max(max(word["score"], word["null"]) for word in words)
    ticks = root.locator(".word .bar b").evaluate_all("ticks => ticks.map(b => parseFloat(b.style.left))")
    assert ticks == pytest.approx([100 * word["null"] / most for word in words], abs=0.01)
    beyond = root.locator(".word").evaluate_all("rows => rows.map(row => row.dataset.differs)")
    assert beyond == [str(word["score"] > word["null"]).lower() for word in words]
    neuron = root.locator(".neuron").first
    number = neuron.get_attribute("data-neuron")
    layer = neuron.get_attribute("data-layer")
    neuron.click()
    panel.panel("neurons", layer=layer, neuron=number, pinned="true").wait_for()
    panel.panel("cues", neuron=number).wait_for()
    expect(root.locator(f'.neuron[data-layer="{layer}"][data-neuron="{number}"]').first).to_have_attribute(
        "aria-pressed", "true"
    )
    word = root.locator("[data-word]").first
    text = word.get_attribute("data-word")
    word.click()
    panel.panel("neurons", text=text).wait_for()
    assert not panel.console


@pytest.mark.parametrize("panel", [FEWER], indirect=True, ids=["one layer"])
def test_other_classes_and_one_picture_closely(panel):
    page = panel.page
    root = page.locator(PANEL)
    page.get_by_label("Class in the pictures").fill("cat")
    page.get_by_label("Class that the model should see").fill("dog")
    page.get_by_label("Class that the model should see").press("Enter")
    panel.panel("cues", drawn="cat", mistaken="dog", done="true").wait_for()
    assert panel.kernel("print(cues.pair())").strip() == "('cat', 'dog')"
    tile = root.locator('.strip[data-method="no words"] .tile').nth(1)
    place = tile.get_attribute("data-place")
    tile.click()
    panel.panel("cues", looked=f"no words/{place}").wait_for()
    expect(root.locator(".sentence")).to_have_text("a cat")
    assert page.evaluate(COLOURED) > 100
    page.get_by_role("button", name="Open in every panel").click()
    panel.panel("neurons", image=120).wait_for()
    shown = "print(session.selection.image, session.selection.text, '-', session.selection.text_b)"
    assert panel.kernel(shown).strip() == "120 a dog - a cat"
    page.get_by_role("button", name="Swap the classes").click()
    panel.panel("cues", drawn="dog", mistaken="cat", done="true").wait_for()
    assert not panel.console


@pytest.mark.parametrize("panel", [ALONE], indirect=True, ids=["one layer"])
def test_a_wait_says_how_far_it_is(panel):
    page = panel.page
    page.evaluate(
        "() => { const hint = document.querySelector('[data-panel=\"cues\"] h2 small'); window.said = [];"
        " new MutationObserver(() => window.said.push(hint.textContent)).observe(hint, { childList: true }); }"
    )
    page.locator(f"{PANEL} .again").click()
    page.wait_for_function("() => window.said.filter((line) => line.startsWith('Drawing')).length > 1")
    panel.panel("cues", done="true").wait_for()
    page.wait_for_function("() => window.said.at(-1).startsWith('from ')")
    lines = page.evaluate("window.said")
    wanted = r"Drawing pictures, one method at a time: [12] of 3, about \d+ s left"
    assert any(re.fullmatch(wanted, line) for line in lines), lines


@pytest.mark.parametrize("panel", [ALONE], indirect=True, ids=["one layer"])
def test_what_cannot_be_drawn_is_said(panel):
    page = panel.page
    page.get_by_label("Class in the pictures").fill("<b>unicorn</b>")
    page.get_by_label("Class in the pictures").press("Enter")
    panel.panel("cues", drawn="<b>unicorn</b>").wait_for()
    expect(page.locator(f"{PANEL} .why")).to_contain_text("“<b>unicorn</b>” cannot be drawn")
    page.get_by_label("Class in the pictures").fill("zebra")
    page.get_by_label("Class in the pictures").press("Enter")
    expect(page.locator(f"{PANEL} [role=alert]")).to_contain_text("expected two different classes")
    page.get_by_label("Class in the pictures").fill("cow")
    page.get_by_label("Class in the pictures").press("Enter")
    panel.panel("cues", drawn="cow", done="true").wait_for()
    expect(page.locator(f"{PANEL} [role=alert]")).to_be_empty()
