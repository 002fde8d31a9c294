"""Print the lessons as one PDF, to be read and answered on paper.

    python tools/lessons_pdf.py lessons.pdf                       all lessons, run one after another
    python tools/lessons_pdf.py lessons.pdf notebooks/lesson1_sum.ipynb

Each notebook is run, and printed with its words, its figures and its questions, with boxes to tick in place of the
panels. What was measured stands on the last page of each lesson. A figure that gives an answer away follows its
question, so that a reader has to cover it. Code is left out.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from lab import chromium_browser, find_chromium  # noqa: E402

DPI = 200

ON_PAPER = f"""\
import base64, io
from html import escape
from clipviz.lessons import Quiz
from clipviz.lessons.folded import Folded

ANSWERS = []

def _kept(answer):
    ANSWERS.append(answer)
    return len(ANSWERS)

def _asked(quiz, question):
    (page,) = Quiz.of(quiz.session, [question]).sheet()
    title, name, number, *said = page.texts
    for text in (title, name, number):
        text.set_visible(False)
    said[0].set_text(said[0].get_text().removeprefix("1. "))
    out = io.BytesIO()
    page.savefig(out, dpi={DPI}, bbox_inches="tight", pad_inches=0.02)
    width = int.from_bytes(out.getvalue()[16:20], "big") / {DPI}
    data = base64.b64encode(out.getvalue()).decode()
    return f'<img style="width:{{width:.2f}}in" src="data:image/png;base64,{{data}}">'

def _printed(quiz, **_):
    shown = [
        f'<div class="asked"><b>Question {{_kept(answer)}}</b>{{_asked(quiz, question)}}</div>'
        for question, answer in zip(quiz.questions, quiz.key)
    ]
    return {{"text/html": "".join(shown)}}

Quiz._repr_mimebundle_ = _printed
Folded._repr_html_ = lambda one: f'<p class="answered">Answer {{_kept(one.words)}}: see the end of this lesson.</p>'
"""
"""Run before a lesson: questions are shown as on paper, and answers are kept for the end."""

TOLD = """\
from IPython.display import HTML
lines = [escape(one).replace("\\n", "<br>") for one in ANSWERS]
HTML('<ol class="answers">' + "".join(f"<li>{line}</li>" for line in lines) + "</ol>")
"""

STYLE = """\
@page { size: A4; margin: 14mm 14mm 16mm; }
body { font: 10.5pt/1.42 "DejaVu Sans", Arial, sans-serif; color: #111; margin: 0; }
h1 { font-size: 19pt; margin: 0 0 8pt; }
section + section h1 { break-before: page; }
h2 { font-size: 13.5pt; margin: 16pt 0 4pt; break-after: avoid; }
p, ul { margin: 5pt 0; orphans: 3; widows: 3; }
img { display: block; max-width: 100%; margin: 6pt 0; break-inside: avoid; }
pre { font: 9pt/1.35 "DejaVu Sans Mono", monospace; white-space: pre-wrap; margin: 5pt 0; }
table { border-collapse: collapse; margin: 6pt 0; break-inside: avoid; }
th, td { border-bottom: 0.6pt solid #bbb; padding: 3pt 9pt 3pt 0; text-align: left; font-size: 10pt; }
.asked { border-left: 2pt solid #0b6bcb; padding-left: 6pt; margin: 8pt 0; break-inside: avoid; }
.anchor-link { display: none; }
.answered { font-size: 9pt; color: #444; }
.answers li { margin: 4pt 0; }
.end { break-before: page; }
"""


def executed(path: Path) -> list[Any]:
    """Return a notebook's cells with what they show on paper, the answers before its last cell."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(ON_PAPER))
    notebook.cells.insert(len(notebook.cells) - 1, nbformat.v4.new_code_cell(TOLD))
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=resources).execute()
    return list(notebook.cells)


def printed(cells: list[Any]) -> str:
    """Return a lesson as HTML for paper."""
    from nbconvert.filters import markdown2html

    parts = []
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(markdown2html(cell.source))
        elif cell.source == TOLD:
            parts.append(f'<h2 class="end">Answers</h2>{_shown(cell)}')
        else:
            parts.append(_shown(cell))
    return f"<section>{''.join(parts)}</section>"


def _shown(cell: Any) -> str:
    from nbconvert.filters import markdown2html

    said = "".join(one.text for one in cell.outputs if one.get("name") == "stdout")
    lines = "\n".join(line.rpartition("\r")[2] for line in said.split("\n")).strip()
    parts = [f"<pre>{html.escape(lines)}</pre>"] if lines else []
    for output in cell.outputs:
        if output.output_type in ("display_data", "execute_result"):
            data = output.data
            if "image/png" in data:
                with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
                    width = picture.width / picture.info.get("dpi", (DPI, DPI))[0]
                parts.append(
                    f'<img style="width:{width:.2f}in" src="data:image/png;base64,{data["image/png"]}">'
                )
            elif "text/html" in data:
                parts.append(data["text/html"])
            elif "text/markdown" in data:
                parts.append(markdown2html(data["text/markdown"]))
    return "".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pdf", type=Path)
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    paths = options.notebooks or sorted((ROOT / "notebooks").glob("lesson[1-5]*.ipynb"))
    lessons = []
    for path in paths:
        print(f"running {path.name}", flush=True)
        lessons.append(printed(executed(path)))
    write(lessons, options.pdf)
    print(f"{options.pdf}: {options.pdf.stat().st_size / 1e6:.1f} MB")
    return 0


def write(lessons: list[str], path: Path) -> None:
    """Print lessons, each as `printed` gives it, as one PDF."""
    chromium = find_chromium()
    if chromium is None:
        raise SystemExit(
            "no Chromium found; install one (apt-get install chromium, or playwright install chromium)"
        )
    page = f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{"".join(lessons)}'
    with chromium_browser(chromium) as browser:
        opened = browser.new_page()
        opened.set_content(page)
        opened.pdf(path=path, prefer_css_page_size=True, print_background=True)


if __name__ == "__main__":
    raise SystemExit(main())
