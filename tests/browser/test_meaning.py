"""One meaning per number on screen, the whole view reopened, and links to the pages of heads and neurons."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from browser.test_dashboard import head, open_board, type_text

COUNTERS = {"seq", "drawn", "painted", "busy", "hover", "lost", "mapOf"}


@pytest.fixture
def dashboard(notebook):
    return open_board(notebook)


def attributes(opened):
    """Every panel's data-* attributes, counters left out."""
    script = (
        "() => [...document.querySelectorAll('[data-panel]')].map(e => [e.dataset.panel, {...e.dataset}])"
    )
    found = opened.page.evaluate(script)
    return {name: {k: v for k, v in data.items() if k not in COUNTERS} for name, data in found}


def settled(opened):
    """Wait until no panel draws any more."""
    before = None
    while before != (before := attributes(opened)):
        opened.page.wait_for_timeout(400)


def number(opened, panel, name):
    return float(opened.panel(panel).get_attribute(f"data-{name}"))


def python(opened, code):
    return json.loads(opened.kernel(f"import json; print(json.dumps({code}))"))


def test_a_removed_head_changes_every_number_and_can_be_restored(dashboard):
    page = dashboard.page
    type_text(dashboard, "Text A", "a flamingo")
    dashboard.panel("heatmap", text="a flamingo").wait_for()
    before = number(dashboard, "heads", "cosine")
    head(dashboard, 4, 2).click(modifiers=["Control"])
    dashboard.panel("heads", ablated=1).wait_for()
    dashboard.kernel("session.wait(20)")
    said = python(
        dashboard,
        "(lambda s: [s.cosine, float(s.heads[-4:].sum()), float(dashboard.heatmap.map().sum())]"
        ")(session.heads.effects('a flamingo'))",
    )
    expect(dashboard.panel("heatmap")).to_have_attribute("data-cosine", f"{said[0]:.6f}")
    assert abs(said[0] - before) > 1e-3
    for panel in ("heads", "receipts"):
        assert number(dashboard, panel, "cosine") == pytest.approx(said[0], abs=1e-4)
        assert number(dashboard, panel, "cosine-before") == pytest.approx(before, abs=1e-4)
    assert number(dashboard, "receipts", "late") == pytest.approx(said[1], abs=1e-4)
    assert number(dashboard, "heatmap", "total") == pytest.approx(said[2], abs=1e-4)
    line = page.locator("[data-panel=heads] .removed")
    expect(line).to_contain_text("without 1 head")
    expect(line).to_contain_text("→")
    type_text(dashboard, "Text B, subtracted", "a dog")
    dashboard.panel("heatmap", textB="a dog").wait_for()
    dashboard.kernel("session.wait(20)")
    minus = python(dashboard, "session.heads.effects('a flamingo', text_b='a dog').cosine")
    expect(dashboard.panel("heatmap")).to_have_attribute("data-cosine", f"{minus:.6f}")
    assert number(dashboard, "receipts", "cosine") == pytest.approx(minus, abs=1e-4)
    first = python(dashboard, "session.images.search('a flamingo', 1, 'a dog')[0][0]")
    expect(dashboard.panel("images")).to_have_attribute("data-first", str(first))
    line.get_by_role("button", name="Restore every removed head").click()
    dashboard.panel("heads", ablated=0).wait_for()
    expect(line).to_be_hidden()
    assert not dashboard.console


def test_a_reopened_view_is_the_same_on_every_panel(dashboard):
    dashboard.kernel(
        "session.select(image=5, layer=4, head=2, text='a swan', text_b='a dog', token=30,"
        " ablation=clipviz.Ablation(heads={(5, 0)}))\n"
        "dashboard.heads.quantity = 'variance'; dashboard.heatmap.scope = 'layer'\n"
        "dashboard.heatmap.scale = 0.05; dashboard.images.order = 'near'\n"
        "desk = dashboard.desks.show('ablate'); desk.task = 'backgrounds'; session.wait(60)"
    )
    dashboard.panel("ablate", task="backgrounds", measured=1).wait_for()
    dashboard.panel("heatmap", scope="layer", rank="").wait_for()
    dashboard.kernel("session.wait(60, background=True)")
    dashboard.page.get_by_role("button", name="Share").click()
    token = dashboard.page.evaluate("() => navigator.clipboard.readText()")
    was = attributes(dashboard)
    dashboard.kernel(
        "dashboard.heads.quantity = 'effect'; dashboard.heatmap.scope = 'all'; dashboard.heatmap.scale = None\n"
        "dashboard.images.order = 'text'; desk.task = ''; dashboard.desks.show('')\n"
        "session.select(image=0, layer=5, head=0, text='a dog', text_b='', token=None, ablation=clipviz.Ablation())\n"
        "session.wait(60)"
    )
    dashboard.panel("images", order="text").wait_for()
    assert attributes(dashboard) != was
    dashboard.kernel(f"session.view = clipviz.View.from_token({token!r}); session.wait(60)")
    dashboard.panel("ablate", task="backgrounds", measured=1).wait_for()
    dashboard.panel("images", order="near").wait_for()
    dashboard.panel("heatmap", scope="layer", text="a swan").wait_for()
    dashboard.kernel("session.wait(60)")
    expect.soft(dashboard.panel("receipts")).to_have_attribute("data-cosine", was["receipts"]["cosine"])
    now = attributes(dashboard)
    assert {name: data for name, data in now.items() if data != was[name]} == {}
    assert now.keys() == was.keys()
    assert not dashboard.console


