"""Tables of a report, written into their places in a document: no number of a card is typed by hand.

A place is a pair of lines, `<!-- table: REPORT / SECTION / N -->` and `<!-- end of table -->`; what stands between them
is the N-th table (from 1) of that section of the report. A paragraph with numbers stands between `<!-- text: NAME -->`
and `<!-- end of text -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PLACE = re.compile(r"(<!-- table: ([^/\n]+) / ([^\n]+) / (\d+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def tables(report: str) -> dict[str, list[str]]:
    """Section title to its tables, each as Markdown lines."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", report, flags=re.MULTILINE)[1:]:
        title = part.splitlines()[0].strip()
        found[title] = [table.strip() for table in re.findall(r"(?:^\|.*\n?)+", part, flags=re.MULTILINE)]
    return found


def filled(document: str, reports: Mapping[str, str | None]) -> str:
    """Return the document with every place filled; the places of a report that is None are left as they are.

    Raises ValueError for a place of no report, and for one whose table its report does not have.
    """

    def fill(place: re.Match[str]) -> str:
        name, section, number = place[2].strip(), place[3].strip(), int(place[4])
        if name not in reports:
            raise ValueError(
                f"expected a report among {', '.join(reports)}, got {name!r}; correct the place in the document"
            )
        report = reports[name]
        if report is None:
            return place[0]
        there = tables(report).get(section, [])
        if not 1 <= number <= len(there):
            raise ValueError(
                f"expected table {number} of section {section!r} in the report {name!r}, which has "
                f"{len(there)} there; correct the place in the document"
            )
        return f"{place[1]}{there[number - 1]}\n{place[5]}"

    return PLACE.sub(fill, document)


def said(document: str, name: str, paragraph: str) -> str:
    """Return the document with a paragraph in its place. Raises ValueError where it has no such place, or several."""
    place = re.compile(rf"(<!-- text: {re.escape(name)} -->\n).*?(<!-- end of text -->)", re.DOTALL)
    found, n_places = place.subn(lambda one: f"{one[1]}{paragraph}\n{one[2]}", document)
    if n_places != 1:
        raise ValueError(f"expected one place for the text {name!r}, got {n_places}; mark where it stands")
    return found


def fill_files(paths: list[Path], reports: Mapping[str, Path]) -> None:
    """Fill the places of documents from reports in Markdown; those of reports that were not made stay."""
    texts = {
        name: path.read_text(encoding="utf-8") if path.exists() else None for name, path in reports.items()
    }
    for path in paths:
        path.write_text(filled(path.read_text(encoding="utf-8"), texts), encoding="utf-8")
