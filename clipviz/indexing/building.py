"""Build and append to indexes; data.store.writer explains what an interruption can lose."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipviz.data.images import Images, open_images
from clipviz.data.store.layout import (
    MANIFEST,
    N_MARKS,
    PLAN,
    Shard,
    columns,
    read_manifest,
    writing,
)
from clipviz.data.store.store import Store
from clipviz.data.store.writer import Writer, read_plan, staged, to_plain
from clipviz.data.streams import is_stream, parts
from clipviz.indexing.gathering import Gathering, fold
from clipviz.indexing.merging import check_disjoint
from clipviz.indexing.ranks import Ranks
from clipviz.indexing.reading import MISSING, Decoder, batches, lost_worker
from clipviz.lens.decompose import check_layers
from clipviz.lens.neurons import check_layer
from clipviz.values import late_layers
from clipviz.version import __version__

Progress = bool | Callable[[int, int], None]
STREAMED = 1_024  # images of a stream held at once, which an interruption can lose
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
_TEXT_BYTES, _THUMBNAIL_BYTES = 200, 3_000  # rough sizes per image, to detect a disk that is too small


def build(
    model: Any,
    images: Any,
    path: Path,
    layers: Sequence[int] | None = None,
    *,
    batch: int = 64,
    shard: int = 4096,
    workers: int | None = None,
    precision: str = "auto",
    thumbnail: int = 96,
    neurons: Sequence[int] = (),
    neuron_top: int = 50,
    progress: Progress = True,
) -> Path:
    """Run a model over images once and write a new index; return its folder.

    A second call with the same arguments continues an interrupted build, or opens the finished index.

    Args:
        model: A ClipModel.
        images: What open_images takes: folders, lists, tars, parquet files, pictures, data sets, data frames; or a
            stream, such as an IterableDataset, which is read once, STREAMED images at a time, each an append.
        path: The folder of the index.
        layers: Layers whose head codes are kept, default the last 4.
        batch: Images per forward pass.
        shard: Images per commit: the most that an interruption can lose.
        workers: Processes that decode images.
        precision: Precision of the forward pass; "auto" is fp16 autocast on CUDA, else fp32.
        thumbnail: Pixels of the shorter side, 0 for none.
        neurons: MLP layers whose second-order statistics are kept, each in a further forward pass.
        neuron_top: How many of the strongest images are kept per neuron.
        progress: Whether to show a bar, or a function of (images done, images).

    Raises:
        ValueError: Arguments are wrong, or the folder holds another index.
        OSError: The folder cannot be written.
    """
    chosen = check_layers(model.weights, _default_layers(model, layers))
    settings = {
        "batch": _positive("batch", batch),
        "shard": _positive("shard", shard),
        "precision": _precision(model, precision),
        "thumbnail": _positive("thumbnail", thumbnail, least=0),
        "neurons": sorted({check_layer(model.weights, layer) for layer in neurons}),
        "neuron_top": _positive("neuron_top", neuron_top),
    }
    if is_stream(images):
        return _build_from(images, model, path, chosen, settings, workers, progress)
    return _write(model, open_images(images), path, chosen, settings, workers, progress)


def _build_from(
    stream: Any,
    model: Any,
    path: Path,
    layers: tuple[int, ...],
    settings: dict[str, Any],
    workers: int | None,
    progress: Progress,
) -> Path:
    """Build an index of a stream: the first part is built, the others are appended, and finished parts are skipped."""
    n_parts = done = 0
    for part in parts(stream, min(STREAMED, settings["shard"])):
        told = partial(_further, progress, done) if callable(progress) else progress
        known = read_manifest(path)["sources"] if (path / MANIFEST).exists() else []
        if n_parts < len(known):
            if known[n_parts]["fingerprint"] != part.fingerprint:
                raise ValueError(
                    f"{str(path)!r} holds an index of other images: {part.names[0]!r} of the stream "
                    "begins a part that differs from the indexed one; choose another folder"
                )
        elif n_parts:
            append(Store.open(path), model, part, workers=workers, progress=told)
        else:
            _write(model, part, path, layers, settings, workers, told)
        n_parts, done = n_parts + 1, done + len(part)
    if not n_parts:
        raise ValueError("expected at least one image, got an empty stream; check what it yields")
    return path


def _further(progress: Callable[[int, int], None], before: int, done: int, n_images: int) -> None:
    """Report progress within a part of a stream. Its end is unknown, so the total is what has been read so far."""
    progress(before + done, before + n_images)


def append(
    index: Store, model: Any, images: Any, *, workers: int | None = None, progress: Progress = True
) -> Path:
    """Add images to a finished index, with its own layers and settings; return the folder.

    Until the append is finished readers see the old index. Appending the same image set again changes nothing.
    Raises ValueError for another model or for files that the index already contains.
    """
    index.check_model(model)
    collection = open_images(images)
    index = Store.open(index.path)  # its current state
    if not (index.path / PLAN).exists():
        if collection.fingerprint in [source["fingerprint"] for source in index.manifest["sources"]]:
            return index.path
        check_disjoint([index.paths, [os.path.abspath(path) for path in collection.paths or ()]])
    settings = index.manifest["settings"]
    after, marks = len(index), "marks" in index.manifest["dims"]
    identity = index.identity  # checked above; an earlier version stores less about the preprocessing
    return _write(
        model, collection, index.path, index.layers, settings, workers, progress, after, marks, identity
    )


def _write(
    model: Any,
    images: Images,
    path: Path,
    layers: tuple[int, ...],
    settings: dict[str, Any],
    workers: int | None,
    progress: Progress,
    after: int | None = None,
    marks: bool = True,
    identity: dict[str, Any] | None = None,
) -> Path:
    """Build an index, or append to one of `after` images (without marks if an earlier version wrote it so)."""
    weights = model.weights
    plan = {
        "model": model.identity() if identity is None else identity,
        "layers": list(layers),
        "dims": {
            "n_layers": len(layers),
            "n_heads": weights.n_heads,
            "d_head": weights.d_code,
            "d_embed": weights.d_embed,
            **({"marks": N_MARKS} if marks else {}),
        },
        "settings": settings,
        "images": [{"fingerprint": images.fingerprint, "count": len(images)}],
        "shards": -(-len(images) // settings["shard"]),
        "library": __version__,
    }
    ranks = Ranks.current()
    if ranks.share(lambda: after is None and _finished(path, plan)):
        return path
    writer: list[Writer] = []
    try:
        todo = ranks.share(lambda: _start(writer, path, plan, after))
        _check_same_plan(ranks, path, plan)
        todo = todo[ranks.rank :: ranks.world]
        shards = _pass(model, images, layers, settings, todo, workers, progress, marks)
        _deliver(shards, path, writer[0] if writer else None)
        ranks.wait()
        ranks.share(lambda: _finish(writer[0]))
    except (RuntimeError, ConnectionResetError, EOFError) as error:
        lost = lost_worker(error)
        if lost is None:
            raise
        raise lost from error
    finally:
        for one in writer:
            one.close()
    return path


def _start(writer: list[Writer], path: Path, plan: dict[str, Any], after: int | None) -> list[int]:
    """Create the writer on the first rank, and list the shards that are neither committed nor staged."""
    writer.append(Writer(path, plan, fold, after is not None, after))
    _drain(writer[0])
    left = writer[0].n_images - writer[0].committed * plan["settings"]["shard"]
    row = sum(spec.row_bytes for spec in columns(plan["dims"]).values() if spec.header)
    row += _TEXT_BYTES + (_THUMBNAIL_BYTES if plan["settings"]["thumbnail"] else 0)
    free = shutil.disk_usage(path).free
    if left * row > free:
        with writing(path):
            told = f"about {left * row / 1e9:.1f} GB are needed but only {free / 1e9:.1f} GB are free"
            raise OSError(errno.ENOSPC, told)
    rest = range(writer[0].committed, plan["shards"])
    return [k for k in rest if not staged(path, k).exists()]


def _finish(writer: Writer) -> None:
    _drain(writer)
    if not writer.finished:
        raise ValueError(
            f"shard {writer.committed} of {writer.plan['shards']} is missing in "
            f"{str(writer.folder)!r}; all ranks need the same folder on a shared disk: use one, or "
            "index on each machine and use Index.merge"
        )
    writer.finish()


def _drain(writer: Writer) -> None:
    """Commit the shards that wait in staging/."""
    while not writer.finished and (path := staged(writer.folder, writer.committed)).exists():
        try:
            shard = Shard.load(path)
        except (OSError, ValueError, KeyError, EOFError):  # damaged from outside: repeat the shard
            path.unlink()
            return
        writer.commit(shard)
        path.unlink()


def _pass(
    model: Any,
    images: Images,
    layers: tuple[int, ...],
    settings: dict[str, Any],
    shards: list[int],
    workers: int | None,
    progress: Progress,
    marks: bool = True,
) -> Iterator[tuple[int, Shard]]:
    """Yield the given shards in order, from one stream of batches."""
    positions = {
        k: range(k * settings["shard"], min((k + 1) * settings["shard"], len(images))) for k in shards
    }
    step = settings["batch"]
    parts = {k: [span[i : i + step] for i in range(0, len(span), step)] for k, span in positions.items()}
    decoder = Decoder(images, model.preprocess, settings["thumbnail"])
    stream = batches(decoder, [part for k in shards for part in parts[k]], workers, model.device)
    unopened = _unopened(images) if 0 in parts else []
    with _counter(progress, sum(map(len, positions.values()))) as count:
        for k in shards:
            gathering = Gathering(model, layers, settings, marks)
            gathering.skipped += unopened if k == 0 else []
            for part in parts[k]:
                gathering.add(next(stream))
                count(len(part))
            shard = gathering.shard()
            _check_there(shard)
            yield k, shard


def _unopened(images: Images) -> list[tuple[str, str]]:
    """Return what was excluded when the collection was opened; images found to be broken later appear in the pass."""
    names = set(images.names) if images.skipped else set()
    return [(name, reason) for name, reason in images.skipped if name not in names]


def _deliver(shards: Iterator[tuple[int, Shard]], path: Path, writer: Writer | None) -> None:
    """Write shards to disk in a separate thread, one at a time, while the next one is computed."""

    def write(k: int, shard: Shard) -> None:
        if writer is not None and writer.committed == k:
            writer.commit(shard)
            _drain(writer)
        else:
            with writing(path):
                shard.save(staged(path, k))

    with ThreadPoolExecutor(1, "index-writer") as pool:
        pending: Future[None] | None = None
        for k, shard in shards:
            if pending is not None:
                pending.result()
            pending = pool.submit(write, k, shard)
        if pending is not None:
            pending.result()


class _counter:
    """A progress bar with rate and time left, a caller's function, or nothing."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.total, self.done = total, 0
        self.call = progress if callable(progress) else None
        self.bar = tqdm(
            total=total, unit=" images", smoothing=0.05, disable=self.call is not None or not progress
        )

    def __enter__(self) -> Callable[[int], None]:
        return self._count

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def _count(self, n_images: int) -> None:
        self.done += n_images
        self.bar.update(n_images)
        if self.call is not None:
            self.call(self.done, self.total)