@pytest.mark.apart
def test_copied_code_reopens_the_view_where_nothing_else_is_known(notebook):
    opened = notebook(
        "import clipviz\nsession = clipviz.Session(clipviz.load('demo'))",
        "dashboard = clipviz.Dashboard(session)\ndashboard",
    )
    opened.panel("textspan", complete="true").wait_for()
    opened.kernel(
        "session.select(image=17, layer=3, head=4, text='in the forest', images=(3, 8, 21, 34, 55),"
        " ablation=clipviz.Ablation(heads={(5, 0), (4, 2)}, how='zero'))\n"
        "dashboard.heads.quantity = 'property'; dashboard.heatmap.show = 'rollout'\n"
        "dashboard.images.order = 'chosen'; desk = dashboard.desks.show('ablate'); desk.task = 'birds'\n"
        "session.wait(120, background=True); session.wait(60)"
    )
    opened.panel("ablate", task="birds", measured=2, measuredHow="zero").wait_for()
    opened.panel("heatmap", show="rollout").wait_for()
    settled(opened)
    opened.page.get_by_role("button", name="Copy code").first.click()
    code = opened.page.evaluate("() => navigator.clipboard.readText()")
    was = attributes(opened)
    opened.show(code)  # the earlier session, its kernel's variables and its panels are gone
    opened.panel("ablate", task="birds", measured=2, measuredHow="zero", complete="true").wait_for()
    opened.panel("heatmap", show="rollout").wait_for()
    opened.kernel("session.wait(120, background=True); session.wait(60)")
    settled(opened)
    now = attributes(opened)
    assert {name: data for name, data in now.items() if data != was[name]} == {}
    assert now.keys() == was.keys()
    assert not opened.console


def test_bars_are_blue_exactly_beyond_their_ticks(dashboard):
    script = """() => [...document.querySelectorAll('[data-panel=textspan] .row')].map(row => {
      const [bar, tick] = ['i', 'b'].map(tag => row.querySelector('.bar ' + tag));
      const track = row.querySelector('.bar').getBoundingClientRect();
      return [(bar.getBoundingClientRect().right - track.left) / track.width, parseFloat(tick.style.left) / 100,
        getComputedStyle(bar).backgroundColor]; })"""
    seen = set()
    for layer, index in ((5, 0), (3, 4)):
        head(dashboard, layer, index).click()
        dashboard.panel("textspan", layer=layer, head=index).wait_for()
        drawn = dashboard.page.evaluate(script)
        rows = python(dashboard, "dashboard.textspan.data()['rows']")
        widest = max(max(row["gain"], row["null_high"]) for row in rows)
        blue = dashboard.page.evaluate(
            "() => { const i = document.createElement('i'); i.style.color = 'var(--accent)';"
            " document.querySelector('[data-panel=textspan]').append(i); const c = getComputedStyle(i).color;"
            " i.remove(); return c; }"
        )
        for row, (_, tick, colour) in zip(rows, drawn, strict=True):
            assert tick == pytest.approx(min(0.99, row["null_high"] / widest), abs=0.002)
            assert (colour == blue) == (row["gain"] > row["null_high"]), row
            seen.add(colour == blue)
    assert seen == {True, False}
    expect(dashboard.page.locator("[data-panel=textspan] .key")).to_contain_text("95th percentile")


