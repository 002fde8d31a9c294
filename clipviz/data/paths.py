"""Paths as users give them: checked where they come in, printable where they go out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def path_of(source: Any, what: str) -> Path:
    """A path with ~ expanded; ValueError naming `what` for one that is empty or that no system could have."""
    try:
        text = os.fsdecode(source)
        if not text.strip():
            raise ValueError(f"expected {what}, got an empty path; name one")
        if "\0" in text:
            raise ValueError(f"expected {what}, got {text[:80]!r} with a zero byte; check the path")
        path = Path(text).expanduser()
        os.path.lexists(path)
        path.exists()
    except TypeError as error:
        raise ValueError(f"expected {what}, got {type(source).__name__}; pass a path") from error
    except (OSError, RuntimeError, UnicodeError) as error:
        raise ValueError(f"expected {what}, got {shown(source)[:80]!r} ({error}); check the path") from error
    return path


def shown(path: Any) -> str:
    r"""A path as text that can be printed: bytes that are not UTF-8 become escapes such as \xe9."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character, which no system has in a name
        return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Text read with surrogateescape as text that can be printed and encoded."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
