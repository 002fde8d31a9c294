"""The dashboard in a real JupyterLab: one selection, everything follows; nothing is lost, nothing leaks."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.lab import MESSAGES

# 120 images of the collection: enough for every panel, read in a moment.
SESSION = """import clipviz
session = clipviz.Session(clipviz.load("demo", device="cpu"), clipviz.demo.images().subset(range(120)), "demo")"""
# For tests that open a session of their own: few images to read, few heads to label.
SMALL = SESSION.replace('range(120)), "demo")', 'range(24)), "demo", layers=(4, 5))')
BOARD = """session.select(layer=5, head=0)
dashboard = clipviz.Dashboard(session)
dashboard"""
READ = "session.wait(120, background=True)"


def open_board(notebook, session=SESSION):
    opened = notebook(session, BOARD)
    opened.panel("heads", ready="true").wait_for()
    opened.kernel(READ)
    opened.panel("textspan", complete="true").wait_for()
    opened.note()
    return opened


@pytest.fixture
def dashboard(notebook):
    return open_board(notebook)


def head(opened, layer, index):
    return opened.page.locator(f'[data-panel="heads"] button[data-layer="{layer}"][data-head="{index}"]')


def pixels(opened):
    script = "() => document.querySelector('[data-panel=heatmap] canvas.map').toDataURL()"
    return opened.page.evaluate(script)


def type_text(opened, label, text):
    box = opened.page.get_by_label(label, exact=True)
    box.fill(text)
    box.press("Enter")


def test_a_head_click_changes_the_texts_and_the_map(dashboard):
    page = dashboard.page
    page.get_by_role("button", name="Head L5·H0").click()
    dashboard.panel("heatmap", scope="head").wait_for()
    seen = set()
    for index in (1, 4, 6):
        head(dashboard, 4, index).click()
        dashboard.panel("textspan", layer=4, head=index).wait_for()
        dashboard.panel("heatmap", layer=4, head=index).wait_for()
        seen.add(pixels(dashboard))
        expect(head(dashboard, 4, index)).to_have_attribute("aria-selected", "true")
    assert len(seen) == 3
    assert dashboard.kernel("print(session.selection.layer, session.selection.head)").strip() == "4 6"
    assert not dashboard.console


def test_p_stands_beside_a_label_and_nothing_beside_a_head_without_one(dashboard):
    """A head without a role can have a small p, which also weighs how much its texts explain."""
    told = dashboard.kernel(
        "for head in range(8):\n    found = session.heads.label(5, head)\n    print(head, found.p_value, found.name)"
    )
    heads = [line.split(None, 2) for line in told.strip().splitlines()]
    named = {name == "no clear role": (int(at), float(p), name) for at, p, name in heads}
    assert set(named) == {True, False}
    for unclear, (index, p, name) in named.items():
        head(dashboard, 5, index).click()
        dashboard.panel("textspan", layer=5, head=index).wait_for()
        label = dashboard.page.locator('[data-panel="textspan"] .label')
        expect(label).to_have_text(name if unclear else re.compile(rf"^{name} · p = \.\d+$"))
        if not unclear:
            assert float(label.inner_text().split()[-1]) == pytest.approx(p, abs=5e-4)


def test_a_typed_text_recolours_heads_and_map(dashboard):
    before = pixels(dashboard)
    cells = "document.querySelectorAll('[data-panel=heads] button.cell')"
    colours = f"() => [...{cells}].map(c => c.style.background).join()"
    grid = dashboard.page.evaluate(colours)
    type_text(dashboard, "Text A", "a yellow star")
    dashboard.panel("heads", text="a yellow star").wait_for()
    dashboard.panel("heatmap", text="a yellow star").wait_for()
    dashboard.panel("images", order="text").wait_for()
    assert pixels(dashboard) != before
    assert dashboard.page.evaluate(colours) != grid
    type_text(dashboard, "Text B, subtracted", "a blue square")
    dashboard.panel("heatmap", textB="a blue square").wait_for()
    drawn = float(dashboard.panel("heatmap").get_attribute("data-total"))
    expected = dashboard.kernel("print(dashboard.heatmap.map().sum())")
    assert drawn == pytest.approx(float(expected), abs=1e-4)


def test_what_is_drawn_is_what_python_says(dashboard):
    for scope in ("All heads", "Late layers", "Layer 5", "Head L5·H0"):
        dashboard.page.get_by_role("button", name=scope).click()
        name = {"All heads": "all", "Late layers": "late", "Layer 5": "layer"}.get(scope, "head")
        dashboard.panel("heatmap", scope=name).wait_for()
        drawn = float(dashboard.panel("heatmap").get_attribute("data-total"))
        while dashboard.kernel("print(dashboard.heatmap.scope)").strip() != name:
            # drawn at once, told to Python when earlier messages are answered
            dashboard.page.wait_for_timeout(20)
        assert drawn == pytest.approx(
            float(dashboard.kernel("print(dashboard.heatmap.map().sum())")), abs=1e-4
        )


def test_twenty_rapid_clicks_settle_on_the_last(dashboard):
    script = """() => { const grid = document.querySelector('[data-panel="heads"]');
      for (let i = 0; i < 20; i++)
        grid.querySelector(`button[data-layer="${i % 6}"][data-head="${(3 * i) % 8}"]`).click(); }"""
    dashboard.page.evaluate(script)
    dashboard.panel("textspan", layer=1, head=1).wait_for()
    dashboard.kernel("session.wait(20)")
    assert dashboard.kernel("print(session.selection.layer, session.selection.head)").strip() == "1 1"
    for name in ("heads", "textspan", "heatmap"):
        dashboard.panel(name, layer=1, head=1).wait_for()
    assert not dashboard.console


def test_hovering_sends_nothing(dashboard):
    page = dashboard.page
    page.evaluate(MESSAGES)
    box = page.locator("[data-panel=heatmap] canvas.map").bounding_box()
    for step in range(40):
        page.mouse.move(box["x"] + 5 + step * box["width"] / 45, box["y"] + 8 + step * box["height"] / 50)
    assert re.match(
        r"patch \(\d+, \d+\) · [+−]0\.\d+", page.locator("[data-panel=heatmap] .tip").inner_text()
    )
    for index in range(8):
        head(dashboard, 2, index).hover()
    assert "L2·H7" in page.locator("[data-panel=heads] .about-cell").inner_text()
    line, cells = (
        page.locator(f"[data-panel=heads] {part}").bounding_box() for part in (".about-cell", ".grid")
    )
    assert line["y"] >= cells["y"] + cells["height"]  # it covers no cell
    assert page.evaluate("window.sent") == 0


def test_a_board_at_rest_draws_nothing(dashboard):
    page = dashboard.page
    page.emulate_media(reduced_motion="no-preference")  # nothing is kept from moving
    page.wait_for_function("() => document.getAnimations().every((a) => a.playState === 'finished')")
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable")

    def layouts():
        counted = client.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in counted if metric["name"] == "LayoutCount")

    before = layouts()
    page.wait_for_timeout(1_000)
    assert layouts() - before < 10  # a frame's animation would be 60
    client.detach()
    page.emulate_media(reduced_motion="reduce")


def test_a_token_click_is_told_to_every_panel(dashboard):
    box = dashboard.page.locator("[data-panel=heatmap] canvas.map").bounding_box()
    dashboard.page.mouse.click(box["x"] + box["width"] * 5.5 / 12, box["y"] + box["height"] * 2.5 / 12)
    dashboard.panel("heatmap", token=2 * 12 + 5 + 1).wait_for()
    assert dashboard.kernel("session.wait(20); print(session.selection.token)").strip() == "30"


def test_keyboard_only(dashboard):
    page = dashboard.page
    head(dashboard, 5, 0).focus()
    page.keyboard.press("ArrowRight")
    dashboard.panel("textspan", layer=5, head=1).wait_for()
    page.keyboard.press("ArrowDown")
    dashboard.panel("textspan", layer=4, head=1).wait_for()
    cells = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    n_cells = page.evaluate(cells)
    page.keyboard.press("a")
    dashboard.panel("heads", ablated=1).wait_for()
    assert page.evaluate(cells) == n_cells  # the key is the panel's, not the notebook's
    page.locator("[data-panel=heatmap] canvas.map").focus()
    page.keyboard.press("ArrowRight")
    dashboard.panel("heatmap", token=6 * 12 + 6 + 1 + 1).wait_for()
    page.locator('[data-panel="images"] .tile[tabindex="0"]').focus()
    page.keyboard.press("ArrowRight")
    dashboard.kernel("session.wait(20)")
    chosen = dashboard.kernel("print(session.selection.image)").strip()
    dashboard.panel("heatmap", image=chosen).wait_for()
    first = page.locator('[data-panel="textspan"] button.text').first
    first.focus()
    text = first.get_attribute("title")
    page.keyboard.press("Enter")
    dashboard.panel("heads", text=text).wait_for()


def test_a_long_text_is_cut_and_that_is_said(dashboard):
    said = dashboard.page.locator('[data-panel="query"] .cut')
    box = dashboard.page.get_by_label("Text A", exact=True)
    box.fill("a red circle " * 400)
    expect(said).to_have_text("Text A was shortened to its first 300 of 5,200 characters.")
    assert len(box.input_value()) == 300
    box.fill("a red circle")
    expect(said).to_be_hidden()


def test_choosing_images_and_describing_a_set(dashboard):
    page = dashboard.page
    tile = page.locator('[data-panel="images"] .tile').nth(6)
    image = tile.get_attribute("data-image")
    tile.click()
    dashboard.panel("heatmap", image=image).wait_for()
    whole = dashboard.panel("textspan").get_attribute("data-first")
    page.get_by_role("button", name="Neighbours").click()
    dashboard.panel("images", order="near", image=image).wait_for()
    page.get_by_role("button", name=re.compile("describe the")).click()
    dashboard.panel("textspan", images=14).wait_for()
    described = dashboard.panel("textspan").get_attribute("data-first")
    page.get_by_role("button", name="back to the whole collection").click()
    dashboard.panel("textspan", images=0, first=whole).wait_for()
    assert described


@pytest.mark.apart
def test_upload_and_bad_uploads(notebook, tmp_path):
    from PIL import Image

    dashboard = open_board(notebook, SMALL + "  # which gains an image")
    good, bad, cut = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "cut.jpg"
    Image.new("RGB", (200, 120), (220, 40, 40)).save(good)
    bad.write_bytes(b"<script>alert(1)</script>")
    Image.effect_noise((300, 300), 60).convert("RGB").save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    chooser = dashboard.page.locator('[data-panel="images"] input[type=file]')
    chooser.set_input_files(good)
    dashboard.panel("heatmap", image=24).wait_for()
    dashboard.kernel("session.wait(60)")  # a panel's next view takes its error away
    for broken in (bad, cut):
        chooser.set_input_files(broken)
        message = dashboard.page.locator('[data-panel="images"] .cv-error')
        expect(message).to_contain_text(f"“{broken.name}” is not an image that can be read")
        dashboard.page.get_by_role("button", name="Dismiss").click()
    head(dashboard, 4, 3).click()
    dashboard.panel("textspan", layer=4, head=3).wait_for()
    assert dashboard.kernel("print(len(session.images))").strip() == "25"


@pytest.mark.apart
def test_texts_are_shown_as_text(notebook):
    texts = [
        "<script>window.hacked = 1</script>",
        "<img src=x onerror='window.hacked=1'>",
        "say \"hi\" & 'bye'",
    ]
    cell = SESSION.replace('"demo")', f"{texts!r})")
    assert "hacked" in cell
    opened = notebook(cell, BOARD)
    opened.kernel(READ)
    opened.panel("textspan", rows=3).wait_for()
    assert "<script>" in opened.page.locator('[data-panel="textspan"] .rows').inner_text()
    type_text(opened, "Text A", texts[1])
    opened.panel("heads").and_(opened.page.locator('[data-text^="<img"]')).wait_for()
    assert opened.page.evaluate("window.hacked === undefined")


def test_an_error_is_shown_and_the_session_goes_on(dashboard):
    dashboard.kernel(
        "def broken(*a, **k): raise ValueError('expected <b>peace</b>, got war; try again')\n"
        "kept, session.maps.tokens = session.maps.tokens, broken"
    )
    type_text(dashboard, "Text A", "trouble")
    message = dashboard.page.locator('[data-panel="heatmap"] .cv-error')
    message.wait_for()
    assert "expected <b>peace</b>, got war" in message.inner_text()
    dashboard.kernel("session.maps.tokens = kept")
    type_text(dashboard, "Text A", "a red circle")
    dashboard.panel("heatmap", text="a red circle").wait_for()
    expect(message).to_have_count(0)


def test_undo_redo_and_the_clipboard(dashboard):
    page = dashboard.page
    type_text(dashboard, "Text A", "a letter")
    dashboard.panel("heads", text="a letter").wait_for()
    page.get_by_role("button", name="Undo").click()
    dashboard.panel("heads", text="a flamingo").or_(dashboard.panel("heads", text="")).first.wait_for()
    page.get_by_role("button", name="Redo").click()
    dashboard.panel("heads", text="a letter").wait_for()
    page.get_by_role("button", name="Copy code").first.click()
    assert "a letter" in page.evaluate("navigator.clipboard.readText()")


def test_reload_and_scrolling_away_keep_the_view(dashboard):
    page = dashboard.page
    head(dashboard, 3, 5).click()
    dashboard.panel("textspan", layer=3, head=5).wait_for()
    page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save'); }")
    page.reload()
    dashboard.panel("textspan", layer=3, head=5).wait_for()
    dashboard.panel("heads", ready="true").wait_for()
    head(dashboard, 2, 2).click()
    dashboard.panel("textspan", layer=2, head=2).wait_for()


def test_first_display_is_light(dashboard):
    sizes = dashboard.kernel(
        "size = lambda p: len(p.blob) + len(p._esm) + len(p._css) + len(getattr(p, 'picture', b''))\n"
        "print({p.name: size(p) for p in dashboard.panels})"
    )
    assert all(size < 1_000_000 for size in eval(sizes).values()), sizes


@pytest.mark.apart
def test_closing_leaves_no_widget(notebook):
    dashboard = open_board(notebook, SMALL + "  # which is closed")
    dashboard.kernel("dashboard.desks.show('ablate'); session.wait(60)")
    dashboard.kernel(
        "import builtins, weakref\nshown = [*dashboard.panels, *dashboard.desks.built.values(), dashboard, session]\n"
        "builtins.gone = [weakref.ref(item) for item in shown]\n"
        "dashboard.close()\nget_ipython().reset()"  # IPython keeps what a cell showed under several names
    )
    left = dashboard.kernel(
        "import gc\ngc.collect(); print(sum(item() is not None for item in gone), len(gone))"
    )
    assert left.split() == ["0", "9"]


def test_screenshots(dashboard, artifacts):
    page = dashboard.page
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    overflow = (
        "() => { const d = document.querySelector('.cv-board'); return d.scrollWidth - d.clientWidth; }"
    )
    for width, name in ((1500, "dashboard"), (1020, "dashboard-900"), (640, "dashboard-narrow")):
        page.set_viewport_size({"width": width, "height": 1250 if width > 1200 else 2100})
        page.wait_for_timeout(600)
        assert page.evaluate(overflow) <= 1, width
        page.screenshot(path=artifacts / f"{name}.png")
    page.set_viewport_size({"width": 1500, "height": 1250})
    dark = (
        "async () => { await window.jupyterapp.commands.execute("
        "'apputils:change-theme', {theme: 'JupyterLab Dark'}); }"
    )
    light = dark.replace("JupyterLab Dark", "JupyterLab Light")
    page.evaluate(dark)
    dashboard.page.locator('[data-panel="heads"][data-theme="dark"]').wait_for()
    page.wait_for_timeout(600)
    page.screenshot(path=artifacts / "dashboard-dark.png")
    page.evaluate(light)
    dashboard.page.locator('[data-panel="heads"][data-theme="light"]').wait_for()


def test_a_panel_is_downloaded_as_a_figure(dashboard, tmp_path):
    panel = dashboard.panel("textspan")
    for kind, begins in (("SVG", b"<?xml"), ("PDF", b"%PDF")):
        panel.get_by_role("button", name="Download this panel as a figure").click()
        expect(panel.get_by_role("menuitem", name="SVG")).to_be_focused()
        with dashboard.page.expect_download() as download:
            panel.get_by_role("menuitem", name=kind).click()
        expect(panel.get_by_role("menu")).to_be_hidden()
        assert download.value.suggested_filename == f"clipviz-textspan.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(begins)


STOPS = """() => {
  const seen = [...document.querySelectorAll('.cv-dashboard :is(a, button, input, select, [tabindex])')]
    .filter((node) => node.tabIndex >= 0 && !node.disabled && node.checkVisibility());
  const first = seen.findIndex((node) => node.matches('.cv-heads .cell'));
  return seen.slice(0, first + 1).map((node) => node.className); }"""


def test_the_first_head_is_one_skip_or_a_few_stops_away(dashboard):
    page = dashboard.page
    stops = page.evaluate(STOPS)
    assert stops[0] == "skip"
    assert 10 < len(stops) <= 26
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(head(dashboard, 5, 0)).to_be_focused()
    page.get_by_role("button", name="Late layers").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Layer 5")).to_be_focused()
    assert page.evaluate(STOPS) == stops  # the group is one stop wherever one is in it
    for without in ("query", "receipts"):
        expect(dashboard.panel(without).get_by_role("button", name="Download this panel")).to_have_count(0)


def test_a_scale_is_never_rounded_to_nothing(dashboard):
    dashboard.kernel("dashboard.heatmap.scale = 0.00042")
    expect(dashboard.panel("heatmap").locator(".scale")).to_have_text("−0.00042+0.00042")


def test_a_removed_head_that_is_selected_is_said_and_not_scored(dashboard):
    dashboard.kernel(
        "from clipviz.values import Ablation\n"
        "swan = next(i for i, c in enumerate(session.images.opened.captions) if 'swan' in c)\n"
        "dashboard.heatmap.scope = 'head'\nsession.select(image=swan, text='a swan'); session.wait(60)"
    )
    panel = dashboard.panel("heatmap")
    expect(panel.locator(".truth")).to_be_visible()
    dashboard.kernel("session.select(ablation=Ablation(heads=frozenset({(5, 0)}))); session.wait(60)")
    expect(panel.get_by_text("L5·H0 is removed")).to_be_visible()
    expect(panel.locator(".truth")).to_be_hidden()
    panel.get_by_role("button", name="Restore it").click()
    dashboard.panel("heads", ablated=0).wait_for()
    expect(panel.get_by_text("L5·H0 is removed")).to_be_hidden()
    expect(panel.locator(".truth")).to_be_visible()


LECTURE = """() => {
  const board = document.querySelector('.cv-board').getBoundingClientRect(), sizes = [];
  const seen = (node) => node.checkVisibility() && node.getBoundingClientRect().width > 0;
  const scale = Number(getComputedStyle(document.querySelector('.cv-board')).zoom);
  for (const node of document.querySelectorAll('.cv-board .cv *'))
    if (seen(node) && [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
      sizes.push([parseFloat(getComputedStyle(node).fontSize) * scale, node.className, node.textContent.slice(0, 30)]);
  const box = (selector) => [...document.querySelectorAll(selector)].filter(seen).map((node) => {
    const { left, top, right, bottom } = node.getBoundingClientRect();
    return [left - board.left, top - board.top, right - board.left, bottom - board.top]; });
  return { sizes, width: board.width, height: board.height, maps: box('.cv-heatmap canvas.map'),
    cells: box('.cv-heads button.cell'), rows: box('.cv-textspan .row'), desk: box('.cv-desks > .cv-at-ablate') }; }"""


def test_a_lecture_board_is_read_from_the_last_row(notebook, artifacts):
    opened = notebook(SESSION, BOARD.replace("(session)", '(session, size="lecture")'))
    page = opened.page
    page.set_viewport_size({"width": 1280, "height": 720})
    opened.panel("heads", ready="true").wait_for()
    opened.kernel(READ)
    opened.panel("textspan", complete="true").wait_for()
    page.locator(".cv-dashboard").evaluate("(board) => board.requestFullscreen()")
    page.wait_for_function("() => document.fullscreenElement && innerHeight === 720")
    page.wait_for_timeout(400)
    page.screenshot(path=artifacts / "lecture.png")
    found = page.evaluate(LECTURE)
    assert [one for one in found["sizes"] if one[0] < 18] == []
    assert found["width"] <= 1280
    assert found["height"] <= 720
    assert len(found["maps"]) == 1
    assert len(found["cells"]) == 48
    assert len(found["rows"]) == 5
    for left, top, right, bottom in (*found["maps"], *found["cells"], *found["rows"]):
        assert left >= 0
        assert top >= 0
        assert right <= 1280
        assert bottom <= 720
    page.get_by_role("button", name="Tour", exact=True).click()
    shows = {"heatmap": "canvas.map", "heads": ".grid", "textspan": ".rows", "images": ".tile"}
    for number, name in enumerate(shows, start=1):
        toured, card = opened.panel(name, toured="true", ready="true"), page.locator(".cv-tour-card")
        toured.wait_for()
        expect(card).to_contain_text(f"Step {number} of 5")
        page.wait_for_timeout(200)
        page.screenshot(path=artifacts / f"lecture-tour-{number}.png")
        shown = toured.locator(shows[name]).first.bounding_box()
        told = card.bounding_box()
        assert told["y"] + told["height"] <= shown["y"]  # the card hides nothing of what it is about
        assert shown["y"] + shown["height"] <= 720
        page.keyboard.press("Enter" if number < len(shows) else "Escape")
    expect(page.locator(".cv-tour-card")).to_have_count(0)
    page.locator('.cv-desks-bar button[data-name="ablate"]').click()
    opened.panel("ablate", ready="true").wait_for()
    page.wait_for_timeout(400)
    page.screenshot(path=artifacts / "lecture-desk.png")
    found = page.evaluate(LECTURE)
    ((_, top, _, _),) = found["desk"]
    assert 340 <= top <= 440
    assert len(found["rows"]) == 5
    assert len(found["cells"]) == 48  # and none is cut off by the desk
    bar = page.locator(".cv-desks-bar").bounding_box()["y"]
    assert max(bottom for *_, bottom in found["cells"]) <= bar
    legend = page.locator(".cv-heatmap .legend").bounding_box()
    assert legend["y"] + legend["height"] <= bar
    page.get_by_role("button", name="Images", exact=True).click()
    tile = opened.panel("images").locator(".tile[data-image]").nth(3)
    expect(tile).to_be_visible()
    assert tile.bounding_box()["y"] + tile.bounding_box()["height"] <= bar
    page.screenshot(path=artifacts / "lecture-images.png")
    chosen = tile.get_attribute("data-image")
    tile.click()
    opened.panel("heatmap", image=chosen).wait_for()
    page.get_by_role("button", name="Images", exact=True).click()
    expect(opened.panel("images")).to_be_hidden()
    opened.kernel(
        "import numpy as np\n"
        "noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype('uint8')\n"
        "session.select(image=session.images.add(noise)); session.wait(60)"
    )
    stranger, shown = (page.locator(f".cv-heatmap {one}") for one in (".stranger", "canvas.map"))
    expect(stranger).to_be_visible()
    assert shown.bounding_box()["y"] + shown.bounding_box()["height"] <= bar
    page.screenshot(path=artifacts / "lecture-stranger.png")
    page.locator(".cv-heads button.cell").first.focus()
    page.keyboard.press("f")
    page.wait_for_function("() => !document.fullscreenElement")
