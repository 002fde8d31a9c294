"""Users' paths: checked on input, and made printable for output."""

from __future__ import annotations

from clipviz.files import path_of, shown

__all__ = ["path_of", "printable", "shown"]


def printable(text: str) -> str:
    """Return text that was read with surrogateescape in a form that can be printed and encoded."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
