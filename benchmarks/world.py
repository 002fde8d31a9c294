"""The demo world: time to load it and its collection, and how fast it draws. Processor time of a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

BUDGET = 1.0
DRAWN = 1_000
AT_LEAST = 1_000
_START = "import time, numpy, PIL.Image; from PIL import WebPImagePlugin; started = time.process_time(); "
_END = "; print(time.process_time() - started)"
_PROGRAMS = {
    "the world: import to the first scene, s": "from clipviz.demo import world; world.render(1, 0)",
    "the embedded collection: import to the first picture and mask, s": (
        "from clipviz import demo; images = demo.images(); images[0]; images.masks(0)"
    ),
}


def run() -> list[dict[str, Any]]:
    """Return rows of measured values beside their budgets."""
    rows = []
    for what, program in _PROGRAMS.items():
        seconds = min(_measure(_START + program + _END) for _ in range(3))
        rows.append({"what": what, "measured": seconds, "budget": f"< {BUDGET} s", "ok": seconds < BUDGET})
    warm = "from clipviz.demo import world; world.render(200, 1); started = time.process_time(); "
    warm += f"world.render({DRAWN}, 0)"
    rate = DRAWN / min(_measure(_START + warm + _END) for _ in range(3))
    what = "the world: scenes per second and core, with masks, captions and attributes"
    rows.append({"what": what, "measured": rate, "budget": f"> {AT_LEAST:,}", "ok": rate > AT_LEAST})
    return rows


def _measure(program: str) -> float:
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    return float(printed)
