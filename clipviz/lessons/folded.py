"""An answer that stays hidden until it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Folded:
    """Words below a summary: a notebook shows the summary, and the words after a click."""

    words: str
    summary: str = "Answer"

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{escape(line)}</p>" for line in self.words.split("\n") if line)
        return f"<details><summary>{escape(self.summary)}</summary>{lines}</details>"

    def __str__(self) -> str:
        return f"{self.summary}: {self.words}"


def folded(words: str, summary: str = "Answer") -> Folded:
    """Fold the answer to an exercise: its words are computed from the cell's results and shown when opened."""
    return Folded(words, summary)
