"""Checks of an index: sizes when it is opened, and every byte when it is verified."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipviz.data.checksums import file_digest
from clipviz.data.store.layout import HEADER, JOURNAL, PLAN, Column, columns, header, read_journal

_ROWS = re.compile(rb"'shape': \((\d{1,18}),")


def wrong_sizes(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each file that is missing or too short; longer ones are being appended to."""
    sizes = {file: spec["bytes"] for file, spec in manifest["columns"].items()}
    sizes |= {JOURNAL: manifest["segments"]["bytes"], manifest["statistics"]["file"]: 0}
    for file, size in sizes.items():
        path = folder / file
        found = path.stat().st_size if path.exists() else -1
        if found < size:
            yield f"{file} is missing" if found < 0 else f"{file} holds {found:,} bytes of {size:,}"


def damage(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each file, and each range of its images, that differs from what was written."""
    missing = list(wrong_sizes(folder, manifest))
    yield from missing
    size, checksum = (manifest["segments"][key] for key in ("bytes", "checksum"))
    if missing:
        return
    if file_digest(folder / JOURNAL, 0, size) != checksum:
        yield f"the checksum of {JOURNAL} does not match"
        return
    statistics = manifest["statistics"]
    if file_digest(folder / statistics["file"]) != statistics["checksum"]:
        yield f"the checksum of {statistics['file']} does not match"
    entries, _ = read_journal(folder, size)
    tidied = not (folder / PLAN).exists()
    for file, column in columns(manifest["dims"]).items():
        with open(folder / file, "rb") as stream:
            if column.header and not _is_header(stream.read(HEADER), column, manifest["rows"], tidied):
                yield f"{file}: its first {HEADER} bytes differ from what was written"
        yield from _damaged_segments(folder / file, column.header, entries)


def _is_header(found: bytes, column: Column, rows: int, tidied: bool) -> bool:
    """Return whether these are the first bytes of a column.

    The manifest is replaced before the headers are: a process that is killed or still running in between leaves
    headers with fewer rows. Nothing here reads them, and the next run corrects them.
    """
    if tidied or found == header(column, rows):
        return found == header(column, rows)
    earlier = _ROWS.search(found)
    return earlier is not None and int(earlier[1]) < rows and found == header(column, int(earlier[1]))


def _damaged_segments(path: Path, start: int, entries: list[dict[str, Any]]) -> Iterator[str]:
    row = 0
    for entry in entries:
        size, checksum = entry["files"][path.name]
        if file_digest(path, start, size) != checksum:
            yield f"{path.name}: the checksum of images {row}..{row + entry['rows'] - 1} does not match"
        start += size
        row += entry["rows"]
