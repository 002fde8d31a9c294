"""Saved pages: no kernel, no network; what the browser computes works, what needs the model is declined visibly."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect

from clipviz.panels.ablate.panel import Ablate
from clipviz.panels.core import stored
from clipviz.panels.heatmap.panel import Heatmap
from clipviz.values import Ablation

HOSTILE = "</script><img src=x onerror=\"document.body.dataset.owned='yes'\"><!--"


@pytest.fixture
def dashboard(board):
    return board


@pytest.fixture(scope="module")
def session(board):
    return board.session


@pytest.fixture
def saved(chromium, tmp_path):
    """Save a panel or a dashboard and open the file: the page, its complaints, what it asked for besides itself."""
    context = chromium.new_context(viewport={"width": 1500, "height": 1200}, reduced_motion="reduce")
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


def test_what_is_not_stored_is_not_offered(dashboard, saved):
    """Whatever can be pressed or chosen in a page of one selection is answered: nothing is declined."""
    dashboard.desks.show("atlas")
    dashboard.session.wait(60)
    page, complaints, asked = saved(dashboard)
    pressed = page.evaluate(
        """async () => {
          const rest = () => new Promise((done) => setTimeout(done, 5)), pressed = [], wrong = [];
          const enabled = () => [...document.querySelectorAll('.cv :is(button, select, input)')]
            .filter((control) => !control.disabled && !control.readOnly && control.checkVisibility());
          const name = (control) => [control.closest('[data-panel]').dataset.panel, control.getAttribute('aria-label'),
            control.title, control.textContent.slice(0, 40)].join(' ');
          const check = (what) => {
            if (document.body.dataset.asked) wrong.push(what);
            delete document.body.dataset.asked;
          };
          for (let k = 0; k < enabled().length; k++) {
            const control = enabled()[k], said = name(control);
            if (/copy|share|screen/i.test(said) || control.type === 'file') continue;
            pressed.push(said);
            if (control.tagName === 'SELECT')
              for (const option of [...control.options].filter((one) => !one.disabled)) {
                control.value = option.value;
                control.dispatchEvent(new Event('change'));
                await rest();
                check(`${said} = ${option.value}`);
              }
            else control.click();
            await rest();
            check(said);
          }
          return [pressed, wrong]; }"""
    )
    assert pressed[1] == []
    assert len(pressed[0]) > 20
    for panel, words in (
        ("images", "Neighbours"),
        ("images", "upload"),
        ("query", "Undo"),
        ("images", "describe the"),
    ):
        assert not page.locator(f'[data-panel="{panel}"] button:visible', has_text=words).count()
    assert page.locator('[data-panel="query"] input').first.get_attribute("readonly") is not None
    assert "1 image, 1 text and 1 head answer here" in page.locator(".cv-note").inner_text()
    chosen = page.locator('[data-panel="heatmap"]').get_attribute("data-image")
    # a head that is not stored
    page.locator('[data-panel="heads"] button.cell:visible').first.dispatch_event("click")
    assert page.locator('[data-panel="heatmap"]').get_attribute("data-image") == chosen
    assert complaints == []
    assert own(asked) == []
    dashboard.desks.show("")


# Chooses text, image and head in the panels, one after the other, and reads what is shown.
WALK = """async (steps) => {
  const at = (name) => document.querySelector(`[data-panel="${name}"]`), found = [];
  const all = (name, selector, read) => [...at(name).querySelectorAll(selector)].map(read);
  const there = async (fits) => {
    for (let i = 0; i < 2000 && !fits(); i++) await new Promise((done) => setTimeout(done, 2));
  };
  for (const { text, image, layer, head, scope, show } of steps) {
    all('query', '.example', (chip) => chip).find((chip) => chip.textContent === text).click();
    at('images').querySelector(`.tile[data-image="${image}"]`).click();
    at('heads').querySelector(`button[data-layer="${layer}"][data-head="${head}"]`).click();
    const shows = at('heatmap').querySelector('select');
    if (shows.value !== show) { shows.value = show; shows.dispatchEvent(new Event('change')); }
    at('heatmap').querySelector(`.seg [data-value="${scope}"]`).click();
    const wanted = [image, text, layer, head, show].join('|');
    await there(() => {
      const d = at('heatmap').dataset;
      return [d.image, d.text, d.layer, d.head, d.show].join('|') === wanted;
    });
    found.push({
      heatmap: { ...at('heatmap').dataset }, receipts: { ...at('receipts').dataset },
      bars: all('heads', 'button.cell', (cell) => [cell.dataset.layer, cell.dataset.head, cell.ariaLabel]),
      rows: all('textspan', '.row', (row) => ['.text', '.share'].map((part) => row.querySelector(part).textContent)),
      joint: at('heatmap').querySelector('.joint').dataset.texts,
      images: all('images', '.tile', (tile) => Number(tile.dataset.image)), asked: document.body.dataset.asked ?? '',
    });
  }
  return found; }"""


@pytest.fixture(scope="module")
def whole(chromium, board, tmp_path_factory):
    """A page of 4 images, 3 texts and every head: the page, its complaints, what it asked for, keeps, its file."""
    path = board.save_html(tmp_path_factory.mktemp("whole") / "view.html", images=4, texts=3, heads="all")
    context = chromium.new_context(
        viewport={"width": 1500, "height": 1200}, reduced_motion="reduce", offline=True
    )
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    kept = stored.Kept.of(board.session, 4, 3, "all")
    yield page, complaints, asked, kept, path
    context.close()


def walked(page, steps):
    """What the page shows for each step, in pieces that keep the browser responsive."""
    plain = [{"scope": "head", "show": "effect", **step} for step in steps]
    return [
        (step, shown)
        for i in range(0, len(plain), 12)
        for step, shown in zip(plain[i : i + 12], page.evaluate(WALK, plain[i : i + 12]), strict=True)
    ]


def number(label):
    """The signed number in a head's label, "L5·H3 · +0.0123 · …"."""
    return float(label.split(" · ")[1].replace("−", "-"))


