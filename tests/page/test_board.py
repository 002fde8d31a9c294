"""The published page in Chromium, from a plain static server, with the network cut once it is loaded."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clipviz
from clipviz.page import publishing
from clipviz.values import Ablation
from tests.page.sites import DESK

pytestmark = pytest.mark.browser
CLOSE = 2e-6  # of a cosine, which views are read with
AXE = Path(__file__).parents[2] / "tools/js/node_modules/axe-core/axe.min.js"


# A picture's pixels as text, and a file of them.
PASTE = """([letters, type]) => {
  const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([bytes], 'clipboard', { type }));
  document.activeElement.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
}"""
# Streams that the page was given, so that a test sees whether they were ended.
CAMERAS = """() => {
  window.cameras = [];
  const given = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    if (window.asking) await window.asking;
    const stream = await given(wanted);
    window.cameras.push(...stream.getTracks());
    return stream;
  };
}"""
OFF = "() => window.cameras.length > 0 && window.cameras.every(({ readyState }) => readyState === 'ended')"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Isolating(Quiet):
    """Sends the headers of docs/hosts/headers.txt, with which browsers allow threads."""

    def end_headers(self):
        lines = (Path(__file__).parents[2] / "docs/hosts/headers.txt").read_text().splitlines()
        for line in lines[1:3]:
            self.send_header(*line.strip().split(": "))
        super().end_headers()


@contextmanager
def served(folder, kind=Quiet):
    """A folder's address on a plain static server."""
    handler = functools.partial(kind, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def published(demo_site):
    """The folder, served as any web server would."""
    with served(demo_site) as url:
        yield url, demo_site


class Page:
    """An opened page: what it complained of, and what it asked of the network since `cut`."""

    def __init__(self, context, url):
        self.context, self.complaints, self.asked = context, [], []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asks)
        self.page.goto(url)

    def _asks(self, request):
        if not request.url.startswith("blob:"):  # made in the page itself
            self.asked.append(request.url)

    def ready(self):
        self.page.wait_for_selector("body[data-ready], body[data-failed]", timeout=120_000)
        self.page.wait_for_selector("body[data-busy=false], body[data-failed]")
        return self

    def cut(self):
        """From here on nothing may be asked for; what was asked so far is forgotten."""
        self.asked.clear()
        self.context.set_offline(True)
        return self

    def panel(self, name, **data):
        where = "".join(f'[data-{key.replace("_", "-")}="{value}"]' for key, value in data.items())
        return self.page.wait_for_selector(f".cv-{name}{where}")

    def told(self, name, key):
        return self.page.locator(f".cv-{name}").get_attribute(f"data-{key}")

    def settled(self):
        """Every panel shows the newest request."""
        self.page.wait_for_selector("body[data-busy=false]")

    def type(self, label, text):
        field = self.page.get_by_label(label, exact=True)
        field.fill(text)
        field.press("Enter")


