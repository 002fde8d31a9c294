"""Saved pages: no kernel, no network; what the browser computes works, what needs the model is declined visibly."""

from __future__ import annotations

import pytest

import clipviz
from clipviz.demo import images as demo
from clipviz.panels.ablate import Ablate
from clipviz.panels.heatmap import Heatmap
from clipviz.values import Ablation

HOSTILE = "</script><img src=x onerror=\"document.body.dataset.owned='yes'\"><!--"


@pytest.fixture(scope="module")
def session():
    birds = [i for i, group in enumerate(demo().attributes["bird group"]) if group][:20]
    made = clipviz.Session(clipviz.load("demo", device="cpu"), demo().subset([*range(20), *birds]), "demo")
    made.select(text="a flamingo", image=3, layer=4, head=2)
    made.wait(120, background=True)
    yield made
    made.close()


@pytest.fixture
def saved(chromium, tmp_path):
    """Save a panel or a dashboard and open the file: the page, its complaints, what it asked for besides itself."""
    context = chromium.new_context(viewport={"width": 1500, "height": 1200})
    path = tmp_path / "view.html"

    def open_(shown):
        page, complaints, asked = context.new_page(), [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        assert shown.save_html(path) == path
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]")
        return page, complaints, asked

    yield open_
    context.close()


@pytest.fixture(scope="module")
def dashboard(session):
    return clipviz.Dashboard(session)


def bars(page):
    """The classes that the ablation desk shows, likeliest first, each with its probability and change."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".cv-ablate .bars .bar")]
            .sort((a, b) => a.style.order - b.style.order).map((bar) => bar.innerText)"""
    )


def own(asked):
    return [url for url in asked if not url.startswith("blob:") and not url.endswith("/view.html")]


def test_a_saved_board_draws_every_panel_and_asks_for_nothing(dashboard, saved):
    page, complaints, asked = saved(dashboard)
    for panel in dashboard.panels:
        page.wait_for_selector(f'[data-panel="{panel.name}"][data-ready="true"]')
    assert page.locator('[data-panel="heads"] [role="gridcell"], [data-panel="heads"] .cell').count() >= 48
    assert complaints == []
    assert own(asked) == []


def test_what_needs_the_model_is_declined_and_what_is_drawn_stays(dashboard, saved):
    page, complaints, _ = saved(dashboard)
    note = page.locator(".cv-note")
    field = page.locator('[data-panel="query"] input').first
    assert field.input_value() == "a flamingo"
    assert note.get_attribute("data-asked") is None
    field.fill("a red circle")
    field.press("Enter")
    page.wait_for_selector(".cv-note[data-asked]")
    assert field.input_value() == "a flamingo"
    assert page.locator('[data-panel="heads"]').get_attribute("data-text") == "a flamingo"
    page.get_by_role("button", name="Neighbours").click()
    assert page.get_by_role("button", name="Neighbours").get_attribute("aria-pressed") == "false"
    offered = page.evaluate(
        "() => [...document.querySelectorAll('.cv-heatmap .pick option')].map((o) => [o.value, !o.disabled])"
    )
    assert ["effect", True] in offered
    assert ["LRP", False] in offered  # its map is not in the page
    assert complaints == []


def test_scopes_are_summed_in_the_saved_page(session, saved):
    panel = Heatmap(session)
    page, complaints, _ = saved(panel)
    root = page.locator('[data-panel="heatmap"]')
    totals = {}
    for label in ("All heads", "Head L4·H2"):
        page.get_by_role("button", name=label).click()
        totals[label] = float(root.get_attribute("data-total"))
    direction = session.direction("a flamingo")
    scores = session.trace(3).token_scores(direction[None])[0, 0] / session.trace(3).embedding[0].norm()
    maps = scores[..., 1:].double()
    assert totals["All heads"] == pytest.approx(float(maps.sum()), abs=2e-3)
    assert totals["Head L4·H2"] == pytest.approx(float(maps[4, 2].sum()), abs=2e-3)
    assert complaints == []


def test_heads_are_ablated_in_the_saved_page_as_in_the_session(session, saved):
    panel = Ablate(session)
    page, complaints, _ = saved(panel)
    root = page.locator('[data-panel="ablate"]')
    assert root.bounding_box()["width"] > 1200  # a panel that is saved alone has the whole width
    before = bars(page)
    root.locator('button[data-layer="5"][data-head="1"]').click()
    page.wait_for_selector('[data-panel="ablate"][data-heads="1"]')
    assert bars(page) != before
    assert root.get_by_text("when this page was saved").is_visible()
    assert page.locator(".cv-note").get_attribute("data-asked") is None
    session.select(ablation=Ablation(heads=((5, 1),)))
    other, *_ = saved(panel)
    assert bars(page) == bars(other)
    session.select(ablation=Ablation())
    assert complaints == []


def test_hostile_texts_stay_texts(session, saved):
    panel = Heatmap(session)
    session.select(text=HOSTILE)
    page, complaints, asked = saved(panel)
    assert page.locator('[data-panel="heatmap"]').get_attribute("data-text") == HOSTILE
    assert page.evaluate("document.body.dataset.owned") is None
    assert own(asked) == []
    assert complaints == []
    session.select(text="a flamingo")


def test_a_saved_page_follows_the_colour_scheme(session, saved):
    page, *_ = saved(Heatmap(session))
    root = page.locator('[data-panel="heatmap"]')
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_selector(f'[data-panel="heatmap"][data-theme="{scheme}"]')
        assert root.get_attribute("data-theme") == scheme
