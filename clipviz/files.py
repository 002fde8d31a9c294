"""Atomic writes of files: a reader sees the old content or the new, even after a crash. Checks of users' paths."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".*.tmp"
"""A pattern that matches files that are still being written."""


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable across a power failure, if the system supports it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """Open a binary stream whose content replaces the file when the block ends; after an error the file stays
    unchanged.

    Each call writes to its own temporary file. Of two concurrent writers one wins, and neither leaves a partial
    file.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process or thread holds a lock on this folder, if the system supports locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def path_of(source: Any, what: str) -> Path:
    """Return a path with ~ expanded. Raises ValueError, naming `what`, for an empty or impossible path."""
    try:
        text = os.fsdecode(source)
        if not text.strip():
            raise ValueError(f"expected {what}, got an empty path; give a path")
        if "\0" in text:
            raise ValueError(f"expected {what}, got {text[:80]!r} with a zero byte; check the path")
        os.fsencode(text)  # half of a surrogate pair cannot occur in a file name
        path = Path(text).expanduser()
        os.path.lexists(path)
        path.exists()
    except TypeError as error:
        raise ValueError(f"expected {what}, got {type(source).__name__}; pass a path") from error
    except (OSError, RuntimeError, UnicodeError) as error:
        raise ValueError(f"expected {what}, got {shown(source)[:80]!r} ({error}); check the path") from error
    return path


def shown(path: Any) -> str:
    r"""Return a path as printable text: bytes that are not UTF-8 become escapes such as \xe9."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which cannot occur in a file name
        found: str = os.fspath(path).encode("utf-8", "backslashreplace").decode()
        return found