@pytest.fixture(scope="module")
def opened(chromium, published):
    """One page for the tests that only look or act, its network cut."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
    yield Page(context, published[0]).ready().cut()
    context.close()


def test_typed_texts_answer_as_in_python(demo, opened):
    image = demo.selection.image
    for text, other in (("a Red square, please", ""), ("the sea", "a forest 🌲")):
        opened.type("Text A", text)
        opened.type("Text B, subtracted", other)
        opened.panel("heatmap", text=text, text_b=other)
        opened.settled()
        wanted = demo.heads.effects(text, image, other, Ablation())
        assert abs(float(opened.told("heatmap", "cosine")) - wanted.cosine) < CLOSE
        assert abs(float(opened.told("heads", "cosine")) - wanted.cosine) < CLOSE
        maps = demo.maps.tokens(text, image, other, Ablation()).map("late")
        assert int(opened.told("heatmap", "peak")) == int(maps.argmax())
        assert opened.told("images", "first") == str(demo.images.search(text, 1, other, Ablation())[0][0])
        percentiles = demo.images.percentiles(text, image, other, Ablation())
        assert abs(float(opened.told("heatmap", "share")) - percentiles.share) < 1e-5
        assert opened.told("heatmap", "rank") == ("" if percentiles.rank is None else str(percentiles.rank))
        assert opened.told("heatmap", "nearest") == demo.texts.nearest(image, 1, Ablation())[0][0]
    assert opened.complaints == []
    assert opened.asked == []


def test_heads_are_described_and_removed_as_in_python(demo, opened):
    image, page = demo.selection.image, opened.page
    opened.type("Text B, subtracted", "")
    opened.type("Text A", "a flamingo")
    page.locator('.cv-heads .cell[data-layer="5"][data-head="2"]').click()
    opened.panel("textspan", layer=5, head=2)
    opened.settled()
    described = demo.heads.textspan(5, 2)
    rows = page.locator(".cv-textspan .row .text").all_inner_texts()
    assert rows == list(described.texts)
    shares = page.locator(".cv-textspan .row .share").all_inner_texts()
    assert shares == [f"{100 * gain:.1f}%" for gain in described.gains]
    joint = demo.maps.joint(5, 2, image)
    assert page.locator(".cv-heatmap .joint").get_attribute("data-texts").split("\n") == list(joint.texts)
    page.locator('.cv-heads .cell[data-layer="4"][data-head="1"]').click(modifiers=["Control"])
    opened.panel("heads", ablated=1)
    opened.settled()
    ablation = Ablation(heads=frozenset({(4, 1)}))
    for removed, (panel, key) in (
        (ablation, ("heads", "cosine")),
        (Ablation(), ("receipts", "cosine-before")),
    ):
        wanted = demo.heads.effects("a flamingo", image, "", removed).cosine
        assert abs(float(opened.told(panel, key)) - wanted) < CLOSE
    assert opened.told("images", "first") == str(demo.images.search("a flamingo", 1, "", ablation)[0][0])
    page.get_by_label("Restore every removed head").click()
    opened.panel("heads", ablated=0)
    assert opened.complaints == []
    assert opened.asked == []


def test_a_picture_that_is_brought_is_traced_in_the_page(demo, opened, tmp_path):
    draw = np.random.default_rng(0)
    blocks = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(
        (240, 180), Image.Resampling.NEAREST
    )
    file = tmp_path / "blocks.png"
    blocks.save(file)
    n = len(demo.images)
    with opened.page.expect_file_chooser() as chooser:
        opened.page.get_by_role("button", name="Picture…").click()
    chooser.value.set_files(file)
    opened.panel("heatmap", image=n)
    opened.settled()
    trace, direction = demo.model.trace(blocks), demo.model.encode_texts("a flamingo")[0]
    assert (
        abs(float(opened.told("heatmap", "cosine")) - float(trace.embedding[0] @ direction / trace.norm[0]))
        < CLOSE
    )
    assert float(opened.told("receipts", "sum-check")) < 1e-5
    assert opened.told("images", "n-images") == str(n + 1)
    assert opened.told("heatmap", "far") == "true"
    file.write_bytes(b"no picture at all")
    with opened.page.expect_file_chooser() as chooser:
        opened.page.get_by_role("button", name="Picture…").click()
    chooser.value.set_files(file)
    opened.page.wait_for_selector(".cv-images .cv-error")
    assert "which the browser cannot decode" in opened.page.locator(".cv-images .cv-error").inner_text()
    opened.page.get_by_label("Dismiss").click()
    opened.page.locator(".cv-query").get_by_label("Undo").click()
    opened.settled()
    assert opened.complaints == []
    assert opened.asked == []


def test_everything_else_on_the_board_answers_too(demo, opened):
    page = opened.page
    page.locator(".cv-images .tile").nth(3).click()
    opened.settled()
    page.get_by_role("button", name="Neighbours").click()
    opened.panel("images", order="near")
    opened.settled()
    image = int(opened.told("images", "image"))
    near = [i for i, _ in demo.images.neighbours(image, k=14)]
    under = [i for i, _ in demo.images.neighbours(image, 5, 2, k=14)]
    assert opened.told("images", "near-model") == ",".join(map(str, near))
    assert opened.told("images", "near-head") == ",".join(map(str, under))
    page.get_by_role("button", name="Inner product").click()
    opened.panel("images", by="product")
    opened.settled()
    assert opened.told("images", "near-head") == ",".join(
        str(i) for i, _ in demo.images.neighbours(image, 5, 2, k=14, by="product")
    )
    page.get_by_role("button", name="Text", exact=True).click()
    page.locator(".cv-images .describe").click()
    opened.panel("textspan", images=28)
    opened.settled()
    ids = [int(tile.get_attribute("data-image")) for tile in page.locator(".cv-images .tile").all()]
    assert (
        page.locator(".cv-textspan .row .text").first.inner_text()
        == demo.heads.textspan(5, 2, images=ids).texts[0]
    )
    page.get_by_role("button", name="back to the whole collection").click()
    opened.panel("textspan", images=0)
    page.get_by_label("Find heads by what they vary with").fill("the sea")
    opened.settled()
    found = " ".join(f"{one.layer},{one.head}" for one in demo.heads.find("the sea"))
    page.wait_for_selector(f'.cv-heads[data-meant="{found}"]')
    page.get_by_label("Find heads by what they vary with").fill("")
    for name in ("Variance", "Property", "Effect"):
        page.get_by_role("button", name=name, exact=True).click()
    for name in ("All heads", "Layer 5", "Head L5·H2", "Late layers"):
        page.get_by_role("button", name=name, exact=True).click()
    page.get_by_label("What is shown").select_option("centred")
    opened.panel("heatmap", show="centred")
    page.locator(".cv-heatmap canvas.map").click(position={"x": 60, "y": 90})
    opened.settled()
    token = int(opened.told("heatmap", "token"))
    scores = demo.maps.tokens(opened.told("heatmap", "text"), image, "", Ablation())
    shared = demo.maps.shared(image)
    centred = scores.scores - shared
    writers = np.argsort(-np.abs(centred[:, :, token]).ravel())[:5]
    heads = page.locator(".cv-heatmap .part.token").get_attribute("data-heads").split()
    assert heads == [f"{i // 8},{i % 8}" for i in writers]
    for name in ("Undo", "Redo"):
        page.locator(".cv-query").get_by_label(name).click()
        opened.settled()
    assert opened.complaints == []
    assert opened.asked == []


def test_a_link_opens_at_its_view(demo, chromium, published, opened):
    opened.settled()
    address = opened.page.evaluate("location.hash")
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    phone = Page(context, published[0] + address).ready()
    phone.settled()
    for name, key in (
        ("heatmap", "text"),
        ("heatmap", "image"),
        ("heatmap", "token"),
        ("heads", "layer"),
        ("heatmap", "show"),
    ):
        assert phone.told(name, key) == opened.told(name, key), (name, key)
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert phone.page.evaluate(sideways) == 0
    phone.page.locator('.cv-desks-bar [data-name="ablate"]').click()
    phone.page.wait_for_selector('.cv-ablate[data-ready="true"]')
    phone.settled()
    assert phone.page.evaluate(sideways) == 0
    assert phone.complaints == []
    context.close()


def test_the_ablation_desk_answers_as_in_python(demo, opened):
    page = opened.page
    page.locator(".cv-images .tile").nth(2).click()
    opened.settled()
    image = int(opened.told("images", "image"))
    page.locator('.cv-desks-bar [data-name="ablate"]').click()
    page.wait_for_selector('.cv-ablate[data-ready="true"]')
    opened.settled()
    task = next(iter(demo.ablation.tasks().values()))
    desk = demo.ablation.desk(task, image)
    for ablation in (
        Ablation(),
        Ablation(heads=frozenset({(5, 2), (5, 6), (4, 1)})),
        demo.ablation.everything_else(),
    ):
        if ablation.heads:
            for layer, head in sorted(ablation.heads):
                page.locator(f'.cv-ablate .cell[data-layer="{layer}"][data-head="{head}"]').click()
            opened.panel("ablate", measured=3)
        elif ablation:
            page.get_by_role("button", name="clear", exact=True).last.click()
            page.locator(".cv-ablate .cell.rest").click()
            opened.panel("ablate", measured=0, rest="true")
        page.wait_for_timeout(300)  # the hand rests before the desk is asked
        opened.settled()
        wanted = desk.probabilities(demo.ablation.on_desk(ablation))
        assert opened.told("ablate", "top") == task.classes[int(wanted.argmax())]
        assert abs(float(opened.told("ablate", "probability")) - wanted.max()) < 1e-4
        outcome = demo.ablation.run(ablation, task)
        assert abs(float(opened.told("ablate", "accuracy")) - outcome.everything.after) < 1e-6
        worst = opened.told("ablate", "worst")
        assert worst == "" if outcome.worst is None else abs(float(worst) - outcome.worst.after) < 1e-6
        line = page.locator(".cv-ablate .all .note").inner_text()
        if ablation:
            change = (outcome.worst or outcome.everything).change
            low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in (change.low, change.high))
            assert f"{low} to {high}" in line
    page.get_by_role("button", name="clear", exact=True).last.click()
    page.wait_for_timeout(300)
    page.get_by_role("button", name="Yours").click()
    field = page.get_by_label("Class names, separated by commas")
    field.fill("a swan, an owl, elephants on the moon")
    field.press("Enter")
    opened.panel("ablate", classes=3, task="typed")
    opened.settled()
    typed = demo.ablation.typed("a swan, an owl, elephants on the moon")
    wanted = demo.ablation.desk(typed, image).probabilities(Ablation())
    assert opened.told("ablate", "top") == typed.classes[int(wanted.argmax())]
    assert abs(float(opened.told("ablate", "probability")) - wanted.max()) < 1e-4
    page.locator('.cv-desks-bar [data-name="ablate"]').click()
    assert opened.complaints == []
    assert opened.asked == []


def test_a_desk_that_needs_python_shows_its_stored_view_and_says_so(opened):
    page = opened.page
    page.locator(f'.cv-desks-bar [data-name="{DESK}"]').click()
    desk = page.wait_for_selector(f'.cv-at-desk:not([hidden]) [data-panel="{DESK}"][data-ready="true"]')
    assert "computes with Python" in page.locator(".cv-at-desk:not([hidden]) .cv-stale").inner_text()
    assert desk.query_selector("button:enabled:not([data-local] *)") is None
    page.locator(f'.cv-desks-bar [data-name="{DESK}"]').click()
    assert page.locator(".cv-at-desk:visible").count() == 0
    assert opened.complaints == []
    assert opened.asked == []


def test_twenty_actions_by_keyboard_ask_the_network_for_nothing(demo, opened):
    page, n = opened.page, 0

    def press(*keys):
        nonlocal n
        for key in keys:
            page.keyboard.press(key)
            n += 1

    field = page.get_by_label("Text A", exact=True)
    field.focus()
    field.fill("a snowy field")
    press("Enter")
    opened.panel("heatmap", text="a snowy field")
    page.locator('.cv-heads .cell[data-layer="5"][data-head="0"]').focus()
    press("ArrowRight", "ArrowRight")
    opened.panel("textspan", layer=5, head=2)
    press("ArrowDown")
    opened.panel("textspan", layer=4, head=2)
    opened.settled()
    assert page.locator(".cv-textspan .row .text").all_inner_texts() == list(demo.heads.textspan(4, 2).texts)
    press("a")
    opened.panel("heads", ablated=1)
    press("ArrowLeft", "a")
    opened.panel("heads", ablated=2)
    press("a", "ArrowRight", "a")
    opened.panel("heads", ablated=0)
    page.locator(".cv-images .tile[tabindex='0']").focus()
    press("ArrowRight", "ArrowRight", "ArrowLeft")
    opened.settled()
    image = int(page.locator(".cv-images .tile:focus").get_attribute("data-image"))
    opened.panel("heatmap", image=image)
    opened.settled()
    wanted = demo.heads.effects("a snowy field", image, "", Ablation()).cosine
    assert abs(float(opened.told("heatmap", "cosine")) - wanted) < CLOSE
    page.locator(".cv-heatmap canvas.map").focus()
    press("ArrowRight", "ArrowDown", "ArrowLeft")
    page.wait_for_selector('.cv-heatmap:not([data-token=""])')
    press("Escape")
    opened.panel("heatmap", token="")
    text = page.locator(".cv-textspan button.text").first
    text.focus()
    press("Enter")
    opened.panel("heads", text=text.get_attribute("title"))
    page.locator(".cv-query").get_by_label("Undo").focus()
    press("Enter", "Enter", "Space")
    opened.settled()
    assert n >= 20
    assert opened.complaints == []
    assert opened.asked == []


def test_a_picture_is_pasted(demo, opened):
    picture = Image.fromarray(demo.images.picture(5))
    content = io.BytesIO()
    picture.save(content, "PNG")
    n = int(opened.told("images", "n-images"))
    opened.page.get_by_label(
        "Text A", exact=True
    ).focus()  # a field keeps pasted texts, and gives pictures to the page
    opened.page.evaluate(PASTE, [base64.b64encode(content.getvalue()).decode(), "image/png"])
    opened.panel("heatmap", image=n)
    opened.settled()
    trace, direction = demo.model.trace(picture), demo.model.encode_texts(opened.told("heatmap", "text"))[0]
    wanted = float(trace.embedding[0] @ direction / trace.norm[0])
    assert abs(float(opened.told("heatmap", "cosine")) - wanted) < CLOSE
    assert opened.told("images", "n-images") == str(n + 1)
    opened.page.evaluate(PASTE, [base64.b64encode(b"words").decode(), "text/plain"])
    opened.settled()
    assert opened.told("images", "n-images") == str(n + 1)
    assert opened.complaints == []
    assert opened.asked == []


def test_a_picture_is_taken_with_the_camera(opened):
    page, n = opened.page, int(opened.told("images", "n-images"))
    page.evaluate(CAMERAS)
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()  # enabled once there is a picture
    opened.panel("heatmap", image=n)
    opened.settled()
    assert float(opened.told("receipts", "sum-check")) < 1e-5
    assert page.locator("dialog").count() == 0
    assert page.evaluate(OFF)
    page.evaluate("() => { window.cameras = []; window.asking = new Promise((go) => (window.allow = go)); }")
    page.get_by_role("button", name="Camera").click()
    assert page.get_by_role("button", name="Take the picture").is_disabled()
    page.get_by_role("button", name="Cancel").click()
    page.evaluate("() => window.allow()")  # the browser had asked, and the answer comes late
    page.wait_for_function(OFF)
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('none here'); }; }"
    )
    page.get_by_role("button", name="Camera").click()
    page.wait_for_selector("dialog p:has-text('The browser provides no camera: none here')")
    page.keyboard.press("Escape")
    assert page.locator("dialog").count() == 0
    assert opened.told("images", "n-images") == str(n + 1)
    assert opened.complaints == []
    assert opened.asked == []


def test_the_theme_is_that_of_the_address_or_of_the_page_around_it_or_of_the_system(chromium, published):
    url = published[0]
    context = chromium.new_context(color_scheme="dark")
    around = (
        '<!doctype html><body data-md-color-scheme="default">'
        '<iframe src="index.html"></iframe><iframe src="index.html?theme=light"></iframe>'
    )
    context.route(f"{url}around.html", lambda route: route.fulfill(body=around, content_type="text/html"))
    page = Page(context, f"{url}around.html").page
    following, light = (page.frame_locator(f"iframe >> nth={i}") for i in range(2))
    for scheme, theme in (("default", "light"), ("slate", "dark"), ("default", "light"), ("slate", "dark")):
        page.evaluate("(scheme) => { document.body.dataset.mdColorScheme = scheme; }", scheme)
        following.locator(f'.cv-dashboard[data-theme="{theme}"]').wait_for()
        following.locator(f'.cv-heatmap[data-theme="{theme}"]').wait_for()
    light.locator('.cv-heatmap[data-theme="light"]').wait_for()
    colours = "(body) => [getComputedStyle(body).backgroundColor, getComputedStyle(body).colorScheme]"
    assert following.locator("body").evaluate(colours) == ["rgb(13, 16, 20)", "dark"]
    assert light.locator("body").evaluate(colours) == ["rgb(244, 245, 247)", "light"]
    alone = Page(context, url)
    alone.panel("heatmap", theme="dark")
    alone.page.emulate_media(color_scheme="light")
    alone.panel("heatmap", theme="light")
    assert alone.complaints == []
    context.close()


@pytest.fixture(scope="module")
def first_visit(chromium, published):
    """A page that a browser opens for the first time, with the Ablation desk open."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000}, bypass_csp=True)
    page = Page(context, published[0]).ready()
    page.page.locator('.cv-desks-bar [data-name="ablate"]').click()
    page.page.wait_for_selector('.cv-ablate[data-ready="true"]')
    page.settled()
    yield page
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page(first_visit, theme):
    if not AXE.is_file():
        pytest.skip("no axe-core; make scripts installs it")
    page = first_visit.page
    page.emulate_media(color_scheme=theme)
    page.wait_for_selector(f'.cv-heads[data-theme="{theme}"]')
    page.add_script_tag(path=AXE)
    run = """async () => (await axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }))
      .violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html.slice(0, 100)).join(' | ')}`)"""
    assert page.evaluate(run) == []
    page.get_by_role("button", name="Camera").click()
    page.wait_for_selector("dialog button:enabled:has-text('Take the picture')")
    assert page.evaluate(run) == []
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_threads_are_used_where_the_server_allows_them(chromium, published):
    context = chromium.new_context()
    with served(published[1], Isolating) as url:
        page = Page(context, url).ready()
        assert page.page.evaluate("crossOriginIsolated")
        page.type("Text A", "a text that nobody has typed")
        page.panel("heatmap", text="a text that nobody has typed")
        page.settled()
        assert float(page.told("receipts", "sum-check")) < 1e-5
        assert page.complaints == []
    context.close()


