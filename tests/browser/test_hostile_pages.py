"""A saved page of every panel whose names, captions, texts and roles are scripts: none runs, nothing is asked for."""

from __future__ import annotations

import pytest

import clipviz
from clipviz.data.texts import Texts
from clipviz.panels.core import standalone
from clipviz.panels.core.base import DESKS

N = 24
RUN = "window.owned=1;new Image().src='http://127.0.0.1:9/owned'"
SCRIPTS = [
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f"\"><svg onload='{RUN}'>",
    f"' onmouseover='{RUN}' onfocus='{RUN}' autofocus='",
    f"javascript:{RUN}",
    f'<a href="javascript:{RUN}">a link</a>',
    f"${{{RUN}}}",
    f"`;{RUN};`",
    f"</style></title></textarea><iframe srcdoc='<script>{RUN.replace('window', 'parent.window')}</script>'>",
    f"<!--<script>{RUN}//--><base href='http://127.0.0.1:9/'>",
    f"\u2028{RUN}\u2029",
]
CHECK = """() => ({
  owned: window.owned ?? 0,
  scripts: document.querySelectorAll('script').length, // the page's own: what it stores, twice, and itself
  elements: [...document.querySelectorAll('iframe, base, object, embed, form, [autofocus], meta[http-equiv=refresh]')]
    .map((node) => node.outerHTML.slice(0, 80)),
  handlers: [...document.querySelectorAll('*')].filter((node) => [...node.attributes].some((a) =>
    a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value) && ['href', 'src', 'action'].includes(a.name)))
    .map((node) => node.outerHTML.slice(0, 80)),
  images: [...document.querySelectorAll('img')].filter((node) => !/^(blob|data):/.test(node.src)).length,
})"""


def scripts(n):
    """n different texts, each a script."""
    return [f"{SCRIPTS[i % len(SCRIPTS)]} {i}" for i in range(n)]


@pytest.fixture(scope="module")
def session():
    """Of the demo's images under names that are scripts, with one among the roles and labels of heads as well."""
    images = clipviz.demo.images().subset(range(N))
    images.names, images.captions = scripts(N), scripts(N)[::-1]
    images.attributes = {**images.attributes, SCRIPTS[0]: scripts(N)}
    pool = [*clipviz.demo.texts()][:200]
    texts = Texts([*pool, *scripts(24)], [SCRIPTS[i % len(SCRIPTS)] for i in range(224)], SCRIPTS[2])
    made = clipviz.Session(clipviz.load("demo", device="cpu"), images, texts, layers=(4, 5))
    made.heads.set_role(4, 2, '<img src=x onerror="window.owned=1">')
    made.wait(240, background=True)
    yield made
    made.heads.set_role(4, 2, "")
    made.close()


@pytest.fixture(scope="module")
def panels(session):
    """The board and every desk, on the session."""
    dashboard = clipviz.Dashboard(session)
    yield [*dashboard.panels, *(desk(session) for desk in DESKS.values())]
    dashboard.close()


TYPED = {
    "elements": ("".join(SCRIPTS[0:3]), SCRIPTS[3]),
    "addresses and templates": ("".join(SCRIPTS[5:8]), SCRIPTS[8]),
    "ends and comments": ("".join(SCRIPTS[9:11]), ""),
}


@pytest.mark.parametrize(("text", "text_b"), TYPED.values(), ids=TYPED)
def test_no_script_in_any_text_of_a_saved_page_runs(
    session, panels, chromium, artifacts, tmp_path, text, text_b
):
    session.select(text=text, text_b=text_b, image=3, layer=4, head=2)
    session.wait(240)
    path = standalone.save(tmp_path / "view.html", panels, text, list(DESKS))
    context = chromium.new_context(viewport={"width": 1500, "height": 1200}, reduced_motion="reduce")
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    for panel in panels:
        page.wait_for_selector(f'[data-panel="{panel.name}"][data-ready="true"]')
    for place in page.locator(".cv .tile, .cv .cell, .cv [role=gridcell], .cv canvas").all()[:40]:
        if place.is_visible():
            place.hover(force=True, timeout=2_000)
    for link in page.locator("a[href]:not([href^=blob])").all():
        link.click(force=True, timeout=2_000)
    found = page.evaluate(CHECK)
    shown = page.content()
    title = page.title()
    if text == TYPED["elements"][0]:
        page.screenshot(path=artifacts / "hostile-page.png", full_page=True)
    context.close()
    assert found == {"owned": 0, "scripts": 3, "elements": [], "handlers": [], "images": 0}
    assert [url for url in asked if not url.startswith(("blob:", "data:")) and url != path.as_uri()] == []
    assert said == []
    assert " ".join(title.split()) == " ".join(text.split())
    assert "onerror" in shown  # the texts are there, as texts
