"""The tables and figures of the thesis by number: a list of them, and where a report shows each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from clipviz.reproduce.report import Block

ITEMS: dict[str, tuple[str, ...]] = {
    "chapter2": (
        *("Table 2.1", "Table 2.2", "Table 2.3", "Table 2.4"),
        *("Figure 2.2", "Figure 2.3", "Figure 2.4", "Figure 2.5", "Figure 2.6"),
        *(f"Table A.{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9, 10)),
        *(f"Figure A.{n}" for n in range(1, 7)),
    ),
    "chapter3": (
        *("Table 3.1", "Table 3.2", "Table 3.3", "Table 3.4"),
        *("Figure 3.3", "Figure 3.4", "Figure 3.5", "Figure 3.6", "Figure 3.7"),
        "Table B.1",
        *(f"Figure B.{n}" for n in range(1, 9)),
    ),
    "chapter4": (
        *("Table 4.1", "Table 4.2"),
        *(f"Figure 4.{n}" for n in (1, 2, 4, 5, 6, 7, 8)),
        *(f"Figure C.{n}" for n in range(1, 14)),
    ),
}
"""The tables and figures that are measured or shown, by chapter, without drawings of the method (Figures 2.1, 3.1,
3.2, 4.3) and prompts, which are in clipviz.models.captioners (Tables A.2, B.2, B.3).
"""

_NUMBER = r"[A-C2-4]\.\d+"
_LIST = re.compile(rf"(Table|Figure)s? ({_NUMBER}[ab]?(?:(?:-|–|, | and ){_NUMBER}[ab]?)*)")


def named_in(text: str) -> list[str]:
    """Return the tables and figures that a title or caption names: "Tables 2.3 and A.7-A.9" names four."""
    found = []
    for kind, numbers in _LIST.findall(text):
        for part in re.split(r", | and ", numbers):
            first, _, last = (end.rstrip("ab") for end in part.replace("–", "-").partition("-"))
            letter, start = first.split(".")
            stop = last.split(".")[1] if last else start
            found += [f"{kind} {letter}.{n}" for n in range(int(start), int(stop) + 1)]
    return found


def where_shown(blocks: Sequence[Block]) -> dict[str, tuple[str, str]]:
    """Return table or figure -> the section that shows it, and the option that it needs, or "" if it is measured.

    A figure that a caption names counts as measured, even if its section lacks something else.
    """
    found: dict[str, tuple[str, str]] = {}
    section, titled = "", []

    def note(items: Sequence[str], option: str) -> None:
        for item in items:
            if item not in found or not option:
                found[item] = (section, option)

    for place, block in enumerate(blocks):
        if block["kind"] == "section":
            section, titled = block["title"], named_in(block["title"])
            lacking = [one for one in _section(blocks[place + 1 :]) if one["kind"] == "needs"]
            apart = {item for one in lacking for item in named_in(one["about"])}
            if not any(not one["about"] for one in lacking):
                note([item for item in titled if item not in apart], "")
        elif block["kind"] == "needs":
            note(named_in(block["about"]) or titled, block["option"])
        elif "caption" in block:
            note(named_in(block["caption"]), "")
    return found


def _section(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks up to the next section."""
    return list(itertools.takewhile(lambda block: block["kind"] != "section", blocks))


def missing(found: Mapping[str, tuple[str, str]], chapter: str) -> list[str]:
    """Return the items of a chapter that no section names."""
    return [item for item in ITEMS[chapter] if item not in found]
