"""Take the pictures of README and docs/gallery.md: `python tools/gallery.py`. Needs Chromium; about three minutes.

--looks FOLDER takes the board and every desk at four widths in both themes instead, to look at; --only NAME a picture
of one desk alone, --lessons those of the quiz.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from lab import Notebook, chromium_browser, find_chromium, jupyterlab, open_notebook  # noqa: E402

GALLERY = ROOT / "docs" / "gallery"
SESSION = """import clipviz
session = clipviz.Session(clipviz.load("demo", device="cpu"), clipviz.demo.images().subset(range(240)), "demo")"""
BOARD = """dashboard = clipviz.Dashboard(session)
dashboard"""
WHOLE = """import clipviz
session = clipviz.Session(clipviz.load("demo", device="cpu"))"""
"""The whole collection, for the picture of the tour's last step."""
DESKS = {
    "ablate": """heads = session.ablation.shortcut_heads("the sea", "a forest").heads
session.select(ablation=clipviz.Ablation(heads=heads))""",
    "atlas": "session.select(ablation=clipviz.Ablation())",
    "neurons": "layer, neuron = clipviz.demo.shipped.chosen()['neuron']; session.select(layer=layer, neuron=neuron)",
    "words": "",
    "cues": "",
    "rosetta": "",
    "generate": """from clipviz.session.topics.workbench import EVERY, Goal
bench = session.generator.workbench
for _ in range(40):
    bench.random("house")
    for frame in bench.follow(Goal(bench.latents, EVERY, right=0.25, down=0.0)):
        pass
    if bench.verdict().done:
        break""",
    "features": """[name] = session.neurons.dictionaries
feature, text = clipviz.demo.shipped.chosen()["feature"]
image = session.neurons.layer(name).top(feature, 24).ids[0]
layer = session.neurons.dictionaries[name].layer
chosen = session.selection.replace(layer=layer, neuron=feature, dictionary=name, image=image, text=text)
session.view = clipviz.View(chosen, {**session.view.panels, "neurons": {"indirect": True}})""",
}
"""What the pictures of the desks show, and the code run before each."""
DESK_OF = {"features": "neurons"}
"""The desk of a picture that is not called as its desk is."""
WAIT = "session.wait(400, background=True); session.wait(60)"
NO_CHROMIUM = "no Chromium found; install one (apt-get install chromium, or playwright install chromium)"
STUDENTS, KNOWN, QUIZ = 20, 0.5, 2
"""Simulated students of the picture of a class, how often each knows an answer, and the seed of their quiz."""
WIDTHS = (1500, 1280, 1020, 640)
TALL = 3600  # pixels, so that a panel is whole in the picture
THEME = "async name => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme: name}); }"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
ALONE = "() => window.jupyterapp.commands.execute('application:toggle-left-area')"


def keep(png: bytes, path: Path) -> None:
    """A picture as it is, or as WebP where the name says so: a fifth of the size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.save(path, **({"quality": 88, "method": 6} if path.suffix == ".webp" else {"optimize": True}))
    print(f"{path.name}: {picture.size[0]} x {picture.size[1]}, {path.stat().st_size >> 10} KB")


@contextmanager
def board(cell: str, scale: float = 1.0, session: str = SESSION) -> Iterator[tuple[Notebook, Any]]:
    """The board in JupyterLab without its side bar, everything painted, and its place on the page."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(NO_CHROMIUM)
    with (
        tempfile.TemporaryDirectory() as cache,  # no roles and answers of whoever takes the pictures
        chromium_browser(chromium) as browser,
        jupyterlab(CLIPVIZ_CACHE=cache) as (url, folder),
    ):
        context = browser.new_context(viewport={"width": 1500, "height": 2000}, device_scale_factor=scale)
        opened = open_notebook(context, url, folder, session, cell)
        opened.page.evaluate(ALONE)
        opened.panel("textspan", complete="true").wait_for()
        opened.kernel("session.wait(120)")
        yield opened, opened.page.locator(".cv-dashboard").first
        context.close()


