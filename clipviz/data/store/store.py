"""The columns of a finished index, opened in milliseconds and mapped into memory."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clipviz.data.checksums import digest, file_digest
from clipviz.data.marks import stamp_of
from clipviz.data.paths import path_of
from clipviz.data.store.checks import wrong_sizes
from clipviz.data.store.layout import (
    BLOBS,
    JOURNAL,
    MANIFEST,
    MARKS,
    PLAN,
    TEXTS,
    columns,
    read_journal,
    read_manifest,
)
from clipviz.data.store.writer import read_plan, read_statistics
from clipviz.values import Codes

Self = TypeVar("Self", bound="Store")
_NEAR = 2e-3  # largest difference between machines for the numbers of one preprocessing


class Store:
    """A finished index on disk: rows of numbers, packed texts and thumbnails, and raw statistics.

    Data are read on demand. An open store keeps showing its rows while others are appended to the same folder.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.layers: tuple[int, ...] = tuple(manifest["layers"])
        self._columns = columns(manifest["dims"])
        self._maps: dict[str, np.ndarray] = {}
        self._seen = stamp_of(path / MANIFEST)

    @classmethod
    def open(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """Return the finished index in a folder; ValueError says what is missing or damaged and what to do."""
        path = folder_of(path).absolute()  # independent of later changes of the working folder
        if not (path / MANIFEST).exists():
            raise ValueError(no_index(path))
        manifest = read_manifest(path)
        while problems := list(wrong_sizes(path, manifest)):
            newest = read_manifest(path)
            if newest != manifest:  # an append that finished meanwhile has replaced these files
                manifest = newest
                continue
            raise ValueError(
                f"the index {str(path)!r} is damaged: {problems[0]}. Index.verify(path) or `clipviz index --verify` "
                "lists all damage; restore the file from a copy, or delete the folder and build the index again"
            )
        return cls(path, manifest)

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the model that built the index, see ClipModel.identity."""
        return dict(self.manifest["model"])

    @property
    def fingerprint(self) -> str:
        """The image set's fingerprint, or a hash of the fingerprints that were appended or merged."""
        found = [source["fingerprint"] for source in self.manifest["sources"]]
        return found[0] if len(found) == 1 else digest("\n".join(found).encode())[:12]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(name, reason) of every image without a row."""
        with self._there():
            os.stat(self.path / JOURNAL)
        entries, _ = read_journal(self.path, self.manifest["segments"]["bytes"])
        return [(name, reason) for entry in entries for name, reason in entry["skipped"]]

    @property
    def bytes_per_image(self) -> float:
        """Bytes on disk per image, without thumbnails."""
        files = self.manifest["columns"].items()
        kept = [spec["bytes"] for file, spec in files if not file.startswith("thumbnail")]
        found: float = sum(kept) / max(len(self), 1)
        return found

    def check_model(self, model: Any) -> None:
        """Raise ValueError, naming both models, unless this model built the index."""
        mine, theirs = self.identity, model.identity()
        differ = differing(mine, theirs)
        if differ:
            told = "; ".join(f"{key} {mine.get(key)!r} there, {theirs.get(key)!r} here" for key in differ)
            raise ValueError(
                f"the index {str(self.path)!r} was built by model {title(mine)}, got model {title(theirs)} ({told}); "
                "load that model, or build an index with this one"
            )

    def codes(self, rows: Any = None) -> Codes[np.ndarray]:
        """Return the codes of all images as read-only memory maps (codes and embedding float16, mean and std
        float32).

        rows: indices or a mask [image] -> float32 copies of those rows in memory.
        """
        files = ("codes.npy", "mean.npy", "std.npy", "embedding.npy")
        columns_ = [self._map(file) for file in files]
        if rows is not None:
            chosen = self.rows(rows)
            columns_ = [column[chosen].astype(np.float32) for column in columns_]
        codes, mean, std, embedding = columns_
        return Codes(codes, mean, std, embedding, self.layers)

    def raw_statistics(self, prefix: str | tuple[str, ...] = "") -> dict[str, np.ndarray]:
        """Return the float64 arrays on disk whose names start with `prefix`; they are read anew at each call."""
        segments, checksum = self.manifest["segments"]["count"], self.manifest["statistics"]["checksum"]
        try:
            return read_statistics(self.path, segments, checksum, prefix)
        except ValueError as error:
            with self._there():
                newest = read_manifest(self.path)
            if newest["checksum"] == self.manifest["checksum"]:
                raise
            told = (
                f"the index {str(self.path)!r} has grown since it was opened; open it again with Index.open"
            )
            raise ValueError(told) from error

    def texts(self, column: str, rows: Any = None) -> list[str]:
        """Return one of the text columns: name, path, label, group, caption, attributes (JSON)."""
        if column not in TEXTS:
            raise ValueError(f"expected a text column, one of {', '.join(TEXTS)}, got {column!r}")
        if rows is None:
            found = self.blobs(column, 0, len(self))
        else:
            found = [self._blob(column, row) for row in self.rows(rows).tolist()]
        if column == "path":
            return [os.fsdecode(text) for text in found]
        return [text.decode("utf-8", "backslashreplace") for text in found]

    def thumbnail_jpeg(self, row: int) -> bytes:
        """Return the thumbnail as the stored JPEG, or b"" if none was stored."""
        return self._blob("thumbnail", int(self.rows([row])[0]))

    def blobs(self, name: str, start: int, stop: int) -> list[bytes]:
        """Return the bytes of a range of images in one packed column, from a single read."""
        ends = self._map("ends.npy")[max(start - 1, 0) : stop, BLOBS.index(name)].tolist()
        ends = ends if start else [0, *ends]
        content = self._map(f"{name}.bin")[ends[0] : ends[-1]].tobytes()
        return [content[a - ends[0] : b - ends[0]] for a, b in itertools.pairwise(ends)]

    def rows(self, rows: Any) -> np.ndarray:
        """Return indices, or a mask [image], as indices. Raises ValueError for none, and for unknown images."""
        chosen = np.asarray(rows)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        if chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"expected one or more image indices or a mask of {len(self):,}, got {np.asarray(rows).dtype} "
                f"{list(chosen.shape)}; choose at least one image"
            )
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise ValueError(
                f"expected image indices in 0..{len(self) - 1}, got {int(chosen.min())}..{int(chosen.max())}"
            )
        return chosen

    @property
    def marks(self) -> np.ndarray | None:
        """Hashes of content and modification time of each image [image, 2]; None in an index of an earlier version."""
        return self._map(MARKS) if MARKS in self._columns else None

    @functools.cached_property
    def names(self) -> list[str]:
        return self.texts("name")

    @functools.cached_property
    def labels(self) -> list[str]:
        """[image], class labels, "" for images without one."""
        return self.texts("label")

    @functools.cached_property
    def groups(self) -> list[str]:
        """[image], groups, "" for images without one."""
        return self.texts("group")

    @functools.cached_property
    def captions(self) -> list[str]:
        return self.texts("caption")

    @functools.cached_property
    def paths(self) -> list[str]:
        """[image] files, "" for images that are not files."""
        return self.texts("path")

    @functools.cached_property
    def attributes(self) -> dict[str, list[str | None]]:
        """column -> [image] words, labels and groups included; None where a column does not apply."""
        table = [json.loads(row) if row else {} for row in self.texts("attributes")]
        known = sorted({column for row in table for column in row})
        found: dict[str, list[str | None]] = {column: [row.get(column) for row in table] for column in known}
        for column, words in (("label", self.labels), ("group", self.groups)):
            if any(words):
                found[column] = [word or None for word in words]
        return found

    @property
    def replaced(self) -> bool:
        """Whether the folder now holds another index than the one that was opened; appending does not count."""
        seen = stamp_of(self.path / MANIFEST)
        if seen in ("", self._seen):
            return False
        size, checksum = (self.manifest["segments"][key] for key in ("bytes", "checksum"))
        journal = self.path / JOURNAL
        if not journal.exists() or file_digest(journal, 0, size) != checksum:
            return True
        self._seen = seen
        return False

    def _map(self, file: str) -> np.ndarray:
        if self.replaced:
            raise ValueError(
                f"the index {str(self.path)!r} was built again after it was opened; open it again with Index.open"
            )
        if file not in self._maps:
            with self._there():
                os.stat(self.path / MANIFEST)  # a folder without a manifest is still being built
            column = self._columns[file]
            size = self.manifest["columns"][file]["bytes"] - column.header
            shape = (size // column.row_bytes, *column.shape)
            with self._there():
                self._maps[file] = (
                    np.memmap(self.path / file, column.dtype, "r", column.header, shape)
                    if size
                    else np.empty(shape, column.dtype)  # an empty file cannot be mapped
                )
        return self._maps[file]

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Raise ValueError if a file of the index no longer exists."""
        try:
            yield
        except FileNotFoundError as error:
            raise ValueError(
                f"the index {str(self.path)!r} was moved or deleted after it was opened; open it again with Index.open "
                "where it is now"
            ) from error

    def _blob(self, name: str, row: int) -> bytes:
        return self.blobs(name, row, row + 1)[0]


def differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Describe how two models' identities differ.

    The results of their preprocessing are compared up to rounding, and not at all if an earlier version did not
    store them.
    """
    mine, theirs = json.loads(json.dumps(mine)), json.loads(json.dumps(theirs))
    one, other = (identity.pop("preprocess", None) for identity in (mine, theirs))
    found = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    if one is None or other is None:
        return found
    near = len(one) == len(other) and all(abs(a - b) <= _NEAR for a, b in zip(one, other, strict=True))
    return found if near else [*found, "preprocess"]


def folder_of(path: str | os.PathLike[str]) -> Path:
    """Return the folder of an index as a path. Raises ValueError for an impossible one."""
    return path_of(path, "the folder of an index")


def title(identity: dict[str, Any]) -> str:
    """Return a model's name and pretrained tag in quotes."""
    return repr(" ".join(str(identity[key]) for key in ("name", "pretrained") if identity.get(key)))


def no_index(path: Path) -> str:
    """Return a message that says why there is no finished index in a folder, and what to do."""
    if (path / PLAN).exists():
        plan = read_plan(path)
        entries, _ = read_journal(path)
        count = sum(source["count"] for source in plan["images"])
        return (
            f"the index {str(path)!r} is unfinished: {len(entries)} of {plan['shards']} shards of "
            f"{count:,} images are finished; run the same build again: it continues where it stopped"
        )
    return (
        f"expected a folder with a finished index, got {str(path)!r}; build one with clipviz.Index.build(model, "
        "images, path) or `clipviz index IMAGES --out PATH`"
    )
