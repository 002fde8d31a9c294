"""Write an index shard by shard, so that an interruption at any moment loses at most the current shard.

A shard is committed in order: its bytes are appended to every column and synced, the statistics of everything so
far are written to a new file, and finally one line is added to the journal. Only that line makes the shard valid:
a run that finds bytes without a line truncates them and repeats the shard. When all shards are finished the
manifest is replaced atomically. Readers therefore see the old index or the new one, and the bytes depend on the
images alone.

Ranks of a distributed run put finished shards into staging/, one file each; the first rank commits them in order.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipviz.data.checksums import digest, file_digest, to_json, with_checksum
from clipviz.data.store.layout import (
    FORMAT,
    HEADER,
    JOURNAL,
    LOCK,
    MANIFEST,
    PLAN,
    STAGING,
    VERSION,
    Column,
    Shard,
    columns,
    header,
    read_journal,
    read_manifest,
    write_npz,
    writing,
)
from clipviz.files import TEMPORARY, sync_folder, write_whole

Statistics = dict[str, np.ndarray]
Fold = Callable[[Statistics | None, Statistics, int], Statistics]
_HASHED = 1 << 26  # statistics up to this size are verified whenever they are read
LISTED = 1_000  # skipped images listed in the manifest; the journal lists all

_AGREE = ("model", "layers", "dims", "settings", "images", "shards")


class Writer:
    """The one process that writes an index.

    plan: model (identity), layers, dims, settings, images ([{fingerprint, count}]), shards (their number),
    library. after: rows of the index with which the new images were compared; another number means that it has
    grown since. fold(total, part, rows): statistics of everything after `part`, whose rows start at `rows`, is
    added. Raises ValueError if the folder holds something else, OSError if it cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        plan: dict[str, Any],
        fold: Fold,
        append: bool = False,
        after: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.statistics: Statistics | None = None
        self.fold = fold
        self.specs: dict[str, Column] = columns(plan["dims"])
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
            try:
                self.base = _base(self.folder, append)
                self.plan = self._agree(plan, append, after)
                self._recover()
            except BaseException:
                self._leave()
                raise

    @property
    def committed(self) -> int:
        """The number of shards of this plan that are in the index."""
        found: int = self.segments - self.plan["base"]["segments"]
        return found

    @property
    def n_images(self) -> int:
        """The number of images in this plan, usable or not."""
        return sum(source["count"] for source in self.plan["images"])

    @property
    def finished(self) -> bool:
        found: bool = self.committed == self.plan["shards"]
        return found

    def commit(self, shard: Shard) -> None:
        """Append the next shard; it is valid once this returns."""
        with writing(self.folder):
            files = {}
            for file, content in shard.parts(self.sizes, self.specs):
                if content:
                    _append(self.folder / file, self.sizes[file], content)
                files[file] = [len(content), digest(content)]
            if shard.rows:
                self.statistics = self.fold(self.statistics, shard.statistics, self.rows)
            name = _statistics_name(self.segments + 1)
            write_npz(self.folder / name, self.statistics or {})
            entry = {
                "rows": shard.rows,
                "files": files,
                "skipped": shard.skipped,
                "sum_check": shard.sum_check,
                "statistics": file_digest(self.folder / name),
            }
            line = to_json(entry) + b"\n"
            _append(self.folder / JOURNAL, self.journal, line)
            self._remove_statistics(self.segments)
        self.journal += len(line)
        self._count(entry)

    def finish(self) -> None:
        """Write the manifest over all segments and delete the working files. Raises ValueError for an empty index."""
        if self.rows == self.plan["base"]["rows"]:
            self._refuse_empty()
        with writing(self.folder):
            if self.base is None or self.base["segments"]["count"] < self.segments:
                write_whole(self.folder / MANIFEST, with_checksum(self._manifest()))
            self._tidy()  # a run that is killed here only has this left to do

    def close(self) -> None:
        """Let another process write; an unfinished plan can be resumed later."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _leave(self) -> None:
        """Remove every trace of an attempt that was refused."""
        if not (self.folder / PLAN).exists():
            (self.folder / LOCK).unlink(missing_ok=True)
        self.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _agree(self, plan: dict[str, Any], append: bool, after: int | None) -> dict[str, Any]:
        """Return the plan on disk if it is the same, else store this one. Raises ValueError for a different plan."""
        path = self.folder / PLAN
        _clear_temporary(self.folder)
        if path.exists():
            old = read_plan(self.folder)
            differ = [key for key in _AGREE if old.get(key) != to_plain(plan[key])]
            if not differ:
                return old
            if self.base is None or self.base["segments"]["count"] < old["base"]["segments"] + old["shards"]:
                raise ValueError(_another(self.folder, old, plan, differ))
        if self.base is None and not append:
            _check_empty(self.folder)
        elif self.base is not None:
            differ = [key for key in ("model", "layers", "dims") if self.base[key] != to_plain(plan[key])]
            if differ or not append:
                raise ValueError(_another(self.folder, self.base, plan, differ or ["images"]))
        base = self.base or {"rows": 0, "segments": {"count": 0}}
        if after is not None and base["rows"] != after:
            raise ValueError(
                f"another process has appended to the index {str(self.folder)!r}: expected {after:,} images, got "
                f"{base['rows']:,}; run the same command again"
            )
        plan = {**plan, "base": {"rows": base["rows"], "segments": base["segments"]["count"]}}
        write_whole(path, to_json(plan))
        found: dict[str, Any] = to_plain(plan)
        return found

    def _recover(self) -> None:
        """Read what is committed, and truncate the rest."""
        entries, self.journal = read_journal(self.folder)
        self.rows = self.segments = 0
        self.skipped: list[Any] = []
        self.sum_check = 0.0
        self.sizes = {file: spec.header for file, spec in self.specs.items()}
        for entry in entries:
            self._count(entry)
        for file, size in [*self.sizes.items(), (JOURNAL, self.journal)]:
            _cut(self.folder / file, size, self.specs.get(file))
        self.statistics = None
        if self.rows:
            self.statistics = read_statistics(self.folder, self.segments, entries[-1]["statistics"])
        self._remove_statistics(keep_from=self.segments)
        (self.folder / STAGING).mkdir(exist_ok=True)
        _clear_temporary(self.folder / STAGING)

    def _count(self, entry: dict[str, Any]) -> None:
        self.rows += entry["rows"]
        self.segments += 1
        self.skipped += [list(pair) for pair in entry["skipped"]]
        self.sum_check = max(self.sum_check, entry["sum_check"])
        self.entry = entry
        for file, (size, _) in entry["files"].items():
            self.sizes[file] += size

    def _manifest(self) -> dict[str, Any]:
        sources = [*(self.base["sources"] if self.base else []), *self.plan["images"]]
        return {
            "format": FORMAT,
            "version": VERSION,
            "library": self.plan["library"],
            "model": self.plan["model"],
            "layers": self.plan["layers"],
            "dims": self.plan["dims"],
            "settings": self.plan["settings"],
            "sources": sources,
            "rows": self.rows,
            "columns": {
                file: {"dtype": spec.dtype, "shape": list(spec.shape), "bytes": self.sizes[file]}
                for file, spec in self.specs.items()
            },
            "segments": {
                "count": self.segments,
                "bytes": self.journal,
                "checksum": file_digest(self.folder / JOURNAL, 0, self.journal),
            },
            "statistics": {
                "file": _statistics_name(self.segments),
                "checksum": self.entry["statistics"],
            },
            "skipped": {"count": len(self.skipped), "images": self.skipped[:LISTED]},
            "sum_check": self.sum_check,
        }

    def _tidy(self) -> None:
        for file, spec in self.specs.items():
            if spec.header:
                _overwrite(self.folder / file, header(spec, self.rows))
        _clear(self.folder, keep=_statistics_name(self.segments))
        sync_folder(self.folder)

    def _remove_statistics(self, keep_from: int) -> None:
        """Delete statistics of older segments, except those that the current manifest refers to."""
        kept = {_statistics_name(keep_from), _statistics_name(keep_from + 1)}
        if self.base is not None:
            kept.add(self.base["statistics"]["file"])
        for path in self.folder.glob("statistics-*.npz"):
            if path.name not in kept:
                path.unlink()

    def _refuse_empty(self) -> None:
        name, reason = self.skipped[-1] if self.skipped else ("", "there were none")
        self.close()
        discard(self.folder)
        raise ValueError(
            f"expected at least one usable image, got none of {self.n_images:,}; the last one, "
            f"{name!r}: {reason}. Check the images; nothing was written"
        )


def staged(folder: Path, shard: int) -> Path:
    return folder / STAGING / f"{shard:08d}.npz"


def read_plan(folder: Path) -> dict[str, Any]:
    """Return the plan of an unfinished write."""
    found: dict[str, Any] = json.loads((folder / PLAN).read_bytes())
    return found


def to_plain(value: Any) -> Any:
    """Return a value as JSON restores it: tuples become lists."""
    return json.loads(to_json(value))


def read_statistics(
    folder: Path, segments: int, checksum: str, prefix: str | tuple[str, ...] = ""
) -> Statistics:
    """Return the statistics after so many segments whose names start with `prefix`.

    A file up to _HASHED bytes is verified completely, a larger one only in the parts that are read. Raises
    ValueError if it is missing or damaged.
    """
    path = folder / _statistics_name(segments)
    try:
        if path.stat().st_size <= _HASHED and file_digest(path) != checksum:
            raise ValueError("its checksum does not match")
        with np.load(path, allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files if name.startswith(prefix)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"the index file {str(path)!r} is missing or damaged ({error}); restore it from a copy, or delete the "
            "folder and build the index again"
        ) from error


def discard(folder: str | os.PathLike[str]) -> None:
    """Discard an unfinished write and return to the last finished index, or to none."""
    folder = Path(folder)
    manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
    with writing(folder):
        if manifest is None:
            for path in _own_files(folder):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
            return
        for file, spec in columns(manifest["dims"]).items():
            os.truncate(folder / file, manifest["columns"][file]["bytes"])
            if spec.header:
                _overwrite(folder / file, header(spec, manifest["rows"]))
        os.truncate(folder / JOURNAL, manifest["segments"]["bytes"])
        _clear(folder, keep=manifest["statistics"]["file"])


def _clear(folder: Path, keep: str) -> None:
    """Delete working files and older statistics; the plan comes last, so that an interruption here is noticed."""
    for path in folder.glob("statistics-*.npz"):
        if path.name != keep:
            path.unlink()
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    (folder / LOCK).unlink(missing_ok=True)
    (folder / PLAN).unlink(missing_ok=True)


def _base(folder: Path, append: bool) -> dict[str, Any] | None:
    if (folder / MANIFEST).exists():
        return read_manifest(folder)
    if append and not (folder / PLAN).exists():
        raise ValueError(f"expected a finished index to append to, got {str(folder)!r}; build one first")
    return None


def _own_files(folder: Path) -> list[Path]:
    names = {MANIFEST, JOURNAL, PLAN, STAGING, LOCK}
    columns_ = {
        column.file
        for column in columns(
            dict.fromkeys(("n_layers", "n_heads", "d_head", "d_embed", "marks"), 1)
        ).values()
    }
    return [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.name in names | columns_ or path.match("statistics-*.npz") or path.match(TEMPORARY)
    ]


def _check_empty(folder: Path) -> None:
    own = set(_own_files(folder))
    foreign = sorted(path.name for path in folder.iterdir() if path not in own)
    if foreign:
        raise ValueError(
            f"expected an empty or new folder for the index, got {str(folder)!r} with {', '.join(foreign[:3])}"
            f"{' ...' if len(foreign) > 3 else ''}; choose another folder"
        )


def _another(folder: Path, old: dict[str, Any], new: dict[str, Any], differ: Sequence[str]) -> str:
    shown = {key: (old.get(key, old.get("sources")), new.get(key)) for key in differ}
    told = "; ".join(f"{key} {_brief(a)} there, {_brief(b)} here" for key, (a, b) in shown.items())
    state = "an unfinished index" if "base" in old else "an index"
    if "marks" not in old["dims"] and "marks" in new["dims"]:
        return (
            f"{str(folder)!r} holds {state} of an earlier version, clipviz {old['library']}, which "
            "did not identify images by their content, so it is unknown whether these are its "
            "images. Open it with Index.open, or choose another folder"
        )
    return (
        f"{str(folder)!r} holds {state} with other settings: {told}. Pass the same arguments, add "
        "images with append, or choose another folder"
    )


def _brief(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return " + ".join(f"{source['count']:,} of set {source['fingerprint']}" for source in value[:3])
    if isinstance(value, dict) and "fingerprint" in value:
        value = " ".join(str(value[key]) for key in ("name", "pretrained", "fingerprint") if value.get(key))
    return str(value)[:120]


def _statistics_name(segments: int) -> str:
    return f"statistics-{segments:06d}.npz"


def _append(path: Path, at: int, content: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _overwrite(path: Path, content: bytes) -> None:
    with open(path, "r+b") as stream:
        if stream.read(len(content)) != content:
            _append(path, 0, content)


def _cut(path: Path, size: int, spec: Column | None) -> None:
    """Truncate a file to its committed size, or create it if nothing is committed."""
    found = path.stat().st_size if path.exists() else 0
    if found < size and size > (spec.header if spec else 0):
        raise ValueError(
            f"the index file {str(path)!r} holds {found:,} bytes but {size:,} were written, so it is "
            "damaged; restore it from a copy, or delete the folder and build the index again"
        )
    if found < size or not path.exists():
        path.write_bytes(header(spec, 0) if spec else b"")
    elif found > size:
        os.truncate(path, size)


def _clear_temporary(folder: Path) -> None:
    for path in folder.glob(TEMPORARY):
        path.unlink(missing_ok=True)


def _lock(folder: Path) -> int | None:
    """Return a lock that the system releases when the process ends in any way; workers do not inherit it."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return None
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ValueError(
            f"another process is writing the index {str(folder)!r}; wait for it, or stop it and run again"
        ) from error
    return descriptor


assert len(header(Column("", "<f2", (999, 999, 9999)), 10**12)) == HEADER
