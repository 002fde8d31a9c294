"""The positions of files in an uncompressed tar, read by tarfile within bounds.

No tar can make the reader hang or fill the memory. A header may read at most HEADERS bytes, because the time that
tarfile takes for a pax header grows with the square of its size. Each header must come after the previous one,
because a negative size would send tarfile backwards.

All bytes of a tar belong to a header, a file, its zero padding, or the zeros at the end; other bytes are
reported. Two kinds of damage look like intact tars to every reader: a size, checksum included, that grew to the
end of a later member, which that file then contains; and zeros from the beginning of one member to the end of
another, as between concatenated tars.
"""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HEADERS = 1 << 16
MOST_BYTES = 1 << 30
"""The largest member that is read, in bytes."""
_BLOCK = tarfile.BLOCKSIZE


MOST_SPARSE = 1 << 28
"""The largest sparse file, in bytes: a few bytes of a tar can represent any number of zeros."""


class Member(NamedTuple):
    """One file of a tar: its name, and the position of its bytes.

    pieces: of a file with holes (GNU's sparse files) the stored (position, bytes), one after the other; the rest
    of its `size` bytes are zeros.
    """

    name: str
    offset: int
    size: int
    pieces: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """The end of its stored bytes."""
        return self.offset + (sum(n for _, n in self.pieces) if self.pieces else self.size)


def tar_members(path: Path, skipped: list[tuple[str, str]] | None = None) -> Iterator[Member]:
    """Yield the regular files of a tar, or of several concatenated ones, in order.

    A link to an earlier file yields that file. skipped: receives (name, reason) of members that are not files.
    Raises ValueError if it is not a tar, is damaged or ends too early; everything before that has been yielded by
    then.
    """
    size = path.stat().st_size
    skipped = [] if skipped is None else skipped
    with open(path, "rb") as stream:
        start = unclaimed = 0
        while start < size:
            end = start
            for found in _archive(_Bounded(stream), start, size, path.name, skipped):
                if isinstance(found, int):
                    end = found
                else:
                    unclaimed += _unclaimed(stream, found.end)
                    yield found
            start = _behind_zeros(stream, end)
            if start == end:
                raise ValueError(f"the tar {path.name!r} has no end mark and may be cut off; copy it again")
    if unclaimed:
        raise ValueError(
            f"{unclaimed:,} bytes of the tar {path.name!r} belong to no member; it may be damaged, "
            "so copy it again"
        )
    if not size:
        raise ValueError(f"the tar {path.name!r} is empty (0 bytes); copy it again")


def read_range(path: Path, offset: int, size: int, pieces: Sequence[tuple[int, int]] = ()) -> bytes:
    """Return the bytes of a member, given the fields of a Member. Raises ValueError if it is too large."""
    most = MOST_SPARSE if pieces else MOST_BYTES
    if size > most:
        raise ValueError(f"it holds {size:,} bytes, over the limit of {most:,}")
    with open(path, "rb") as stream:
        stream.seek(offset)
        if not pieces:
            return stream.read(size)
        whole = bytearray(size)
        for place, n_bytes in pieces:
            whole[place : place + n_bytes] = stream.read(n_bytes)
        return bytes(whole)


class _Bounded:
    """A stream from which tarfile reads headers: forward only, and few bytes at a time."""

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
    """Yield the files of the archive that begins at `start`, then the position of its end."""
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
    except Exception as error:  # tarfile raises almost any error on damaged headers
        raise ValueError(_damaged(name, start, error, first)) from error
    at = start  # tarfile has already read the first header
    while True:
        bounded.left = HEADERS
        _check_extensions(bounded.stream, at, name)
        try:
            info = archive.next()
        except Exception as error:
            raise ValueError(_damaged(name, at, error, False)) from error
        archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
        if info is None:
            break
        if info.size < 0 or archive.offset < info.offset_data or info.offset_data <= at:
            raise ValueError(_damaged(name, at, "it holds a negative size", False))
        stored = archive.offset - info.offset_data if info.sparse is not None else info.size
        if info.isreg() and info.offset_data + stored > size:
            raise ValueError(f"the tar {name!r} ends within {_shown(info.name)!r}; copy it again")
        at = archive.offset
        member = _member(info, known, skipped, at - info.offset_data)
        if member is not None:
            known[member.name] = member
            yield member
    end = at
    bounded.stream.seek(end)
    block = bounded.stream.read(_BLOCK)
    if any(block):  # tarfile treats a damaged header as the end
        raise ValueError(_damaged(name, end, "it is damaged or ends too early", first and end == 0))
    yield end


