"""Reports as one HTML page that works offline: tables, figures, and interactive figures with one copy of plotly."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clipviz.files import write_whole
from clipviz.reproduce.contents import ITEMS, where_shown
from clipviz.reproduce.report import Block, Written

STYLE, SCRIPT = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))


def write_page(path: Path, title: str, lead: str, reports: Mapping[str, Written]) -> Path:
    """Write several reports, by chapter, as one page with a list of all tables and figures, stored beside it."""
    parts = [f"<h1>{_text(title)}</h1>", f'<p class="lead">{_text(lead)}</p>', *_overview(reports)]
    for chapter, report in reports.items():
        parts.append(f'<h2 id="{chapter}">{_text(report.title)}</h2>')
        for place, block in enumerate(report.blocks):
            parts.append(_block(block, f"{chapter}-{place}", path.parent))
    links = " · ".join(
        f'<a href="#{chapter}">{_text(report.title)}</a>' for chapter, report in reports.items()
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><main>{parts[0]}{parts[1]}"
        f"<nav>{links}</nav>{''.join(parts[2:])}</main>{_plotly(reports)}</body></html>"
    )
    write_whole(path, page.encode())
    return path


def rows_of(reports: Mapping[str, Written]) -> list[tuple[str, str, str, str]]:
    """Return (table or figure, chapter, section, option that it needs or "") for all of these chapters."""
    rows = []
    for chapter, report in reports.items():
        found = where_shown(report.blocks)
        rows += [
            (item, chapter, *found.get(item, ("", "not in this report"))) for item in ITEMS.get(chapter, ())
        ]
    return rows


def _overview(reports: Mapping[str, Written]) -> Iterator[str]:
    rows = rows_of(reports)
    if not rows:
        return
    lacking = [row for row in rows if row[3]]
    n_here = len(rows) - len(lacking)
    yield f"<p>{n_here} of {len(rows)} tables and figures of these chapters of the thesis are here.</p>"
    cells = []
    for item, chapter, section, option in rows:
        where = f'<a href="#{_anchor(chapter, section)}">{_text(_plain(section))}</a>' if section else ""
        needs = f"needs <code>{_text(option)}</code>" if option and section else _text(option)
        cells.append(f"<tr><td>{item}</td><td>{where}</td><td>{needs}</td></tr>")
    yield (
        "<details><summary>Where each is</summary><div class='wide'><table><tr><th>in the thesis</th><th>here</th>"
        f"<th></th></tr>{''.join(cells)}</table></div></details>"
    )


def _block(block: Block, name: str, folder: Path) -> str:
    kind = block["kind"]
    if kind == "section":
        chapter = name.split("-")[0]
        return f'<h3 id="{_anchor(chapter, block["title"])}">{_text(block["title"])}</h3>'
    if kind == "table":
        rows = "".join(_row(row, "td") for row in block["rows"])
        return f'<div class="wide"><table>{_row(block["head"], "th")}{rows}</table></div>'
    if kind == "figure":
        picture = base64.b64encode((folder / block["file"]).read_bytes()).decode()
        return (
            f'<figure><img loading="lazy" alt="{_text(block["caption"])}" src="data:image/svg+xml;base64,{picture}">'
            f"<figcaption>{_text(block['caption'])}</figcaption></figure>"
        )
    if kind == "interactive":
        plot = json.dumps(block["plot"]).replace("</", "<\\/")
        return (
            f'<details class="interactive"><summary>{_text(block["caption"])}</summary><div class="plot" '
            f'data-of="{name}"></div></details><script type="application/json" id="{name}">{plot}</script>'
        )
    return f"<p{' class=needs' if kind == 'needs' else ''}>{_marked(block['text'])}</p>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"


def _plotly(reports: Mapping[str, Written]) -> str:
    """Return plotly once, if a report has an interactive figure."""
    if not any(block["kind"] == "interactive" for report in reports.values() for block in report.blocks):
        return ""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script><script>{SCRIPT}</script>"


def _anchor(chapter: str, section: str) -> str:
    return f"{chapter}-{re.sub(r'[^a-z0-9]+', '-', section.lower()).strip('-')}"


def _plain(section: str) -> str:
    """Return a section's title without the numbers of its tables and figures."""
    return re.sub(r" \((Table|Figure)s? .*\)$", "", section)


def _text(text: str) -> str:
    return html.escape(text)


def _marked(text: str) -> str:
    """Return text with **strong** and `code` markup of the reports as HTML."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", _text(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)
