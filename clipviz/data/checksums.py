"""Checksums of files on disk, and JSON that contains its own checksum, so that damage is detected."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn


def digest(content: bytes | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_digest(path: Path, start: int = 0, length: int | None = None) -> str:
    """Return the checksum of a range of a file, which is read in small pieces."""
    total = hashlib.blake2b(digest_size=16)
    left = path.stat().st_size - start if length is None else length
    with open(path, "rb") as stream:
        stream.seek(start)
        while left > 0:
            block = stream.read(min(left, 1 << 22))
            if not block:
                break
            total.update(block)
            left -= len(block)
    return total.hexdigest()


def to_json(value: Any) -> bytes:
    """Return canonical JSON, so that equal contents give equal bytes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )


def from_json(content: bytes) -> Any:
    """Parse JSON. Raises ValueError for invalid JSON, for NaN and infinities, and for excessive nesting."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number")

    try:
        return json.loads(content, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def with_checksum(table: dict[str, Any]) -> bytes:
    """Return a table as readable JSON that includes its own checksum."""
    body = {key: value for key, value in table.items() if key != "checksum"}
    body["checksum"] = digest(to_json(body))
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, indent=1)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def without_checksum(content: bytes) -> dict[str, Any]:
    """Return the table that `with_checksum` wrote; any changed byte raises ValueError."""
    table = from_json(content)
    if not isinstance(table, dict) or with_checksum(table) != content:
        raise ValueError("its checksum does not match")
    return table
