"""The public Index: a collection that a model has read once, and that panels use instead of the images."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipviz import hub
from clipviz.data.datasets import SAMPLED
from clipviz.data.marks import number
from clipviz.data.store.checks import damage
from clipviz.data.store.images import IndexedImages
from clipviz.data.store.layout import JOURNAL, MANIFEST, PLAN, read_manifest
from clipviz.data.store.store import Store, folder_of, no_index, title
from clipviz.indexing.arrow import table_of
from clipviz.values import Codes

if TYPE_CHECKING:
    import pyarrow
    import torch

    from clipviz.analysis.collection.image_codes import ImageCodes
    from clipviz.data.images import Images
    from clipviz.lens.neuron_stats import NeuronStats
    from clipviz.models.clip import ClipModel

BLOCK = 4096  # rows held in memory at a time
FILES = (MANIFEST, JOURNAL, PLAN, "*.npy", "*.bin", "*.npz")
"""Patterns of an index's files."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of some images' codes in float64, from which TextSpan and mean-ablation follow exactly.

    mean, covariance: of v = [u / std, 1 / std, mean / std] per head (lens.covariance turns them into those of
    head effects); embedding_mean: [d_embed], unnormalised; mlp_mean: mean effect of the input term (entry 0) and
    of each MLP, None for a subset, since MLP terms are not stored per image.
    """

    count: int
    mean: np.ndarray  # [layer, head, d_head + 2]
    covariance: np.ndarray  # [layer, head, d_head + 2, d_head + 2]
    embedding_mean: np.ndarray  # [d_embed]
    mlp_mean: np.ndarray | None  # [1 + layer of the model, d_embed]
    layers: tuple[int, ...]


class Index(Store):
    """A collection as columns on disk, made by `Index.build` and opened again by `Index.open`.

    Files are mapped into memory and read on demand. An open index keeps showing its rows while others are
    appended to the same folder.
    """

    @classmethod
    def build(cls, model: Any, images: Any, path: str | os.PathLike[str], **options: Any) -> Index:
        """Run a model over images once and write a new index to disk.

        A second call with the same arguments continues an interrupted build, or opens the finished index.

        Args:
            model: A ClipModel.
            images: What `clipviz.data.images.open_images` takes: a folder, files, a table, a data set, a stream.
            path: The folder of the index.
            options: layers, batch, precision, neurons and others of `clipviz.indexing.building.build`.

        Returns:
            The index, opened.

        Raises:
            ValueError: Arguments are wrong, or the folder holds another index.
            OSError: The folder cannot be written.
        """
        from clipviz.indexing.building import build

        return cls.open(build(model, images, folder_of(path), **options))

    @classmethod
    def merge(cls, paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Index:
        """Return one index that merges those of disjoint collections, in the given order; see `merging.merge`."""
        from clipviz.indexing.merging import merge

        return cls.open(merge(paths, folder_of(out)))

    @classmethod
    def from_hub(
        cls, repo: str, revision: str | None = None, path: str | os.PathLike[str] | None = None
    ) -> Index:
        """Open an index that `push_to_hub` uploaded to the Hugging Face Hub.

        Args:
            repo: "owner/name" of a repository of data sets.
            revision: A branch, tag or commit; by default the main branch.
            path: The folder to download to, where images can be appended. By default the Hub's cache is used.

        Returns:
            The index, opened.

        Raises:
            ValueError: There is no such repository, or it holds no index.
        """
        folder = hub.fetch(repo, "dataset", FILES, revision, None if path is None else folder_of(path))
        return cls.open(folder)

    def push_to_hub(self, repo: str, private: bool | None = None, message: str = "Add an index") -> str:
        """Upload the index to the Hugging Face Hub: numbers, names, paths, labels, captions and thumbnails.

        Args:
            repo: "owner/name" of a repository of data sets, which is created if it does not exist.
            private: Whether a new repository is private; by default what its owner has set.
            message: The commit's title.

        Returns:
            The commit's address.

        Raises:
            ValueError: You may not write to the repository.
        """
        return hub.push(self.path, repo, "dataset", FILES, private, message)

    def to_arrow(self, rows: Any = None, codes: bool = False) -> pyarrow.Table:
        """Return the index as a table of Arrow with one row per image.

        Its columns are image (the row in the index), name, path, caption, every attribute, and embedding (float16, in
        the units of the embedding before it is normalised). The table's metadata name the model and the layers.

        Args:
            rows: Indices, or a mask [image]; by default all images.
            codes: Whether to add the codes of all heads, flattened from [layer, head, d_head], with the mean and
                the standard deviation of the final residual stream, from which head effects follow exactly.

        Returns:
            A pyarrow.Table.

        Raises:
            ImportError: pyarrow is not installed.
        """
        return table_of(self, rows, codes)

    def append(self, model: Any, images: Any, **options: Any) -> Index:
        """Add images to this index and open it again; appending the same image set twice changes nothing.

        See `clipviz.indexing.building.append` for the options.
        """
        from clipviz.indexing.building import append

        return type(self).open(append(self, model, images, **options))

    @classmethod
    def verify(cls, path: str | os.PathLike[str]) -> list[str]:
        """Return what is wrong with an index, one sentence each, after reading every byte; [] if it is intact."""
        path = folder_of(path)
        if not (path / MANIFEST).exists():
            return [no_index(path)]
        try:
            return list(damage(path, read_manifest(path)))
        except ValueError as error:
            return [str(error)]

    def __repr__(self) -> str:
        made_by = title(self.manifest["model"])[1:-1]
        return (
            f"<Index {str(self.path)!r}: {len(self):,} images by {made_by}, layers {list(self.layers)}, "
            f"{self.bytes_per_image:,.0f} bytes per image, head codes whole>"
        )

    def blocks(self, size: int = BLOCK) -> Iterator[Codes[np.ndarray]]:
        """Yield the codes of all images in order, in float32, with `size` rows in memory at a time."""
        for start in range(0, len(self), size):
            yield self.codes(np.arange(start, min(start + size, len(self))))

    def statistics(self, subset: Any = None) -> Statistics:
        """Return moments over all images, as accumulated in the pass, or over a subset (indices or a mask [image]).

        Those of a subset are computed in float64 from the stored float16 codes. Raises ValueError for an empty
        subset.
        """
        if subset is not None:
            return self._subset_statistics(self.rows(subset))
        kept = self._statistics
        count = int(kept["count"])
        return Statistics(
            count=count,
            mean=kept["code_mean"],
            covariance=kept["code_scatter"] / count,
            embedding_mean=kept["embedding_mean"],
            mlp_mean=kept["mlp_mean"],
            layers=self.layers,
        )

    def image_codes(self, model: ClipModel) -> ImageCodes:
        """Return the codes in the form that sessions use, with their moments. Raises ValueError for another model."""
        from clipviz.analysis.collection.image_codes import ImageCodes

        self.check_model(model)
        moments = None
        if len(self) > 1:
            found = self.statistics()
            moments = found.mean, found.covariance
        return ImageCodes.from_stored(model, self.codes(), moments)

    @property
    def neuron_layers(self) -> tuple[int, ...]:
        """MLP layers whose second-order statistics are stored."""
        return tuple(self.manifest["settings"]["neurons"])

    def neurons(self, layer: int, device: str | torch.device = "cpu") -> NeuronStats:
        """Return second-order statistics of one MLP layer over all images, float32 on `device`; image ids are rows.

        Raises ValueError for a layer that is not stored; the message lists those that are.
        """
        from clipviz.indexing.second import unpacked

        if layer not in self.neuron_layers:
            known = ", ".join(map(str, self.neuron_layers)) or "none"
            raise ValueError(
                f"the index {str(self.path)!r} keeps second-order statistics of layers {known}, got {layer!r}; "
                f"build it with neurons=[{layer!r}]"
            )
        return unpacked(self.raw_statistics(f"neurons {layer} "), layer, device)

    def where(self, column: str, value: str) -> np.ndarray:
        """Return the images whose label, group or other attribute is `value`. Raises ValueError for unknown ones."""
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
        """Return the stored thumbnail of an image. Raises ValueError if the index was built without thumbnails."""
        content = self.thumbnail_jpeg(row)
        if not content:
            raise ValueError(f"the index {str(self.path)!r} keeps no thumbnails; build it with thumbnail=96")
        return Image.open(io.BytesIO(content)).convert("RGB")

    def images(self) -> IndexedImages:
        """Return the collection as `Images`: the files if they still exist, else their thumbnails."""
        return IndexedImages(self)

    def check_images(self, images: Images) -> None:
        """Raise ValueError for an image whose content differs from the one that was indexed.

        For a large data set, and for an index of an earlier version, which stores only names, only cheap checks
        are made.
        """
        if images.fingerprint == self.fingerprint:
            return
        marks, n = self.marks, len(self)
        sampled = {k * (n - 1) // max(SAMPLED - 1, 1) for k in range(SAMPLED)}
        for i in range(n) if len(images) == n else ():
            known = 0 if marks is None else int(marks[i, 0])
            content = images.content(i)
            if known and not content and i in sampled:
                content = images.content(i, images[i])
            if number(content) != known if known and content else self.names[i] != images.names[i]:
                break
        else:
            if len(images) == n:
                return
            i = min(n, len(images)) - 1
        raise ValueError(
            f"the index {str(self.path)!r} was built from other images: image {i} of the index is "
            f"{self.names[i]!r}, image {i} of these is "
            f"{images.names[i]!r}{', whose content differs' if self.names[i] == images.names[i] else ''}; "
            "omit images to use those of the index, or build an index of these"
        )

    @functools.cached_property
    def _statistics(self) -> dict[str, np.ndarray]:
        return self.raw_statistics(("count", "code_", "embedding_mean", "mlp_mean"))

    def _subset_statistics(self, rows: np.ndarray) -> Statistics:
        import torch

        from clipviz.lens.covariance import code_moments

        stored = self.codes()
        found = code_moments(stored, torch.from_numpy(rows))
        blocks = (stored.embedding[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))
        embedding = np.sum([block.sum(0, dtype=np.float64) for block in blocks], 0)
        return Statistics(
            count=found.count,
            mean=found.mean.numpy(),
            covariance=found.covariance.numpy(),
            embedding_mean=embedding / found.count,
            mlp_mean=None,
            layers=self.layers,
        )
