"""The file format of an index: columns, journal, manifest, checksums. Nothing here depends on a model.

    manifest.json            what the index is, written last and whole; absent while the first build is unfinished
    segments.jsonl           one line per finished shard: rows, bytes and checksum of each file's part, skipped images
    codes.npy embedding.npy mean.npy std.npy        one row per image
    marks.npy                content and time of change of each image, hashed; left out by versions before 0.2
    NAME.bin                 packed texts and JPEGs (name path label group caption attributes thumbnail)
    ends.npy                 where each image's bytes end in each of them, one row per image
    statistics-NNNNNN.npz    float64 statistics over all rows, after NNNNNN segments
    plan.json staging/ lock  only while something is being written

Files only grow, shard by shard. The manifest says how many rows count, so bytes past them (from an interrupted
write) are never read, and the next run truncates them.
"""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipviz.data.checksums import from_json, with_checksum
from clipviz.files import replacing

FORMAT, VERSION = "clipviz index", 1
MANIFEST, JOURNAL, PLAN, STAGING, LOCK = "manifest.json", "segments.jsonl", "plan.json", "staging", "lock"
TEXTS = ("name", "path", "label", "group", "caption", "attributes")
BLOBS = (*TEXTS, "thumbnail")
# hashes of an image's content and of its file's modification time; 0: unknown
MARKS, N_MARKS = "marks.npy", 2
HEADER = 128  # bytes before the first row of a .npy file, enough for any shape used here

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class Column(NamedTuple):
    """One file: the dtype and shape of a row; header 0 for a .bin file, whose rows are bytes."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    header: int = HEADER

    @property
    def row_bytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


def columns(dims: dict[str, int]) -> dict[str, Column]:
    """Return every file of an index by name; dims: n_layers (chosen ones), n_heads, d_head, d_embed, marks."""
    rows = [
        Column("codes.npy", "<f2", (dims["n_layers"], dims["n_heads"], dims["d_head"])),
        Column("embedding.npy", "<f2", (dims["d_embed"],)),
        Column("mean.npy", "<f4", ()),
        Column("std.npy", "<f4", ()),
    ]
    rows += [Column(MARKS, "<u8", (dims["marks"],))] if dims.get("marks") else []
    rows.append(Column("ends.npy", "<i8", (len(BLOBS),)))
    rows += [Column(f"{name}.bin", "|u1", (), 0) for name in BLOBS]
    return {column.file: column for column in rows}


def header(column: Column, rows: int) -> bytes:
    """Return the .npy header of `rows` rows, always HEADER bytes long so that it can be replaced in place."""
    if not column.header:
        return b""
    fields = f"{{'descr': '{column.dtype}', 'fortran_order': False, 'shape': {(rows, *column.shape)}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (HEADER - 10).to_bytes(2, "little")
        + fields.ljust(HEADER - 11).encode()
        + b"\n"
    )


@dataclass
class Shard:
    """The data that one shard adds to an index.

    arrays: row columns by file name; blobs: name -> bytes of each image; statistics: float64 arrays over the
    shard's rows; skipped: (name, reason) of images without a row; sum_check: see ClipModel.sum_check.
    """

    arrays: dict[str, np.ndarray]
    blobs: dict[str, list[bytes]]
    statistics: dict[str, np.ndarray]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    sum_check: float = 0.0

    @property
    def rows(self) -> int:
        return len(self.arrays["mean.npy"])

    def parts(self, ends: dict[str, int], specs: dict[str, Column]) -> Iterator[tuple[str, bytes]]:
        """Yield (file, bytes to append); ends: the current end of each .bin file."""
        for file, array in self.arrays.items():
            spec = specs[file]
            if array.shape[1:] != spec.shape:
                raise ValueError(f"expected rows of shape {spec.shape} for {file}, got {array.shape[1:]}")
            yield file, np.ascontiguousarray(array, spec.dtype).tobytes()
        start = [ends[f"{name}.bin"] for name in BLOBS]
        lengths = np.array([[len(item) for item in self.blobs[name]] for name in BLOBS], np.int64)
        yield "ends.npy", (lengths.cumsum(1).T + start).astype("<i8").tobytes()
        for name in BLOBS:
            yield f"{name}.bin", b"".join(self.blobs[name])

    def save(self, path: Path) -> None:
        """Write the shard atomically as one .npz file."""
        texts = {"skipped": self.skipped, "sum_check": self.sum_check, "statistics": sorted(self.statistics)}
        packed = {f"blob {name}": _packed(items) for name, items in self.blobs.items()}
        lengths = {f"ends {name}": np.cumsum([len(i) for i in items]) for name, items in self.blobs.items()}
        statistics = {f"statistic {name}": array for name, array in self.statistics.items()}
        meta = np.frombuffer(json.dumps(texts).encode(), np.uint8)
        write_npz(path, {**self.arrays, **packed, **lengths, **statistics, "meta": meta})

    @classmethod
    def load(cls, path: Path) -> Shard:
        with np.load(path, allow_pickle=False) as saved:
            meta = json.loads(saved["meta"].tobytes())
            blobs = {}
            for name in BLOBS:
                content = saved[f"blob {name}"].tobytes()
                ends = [0, *saved[f"ends {name}"].astype(np.int64).tolist()]
                blobs[name] = [content[a:b] for a, b in itertools.pairwise(ends)]
            return cls(
                arrays={file: saved[file] for file in saved.files if file.endswith(".npy")},
                blobs=blobs,
                statistics={name: saved[f"statistic {name}"] for name in meta["statistics"]},
                skipped=[(name, reason) for name, reason in meta["skipped"]],
                sum_check=meta["sum_check"],
            )


def _packed(items: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(items), np.uint8)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_journal(folder: Path, size: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Return the finished segments and the length of their journal; an incomplete last line is ignored."""
    path = folder / JOURNAL
    content = path.read_bytes()[:size] if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    return [json.loads(line) for line in content[:whole].splitlines()], whole


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished index; ValueError says what is wrong with it and what to do."""
    content = (folder / MANIFEST).read_bytes()
    try:
        manifest = from_json(content)
        whole = manifest["format"] == FORMAT and (
            manifest["version"] > VERSION or with_checksum(manifest) == content
        )
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(
            f"the manifest {str(folder / MANIFEST)!r} is damaged or was not written by clipviz; "
            "restore it from a copy, or delete the folder and build the index again"
        )
    if manifest["version"] > VERSION:
        raise ValueError(
            f"the index {str(folder)!r} has format version {manifest['version']}, this clipviz reads up to {VERSION}; "
            "update clipviz, or build the index again"
        )
    found: dict[str, Any] = manifest
    return found


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write into an OSError that says what to do; finished work is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            reason = "the disk is full"
            advice = "free some space, then run the same command again: it continues where it stopped"
        else:
            reason = error.strerror or str(error)
            advice = (
                "choose a folder that can be written, or repair this one, then run the same command again"
            )
        raise OSError(
            error.errno, f"cannot write the index in {str(folder)!r}: {reason}; {advice}"
        ) from error