_RECORD = re.compile(rb"([1-9][0-9]{0,9}) [^=]+=")


def _check_extensions(stream: Any, at: int, name: str) -> None:
    """Raise ValueError if the data before a member's header are neither a long name nor pax records, so that a
    member is hidden.
    """
    before, seen = stream.tell(), set[bytes]()
    while True:
        stream.seek(at)
        head = stream.read(_BLOCK)
        kind = head[156:157]
        if len(head) < _BLOCK or kind not in (b"x", b"X", b"g", b"L", b"K"):
            break
        try:
            size = int(tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").size)
        except tarfile.HeaderError:
            break  # tarfile tells
        if not 0 <= size <= HEADERS:
            break
        content = stream.read(size).rstrip(b"\0")
        whole = b"\0" not in content and bool(content) if kind in (b"L", b"K") else _are_records(content)
        if not whole or kind in seen:
            raise ValueError(_damaged(name, at, "a header holds neither a name nor records", False))
        seen |= {kind} - {b"g"}
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK
    stream.seek(before)


def _are_records(content: bytes) -> bool:
    """Return whether these bytes are pax records, "length key=value", from the first to the last."""
    at = 0
    while at < len(content):
        found = _RECORD.match(content, at)
        length = int(found[1]) if found else 0
        if not found or length < len(found[0]) or content[at + length - 1 : at + length] != b"\n":
            return False
        at += length
    return True


def _unclaimed(stream: Any, end: int) -> int:
    """Return how many of the bytes from a file's end to the end of its block are not zero."""
    stream.seek(end)
    padding = stream.read(-end % _BLOCK)
    found: int = len(padding) - padding.count(0)
    return found


def _member(
    info: tarfile.TarInfo, known: dict[str, Member], skipped: list[tuple[str, str]], stored: int
) -> Member | None:
    """Return a file, or the file that a link refers to; None for anything else, which is listed unless it is a
    folder.

    stored: bytes of the blocks that store it.
    """
    name = _shown(info.name)
    if info.isreg() and info.sparse is None:
        return Member(name, info.offset_data, info.size)
    if info.isreg():
        return _sparse(name, info, skipped, stored)
    if info.isdir():
        if info.size:
            skipped.append((name, "it is a folder with content, which only a file can have"))
        return None
    if info.islnk() or info.issym():
        target = _shown(info.linkname)
        if info.issym():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if target in known:
            return Member(name, *known[target][1:])
        skipped.append((name, f"it is a link to {target}, which is not an earlier member of the tar"))
    else:
        skipped.append((name, "it is not a regular file"))
    return None


def _sparse(name: str, info: tarfile.TarInfo, skipped: list[tuple[str, str]], stored: int) -> Member | None:
    """Return a sparse file, or list it and return None if its map is out of order or does not match the stored data."""
    found: Any = info.sparse
    given = [(int(place), int(n)) for place, n in found or ()]
    end = 0
    for place, n_bytes in given:
        if n_bytes and not end <= place <= place + n_bytes <= info.size:
            end = -1
            break
        end = place + n_bytes if n_bytes else end
    blocks = -(-sum(n_bytes for _, n_bytes in given) // _BLOCK) * _BLOCK
    if end < 0 or blocks != stored:
        skipped.append((name, "it is a sparse file with a damaged map; write the tar without --sparse"))
        return None
    pieces = tuple((place, n_bytes) for place, n_bytes in given if n_bytes)
    return Member(name, info.offset_data, info.size, pieces or ((0, 0),))


def _behind_zeros(stream: Any, start: int) -> int:
    """Return the first block from `start` on that is not all zeros: the start of another archive, or the end."""
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
