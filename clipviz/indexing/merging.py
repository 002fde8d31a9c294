"""Merge the indexes of disjoint collections: columns are copied and statistics folded, without reading images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from clipviz.data.store.layout import BLOBS, MARKS, Shard, read_journal, writing
from clipviz.data.store.store import Store
from clipviz.data.store.writer import Writer
from clipviz.files import locked
from clipviz.indexing.gathering import fold
from clipviz.version import __version__


def merge(paths: Sequence[str | os.PathLike[str]], out: Path) -> Path:
    """Merge the indexes of disjoint collections by the same model into a new index at `out`, in the given order.

    The statistics cover all images and do not depend on the order of merging, up to float64 rounding. `out`
    appears only when it is complete. Raises ValueError for different models or layers, or for files that two
    parts share.
    """
    if isinstance(paths, (str, os.PathLike)) or not len(paths):
        raise ValueError(f"expected a list of indexes to merge, got {paths!r}; name one or more folders")
    parts = [Store.open(path) for path in paths]
    _check_alike(parts)
    _check_new(out)
    first = parts[0].manifest
    plan = {key: first[key] for key in ("model", "layers", "dims", "settings")}
    plan["images"] = [source for part in parts for source in part.manifest["sources"]]
    plan["shards"] = sum(part.manifest["segments"]["count"] for part in parts)
    plan["library"] = __version__
    work = out.with_name(f".{out.name}.merging")
    with ExitStack() as held:
        with writing(out):
            work.mkdir(parents=True, exist_ok=True)
            # if two merges write to one folder, the second waits and is then refused
            held.enter_context(locked(work))
        try:
            _check_new(out)
        except ValueError:
            with suppress(OSError):
                work.rmdir()
            raise
        with writing(out):
            _empty(work)
        with Writer(work, plan, fold) as writer:
            for part in parts:
                for shard in _shards_of(part):
                    writer.commit(shard)
            writer.finish()
        with writing(out):
            os.replace(work, out)
    return out


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"expected a new or empty folder to merge into, got {str(out)!r}; choose another")


def _empty(folder: Path) -> None:
    """Delete what an interrupted merge left behind."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_disjoint(collections: Sequence[Sequence[str]]) -> None:
    seen: set[str] = set()
    for paths in collections:
        new = {path for path in paths if path}
        if shared := seen & new:
            raise ValueError(
                f"expected disjoint images, got {len(shared):,} files twice, such as "
                f"{min(shared)!r}; omit the repeated ones"
            )
        seen |= new


def _check_alike(parts: list[Store]) -> None:
    first = parts[0]
    old = [str(part.path) for part in parts if part.marks is None]
    if 0 < len(old) < len(parts):
        raise ValueError(
            f"expected indexes of one version, got {old[0]!r}, which an earlier version of clipviz built without the "
            "images' marks; build it again"
        )
    for part in parts[1:]:
        for key in ("model", "layers", "dims", "neurons", "neuron_top"):
            one, other = ({**index.manifest, **index.manifest["settings"]}[key] for index in (first, part))
            if one != other:
                raise ValueError(
                    f"expected indexes of one model and the same layers, got {key} {one} in "
                    f"{str(first.path)!r} and {other} in {str(part.path)!r}; build them with the "
                    "same settings"
                )
    marks = [source["fingerprint"] for part in parts for source in part.manifest["sources"]]
    if len(set(marks)) < len(marks):
        raise ValueError(
            "expected indexes of disjoint images, got the same image set twice; pass each only once"
        )
    check_disjoint([part.paths for part in parts])


def _shards_of(part: Store) -> Iterator[Shard]:
    """Yield an index's segments as shards; the first one with rows carries the statistics of all of them."""
    entries, _ = read_journal(part.path, part.manifest["segments"]["bytes"])
    codes, start = part.codes(), 0
    statistics = part.raw_statistics()
    for entry in entries:
        rows = slice(start, start + entry["rows"])
        start = rows.stop
        blobs = {name: part.blobs(name, rows.start, rows.stop) for name in BLOBS}
        arrays = {
            f"{name}.npy": np.asarray(getattr(codes, name)[rows])
            for name in ("codes", "embedding", "mean", "std")
        }
        arrays |= {} if part.marks is None else {MARKS: np.asarray(part.marks[rows])}
        skipped = [(name, reason) for name, reason in entry["skipped"]]
        yield Shard(arrays, blobs, statistics if entry["rows"] else {}, skipped, entry["sum_check"])
        statistics = {} if entry["rows"] else statistics
