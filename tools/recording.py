"""Record the README's moving picture from the real board: `python tools/recording.py`. Needs Chromium; two minutes.

A text is typed, a head and a token are clicked, a head is removed, and on the Generate desk an object is dragged. The
pictures of the page are kept as one animated WebP, docs/board.webp, which every browser plays.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from gallery import ROOT, WHOLE, board

WIDTH, HEIGHT = 1500, 1010
"""The part of the page that is recorded, in CSS pixels."""
SHOWN = 960
"""Columns of the recording."""
MOST = 3_000_000
"""Bytes."""

BOARD = "dashboard = clipviz.Dashboard(session)\ndashboard"

CURSOR = """() => { const dot = document.createElement('div'); dot.id = 'recorded-cursor';
  dot.style.cssText = 'position:fixed;z-index:99999;width:22px;height:22px;margin:-11px;border-radius:50%;'
    + 'background:rgba(63,81,181,.35);border:2px solid rgba(63,81,181,.9);pointer-events:none;left:-50px;top:-50px';
  document.body.append(dot);
  document.addEventListener('pointermove', (event) => {
    dot.style.left = event.clientX + 'px'; dot.style.top = event.clientY + 'px'; }, true);
  document.addEventListener('pointerdown', () => { dot.style.transform = 'scale(.7)'; }, true);
  document.addEventListener('pointerup', () => { dot.style.transform = ''; }, true); }"""
WHERE = """() => { const dot = document.getElementById('recorded-cursor').style;
  return [parseFloat(dot.left), parseFloat(dot.top)]; }"""


class Recorder:
    """Pictures of one place on a page, each with how long it is shown."""

    def __init__(self, page: Any, place: Any) -> None:
        self.page, self.place = page, place
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def keep(self, milliseconds: int) -> None:
        """Keep what is on screen now; what has not changed is shown longer."""
        box = self.place.bounding_box()
        clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": min(box["height"], HEIGHT)}
        frame = Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")
        frame = frame.resize((SHOWN, round(frame.height * SHOWN / frame.width)), Image.Resampling.LANCZOS)
        if self.frames and frame.size != self.frames[0].size:  # another place of the page, on the same canvas
            canvas = Image.new("RGB", self.frames[0].size, frame.getpixel((0, frame.height - 1)))
            canvas.paste(frame, (0, 0))
            frame = canvas
        if (
            self.frames
            and frame.size == self.frames[-1].size
            and frame.tobytes() == self.frames[-1].tobytes()
        ):
            self.milliseconds[-1] += milliseconds
        else:
            self.frames.append(frame)
            self.milliseconds.append(milliseconds)

    def move(self, x: float, y: float, steps: int = 5) -> None:
        """Move the pointer to a place on the page, and keep its way there."""
        start = self.page.evaluate(WHERE)
        for step in range(1, steps + 1):
            share = step / steps
            self.page.mouse.move(start[0] + share * (x - start[0]), start[1] + share * (y - start[1]))
            self.keep(60)

    def to(self, target: Any, right: float = 0.5, down: float = 0.5) -> None:
        """Move the pointer to a place on an element, given as shares of its size."""
        box = target.bounding_box()
        self.move(box["x"] + right * box["width"], box["y"] + down * box["height"])

    def click(self, **options: Any) -> None:
        self.page.mouse.down(**options)
        self.keep(80)
        self.page.mouse.up(**options)

    def save(self, path: Path) -> None:
        """The recording, in the best quality that stays below MOST."""
        for quality in (80, 70, 60, 50, 40):
            first, *rest = self.frames
            first.save(
                path,
                save_all=True,
                append_images=rest,
                duration=self.milliseconds,
                loop=0,
                quality=quality,
                method=4,
            )
            if path.stat().st_size < MOST:
                break
        seconds = sum(self.milliseconds) / 1000
        print(f"{path.name}: {len(self.frames)} frames, {seconds:.1f} s, {path.stat().st_size >> 10} KB")


def record() -> None:
    with board(BOARD, session=WHOLE) as (opened, place):
        page = opened.page
        page.evaluate(CURSOR)
        page.wait_for_timeout(1500)
        film = Recorder(page, place)
        page.mouse.move(WIDTH / 2, HEIGHT / 2)
        film.keep(1200)

        text = opened.panel("query").locator("input").first
        film.to(text)
        film.click()
        text.fill("")
        for letter in "a swan":
            page.keyboard.type(letter)
            film.keep(90)
        page.keyboard.press("Enter")
        settle(opened)
        film.keep(1600)

        film.to(opened.panel("images").locator("[data-image]").first)
        film.click()
        settle(opened)
        film.keep(1500)

        film.to(strongest(opened))
        film.click()
        settle(opened)
        film.keep(1800)

        film.to(opened.panel("heatmap").locator(".stage, canvas").first, 0.5, 0.45)
        film.click()
        settle(opened)
        film.keep(1500)

        film.to(strongest(opened))
        page.keyboard.down("Control")
        film.click()
        page.keyboard.up("Control")
        settle(opened)
        film.keep(1600)

        opened.kernel("session.select(ablation=clipviz.Ablation())\ndashboard.desks.show('generate')")
        panel = opened.panel("generate")
        panel.locator(".stage").wait_for()
        settle(opened)
        panel.get_by_label("Class", exact=True).select_option("car")
        opened.panel("generate", label="car", state="settled").wait_for()
        panel.evaluate("node => node.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(500)
        film.place = panel
        film.keep(1000)
        stage = panel.locator(".stage")
        film.to(stage, 0.5, 0.6)
        page.mouse.down()
        box = stage.bounding_box()
        for step in range(1, 7):
            page.mouse.move(box["x"] + box["width"] * (0.5 + 0.04 * step), box["y"] + 0.6 * box["height"])
            page.wait_for_timeout(200)
            film.keep(120)
        page.mouse.up()
        opened.panel("generate", state="settled").wait_for()
        film.keep(2200)
        film.save(ROOT / "docs" / "board.webp")


def strongest(opened: Any) -> Any:
    """Return the head with the largest direct effect on the selected text, in the grid."""
    said = opened.kernel("print(*session.heads.strongest(session.selection.text))").split()
    return opened.panel("heads").locator(f'[data-layer="{said[0]}"][data-head="{said[1]}"]').first


def settle(opened: Any) -> None:
    """Wait until every panel shows the newest selection."""
    opened.kernel("session.wait(120)")
    opened.page.wait_for_timeout(300)


if __name__ == "__main__":
    record()