def gallery() -> None:
    """Board and desks, for the documentation."""
    with board(BOARD, scale=1.25, session=WHOLE) as (opened, place):
        opened.page.wait_for_timeout(1500)
        keep(place.screenshot(), ROOT / "docs" / "dashboard.png")
    with board(BOARD, scale=1.25) as (opened, place):
        page = opened.page
        page.wait_for_timeout(1500)
        page.evaluate(THEME, THEMES["dark"])
        page.wait_for_timeout(1500)
        keep(place.screenshot(), GALLERY / "board-dark.webp")
        page.evaluate(THEME, THEMES["light"])
        desks(opened, [name for name in DESKS if name != "ablate"])  # which is the tour's last step


def desks(opened: Notebook, names: list[str]) -> None:
    """Pictures of some desks."""
    for name in names:
        desk = DESK_OF.get(name, name)
        opened.kernel(f"{DESKS[name]}\ndashboard.desks.show({desk!r})\n{WAIT}")
        panel = opened.panel(desk)
        panel.wait_for()
        opened.page.wait_for_timeout(2500)
        keep(panel.screenshot(), GALLERY / f"{name}.webp")


def repair() -> None:
    """The tour's last step: a bird is named right again without the heads that tell the background."""
    with board("dashboard = clipviz.Dashboard(session)\ndashboard", scale=1.25, session=WHOLE) as (opened, _):
        opened.kernel(
            f"dashboard.tour.go(len(dashboard.board.tour))\n{WAIT}"
        )  # its end gives back the board it found
        opened.panel("ablate", measured=6).wait_for()
        opened.page.wait_for_timeout(2500)
        keep(opened.panel("ablate").screenshot(), ROOT / "docs" / "ablation.png")


def lessons() -> None:
    """The quiz and the board of its class, of a session without JupyterLab."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(NO_CHROMIUM)
    with chromium_browser(chromium) as browser, tempfile.TemporaryDirectory() as folder:
        lesson(browser, Path(folder))


def lesson(browser: Any, folder: Path) -> None:
    """A question that has been answered, and what twenty students, who are drawn at random, answered."""
    import clipviz

    with closing(
        clipviz.Session(clipviz.load("demo", device="cpu"), clipviz.demo.images().subset(range(240)), "demo")
    ) as session:
        quiz, rng = clipviz.Quiz(session, "head", n=6, seed=QUIZ), np.random.default_rng(0)
        for _ in range(STUDENTS):
            student = clipviz.Quiz.of(session, quiz.questions, quiz.kind)
            student.share(folder)
            for at in range(int(rng.integers(3, 7))):
                knows = rng.random() < KNOWN
                student.answer(at, quiz.questions[at].best if knows else int(rng.integers(4)))
        quiz.answer(0, quiz.questions[0].best)
        classroom = quiz.classroom(folder)
        classroom.reveal(0)
        for panel in (quiz.show(), classroom):
            session.wait(60)
            page = browser.new_page(viewport={"width": 900, "height": 1200}, device_scale_factor=1.25)
            page.goto(panel.save_html(folder / f"{panel.name}.html").as_uri())
            shown = page.locator(f'[data-panel="{panel.name}"][data-ready="true"]')
            shown.wait_for()
            keep(shown.screenshot(), GALLERY / f"{panel.name}.webp")


def looks(folder: Path) -> None:
    """The board and every desk at every width in both themes."""
    with board(BOARD) as (opened, place):
        page = opened.page
        for name, code in {"": "", **DESKS}.items():
            if name:
                opened.kernel(f"{code}\ndashboard.desks.show({DESK_OF.get(name, name)!r})\n{WAIT}")
            seen = opened.panel(DESK_OF.get(name, name)) if name else place
            for theme, called in THEMES.items():
                page.evaluate(THEME, called)
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": TALL})
                    page.wait_for_timeout(800)
                    seen.screenshot(path=str(folder / f"{name or 'board'}-{width}-{theme}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=Path, help="folder for everything at four widths in both themes")
    parser.add_argument("--only", nargs="+", choices=DESKS, help="pictures of these desks alone")
    parser.add_argument("--lessons", action="store_true", help="pictures of the quiz and of its class alone")
    options = parser.parse_args()
    if options.lessons:
        return lessons()
    if options.only:
        with board(BOARD, scale=1.25) as (opened, _):
            return desks(opened, options.only)
    if options.looks:
        options.looks.mkdir(parents=True, exist_ok=True)
        return looks(options.looks)
    gallery()
    repair()
    lessons()


if __name__ == "__main__":
    main()
