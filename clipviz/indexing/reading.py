"""Read a collection in batches: decoding, preprocessing and thumbnails, in DataLoader workers."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from clipviz.data.images import BrokenImage, Images
from clipviz.data.marks import number, stamp_of

MISSING = "the file does not exist"
_QUALITY = 80
_LOST = re.compile(r"DataLoader worker \(pid.* (is killed|exited unexpectedly)")
_WATCHED = 1.0  # seconds between a worker's checks of its parent


class Decoded(NamedTuple):
    """One image: preprocessed pixels [3, rows, cols], or None and the reason; facts: blob name -> bytes."""

    pixels: Tensor | None
    facts: dict[str, bytes]
    name: str
    reason: str


@dataclass
class Batch:
    """Some images in order: pixels [image, 3, rows, cols] or None, facts of each, and those excluded."""

    pixels: Tensor | None
    facts: list[dict[str, bytes]]
    skipped: list[tuple[str, str]]

    def pin_memory(self) -> Batch:
        """Pin the memory; the DataLoader calls this so that copies to the GPU overlap with other work."""
        pixels = None if self.pixels is None else self.pixels.pin_memory()
        return Batch(pixels, self.facts, self.skipped)


class Decoder:
    """The collection as a map-style data set of Decoded."""

    def __init__(self, images: Images, preprocess: Callable[[Image.Image], Tensor], thumbnail: int) -> None:
        self.images = images
        self.preprocess = preprocess
        self.thumbnail = thumbnail
        self.paths = images.paths

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Decoded:
        name = self.images.names[position]
        try:
            image = self.images[position]
            pixels = self.preprocess(image)
            facts = {**self.facts(position), "thumbnail": jpeg(image, self.thumbnail)}
            facts["marks"] = self.marks(position, image)
        except FileNotFoundError:
            return Decoded(None, {}, name, MISSING)
        except BrokenImage as error:
            return Decoded(None, {}, name, str(error.__cause__ or error))
        except Exception as error:  # no single image may stop the pass
            return Decoded(None, {}, name, f"{type(error).__name__}: {error}"[:300])
        return Decoded(pixels, facts, name, "")

    def marks(self, position: int, image: Image.Image) -> bytes:
        """Return the row of marks.npy: hashes of the image's content and of its file's modification time."""
        content = self.images.content(position, image)
        stamp = stamp_of(self.paths[position]) if self.paths else ""
        return struct.pack("<2Q", number(content) if content else 0, number(stamp) if stamp else 0)

    def facts(self, position: int) -> dict[str, bytes]:
        """Return the text columns of one image."""
        images = self.images
        words = {column: values[position] for column, values in (images.attributes or {}).items()}
        known = {
            "name": images.names[position],
            "label": words.pop("label", None) or "",
            "group": words.pop("group", None) or "",
            "caption": images.captions[position] if images.captions else "",
        }
        words = {column: word for column, word in words.items() if word is not None}
        known["attributes"] = json.dumps(words, ensure_ascii=False, sort_keys=True) if words else ""
        facts = {column: text.encode("utf-8", "backslashreplace") for column, text in known.items()}
        return {**facts, "path": os.fsencode(os.path.abspath(self.paths[position])) if self.paths else b""}


def jpeg(image: Image.Image, side: int) -> bytes:
    """Return a JPEG whose shorter side is at most `side` pixels (the longer at most 4 times that); b"" for side 0."""
    if not side:
        return b""
    shorter, longer = sorted(image.size)
    scale = min(1.0, side / shorter, 4 * side / longer)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def collate(decoded: Sequence[Decoded]) -> Batch:
    usable = [item for item in decoded if item.pixels is not None]
    pixels = torch.stack([item.pixels for item in usable]) if usable else None  # type: ignore[misc]
    skipped = [(item.name, item.reason) for item in decoded if item.pixels is None]
    return Batch(pixels, [item.facts for item in usable], skipped)


def batches(
    decoder: Decoder, positions: Sequence[Sequence[int]], workers: int | None, device: torch.device
) -> Iterator[Batch]:
    """Yield the batches in order; workers: processes that decode, None for a number that suits the machine."""
    workers = default_workers(device, sum(map(len, positions))) if workers is None else workers
    options: dict[str, Any] = {}
    if workers:
        watch = functools.partial(_leave_with, os.getpid())
        options = {"prefetch_factor": 4, "multiprocessing_context": "fork", "worker_init_fn": watch}
    loader: DataLoader[Any] = DataLoader(
        decoder,  # type: ignore[arg-type]
        batch_sampler=positions,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        **options,
    )
    return iter(loader)


def lost_worker(error: BaseException) -> ChildProcessError | None:
    """Return a message if a decoding process has died, as a signal handler of torch or a broken pipe shows, else
    None.

    torch raises wherever the main thread happens to be, so the error may be chained to another one.
    """
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        if _LOST.search(str(at)) or isinstance(at, ConnectionResetError | EOFError):
            return ChildProcessError(
                "a process that decodes images was killed, often because memory ran out; run the "
                "same command again: it continues where it stopped. Fewer workers need less memory; "
                "workers=0 uses none"
            )
        at = at.__cause__ or at.__context__
    return None


def _leave_with(parent: int, _worker: int) -> None:
    """End this worker when the process that started it has ended in any way.

    Otherwise a worker that waits for room in its pipe would wait forever and keep its pictures and the terminal.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCHED)
        os._exit(1)

    threading.Thread(target=watch, name="clipviz-parent-watch", daemon=True).start()


def default_workers(device: torch.device, n_images: int) -> int:
    """Return the number of worker processes: 0 without fork or for little work; one core is left for the model."""
    if not sys.platform.startswith("linux") or n_images < 256:
        return 0
    share = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = max(1, len(os.sched_getaffinity(0)) // share)
    return min(cores - 1, 16 if device.type == "cuda" else 2)
