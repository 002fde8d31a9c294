"""Paths as users give them: checked where they come in, printable where they go out."""

from __future__ import annotations

from clipviz.files import path_of, shown

__all__ = ["path_of", "printable", "shown"]


def printable(text: str) -> str:
    """Text read with surrogateescape as text that can be printed and encoded."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