def assert_same(session, step, shown):
    """Every number on screen is the session's own."""
    text, image, layer, head = step["text"], step["image"], step["layer"], step["head"]
    scores = session.heads.effects(text, image)
    assert float(shown["receipts"]["cosine"]) == pytest.approx(scores.cosine, abs=1e-4)
    assert float(shown["heatmap"]["cosine"]) == pytest.approx(scores.cosine, abs=1e-4)
    assert float(shown["receipts"]["late"]) == pytest.approx(float(scores.heads[-4:].sum()), abs=1e-4)
    assert float(shown["receipts"]["head"]) == pytest.approx(float(scores.heads[layer, head]), abs=1e-4)
    for at_layer, at_head, label in shown["bars"]:
        assert number(label) == pytest.approx(float(scores.heads[int(at_layer), int(at_head)]), abs=1e-4)
    values = session.maps.tokens(text, image).map(step["scope"], layer, head)
    assert float(shown["heatmap"]["total"]) == pytest.approx(float(values.sum()), abs=1e-4)
    assert int(shown["heatmap"]["peak"]) in np.argsort(-values.ravel())[:2]
    described = session.heads.textspan(layer, head)
    assert shown["rows"] == [
        [t, f"{100 * gain:.1f}%"] for t, gain in zip(described.texts, described.gains, strict=True)
    ]
    assert shown["joint"].split("\n") == list(session.maps.joint(layer, head, image).texts)
    assert shown["asked"] == ""


def test_every_head_answers_for_some_images(session, whole):
    page, complaints, asked, kept, path = whole
    steps = [
        {"text": text, "image": image, "layer": layer, "head": head}
        for text, image in ((kept.texts[0], kept.images[0]), (kept.texts[-1], kept.images[-1]))
        for layer, head in session.heads.kept
    ]
    assert len(steps) == 96
    for step, shown in walked(page, steps):
        assert_same(session, step, shown)
    assert "4 images, 3 texts and all 48 heads answer here" in page.locator(".cv-note").inner_text()
    assert complaints == []
    assert own(asked) == []
    assert path.stat().st_size < 2_000_000


def test_every_image_answers_for_every_text(session, whole):
    page, complaints, asked, kept, _ = whole
    assert (len(kept.images), len(kept.texts)) == (4, 3)
    steps = [
        {"text": text, "image": image, "layer": layer, "head": head, "scope": scope}
        for text in kept.texts
        for image in kept.images
        for layer, head, scope in ((5, 1, "all"), (3, 6, "late"))
    ]
    for step, shown in walked(page, steps):
        assert_same(session, step, shown)
        cosines = session.images.cosines(step["text"])
        assert sorted(shown["images"]) == sorted(kept.images)
        ranked = [float(cosines[i]) for i in shown["images"]]
        assert ranked == sorted(ranked, reverse=True)
    assert complaints == []
    assert own(asked) == []


def test_every_method_is_stored_for_every_image_and_text(session, whole):
    page, complaints, _, kept, _ = whole
    methods = [*session.maps.baselines, "neurons"]
    steps = [
        {"text": text, "image": image, "layer": 4, "head": 2, "scope": "late", "show": method}
        for text in kept.texts[1:]
        for image in kept.images[1:]
        for method in methods
    ]
    for step, shown in walked(page, steps):
        found = session.maps.compare(step["text"], step["image"])
        values = (
            found[step["show"]] if step["show"] in found else session.neurons.map(step["text"], step["image"])
        )
        size = max(1.0, float(np.abs(values).sum()))
        assert float(shown["heatmap"]["total"]) == pytest.approx(float(values.sum()), abs=1e-4 * size), step
    assert complaints == []


def test_removing_a_head_in_a_saved_page_is_declined_in_words(whole):
    page, complaints, *_ = whole
    heads = page.locator('[data-panel="heads"]')
    assert "removing heads needs the notebook" in heads.locator(".about-cell").inner_text()
    heads.locator("button.cell:enabled").nth(3).click(modifiers=["Control"])
    expect(page.locator(".cv-asked")).to_be_visible()
    assert heads.get_attribute("data-ablated") == "0"
    assert complaints == []


def test_scopes_are_summed_in_the_saved_page(session, saved):
    panel = Heatmap(session)
    page, complaints, _ = saved(panel)
    root = page.locator('[data-panel="heatmap"]')
    totals = {}
    for label in ("All heads", "Head L4·H2"):
        page.get_by_role("button", name=label).click()
        totals[label] = float(root.get_attribute("data-total"))
    direction = session.texts.direction("a flamingo")
    scores = (
        session.images.trace(3).token_scores(direction[None])[0, 0]
        / session.images.trace(3).embedding[0].norm()
    )
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
    assert "Saved page: one view, offline." in page.locator(".cv-note").inner_text()
    assert page.evaluate("document.body.dataset.asked") is None
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
