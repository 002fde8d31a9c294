"""The ablation desk in a real JupyterLab: toggling moves the bars with no message, the kernel's answer follows."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from browser.lab import MESSAGES

SESSION = """import clipviz
demo = clipviz.demo.images()
birds = [i for i, group in enumerate(demo.attributes["bird group"]) if group][:60]
session = clipviz.Session(clipviz.load("demo", device="cpu"), demo.subset([*range(60), *birds]), "demo")"""
SHOWN = """from clipviz.panels.ablate.panel import Ablate
from clipviz.panels.heads.panel import Heads
from IPython.display import display
panel, heads = Ablate(session), Heads(session)
display(heads, panel)"""


@pytest.fixture
def desk(notebook):
    opened = notebook(SESSION, SHOWN)
    opened.panel("ablate", ready="true").wait_for()
    opened.kernel("session.wait(120, background=True)")
    opened.panel("ablate", complete="true", measured=0).wait_for()
    return opened


def cell(opened, layer, head):
    return opened.page.locator(f'[data-panel="ablate"] button[data-layer="{layer}"][data-head="{head}"]')


def settle(opened, **data):
    opened.panel("ablate", **data).wait_for()
    opened.kernel("session.wait(30)")


def test_toggling_is_local_exact_and_told_to_every_panel(desk):
    page = desk.page
    page.evaluate(MESSAGES)
    script = """() => { const root = document.querySelector('[data-panel="ablate"]');
      const seen = [root.dataset.probability];
      for (const [l, h] of [[5, 0], [5, 7], [3, 2], [5, 1], [5, 1]]) {
        root.querySelector(`button[data-layer="${l}"][data-head="${h}"]`).click();
        seen.push(root.dataset.probability); }
      root.querySelector('[data-rest]').click(); seen.push(root.dataset.probability);
      return [seen, window.sent]; }"""
    seen, sent = page.evaluate(script)
    assert sent == 0  # the bars moved six times, and nothing was asked
    assert len(set(seen)) >= 5
    assert seen[3] == seen[5]  # a head taken out and put back
    settle(desk, measured=3)
    assert desk.kernel(
        "print(sorted(session.selection.ablation.heads), len(session.selection.ablation.mlps))"
    ).strip() == ("[(3, 2), (5, 0), (5, 7)] 7")
    shown = float(desk.panel("ablate").get_attribute("data-probability"))
    assert shown == pytest.approx(float(desk.kernel("print(max(panel.probabilities().values()))")), abs=2e-5)
    assert desk.panel("ablate").get_attribute("data-draws") == "20"
    expect(desk.page.locator('[data-panel="heads"] button.ablated')).to_have_count(3)
    assert page.evaluate("window.sent") <= 4  # one request, however many clicks
    assert not desk.console


PLOT = """() => [...document.querySelectorAll('[data-panel="ablate"] .all :is(.line, .note, .keys)')]
  .map((row) => [row.textContent, ...[...row.querySelectorAll('[style], [data-differs]')]
    .map((part) => [part.getAttribute('style'), part.dataset.differs ?? null])])"""


def test_accuracy_and_random_heads_are_the_kernels(desk, tmp_path):
    page = desk.page
    page.get_by_role("button", name="Birds", exact=True).click()
    settle(desk, task="birds")
    cell(desk, 5, 0).click()
    cell(desk, 5, 7).click()
    settle(desk, measured=2)
    expected = desk.kernel(
        "o = panel.view['outcome']; print(o['everything']['after'], o['worst']['after'])"
    ).split()
    root = desk.panel("ablate")
    assert float(root.get_attribute("data-accuracy")) == pytest.approx(float(expected[0]), abs=1e-5)
    assert float(root.get_attribute("data-worst")) == pytest.approx(float(expected[1]), abs=1e-5)
    lines = page.locator('[data-panel="ablate"] .line')
    assert "worst group" in lines.nth(1).inner_text()
    expect(lines.nth(1).locator("s")).to_have_count(15)  # the pairs of six others
    said = json.loads(
        desk.kernel(
            "import json\no = session.ablation.run(task='birds')\n"
            "print(json.dumps([[r.change.low, r.change.high, r.change.differs, r.before]"
            " for r in (o.everything, o.worst, *o.groups)]))"
        )
    )
    for place, (low, high, differs, before) in enumerate(said):
        change, whisker = lines.nth(place).locator(".change"), lines.nth(place).locator("em")
        expect(change).to_have_attribute("data-differs", str(differs).lower())
        assert (change.inner_text() == "no difference") == (not differs)
        left, width = whisker.evaluate("(e) => [parseFloat(e.style.left), parseFloat(e.style.width)]")
        ends = [min(1, max(0, before + end)) for end in (low, high)]
        assert (left, left + width) == pytest.approx([100 * end for end in ends], abs=0.01)
    note = page.locator('[data-panel="ablate"] .all .note').inner_text()
    assert f"95% interval {100 * said[1][0]:+.1f} to {100 * said[1][1]:+.1f}".replace("-", "−") in note
    assert "2 other heads instead" in page.locator('[data-panel="ablate"] .all .note').inner_text()
    desk.kernel(f"panel.save_html({str(tmp_path / 'ablate.html')!r})")
    saved = page.context.new_page()
    saved.goto((tmp_path / "ablate.html").as_uri())
    saved.wait_for_selector("body[data-ready]")
    assert saved.evaluate(PLOT) == page.evaluate(PLOT)  # intervals, "no difference" and all
    saved.close()


def test_classes_by_example_and_the_heads_that_carry_their_shortcut(desk):
    page = desk.page
    page.get_by_role("button", name="Birds by example").click()
    settle(desk, task="birds by example")
    about = page.locator('[data-panel="ablate"] .all')
    expect(about).to_contain_text("other pictures, of which 80% show the bird in its usual habitat")
    preset = page.locator('[data-panel="ablate"] .preset[data-kind="shortcut"]')
    expect(preset).to_contain_text("heads that tell water from forest")
    preset.click()
    settle(desk, heads=6, measured=6)
    shown = float(desk.panel("ablate").get_attribute("data-accuracy"))
    assert shown == pytest.approx(
        float(desk.kernel("print(panel.view['outcome']['everything']['after'])")), abs=1e-5
    )
    page.get_by_role("button", name="Birds", exact=True).click()
    settle(desk, task="birds")
    expect(about).not_to_contain_text("other pictures")
    assert not desk.console


def test_keyboard_presets_and_clearing(desk):
    page = desk.page
    cell(desk, 5, 0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    settle(desk, heads=1, measured=1)
    assert "(4, 1)" in desk.kernel("print(session.selection.ablation.heads)")
    page.keyboard.press("Enter")
    settle(desk, heads=0, measured=0)
    page.locator('[data-panel="ablate"] .preset[data-kind="early"]').click()
    settle(desk, heads=16, measured=16)
    page.get_by_role("button", name="Zero").click()
    settle(desk, how="zero", measuredHow="zero")
    assert desk.kernel("print(session.selection.ablation.how)").strip() == "zero"
    page.get_by_role("button", name="clear").click()
    settle(desk, heads=0, measured=0)


def test_single_mlps_and_the_class_token(desk):
    page = desk.page
    cell(desk, 5, 7).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")  # the MLP of layer 5, as its place says
    settle(desk, mlps=6, measuredMlps=6, apart="true", measured=0)
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")  # the input term, below the layers
    settle(desk, mlps="0,6", measuredMlps="0,6")
    page.evaluate(MESSAGES)
    before = desk.panel("ablate").get_attribute("data-probability")
    moved = page.evaluate(
        """() => { const root = document.querySelector('[data-panel="ablate"]');
        root.querySelector('[data-mlp="3"]').click(); return [root.dataset.probability, window.sent]; }"""
    )
    assert moved[0] != before
    assert moved[1] == 0  # once they are apart, they toggle in the browser too
    settle(desk, measuredMlps="0,3,6")
    page.get_by_role("button", name="the class token on itself").click()
    settle(desk, token="true", measuredToken="true")
    cell(desk, 5, 1).click()
    settle(desk, measured=1)
    shown, accuracy = (
        float(desk.panel("ablate").get_attribute(f"data-{n}")) for n in ("probability", "accuracy")
    )
    found = desk.kernel(
        "print(max(panel.probabilities().values()), panel.view['outcome']['everything']['after'])"
    ).split()
    assert shown == pytest.approx(float(found[0]), abs=2e-5)
    assert accuracy == pytest.approx(float(found[1]), abs=1e-5)
    expect(page.locator('[data-panel="ablate"] h2 small')).to_contain_text(
        "without 1 head, 3 MLP terms and the class token"
    )
    page.get_by_role("button", name="clear").click()
    settle(desk, mlps="", token="false", apart="false", measured=0)
    assert not desk.console


def test_an_ablation_made_elsewhere_is_shown(desk):
    page = desk.page
    page.locator('[data-panel="heads"] button[data-layer="5"][data-head="3"]').click(modifiers=["Control"])
    settle(desk, heads=1, measured=1)
    expect(cell(desk, 5, 3)).to_have_attribute("aria-selected", "true")
    desk.kernel("session.undo(); session.wait(30)")
    desk.panel("ablate", heads=0).wait_for()


def test_typed_classes_are_shown_as_text(desk):
    page = desk.page
    page.get_by_role("button", name="Yours").click()
    box = page.get_by_label("Class names, separated by commas")
    box.fill("<img src=x onerror='window.hacked=1'>, an owl, a car")
    box.press("Enter")
    settle(desk, task="typed", classes=3)
    assert "<img" in page.locator('[data-panel="ablate"] .bars').inner_text()
    assert page.evaluate("window.hacked === undefined")
    box.fill("owl")
    box.press("Enter")
    expect(page.locator('[data-panel="ablate"] .cv-error')).to_have_count(0)  # one name is not sent
    expect(page.locator('[data-panel="ablate"] .typing')).to_have_text("type at least two")
    desk.kernel("session.select(ablation=clipviz.Ablation(tokens={0}))")
    page.locator('[data-panel="ablate"] .cv-error').wait_for()
    assert "its options mlps and class_token" in page.locator('[data-panel="ablate"] .cv-error').inner_text()
