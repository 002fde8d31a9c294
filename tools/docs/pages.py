"""The documentation site's pages as its generator reads them: links, formulas and the live board put in their places.

Formulas between $$ become MathML, which browsers draw themselves. A line `[board: text=a swan&head=4.6]` becomes the
published board, opened at that view. Links of documents that point outside docs/ lead to the page of the file they
point to, where there is one, and are plain words else.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import posixpath
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "CHANGELOG.md": "about/changelog.md",
    "CONTRIBUTING.md": "about/contributing.md",
    "clipviz/demo/model/MODEL_CARD.md": "about/model.md",
    "clipviz/demo/generator/MODEL_CARD.md": "about/generator.md",
    "README.md": "index.md",
}
"""Files outside docs/ that have a page, from the repository's root; README's place is the site's first page."""

WIDE = (
    "thesis.md",
    "stage.md",
    "nulls.md",
    "towers.md",
    "compare.md",
    "publishing.md",
    "about/model.md",
    "about/generator.md",
)
"""Pages of wide tables, which take the place of the list of headings."""

BOARD = ROOT / "build" / "board"
"""Where `python -m tools.docs` publishes the board, and its folder in the site."""

WITHOUT_HEADINGS = "---\nhide: [toc]\n---\n\n"

_FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_BOARD = re.compile(r"^\[board: *(.*?)\]$", re.MULTILINE)
_TABLE = re.compile(r"^\|.*$", re.MULTILINE)
_BREAKS = re.compile(r"(::|[._/(,=])(?=.)")
_CODE = re.compile(r"`([^`]+)`")
_PACKED = re.compile(r'class="clipviz-output".*?atob\(\'([\w+/=]+)\'', re.DOTALL)
_FIGURE = re.compile(r'<img([^>]*) src="data:image/(\w+);base64,([^"]*)">')
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def write(folder: Path) -> None:
    """Write the pages of docs/, and those whose source lies outside it, into an empty folder for the generator."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.json"))
    sources = {page: source for source, page in PAGES.items() if page != "index.md"}
    sources |= {
        str(path.relative_to(folder)): f"docs/{path.relative_to(folder)}" for path in folder.rglob("*.md")
    }
    for page, source in sources.items():
        text = _relinked((ROOT / source).read_text(encoding="utf-8"), source, page)
        text = _BOARD.sub(lambda found, page=page: board(found[1], page), text)
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        text = _TABLE.sub(lambda found: breakable(found[0]), text)
        text = _FORMULA.sub(lambda found: formula(found[1]), text)
        target.write_text(WITHOUT_HEADINGS + text if page in WIDE else text, encoding="utf-8")
    for notebook in sorted((ROOT / "notebooks").glob("lesson*.ipynb")):
        page = f"lessons/{notebook.stem}.md"
        words, beside = lesson(notebook)
        text = _relinked(words, f"notebooks/{notebook.name}", page)
        (folder / page).write_text(text, encoding="utf-8")
        for name, content in beside.items():
            target = folder / "lessons" / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
    if BOARD.exists():
        shutil.copytree(BOARD, folder / BOARD.name)


def lesson(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """Return a lesson's notebook as a page to read, and the files beside it: its questions' saved pages and figures.

    The page has the words of the notebook, its code folded, and what the notebook keeps of a run, in which answers are
    folded.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    beside: dict[str, bytes] = {}
    questions = 0

    def figure(found: re.Match[str]) -> str:
        name = f"{notebook.stem}/figure{len(beside) - questions + 1}.{found[2]}"
        beside[name] = base64.b64decode(found[3])
        return f'<a href="{name}" title="Enlarge"><img{found[1]} src="{name}"></a>'

    for cell in cells:
        source = "".join(cell["source"])
        asks = any(word in source for word in ("predict(", "Quiz(", "Quiz.of("))
        summary = "A question, as code" if asks else "An answer, as code" if "folded(" in source else "Code"
        code = f'<details markdown="1"><summary>{summary}</summary>\n\n```python\n{source}\n```\n\n</details>'
        parts.append(source if cell["cell_type"] == "markdown" else code)
        for output in cell.get("outputs", []):
            data = {kind: "".join(value) for kind, value in output.get("data", {}).items()}
            packed = _PACKED.search(data.get("text/html", ""))
            if packed:
                questions += 1
                name = f"{notebook.stem}/question{questions}.html"
                beside[name] = gzip.decompress(base64.b64decode(packed[1]))
                parts.append(f'<iframe class="asked" src="{name}" title="Question {questions}"></iframe>')
            else:
                parts.append(_FIGURE.sub(figure, _kept(output, data)))
    run = (
        "Choose an answer to each question before you open what was measured. Answers are committed, and figures made "
        f"anew, in the notebook `notebooks/{notebook.name}`; this page shows an earlier run."
    )
    words = [parts[0], f'!!! note "A lesson to run"\n    {run}', *parts[1:]]
    return "\n\n".join(words) + "\n", beside


def _kept(output: dict[str, Any], data: dict[str, str]) -> str:
    """Return what a notebook keeps of a cell's output, as Markdown, or as HTML without blank lines, which end it."""
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            content = data[kind].replace("\n", "")
            return f'<p><img alt="Figure" src="data:{kind};base64,{content}"></p>'
    if "text/html" in data:
        return re.sub(r"\n{2,}", "\n", data["text/html"])
    if "text/markdown" in data:
        return data["text/markdown"]
    said = html.escape("".join(output.get("text", data.get("text/plain", ""))).strip())
    return f"<pre>{said}</pre>".replace("\n\n", "\n")


def _relinked(markdown: str, source: str, page: str) -> str:
    """Links relative to `source` (a path from the repository's root) as links relative to the page."""

    def link(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        path, _, anchor = target.partition("#")
        aim = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        inside = PAGES.get(aim) or (aim.removeprefix("docs/") if aim.startswith("docs/") else None)
        if inside is None:
            return words if words.startswith("`") else f"{words} (`{aim}`)" if words != aim else f"`{aim}`"
        where = posixpath.relpath(inside, posixpath.dirname(page) or ".")
        return f"[{words}]({where}{'#' + anchor if anchor else ''})"

    return _LINK.sub(link, markdown)


def board(view: str, page: str) -> str:
    """Return the published board at a view, such as `text=a swan&head=4.6`, addressed from the document at `page`."""
    fragment = f"#{html.escape(view, quote=True)}" if view else ""
    address = f"{'../' * (len(Path(page).parts) - 1)}{BOARD.name}/index.html{fragment}"
    return (
        f'<div class="board"><iframe src="{address}" title="The board, live in this page" loading="lazy"></iframe>'
        f'<p><a href="{address}" target="_top">Open the board on a page of its own</a>. It computes in your browser; '
        f'texts and pictures stay on your machine.</p><p class="printed">{printed(view)}</p></div>'
    )


def printed(view: str) -> str:
    """Return what stands on paper in the board's place."""
    shown = ", ".join(f"{name} “{html.escape(value)}”" for name, value in parse_qsl(view) if "." not in name)
    return f"Here the site shows the live board{f', opened at {shown}' if shown else ''}."


def breakable(row: str) -> str:
    """Return a table's row whose long names may be broken after a dot, an underscore, a slash or a colon."""

    def code(found: re.Match[str]) -> str:
        name = html.escape(found[1].replace("\\|", "|")).replace("|", "&#124;")
        return "<code>" + _BREAKS.sub(r"\1<wbr>", name) + "</code>"

    return _CODE.sub(code, row)


def formula(latex: str) -> str:
    """Return a displayed formula as MathML."""
    return convert(" ".join(latex.split()), display="block")
