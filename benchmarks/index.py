"""The index: bytes per image, time to open, peak memory against the number of images, build against a bare loop.

ViT-L/14 sizes are written from random rows, as a real pass would. The bare loop decodes, preprocesses and encodes the
same images in the same batches and keeps nothing. Times are processor time on one thread with decoding in the same
process, so that other work on the machine does not count; peak memory is that of a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._timing import best, one_thread, row
from clipviz.data.checksums import with_checksum
from clipviz.data.images import Images
from clipviz.data.sources import Plain
from clipviz.data.store.layout import BLOBS, Shard, columns, header
from clipviz.data.store.writer import Writer
from clipviz.indexing import Index
from clipviz.indexing.reading import Decoder, batches
from clipviz.loading import load
from clipviz.models.clip import ClipModel
from clipviz.models.opening import wrap

VIT_L = {"n_layers": 4, "n_heads": 16, "d_head": 64, "d_embed": 768}
N_BUILD, BATCH, REPEATS = 384, 32, 3
FEW, MANY = 1_000, 20_000


@dataclass(frozen=True)
class Drawn(Plain):
    """A picture drawn from its number whenever it is asked for."""

    number: int
    side: int

    @property
    def name(self) -> str:
        return f"val/n{self.number % 1000:08d}/ILSVRC2012_val_{self.number:08d}.JPEG"

    def load(self, near: int | None = None) -> Image.Image:
        pixels = np.random.default_rng(self.number).integers(0, 256, (6, 6, 3), np.uint8)
        return Image.fromarray(pixels).resize((self.side, self.side), Image.Resampling.BILINEAR)

    def key(self) -> str:
        return f"{self.number}|{self.side}"


def tiny_model() -> ClipModel:
    """2 layers x 2 heads on 32 x 32 pixels, random weights."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    return wrap(
        CLIP(16, vision, {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1})
    )


def large_index(folder: Path, rows: int) -> Index:
    """Return an index of ViT-L/14 sizes with random numbers and names like ImageNet's."""
    rng = np.random.default_rng(0)
    plan = {
        "model": {"name": "ViT-L-14", "pretrained": "", "fingerprint": ""},
        "layers": [20, 21, 22, 23],
        "dims": VIT_L,
        "settings": {"neurons": []},
        "images": [{"fingerprint": "", "count": rows}],
        "shards": 1,
        "library": "",
    }
    names = [Drawn(row, 8).name.encode() for row in range(rows)]
    blobs = {name: [b""] * rows for name in BLOBS}
    blobs |= {
        "name": names,
        "path": [b"/data/imagenet/" + name for name in names],
        "label": [b"n01440764"] * rows,
    }
    arrays = {
        file: rng.normal(size=(rows, *spec.shape)).astype(spec.dtype)
        for file, spec in columns(VIT_L).items()
        if file.endswith(".npy") and file != "ends.npy"
    }
    statistics = {"code_mean": np.zeros((4, 16, 66)), "code_scatter": np.zeros((4, 16, 66, 66))}
    with Writer(folder, plan, lambda _, part, __: part) as writer:
        writer.commit(Shard(arrays, blobs, statistics))
        writer.finish()
    return Index.open(folder)


def grown(index: Index, folder: Path, rows: int) -> Path:
    """Return the same index pretending to hold `rows` images, its columns sparse files."""
    manifest = json.loads(json.dumps(index.manifest))
    manifest["rows"] = rows
    folder.mkdir()
    for file, column in columns(manifest["dims"]).items():
        with open(folder / file, "wb") as stream:
            stream.write(header(column, rows))
            stream.truncate(column.header + rows * column.row_bytes)
        manifest["columns"][file]["bytes"] = column.header + rows * column.row_bytes
    for name in ("segments.jsonl", manifest["statistics"]["file"]):
        (folder / name).write_bytes((index.path / name).read_bytes())
    (folder / "manifest.json").write_bytes(with_checksum(manifest))
    return folder


def peak_memory(n_images: int) -> float:
    """Return the peak memory in MB of a process that indexes so many images with a tiny model."""
    command = [sys.executable, "-m", "benchmarks.index", "peak", str(n_images)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _peak(n_images: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = Images([Drawn(number, 36) for number in range(n_images)])
        Index.build(tiny_model(), images, Path(folder, "i"), shard=512, workers=0, progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def build_ratio() -> float:
    """Processor time of a build of the demo model's index, thumbnails included, over that of the bare loop."""
    model = load("demo", device="cpu")
    images = Images([Drawn(number, 256) for number in range(N_BUILD)])
    spans = [range(start, min(start + BATCH, N_BUILD)) for start in range(0, N_BUILD, BATCH)]

    def bare() -> None:
        for batch in batches(Decoder(images, model.preprocess, 0), spans, 0, model.device):
            assert batch.pixels is not None
            model.encode_images(batch.pixels)

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            Index.build(model, images, Path(folder, "i"), batch=BATCH, workers=0, progress=False)

    alone, built = best([bare, build], REPEATS)
    return built / alone


def run() -> list[dict[str, Any]]:
    """Return measurements of this run, a row each: what, measured, budget, ok."""
    with one_thread():
        with tempfile.TemporaryDirectory() as folder:
            index = large_index(Path(folder, "l"), 512)
            size = index.bytes_per_image
            path = grown(index, Path(folder, "million"), 1_000_000)
            (opening,) = best([lambda: Index.open(path).codes()], repeats=5, clock=time.perf_counter)
        few, many = peak_memory(FEW), peak_memory(MANY)
        ratio = build_ratio()
    growth = f"peak memory of {MANY:,} images ({many:.0f} MB) over {FEW:,} ({few:.0f} MB), x"
    return [
        row("bytes per image, ViT-L/14, last 4 layers, thumbnails left out", size, 10_000),
        row("opening an index of 1,000,000 images, ms", 1e3 * opening, 50),
        row(growth, many / few, 1.1),
        row("build against a bare encode loop, demo model, x", ratio, 1.25),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        _peak(int(sys.argv[2]))
