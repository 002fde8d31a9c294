"""The files in an uncompressed tar by their places in it, read by tarfile within bounds.

No tar can make this hang or fill the memory: a header may read at most HEADERS bytes (a pax header of megabytes takes
tarfile a time that grows with its square), and each header must lie behind the one before (a negative size would
send tarfile back).
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HEADERS = 1 << 16
MOST_BYTES = 1 << 30
"""Bytes of one member that are read at most."""
_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """One file of a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


def tar_members(path: Path, skipped: list[tuple[str, str]] | None = None) -> Iterator[Member]:
    """The regular files of a tar, or of several written one behind the other, in order.

    Links to files that came before are those files. skipped: gets (name, reason) of members that are no files.
    ValueError when it is not a tar, is damaged or ends too early; what came before has been given by then.
    """
    size = path.stat().st_size
    skipped = [] if skipped is None else skipped
    with open(path, "rb") as stream:
        start = 0
        while start < size:
            end = start
            for found in _archive(_Bounded(stream), start, size, path.name, skipped):
                if isinstance(found, int):
                    end = found
                else:
                    yield found
            start = _behind_zeros(stream, end)
            if start == end:
                raise ValueError(f"the tar {path.name!r} has no end mark and may be cut off; copy it again")
    if not size:
        raise ValueError(f"the tar {path.name!r} is empty (0 bytes); copy it again")


def read_range(path: Path, offset: int, size: int) -> bytes:
    """The bytes of a member; ValueError for one that is too large to hold."""
    if size > MOST_BYTES:
        raise ValueError(f"it holds {size:,} bytes, over the limit of {MOST_BYTES:,}")
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


class _Bounded:
    """A stream that tarfile reads headers from: forward only, and few bytes at a time."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.left = HEADERS
        self.reached = -1

    def tell(self) -> int:
        return int(self.stream.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self.stream.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        here = self.tell()
        if here <= self.reached:
            raise tarfile.ReadError("a header points back")
        self.left -= size if size >= 0 else HEADERS + 1
        if self.left < 0:
            raise tarfile.ReadError(f"a header is larger than {HEADERS:,} bytes")
        content = self.stream.read(size)
        self.reached = here if content else self.reached
        return bytes(content)


def _archive(
    bounded: _Bounded, start: int, size: int, name: str, skipped: list[tuple[str, str]]
) -> Iterator[Member | int]:
    """The files of the archive that begins at `start`, then the place of its end."""
    bounded.seek(start)
    known: dict[str, Member] = {}
    first = start == 0
    try:
        archive = tarfile.TarFile(
            fileobj=bounded,  # type: ignore[arg-type]
            mode="r",
            encoding="utf-8",
            errors="surrogateescape",
        )
    except Exception as error:  # tarfile raises nearly anything on damaged headers
        raise ValueError(_damaged(name, start, error, first)) from error
    while True:
        bounded.left = HEADERS
        at = archive.offset
        try:
            info = archive.next()
        except Exception as error:
            raise ValueError(_damaged(name, at, error, False)) from error
        archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
        if info is None:
            break
        if info.size < 0:
            raise ValueError(_damaged(name, at, "it holds a negative size", False))
        if info.isreg() and info.offset_data + info.size > size:
            raise ValueError(f"the tar {name!r} ends within {_shown(info.name)!r}; copy it again")
        member = _member(info, known, skipped)
        if member is not None:
            known[member.name] = member
            yield member
    end = int(archive.offset)
    bounded.stream.seek(end)
    block = bounded.stream.read(_BLOCK)
    if any(block):  # tarfile takes a damaged header for the end
        raise ValueError(_damaged(name, end, "it is damaged or ends too early", first and end == 0))
    yield end


def _member(info: tarfile.TarInfo, known: dict[str, Member], skipped: list[tuple[str, str]]) -> Member | None:
    """A file, or the file that a link stands for; None for what is neither, which is listed unless it is a folder."""
    name = _shown(info.name)
    if info.isreg() and info.sparse is None:
        return Member(name, info.offset_data, info.size)
    if info.isdir():
        if info.size:
            skipped.append((name, "it is a folder that holds bytes, as only a file can"))
        return None
    if info.islnk() or info.issym():
        target = _shown(info.linkname)
        if info.issym():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if target in known:
            return Member(name, *known[target][1:])
        skipped.append((name, f"it is a link to {target}, which does not come before it in the tar"))
    else:
        skipped.append((name, "it is not a regular file"))
    return None


def _behind_zeros(stream: Any, start: int) -> int:
    """The first block from `start` on that is not all zeros: where another archive begins, or the end."""
    stream.seek(start)
    while block := stream.read(_BLOCK * 256):
        if any(block):
            rest = len(block) - len(block.lstrip(b"\0"))
            return start + rest // _BLOCK * _BLOCK
        start += len(block)
    return start


def _damaged(name: str, at: int, error: object, first: bool) -> str:
    if first:
        return f"{name!r} is not a plain tar or is damaged ({error}); a compressed one has to be unpacked to .tar first"
    return f"the tar {name!r} is damaged at byte {at:,} ({error}); copy it again"


def _shown(name: str) -> str:
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
