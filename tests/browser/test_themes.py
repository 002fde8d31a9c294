"""Light and dark as each host says them, whatever the system prefers: pages built as the hosts build theirs."""

from __future__ import annotations

import pytest

from clipviz.panels.core.scripts import kit
from clipviz.panels.core.standalone import traits

# A panel on a model without a kernel, in a page or in a shadow root as marimo has it.
OPEN = """async ([script, style, kit, traits, shadow]) => {
  const raw = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const values = { kit: 'IPY_MODEL_one', request: {} };
  for (const [name, value] of Object.entries(traits))
    values[name] = value?.base64 === undefined ? value : raw(value.base64);
  const get_model = async () => ({ get: () => kit });
  const model = { get: (name) => values[name], set() {}, save_changes() {}, on() {}, off() {}, send() {},
    widget_manager: { get_model } };
  const place = document.body.appendChild(document.createElement('div'));
  const root = shadow ? place.attachShadow({ mode: 'open' }) : place;
  const sheet = document.createElement('style');
  sheet.textContent = style;
  root.append(sheet);
  const el = root.appendChild(document.createElement('div'));
  const { default: panel } = await import(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })));
  await panel.render({ model, el });
}"""
LAB = (
    "--jp-layout-color1: #111; --jp-layout-color2: #222; --jp-border-color2: #444; --jp-ui-font-color1: #fff"
)
# Host -> the page's root element and body, when it is light and when it is dark.
HOSTS = {
    "JupyterLab": (
        ("<html>", '<body data-jp-theme-light="true">'),
        ("<html>", f'<body data-jp-theme-light="false" style="{LAB}">'),
    ),
    "VS Code": (
        ("<html>", '<body class="vscode-light" data-vscode-theme-kind="vscode-light">'),
        ("<html>", '<body class="vscode-dark" data-vscode-theme-kind="vscode-dark">'),
    ),
    "VS Code, high contrast": (
        ("<html>", '<body class="vscode-high-contrast-light vscode-high-contrast">'),
        ("<html>", '<body class="vscode-high-contrast">'),
    ),
    # Colab loads the variables of a light JupyterLab, which say nothing of its own theme.
    "Colab": (
        ('<html theme="light" style="--jp-layout-color1: white">', "<body>"),
        ('<html theme="dark" style="--jp-layout-color1: white; --jp-ui-font-color1: #000">', "<body>"),
    ),
    "marimo": (
        ("<html>", '<body class="light light-theme" data-theme="light">'),
        ("<html>", '<body class="dark dark-theme" data-theme="dark">'),
    ),
    "mkdocs-material": (
        ("<html>", '<body data-md-color-scheme="default">'),
        ("<html>", '<body data-md-color-scheme="slate">'),
    ),
}  # fmt: skip
BRIGHTNESS = """(panel) => ['backgroundColor', 'color'].map((name) =>
  getComputedStyle(panel)[name].match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765)"""


@pytest.fixture(scope="module")
def opened(chromium, board):
    """`opened(root, body, system, shadow)`: a page with the panel of heads."""
    context = chromium.new_context(viewport={"width": 520, "height": 420})
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def show(root, body, system, shadow=False):
        page.emulate_media(color_scheme=system)
        page.goto("about:blank")
        page.set_content(f"<!doctype html>{root}<head></head>{body}</body></html>")
        panel = board.heads
        page.evaluate(OPEN, [panel._esm, panel._css, kit(), traits(panel), shadow])
        page.locator('[data-panel="heads"][data-ready="true"]').wait_for()
        assert not wrong
        return page

    yield show
    context.close()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_panel_follows_its_host_and_not_the_system(opened, artifacts, host, theme):
    root, body = HOSTS[host][theme == "dark"]
    page = opened(root, body, "light" if theme == "dark" else "dark", shadow=host == "marimo")
    panel = page.locator('[data-panel="heads"]')
    assert panel.get_attribute("data-theme") == theme
    background, ink = panel.evaluate(BRIGHTNESS)
    assert (background > 0.9 and ink < 0.3) if theme == "light" else (background < 0.2 and ink > 0.8)
    page.screenshot(path=artifacts / f"theme-{host.replace(' ', '-').replace(',', '')}-{theme}.png")


def test_a_page_that_says_nothing_follows_the_system_at_once(opened):
    page = opened("<html>", "<body>", "dark")
    panel = page.locator('[data-panel="heads"]')
    assert panel.get_attribute("data-theme") == "dark"
    page.emulate_media(color_scheme="light")
    page.locator('[data-panel="heads"][data-theme="light"]').wait_for()


def test_a_theme_that_is_changed_is_followed(opened):
    page = opened("<html>", '<body class="vscode-dark">', "light")
    page.evaluate("document.body.className = 'vscode-light'")
    page.locator('[data-panel="heads"][data-theme="light"]').wait_for()
    page = opened('<html theme="dark">', "<body>", "light")
    page.evaluate("document.documentElement.setAttribute('theme', 'light')")
    page.locator('[data-panel="heads"][data-theme="light"]').wait_for()


def test_in_a_shadow_root_a_panel_has_the_shared_styles(opened):
    page = opened("<html>", "<body>", "light", shadow=True)
    cell = page.locator('[data-panel="heads"] button.cell').first
    assert cell.evaluate("(one) => getComputedStyle(one).borderTopWidth") == "0px"
    assert (
        page.locator('[data-panel="heads"]').evaluate("(one) => getComputedStyle(one).padding") == "12px 14px"
    )
