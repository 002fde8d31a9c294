"""The public Index: a collection as columns on disk, opened in milliseconds, read a little at a time."""

from __future__ import annotations

import functools
import importlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipviz.data.index.checks import damage, wrong_sizes
from clipviz.data.index.layout import (
    BLOBS,
    MANIFEST,
    PLAN,
    TEXTS,
    columns,
    digest,
    read_journal,
    read_manifest,
)
from clipviz.data.index.writer import read_plan, read_statistics
from clipviz.values import Codes

if TYPE_CHECKING:
    from clipviz.data.images import Images

BLOCK = 4096  # rows held in memory at a time


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of some images' codes, float64, from which TextSpan and mean-ablation follow exactly.

    mean, covariance: of v = [u / std, 1 / std, mean / std] a head (lens.moments turns them into those of head
    effects); embedding_mean: [d_embed], unnormalised; mlp_mean: mean effect of the input term (entry 0) and of
    each MLP, None for a subset, whose MLP terms are not kept image by image.
    """

    count: int
    mean: np.ndarray  # [layer, head, d_head + 2]
    covariance: np.ndarray  # [layer, head, d_head + 2, d_head + 2]
    embedding_mean: np.ndarray  # [d_embed]
    mlp_mean: np.ndarray | None  # [1 + layer of the model, d_embed]
    layers: tuple[int, ...]


class Index:
    """A collection seen once by a model: what every panel reads instead of the images.

    Made by `Index.build`, reopened by `Index.open`; files are mapped into memory, nothing is read before it is
    used. An open index keeps showing its rows while others are appended to the same folder.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.layers: tuple[int, ...] = tuple(manifest["layers"])
        self._columns = columns(manifest["dims"])
        self._maps: dict[str, np.ndarray] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Index:
        """The finished index in a folder; ValueError says what is missing or damaged and what to do."""
        path = Path(path).expanduser()
        if not (path / MANIFEST).exists():
            raise ValueError(_no_index(path))
        index = cls(path, read_manifest(path))
        for problem in wrong_sizes(path, index.manifest):
            raise ValueError(
                f"the index {str(path)!r} is damaged: {problem}. Index.verify(path) or `clipviz index --verify` "
                "lists all damage; restore the file from a copy, or delete the folder and build the index again"
            )
        return index

    @classmethod
    def build(cls, model: Any, images: Any, path: str | os.PathLike[str], **options: Any) -> Index:
        """One pass of a model over images into a new index; see `clipviz.indexing.build` for the options.

        An interrupted build goes on where it stopped when the same is called again; a finished one is opened.
        """
        return _indexing().build(model, images, path, **options)

    @classmethod
    def merge(cls, paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Index:
        """The indexes of disjoint collections as one, in the order given; see `clipviz.indexing.merge`."""
        return _indexing().merge(paths, out)

    def append(self, model: Any, images: Any, **options: Any) -> Index:
        """Add images to this index and open it anew; images that it already holds change nothing."""
        return _indexing().append(self, model, images, **options)

    @classmethod
    def verify(cls, path: str | os.PathLike[str]) -> list[str]:
        """What is wrong with the files of an index, one sentence each, by reading every byte; [] when sound."""
        path = Path(path).expanduser()
        if not (path / MANIFEST).exists():
            return [_no_index(path)]
        try:
            return list(damage(path, read_manifest(path)))
        except ValueError as error:
            return [str(error)]

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    def __repr__(self) -> str:
        model = self.manifest["model"]
        name = " ".join(str(model[key]) for key in ("name", "pretrained") if model.get(key))
        return f"<Index {str(self.path)!r}: {len(self):,} images by {name}, layers {list(self.layers)}>"

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the model that built it, see ClipModel.identity."""
        return dict(self.manifest["model"])

    @property
    def fingerprint(self) -> str:
        """The image set's fingerprint, or a hash of those that were appended or merged."""
        found = [source["fingerprint"] for source in self.manifest["sources"]]
        return found[0] if len(found) == 1 else digest("\n".join(found).encode())[:12]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(name, reason) of every image that has no row."""
        entries, _ = read_journal(self.path, self.manifest["segments"]["bytes"])
        return [(name, reason) for entry in entries for name, reason in entry["skipped"]]

    @property
    def bytes_per_image(self) -> float:
        """Bytes on disk an image, thumbnails left out."""
        files = self.manifest["columns"].items()
        kept = [spec["bytes"] for file, spec in files if not file.startswith("thumbnail")]
        return sum(kept) / max(len(self), 1)

    def check_model(self, model: Any) -> None:
        """ValueError naming both models unless this one built the index."""
        mine, theirs = self.identity, json.loads(json.dumps(model.identity()))
        differ = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
        if differ:
            told = "; ".join(f"{key} {mine.get(key)!r} there, {theirs.get(key)!r} here" for key in differ)
            raise ValueError(
                f"the index {str(self.path)!r} was built by model {_title(mine)}, got model {_title(theirs)} ({told}); "
                "load that model, or build an index with this one"
            )

    def codes(self, rows: Any = None) -> Codes:
        """The codes of all images as read-only memory maps (codes and embedding float16, mean and std float32).

        rows: indices or a mask [image] -> float32 copies of those rows in memory.
        """
        files = ("codes.npy", "mean.npy", "std.npy", "embedding.npy")
        columns_ = [self._map(file) for file in files]
        if rows is not None:
            chosen = self._rows(rows)
            columns_ = [column[chosen].astype(np.float32) for column in columns_]
        codes, mean, std, embedding = columns_
        return Codes(codes, mean, std, embedding, self.layers)

    def blocks(self, size: int = BLOCK) -> Iterator[Codes]:
        """The codes of all images in order, `size` rows in memory at a time, float32."""
        for start in range(0, len(self), size):
            yield self.codes(np.arange(start, min(start + size, len(self))))

    def statistics(self, subset: Any = None) -> Statistics:
        """Moments over all images, as accumulated in the pass, or over a subset (indices or a mask [image]).

        A subset's are computed in float64 from the stored float16 codes. ValueError for an empty subset.
        """
        kept = self._statistics
        if subset is not None:
            return self._subset_statistics(self._rows(subset), kept["code_mean"])
        count = int(kept["count"])
        return Statistics(
            count=count,
            mean=kept["code_mean"],
            covariance=kept["code_scatter"] / count,
            embedding_mean=kept["embedding_mean"],
            mlp_mean=kept["mlp_mean"],
            layers=self.layers,
        )

    @property
    def neuron_layers(self) -> tuple[int, ...]:
        """MLP layers whose second-order statistics were asked for."""
        return tuple(self.manifest["settings"]["neurons"])

    def neurons(self, layer: int) -> dict[str, np.ndarray]:
        """Second-order statistics of one MLP layer, the fields of lens.neuron_stats.NeuronStats as arrays.

        See `clipviz.indexing.neuron_statistics` for the value itself. ValueError names the layers there are.
        """
        if layer not in self.neuron_layers:
            known = ", ".join(map(str, self.neuron_layers)) or "none"
            raise ValueError(
                f"the index {str(self.path)!r} keeps second-order statistics of layers {known}, got {layer!r}; "
                f"build it with neurons=[{layer!r}]"
            )
        prefix = f"neurons {layer} "
        return {name.removeprefix(prefix): array for name, array in self.raw_statistics(prefix).items()}

    def raw_statistics(self, prefix: str | tuple[str, ...] = "") -> dict[str, np.ndarray]:
        """The float64 arrays on disk whose names start with `prefix`, read anew."""
        segments, checksum = self.manifest["segments"]["count"], self.manifest["statistics"]["checksum"]
        try:
            return read_statistics(self.path, segments, checksum, prefix)
        except ValueError as error:
            if read_manifest(self.path)["checksum"] == self.manifest["checksum"]:
                raise
            told = (
                f"the index {str(self.path)!r} has grown since it was opened; open it again with Index.open"
            )
            raise ValueError(told) from error

    @functools.cached_property
    def names(self) -> list[str]:
        return self.texts("name")

    @functools.cached_property
    def labels(self) -> list[str]:
        """[image] class labels, "" where there is none."""
        return self.texts("label")

    @functools.cached_property
    def groups(self) -> list[str]:
        """[image] groups, "" where there is none."""
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

    def texts(self, column: str, rows: Any = None) -> list[str]:
        """One of the text columns: name, path, label, group, caption, attributes (JSON)."""
        if column not in TEXTS:
            raise ValueError(f"expected a text column, one of {', '.join(TEXTS)}, got {column!r}")
        if rows is None:
            found = self._blobs(column, 0, len(self))
        else:
            found = [self._blob(column, row) for row in self._rows(rows).tolist()]
        return [text.decode("utf-8", "surrogateescape") for text in found]

    def where(self, column: str, value: str) -> np.ndarray:
        """Indices of the images whose label, group or other attribute is `value`; ValueError for an unknown one."""
        words = self.attributes.get(column)
        if words is None:
            known = ", ".join(self.attributes) or "none"
            raise ValueError(f"the index has no column {column!r}; columns with labels are: {known}")
        found = np.flatnonzero([word == value for word in words])
        if not found.size:
            values = ", ".join(sorted({word for word in words if word is not None})[:30])
            raise ValueError(f"no image of the index has {column} = {value!r}; values are: {values}")
        return found

    def thumbnail(self, row: int) -> Image.Image:
        """The small RGB picture kept of an image; ValueError when the index was built without thumbnails."""
        content = self.thumbnail_jpeg(row)
        if not content:
            raise ValueError(f"the index {str(self.path)!r} keeps no thumbnails; build it with thumbnail=96")
        return Image.open(io.BytesIO(content)).convert("RGB")

    def thumbnail_jpeg(self, row: int) -> bytes:
        """The thumbnail as the JPEG on disk, b"" when none was kept."""
        return self._blob("thumbnail", int(self._rows([row])[0]))

    def images(self) -> Images:
        """The collection as `Images`: the files where they are still there, their thumbnails where not."""
        from clipviz.data.index.collection import indexed_images

        return indexed_images(self)

    @functools.cached_property
    def _statistics(self) -> dict[str, np.ndarray]:
        return self.raw_statistics(("count", "code_", "embedding_mean", "mlp_mean"))

    def _map(self, file: str) -> np.ndarray:
        if file not in self._maps:
            column = self._columns[file]
            size = self.manifest["columns"][file]["bytes"] - column.header
            shape = (size // column.row_bytes, *column.shape)
            self._maps[file] = (
                np.memmap(self.path / file, column.dtype, "r", column.header, shape)
                if size
                else np.empty(shape, column.dtype)  # an empty file cannot be mapped
            )
        return self._maps[file]

    def _blob(self, name: str, row: int) -> bytes:
        return self._blobs(name, row, row + 1)[0]

    def _blobs(self, name: str, start: int, stop: int) -> list[bytes]:
        """The bytes of a range of images in one packed column, read at once."""
        ends = self._map("ends.npy")[max(start - 1, 0) : stop, BLOBS.index(name)].tolist()
        ends = ends if start else [0, *ends]
        content = self._map(f"{name}.bin")[ends[0] : ends[-1]].tobytes()
        return [content[a - ends[0] : b - ends[0]] for a, b in itertools.pairwise(ends)]

    def _rows(self, rows: Any) -> np.ndarray:
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

    def _subset_statistics(self, rows: np.ndarray, pivot: np.ndarray) -> Statistics:
        """One pass around a pivot near the mean, so that sums of squares lose no digits."""
        total = np.zeros_like(pivot)
        outer = np.zeros((*pivot.shape, pivot.shape[-1]))
        embedding = np.zeros(self._columns["embedding.npy"].shape)
        for start in range(0, len(rows), BLOCK):
            part = self.codes(rows[start : start + BLOCK])
            samples = np.moveaxis(_augmented(part) - pivot, 0, -2)
            total += samples.sum(-2)
            outer += np.swapaxes(samples, -1, -2) @ samples
            embedding += part.embedding.sum(0, dtype=np.float64)
        shift = total / len(rows)
        return Statistics(
            count=len(rows),
            mean=pivot + shift,
            covariance=outer / len(rows) - shift[..., :, None] * shift[..., None, :],
            embedding_mean=embedding / len(rows),
            mlp_mean=None,
            layers=self.layers,
        )


def _augmented(codes: Codes) -> np.ndarray:
    """v = [u / std, 1 / std, mean / std] in float64, [image, layer, head, d_head + 2]."""
    inverse = 1 / codes.std.astype(np.float64)[:, None, None, None]
    ones = np.broadcast_to(inverse, (*codes.codes.shape[:3], 1))
    return np.concatenate([codes.codes * inverse, ones, codes.mean[:, None, None, None] * ones], -1)


def _title(identity: dict[str, Any]) -> str:
    return repr(" ".join(str(identity[key]) for key in ("name", "pretrained") if identity.get(key)))


def _no_index(path: Path) -> str:
    if (path / PLAN).exists():
        plan = read_plan(path)
        entries, _ = read_journal(path)
        count = sum(source["count"] for source in plan["images"])
        return (
            f"the index {str(path)!r} is unfinished: {len(entries)} of {plan['shards']} shards of "
            f"{count:,} images are there; run the same build again, it goes on where it stopped"
        )
    return (
        f"expected a folder with a finished index, got {str(path)!r}; build one with clipviz.Index.build(model, "
        "images, path) or `clipviz index IMAGES --out PATH`"
    )


def _indexing() -> Any:
    """The room above, by name when it is called: reading an index needs neither torch nor a model."""
    return importlib.import_module("clipviz.indexing")
