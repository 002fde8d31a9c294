"""Accessibility, measured: axe-core on every panel, in the colours of JupyterLab's themes; forced colours.

A saved page holds every panel, so that one page and no kernel are enough.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from clipviz.panels.core import standalone
from clipviz.panels.core.base import DESKS

AXE = Path(__file__).parents[2] / "tools/js/node_modules/axe-core/axe.min.js"
# Violations once per kind; too few measured contrasts would mean that none was looked at.
CHECK = """async () => {
  const found = await axe.run({ include: [['.cv']] }, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    rules: { region: { enabled: false } } });
  const kinds = new Map();
  for (const v of found.violations) for (const n of v.nodes) {
    const node = document.querySelector(n.target[0]), panel = node?.closest('[data-panel]')?.dataset.panel;
    const said = (n.any[0] ?? n.all[0] ?? n.none[0])?.message ?? '';
    const key = `${panel}: ${v.id}: ${node?.tagName}.${node?.className}`;
    kinds.set(key, `${key}: ${n.html.slice(0, 90)} ${said}`);
  }
  const read = found.passes.find((p) => p.id === 'color-contrast')?.nodes.length ?? 0;
  return [[...kinds.values()], read]; }"""
NAMELESS = """() => [...document.querySelectorAll('.cv button, .cv input, .cv select, .cv [tabindex]')]
  .filter((n) => n.checkVisibility())
  .filter((n) => !(n.getAttribute('aria-label') || n.textContent.trim() || n.title || n.labels?.length))
  .map((n) => n.outerHTML.slice(0, 120))"""


# What sticks out of its panel, and texts of controls and lines that are cut without saying so.
OUTSIDE = """() => [...document.querySelectorAll('[data-panel]')].flatMap((panel) => {
  const frame = panel.getBoundingClientRect();
  return [...panel.querySelectorAll('button, input, select, canvas, img, p, h2, h3, b, span, i, label, td, th, svg')]
    .filter((node) => node.checkVisibility() && !node.closest('.tip, svg *'))
    .map((node) => [node, node.getBoundingClientRect()])
    .filter(([node, box]) => box.width > 1 && box.height > 1)
    .filter(([node, box]) => {
      const out = box.left < frame.left - 1.5 || box.right > frame.right + 1.5;
      const style = getComputedStyle(node), hides = style.overflowX !== 'visible' && style.textOverflow !== 'ellipsis';
      const cut = node.matches('button, p, h2, h3') && hides && node.scrollWidth > node.clientWidth + 1;
      let clipped = false; // by something that scrolls or hides between it and the panel
      for (let up = node.parentElement; out && up !== panel; up = up.parentElement)
        clipped ||= getComputedStyle(up).overflowX !== 'visible';
      return (out && !clipped) || cut; })
    .map(([node, box]) => `${panel.dataset.panel}: ${node.tagName}.${node.className} ${node.textContent.slice(0, 30)}: `
      + [box.left - frame.left, box.right - frame.left, frame.width].map(Math.round).join(' ')); })"""


def require_axe():
    """Skip a test without axe-core, which is there in CI."""
    if not AXE.is_file():
        reason = "no axe-core; make scripts installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def reads_well(page, panel, picture):
    """One panel in both themes and three widths: nothing sticks out, and axe finds nothing; picture(theme, width)."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_selector(f'[data-panel="{panel}"][data-theme="{theme}"]')
        for width in (1280, 760, 390):
            page.set_viewport_size({"width": width, "height": 720})
            page.wait_for_timeout(50)
            assert page.evaluate(OUTSIDE) == []
            wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, width
            page.screenshot(path=picture(theme, width), full_page=True)
        found, read = page.evaluate(CHECK)
        assert not found, "\n".join(found)
        assert read > 3
    assert page.evaluate(NAMELESS) == []


@pytest.fixture(scope="module")
def every_panel(board, tmp_path_factory):
    """A page with every panel of the board and every desk, each with something to show."""
    desks = [desk(board.session) for desk in DESKS.values()]
    board.session.wait(240, background=True)
    path = tmp_path_factory.mktemp("accessible") / "view.html"
    yield standalone.save(path, [*board.panels, *desks], "every panel", [desk.name for desk in desks])
    for desk in desks:
        desk.close()


@pytest.fixture(scope="module")
def page(chromium, every_panel):
    require_axe()
    context = chromium.new_context(viewport={"width": 1500, "height": 1200})
    page = context.new_page()
    page.goto(every_panel.as_uri())
    page.wait_for_selector("body[data-ready]")
    page.add_script_tag(path=AXE)
    for name in ("query", "images", "heatmap", "heads", "textspan", "receipts", *DESKS):
        page.wait_for_selector(f'[data-panel="{name}"][data-ready="true"]')
    yield page
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_any_panel(page, theme, artifacts):
    from jupyterlab.commands import get_app_dir  # takes seconds to import, and every worker reads this file

    page.emulate_media(color_scheme=theme)
    page.wait_for_selector(f'[data-panel="heads"][data-theme="{theme}"]')
    sheet = Path(get_app_dir()) / f"themes/@jupyterlab/theme-{theme}-extension/index.css"
    page.add_style_tag(content=sheet.read_text(encoding="utf-8"))
    page.wait_for_timeout(200)
    found, read = page.evaluate(CHECK)
    page.screenshot(path=artifacts / f"every-panel-{theme}.png", full_page=True)
    assert not found, "\n".join(sorted(found))
    assert read > 300


@pytest.mark.parametrize("size", [(1500, 1200), (1280, 720), (1020, 900), (640, 900)])
def test_nothing_sticks_out_of_any_panel(page, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.wait_for_timeout(300)
    found = page.evaluate(OUTSIDE)
    page.evaluate("document.querySelector('[data-panel=words] h2').style.marginLeft = '-40px'")
    moved = page.evaluate(OUTSIDE)
    page.evaluate("document.querySelector('[data-panel=words] h2').style.marginLeft = ''")
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size({"width": 1500, "height": 1200})
    assert found == []
    assert any(one.startswith("words: H2") for one in moved)  # what does stick out is seen
    assert wide <= 1


def test_headings_are_in_order(page):
    levels = page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter((one) => one.checkVisibility())"
        ".map((one) => Number(one.tagName[1]))"
    )
    assert levels[0] == 1
    assert set(levels[1:]) == {2, 3}
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_control_has_a_name_and_what_is_selected_shows_in_forced_colours(page):
    assert not page.evaluate(NAMELESS)
    page.emulate_media(forced_colors="active")
    chosen = page.locator('[data-panel="heads"] .cell[aria-selected="true"]')
    expect(chosen).to_have_css("outline-style", "solid")
    expect(chosen).to_have_css("forced-color-adjust", "none")
    page.emulate_media(forced_colors="none")
