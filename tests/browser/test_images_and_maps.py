"""Images and heatmap in a real JupyterLab: neighbours follow the head, sets are described, maps and tokens answer."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.lab import MESSAGES
from browser.test_dashboard import dashboard, head, pixels, type_text  # noqa: F401

BASELINES = ("rollout", "Grad-CAM", "Chefer et al.", "LRP", "partial LRP", "raw attention")


def near(opened, side):
    return opened.panel("images").get_attribute(f"data-near-{side}")


def method(opened, name):
    opened.page.get_by_label("What is shown").select_option(name)
    opened.panel("heatmap", show=name, pending="false").wait_for()


def test_choosing_a_head_changes_its_neighbours_alone(dashboard):  # noqa: F811
    dashboard.page.get_by_role("button", name="Neighbours").click()
    dashboard.panel("images", order="near").wait_for()
    whole, seen = near(dashboard, "model"), {near(dashboard, "head")}
    for index in (1, 2, 5):
        head(dashboard, 4, index).click()
        title = dashboard.page.locator('[data-panel="images"] h3.by-head')
        expect(title).to_have_text(f"L4·H{index}")
        seen.add(near(dashboard, "head"))
        assert near(dashboard, "model") == whole
    assert len(seen) > 2
    shown = dashboard.page.locator('[data-panel="images"] [data-list="1"] .tile')
    assert ",".join(t.get_attribute("data-image") for t in shown.all()) == near(dashboard, "head")
    shown.first.focus()
    dashboard.page.keyboard.press("ArrowRight")
    expect(shown.nth(1)).to_be_focused()
    image = shown.nth(1).get_attribute("data-image")
    dashboard.page.keyboard.press("Enter")
    dashboard.panel("images", image=image).wait_for()
    assert image not in near(dashboard, "head").split(",")
    assert not dashboard.console


def test_a_subset_is_chosen_and_described(dashboard):  # noqa: F811
    page = dashboard.page
    whole = dashboard.panel("textspan").get_attribute("data-first")
    texts = page.locator('[data-panel="textspan"] .rows').inner_text()
    page.get_by_label("Attribute", exact=True).select_option("kind")
    page.get_by_label("Value of the attribute").select_option("glyph")
    members = dashboard.kernel("print(len(session.images.where('kind', 'glyph')))").strip()
    dashboard.panel("images", subset=members).wait_for()
    page.get_by_role("button", name=f"describe these {members}").click()
    dashboard.panel("textspan", images=members).wait_for()
    assert page.locator('[data-panel="textspan"] .rows').inner_text() != texts
    assert (
        dashboard.kernel("print(session.selection.images == session.images.where('kind', 'glyph'))").strip()
        == "True"
    )
    page.get_by_role("button", name="clear", exact=True).click()
    dashboard.panel("textspan", images=0, first=whole).wait_for()
    page.get_by_role("button", name="Show all images").click()
    dashboard.panel("images", subset="").wait_for()
    page.get_by_role("button", name="describe the").click()
    dashboard.panel("textspan", images=28).wait_for()


def test_every_baseline_changes_the_map_and_is_what_python_says(dashboard):  # noqa: F811
    dashboard.kernel("session.select(image=117)")  # of a flamingo, on which no method leaves the map empty
    dashboard.panel("heatmap", text="a flamingo", image=117).wait_for()
    seen = {pixels(dashboard)}
    for name in BASELINES:
        method(dashboard, name)
        seen.add(pixels(dashboard))
        drawn = [
            float(dashboard.panel("heatmap").get_attribute(f"data-{key}"))
            for key in ("total", "pixels", "iou")
        ]
        expected = dashboard.kernel(
            "session.wait(30); a = dashboard.heatmap.agreement(); print(dashboard.heatmap.map().sum(), a[0], a[1])"
        )
        assert drawn == pytest.approx([float(number) for number in expected.split()], abs=2e-4), name
    assert len(seen) == 1 + len(BASELINES)
    strip = dashboard.page.locator('[data-panel="heatmap"] .method')
    expect(strip).to_have_count(1 + len(BASELINES))
    strip.first.click()
    dashboard.panel("heatmap", show="effect").wait_for()
    method(dashboard, "centred")
    drawn = float(dashboard.panel("heatmap").get_attribute("data-total"))
    assert drawn == pytest.approx(float(dashboard.kernel("print(dashboard.heatmap.map().sum())")), abs=1e-4)
    assert not dashboard.console


def test_the_true_mask_is_drawn_on_demand(dashboard):  # noqa: F811
    before = pixels(dashboard)
    dashboard.page.get_by_label("true mask").check()
    dashboard.kernel("session.wait(20)")
    assert pixels(dashboard) != before
    dashboard.page.get_by_label("true mask").uncheck()
    assert pixels(dashboard) == before


def test_a_token_lists_the_heads_that_write_there(dashboard):  # noqa: F811
    page = dashboard.page
    box = page.locator("[data-panel=heatmap] canvas.map").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 6.5 / 12, box["y"] + box["height"] * 5.5 / 12)
    token = 5 * 12 + 6 + 1
    dashboard.panel("heatmap", token=token).wait_for()
    listed = page.locator('[data-panel="heatmap"] .token')
    expected = dashboard.kernel(
        "session.wait(20); print(*(f'{h.layer},{h.head}' for h in dashboard.heatmap.token_heads()))"
    )
    expect(listed).to_have_attribute("data-heads", expected.strip())
    page.locator("[data-panel=heatmap] canvas.map").focus()
    page.keyboard.press("ArrowDown")
    dashboard.panel("heatmap", token=token + 12).wait_for()
    last = page.locator('[data-panel="heatmap"] .writer').last
    layer, index = last.get_attribute("data-layer"), last.get_attribute("data-head")
    last.click()
    dashboard.panel("textspan", layer=layer, head=index).wait_for()
    expect(
        page.locator(f'[data-panel="heatmap"] .writer[data-layer="{layer}"][data-head="{index}"]')
    ).to_have_attribute("aria-pressed", "true")
    page.locator("[data-panel=heatmap] canvas.map").focus()
    page.keyboard.press("Escape")
    dashboard.panel("heatmap", token="").wait_for()
    expect(page.locator('[data-panel="heatmap"] .writer')).to_have_count(0)


def test_a_heads_texts_on_the_image_follow_the_head_and_can_be_chosen(dashboard):  # noqa: F811
    page = dashboard.page
    joint = page.locator('[data-panel="heatmap"] .joint')
    expect(page.locator('[data-panel="heatmap"] .says')).to_have_count(4)
    head(dashboard, 4, 2).click()
    expect(joint.locator("h3")).to_contain_text("L4·H2")
    expected = dashboard.kernel("session.wait(30)\nprint(chr(10).join(session.maps.joint(4, 2).texts))")
    expect(joint).to_have_attribute("data-texts", expected.strip())
    text = expected.splitlines()[0]
    page.locator('[data-panel="heatmap"] .says').first.click()
    dashboard.panel("heads", text=text).wait_for()


def test_hovering_tokens_after_choosing_a_baseline_sends_nothing(dashboard):  # noqa: F811
    page = dashboard.page
    method(dashboard, "rollout")
    dashboard.kernel("session.wait(20)")
    page.evaluate(MESSAGES)
    box = page.locator("[data-panel=heatmap] canvas.map").bounding_box()
    for step in range(30):
        page.mouse.move(box["x"] + 5 + step * box["width"] / 35, box["y"] + 8 + step * box["height"] / 40)
    assert "patch" in page.locator("[data-panel=heatmap] .tip").inner_text()
    assert page.evaluate("window.sent") == 0


WATCH_ADDRESSES = """() => { const made = new Map(), {createObjectURL: make, revokeObjectURL: drop} = URL;
  window.early = [];
  window.unwatch = () => {
    URL.createObjectURL = make; URL.revokeObjectURL = drop; return [made.size, window.early.length]; };
  URL.createObjectURL = blob => { const url = make.call(URL, blob); made.set(url, performance.now()); return url; };
  URL.revokeObjectURL = url => {
    if (performance.now() - made.get(url) < 5000) window.early.push(url);
    drop.call(URL, url); }; }"""


def test_the_address_of_a_picture_stays_valid_while_it_may_be_fetched(dashboard):  # noqa: F811
    dashboard.page.evaluate(WATCH_ADDRESSES)
    for image in (3, 4, 5):
        dashboard.kernel(f"session.select(image={image})")
        dashboard.panel("heatmap", image=image).wait_for()
    made, early = dashboard.page.evaluate("window.unwatch()")
    assert made >= 3
    assert early == 0
