"""An answer that stays folded until it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Folded:
    """Words below a summary; a notebook shows the summary, and the words once it is clicked."""

    words: str
    summary: str = "Answer"

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{escape(line)}</p>" for line in self.words.split("\n") if line)
        return f"<details><summary>{escape(self.summary)}</summary>{lines}</details>"

    def __str__(self) -> str:
        return f"{self.summary}: {self.words}"


def folded(words: str, summary: str = "Answer") -> Folded:
    """Fold an answer for the end of an exercise: its words are made of what the cell measured, and read when opened."""
    return Folded(words, summary)