def _check_there(shard: Shard) -> None:
    """Skip single missing files, but raise an error if all of a shard are missing: the folder or disk is gone."""
    if not shard.rows and shard.skipped and all(reason == MISSING for _, reason in shard.skipped):
        raise FileNotFoundError(
            errno.ENOENT,
            f"none of {len(shard.skipped):,} consecutive images can be found, the first {shard.skipped[0][0]!r}; "
            "restore the folder and run the same command again: it continues where it stopped",
        )


def _check_same_plan(ranks: Ranks, path: Path, plan: dict[str, Any]) -> None:
    if ranks.first:
        return
    shared = read_plan(path) if (path / PLAN).exists() else {}
    if shared.get("images") != plan["images"] or shared.get("model") != to_plain(plan["model"]):
        raise ValueError(
            f"rank {ranks.rank} sees other images or another model than rank 0 in {str(path)!r}; every rank needs the "
            "same arguments, and the same images and index folder on a shared disk"
        )


def _finished(path: Path, plan: dict[str, Any]) -> bool:
    """Return whether this exact index already exists and is complete."""
    if not (path / MANIFEST).exists() or (path / PLAN).exists():
        return False
    manifest = read_manifest(path)
    same = all(manifest[key] == to_plain(plan[key]) for key in ("model", "layers", "dims", "settings"))
    return same and manifest["sources"] == plan["images"]


def _default_layers(model: Any, layers: Sequence[int] | None) -> Sequence[int]:
    return late_layers(model.n_layers) if layers is None else layers


def _precision(model: Any, precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"expected precision one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        return "fp16" if model.device.type == "cuda" and str(model.dtype) == "torch.float32" else "fp32"
    return precision


def _positive(name: str, value: int, least: int = 1) -> int:
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"expected {name} to be a whole number of at least {least}, got {value!r}")
    return int(value)