def test_the_model_is_kept_by_the_browser(first_visit, published):
    again = Page(first_visit.context, published[0]).ready()
    first, second = ([url for url in page.asked if "/parts/" in url] for page in (first_visit, again))
    assert len(first) > 1
    assert len(second) == 1  # of the board, which is drawn before the rest
    assert again.complaints == []


def test_a_damaged_part_is_refused_in_words(chromium, published, tmp_path):
    import shutil

    folder = tmp_path / "site"
    shutil.copytree(published[1], folder)
    large = max((folder / "parts").iterdir(), key=lambda path: path.stat().st_size)
    large.write_bytes(large.read_bytes()[:-1] + b"?")
    context = chromium.new_context()
    with served(folder) as url:
        page = Page(context, url).ready()
        assert "got other bytes; load the page again" in page.page.locator(".cv-top .state").inner_text()
    context.close()


def test_a_tower_that_pools_its_tokens_answers_as_in_python(chromium, tmp_path):
    """SigLIP's readout: no class token, an attention pool with an MLP after it, a sigmoid for each class."""
    from tests.models.families import with_texts

    draw = np.random.default_rng(4)
    pictures = [Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(6)]
    texts = [f"a picture of {thing}" for thing in ("a dog", "the sea", "red", "two birds")]
    session = clipviz.Session(with_texts("SigLIP"), images=pictures, texts=texts, background=False)
    context = chromium.new_context()
    with served(clipviz.publish(session, tmp_path / "site")) as url:
        page = Page(context, f"{url}#image=2&head=1.2&text=a+red+boat&heatmap.show=pool").ready().cut()
        page.settled()
        wanted = session.heads.effects("a red boat", 2, "", Ablation())
        assert abs(float(page.told("heatmap", "cosine")) - wanted.cosine) < CLOSE
        assert page.told("heatmap", "show") == "pool"
        assert int(page.told("heatmap", "peak")) == int(session.maps.pool("a red boat", 2)[1:].argmax())
        assert float(page.told("receipts", "sum-check")) < 1e-5
        page.page.locator('.cv-desks-bar [data-name="ablate"]').click()
        page.page.wait_for_selector(".cv-ablate:has-text('Type class names')")
        page.page.get_by_role("button", name="Yours").click()
        field = page.page.get_by_label("Class names, separated by commas")
        field.fill("a dog, the sea")
        field.press("Enter")
        page.panel("ablate", classes=2)
        page.settled()
        desk = session.ablation.desk(session.ablation.typed("a dog, the sea"), 2)
        assert abs(float(page.told("ablate", "probability")) - desk.probabilities(Ablation()).max()) < 1e-4
        assert page.complaints == []
        assert page.asked == []
    context.close()
    session.close()


def test_the_policy_lets_nothing_out(opened, published):
    page = (published[1] / "index.html").read_text()
    assert publishing.POLICY in page
    opened.context.set_offline(False)
    refused = opened.page.evaluate(
        """async () => {
          try { await fetch('http://127.0.0.1:9/'); return 'went out'; } catch { return 'refused'; }
        }"""
    )
    assert refused == "refused"
    assert any("Content Security Policy" in said for said in opened.complaints)