def test_maps_keep_their_scale_and_say_what_the_cosine_is_compared_with(dashboard):
    page = dashboard.page
    swan = python(dashboard, "next(i for i, c in enumerate(session.images.opened.captions) if 'swan' in c)")
    dashboard.kernel(f"session.select(image={swan}, text='a swan'); session.wait(60)")
    dashboard.panel("heatmap", text="a swan", far="false").wait_for()
    expect(page.locator("[data-panel=heatmap] .truth")).to_be_visible()
    percentiles = python(dashboard, "vars(session.images.percentiles('a swan'))")
    expect(dashboard.panel("heatmap")).to_have_attribute("data-rank", str(percentiles["rank"]))
    expect(dashboard.panel("heatmap")).to_have_attribute("data-share", f"{percentiles['share']:.6f}")
    assert page.locator("[data-panel=heatmap] .near").count() == 5
    shown = python(dashboard, "[text for text, _ in session.texts.nearest(session.selection.image, 5)]")
    known = python(
        dashboard, f"session.model.bundle.truths({shown!r}, session.images.opened, session.selection.image)"
    )
    for text, true in zip(shown, known, strict=True):
        called = re.compile(
            rf"^{re.escape(text)} ?{re.escape('(true of the picture)') if true else ''} ?[+−]"
        )
        expect(page.locator("[data-panel=heatmap] .nears").get_by_role("button", name=called)).to_have_count(
            1
        )
    assert page.locator("[data-panel=heatmap] .nears .tick").count() == known.count(True) > 0
    expect(page.locator("[data-panel=heatmap] .context h3")).to_contain_text("✓ true of the picture")
    legend = page.locator("[data-panel=heatmap] .scale")
    page.get_by_label("fix scale").check()
    fixed = legend.inner_text()
    type_text(dashboard, "Text A", "a tiger")
    dashboard.panel("heatmap", text="a tiger").wait_for()
    expect(page.locator("[data-panel=heatmap] .truth")).to_be_hidden()  # the mask is the swan's
    assert legend.inner_text() == fixed
    page.get_by_label("fix scale").uncheck()
    expect(legend).not_to_have_text(fixed)
    page.get_by_label("What is shown").select_option("rollout")
    expect(page.locator("[data-panel=heatmap] .what")).to_contain_text("Rollout (ignores the text)")
    dashboard.kernel(
        "import sklearn.datasets, pathlib\n"
        "photograph = pathlib.Path(sklearn.datasets.__file__).parent / 'images' / 'china.jpg'\n"
        "kept = session.images, session.images.codes.ready.clone()\n"
        "session.select(image=session.images.add(photograph)); session.wait(60)"
    )
    dashboard.panel("heatmap", far="true").wait_for()
    expect(page.locator("[data-panel=heatmap] .context .tick")).to_have_count(0)
    expect(page.locator("[data-panel=heatmap] .stranger")).to_contain_text("not from the collection")


def test_heads_are_found_by_meaning_and_numbers_lead_to_their_pages(dashboard):
    page = dashboard.page
    search = page.get_by_label("Find heads by what they vary with")
    search.fill("forest")
    meant = python(dashboard, "[f'{one.layer},{one.head}' for one in session.heads.find('forest')]")
    assert meant
    dashboard.panel("heads", meant=" ".join(meant)).wait_for()
    search.press("Enter")
    layer, index = meant[0].split(",")
    dashboard.panel("textspan", layer=layer, head=index).wait_for()
    search.fill("")
    dashboard.panel("heads", found="").wait_for()
    head(dashboard, 3, 4).click()
    dashboard.panel("heatmap", layer=3, head=4).wait_for()
    page.locator('[data-panel="textspan"] [data-head-link="3,4"]').wait_for()
    page.locator('[data-panel="receipts"] [data-head-link="3,4"]').wait_for()
    page.locator('[data-panel="textspan"] [data-desk-link="neurons"]').click()
    dashboard.panel("neurons", layer=3).wait_for()
    dashboard.kernel("dashboard.desks.show('rosetta'); session.wait(60)")
    dashboard.panel("rosetta", show="grid").wait_for()
    link = page.locator('[data-panel="rosetta"] .rows .row').nth(1).locator("[data-neuron-link]")
    layer, neuron = link.get_attribute("data-neuron-link").split(",")
    expect(link).to_have_text(f"L{layer} · {neuron}")
    link.click()
    dashboard.panel("neurons", layer=layer, neuron=neuron, pinned="true").wait_for()
    dashboard.kernel("dashboard.desks.show('atlas'); session.select(layer=3, head=4); session.wait(60)")
    page.locator('[data-panel="atlas"] [data-head-link="3,4"]').wait_for()
    dashboard.kernel("session.open(neuron=(3, 8))")
    neurons = dashboard.panel("neurons", layer=3, neuron=8)
    neurons.wait_for()
    neurons = dashboard.panel("neurons", layer=3, neuron=8, complete="true")
    neurons.wait_for()
    counts = [int(n) for n in neurons.locator(".bin").evaluate_all("bins => bins.map(b => b.dataset.count)")]
    assert counts == python(dashboard, "session.neurons.histogram(8, 3).counts.tolist()")
    neurons.locator(".bin").first.click()
    dashboard.panel("neurons", show="intervals").wait_for()
    expect(neurons.locator(".group").first).to_contain_text("effect")
    assert not dashboard.console
