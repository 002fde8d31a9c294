"""Seconds of wall clock until `import clipviz` returns, and until the demo's session answers, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

from benchmarks._timing import row

IMPORT = "import time; t = time.perf_counter(); import clipviz; print(time.perf_counter() - t)"
SESSION = """import time; t = time.perf_counter()
import clipviz
session = clipviz.Session(clipviz.load("demo"))
session.textspan(5, 0); print(time.perf_counter() - t)
session.close()"""


def seconds(code: str, repeats: int = 3) -> float:
    """Median over fresh processes of what the code prints."""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(repeats)
    ]
    return statistics.median(float(done.stdout.split()[-1]) for done in runs)


def run() -> list[dict[str, Any]]:
    return [
        row("import clipviz, s", seconds(IMPORT), 0.2),
        row("import, load the demo, describe a head over the embedded collection, s", seconds(SESSION), 15),
    ]
