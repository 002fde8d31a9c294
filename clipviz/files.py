"""Files written whole: whoever reads, or comes after a crash, sees the old bytes or the new ones. And their paths as
users give them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".*.tmp"
"""What files that are still being written match."""


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once."""
    with replacing(path) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[Any]:
    """A binary stream whose bytes take the file's place when the block ends; on an error the file stays as it was.

    Each call writes to a temporary file of its own, so that of two writers at once one wins and neither tears.
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
    """Wait until no other process or thread holds this folder, where the system has such locks."""
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
    """Return a path with ~ expanded; ValueError naming `what` for one that is empty or that no system could have."""
    try:
        text = os.fsdecode(source)
        if not text.strip():
            raise ValueError(f"expected {what}, got an empty path; name one")
        if "\0" in text:
            raise ValueError(f"expected {what}, got {text[:80]!r} with a zero byte; check the path")
        os.fsencode(text)  # half of a character is in no system's names
        path = Path(text).expanduser()
        os.path.lexists(path)
        path.exists()
    except TypeError as error:
        raise ValueError(f"expected {what}, got {type(source).__name__}; pass a path") from error
    except (OSError, RuntimeError, UnicodeError) as error:
        raise ValueError(f"expected {what}, got {shown(source)[:80]!r} ({error}); check the path") from error
    return path


def shown(path: Any) -> str:
    r"""Return a path as text that can be printed: bytes that are not UTF-8 become escapes such as \xe9."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a character, which no system has in a name
        found: str = os.fspath(path).encode("utf-8", "backslashreplace").decode()
        return found
