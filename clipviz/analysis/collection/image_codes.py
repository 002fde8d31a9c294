"""A session's images as head codes, read batch by batch in the background or taken from an index."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.collection.reading import read
from clipviz.data.cache import Cache, default
from clipviz.lens.covariance import code_moments
from clipviz.lens.decompose import effects_from_codes
from clipviz.lens.retrieve import direction_scores
from clipviz.models.towers.anatomy import unmixed
from clipviz.values import Codes, Head, HeadBasis, late_layers

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from clipviz.data.images import Images
    from clipviz.models.clip import ClipModel

FIRST = 4  # images of the first step, before it is known how long they take
STEP = 0.5  # seconds that reading a batch may take
PATIENCE = 3  # times that a step gives way before it is read to its end
ROUNDING = 1e-5  # deviation of a head's codes, as a share of their length, below which they are one code
LARGE = 1 << 30  # bytes of float32 codes above which half precision, and only the late layers, are kept


class KeptCodes:
    """A place on disk for the codes of one collection, as one model and preprocessing see it.

    Found again for the same weights, preprocessing (by what it does to two pictures), precision, kind of device,
    layers, and images (by their content).
    """

    def __init__(
        self, model: ClipModel, images: Images, layers: Sequence[int], cache: Cache | None = None
    ) -> None:
        self.cache = default() if cache is None else cache
        self.about = f"codes of {len(images):,} images ({images.fingerprint}) as {model.name} sees them"
        self._images = images
        seen = str(model.identity())
        fixed = seen, str(tuple(layers))
        self._key: Callable[[], tuple[str, ...]] = lambda: (
            *("codes", images.fingerprint, *fixed),
            *model.cache_key(),
        )

    def fill(self, collection: ImageCodes) -> bool:
        """Take over what was kept; False when nothing was. Images that could not be read then are tried again."""
        kept = self.cache.read(*self._key()) if self.cache.folder else None
        if kept is None:
            return False
        arrays, _ = kept
        for name in ("codes", "mean", "std", "embedding"):
            column = getattr(collection, name)
            setattr(collection, name, torch.from_numpy(arrays[name]).to(column))
        collection.ready = torch.from_numpy(arrays["ready"])
        collection.version += 1
        return True

    def keep(self, collection: ImageCodes) -> None:
        """Keep a collection that has been read to its end, but not why some images could not be read: memory that ran
        out, or a disk that was gone, may be there the next time. Nothing is kept where a file was replaced since."""
        if not collection.complete or collection.mapped or collection.n_added:
            return
        if not self.cache.folder or self._images.changed():
            return
        columns = {name: getattr(collection, name) for name in ("codes", "mean", "std", "embedding", "ready")}
        arrays = {name: column.cpu().numpy() for name, column in columns.items()}
        self.cache.write(*self._key(), arrays=arrays, about=self.about)


class ImageCodes:
    """Codes of every image that has been read so far, and the linear questions they answer.

    layers: the layers whose heads are kept; ready: rows that hold a real image (a broken one stays False); mapped:
    the codes stay in the index's file, because they would not fit in memory or on the device.
    """

    def __init__(self, model: ClipModel, n_images: int, layers: Sequence[int] | None = None) -> None:
        weights = model.weights
        row = weights.n_layers * weights.n_heads * weights.d_code
        large = n_images * row * 4 > LARGE
        self.layers = (
            tuple(layers)
            if layers is not None
            else tuple(late_layers(weights.n_layers) if large else range(weights.n_layers))
        )
        shape = (n_images, len(self.layers), weights.n_heads, weights.d_code)
        self.basis: HeadBasis = model.head_basis(self.layers)
        self.codes = torch.zeros(shape, dtype=torch.float16 if large else torch.float32, device=model.device)
        self.mean = torch.zeros(n_images, device=model.device)
        self.std = torch.ones(n_images, device=model.device)
        self.embedding = torch.zeros(n_images, weights.d_embed, device=model.device)
        self.ready = torch.zeros(n_images, dtype=torch.bool)
        self.broken: dict[int, str] = {}
        self.notes: list[str] = []
        self.version = 0
        self.n_added = 0  # images at the end that were added by hand
        self.mapped = False
        self._covariance: Tensor | None = None

    @classmethod
    def from_stored(
        cls, model: ClipModel, stored: Codes[np.ndarray], moments: tuple[np.ndarray, np.ndarray] | None
    ) -> ImageCodes:
        """Return the codes of an index of this model, read at once, or left in their file beyond LARGE bytes.

        moments: mean [layer, head, d_code + 2] and covariance of these codes (lens.covariance); None computes
        them when they are first needed.
        """
        made = cls(model, 0, stored.layers)
        made.mapped = 2 * stored.codes.size > LARGE
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # torch warns that a read-only file cannot be written to
            codes, mean, std, embedding = (
                torch.from_numpy(column)
                for column in (stored.codes, stored.mean, stored.std, stored.embedding)
            )
        if not made.mapped:
            codes = codes.to(made.codes, copy=True)
        made.codes = codes
        made.mean, made.std, made.embedding = (
            column.to(codes.device, torch.float32, copy=True) for column in (mean, std, embedding)
        )
        made.ready = torch.ones(len(stored), dtype=torch.bool)
        if moments is not None:
            mean, covariance = map(torch.from_numpy, moments)
            made._covariance = without_rounding(mean, covariance).to(model.device)
        made.version = 1
        return made

    def __len__(self) -> int:
        return self.ready.shape[0]

    @property
    def stored(self) -> Codes:
        """The codes of every image, also of those not read yet; nothing is copied."""
        return Codes(self.codes, self.mean, self.std, self.embedding, self.layers)

    @property
    def n_ready(self) -> int:
        return int(self.ready.sum())

    @property
    def complete(self) -> bool:
        return self.n_ready + len(self.broken) == len(self)

    def read(
        self, model: ClipModel, images: Images, batch: int = 32, awaited: Callable[[], bool] = lambda: False
    ) -> Iterator[int]:
        """Trace the images not read yet, one batch per step; yields how many have been read. Broken ones are noted.

        Steps begin with FIRST images and hold as many as can be read in STEP, at most `batch`. Where memory runs out a
        step is halved, which `notes` says; an image too large on its own counts as broken. awaited: asked between two
        layers whether somebody waits for the end of the step: then it ends, to be begun again, at most PATIENCE times.
        """
        waiting = [i for i in range(len(self)) if not self.ready[i] and i not in self.broken]
        n, most, gave_way = min(FIRST, batch), batch, 0
        while waiting:
            began = time.monotonic()
            rows, pictures, broken = read(images, waiting[:n])
            check = partial(_give_way, awaited) if gave_way < PATIENCE else None
            try:
                codes = self._traced(model, pictures, check) if rows else None
            except _GaveWay:
                gave_way += 1
                yield self.n_ready
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if n > 1:
                    most = n = self._halved(n)
                    continue
                broken |= dict.fromkeys(rows, "too large for the memory that is left")
                codes = None
            waiting, gave_way = waiting[n:], 0
            n = max(1, min(most, 2 * n, int(n * STEP / max(time.monotonic() - began, 1e-6))))
            self.broken |= broken
            if codes is not None:
                self.store(rows, codes)
                yield self.n_ready

    def _traced(
        self, model: ClipModel, pictures: list[Image.Image], check: Callable[[], None] | None
    ) -> Codes:
        """Return the codes of some pictures, whatever autocast the caller is in: they are kept for other sessions."""
        with unmixed(model.device):
            return model.trace(pictures, False, check).to_codes(self.layers)

    def _halved(self, batch: int) -> int:
        """Half as many images per forward pass, and a note of it."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        note = f"memory ran out with {batch} images per forward pass; continued with {batch // 2}"
        self.notes.append(note)
        logging.getLogger("clipviz").warning(note)
        return batch // 2

    def store(self, rows: Sequence[int], codes: Codes) -> None:
        """Fill some rows."""
        index = torch.as_tensor(rows, device=self.codes.device)
        self.codes[index] = codes.codes.to(self.codes)
        self.mean[index], self.std[index] = codes.mean.to(self.mean), codes.std.to(self.std)
        self.embedding[index] = codes.embedding.to(self.embedding)
        self.ready[torch.as_tensor(rows)] = True
        self._changed()

    def append(self, codes: Codes) -> None:
        """Add one image at the end; codes that stay in a file are left as they are."""
        if self.mapped:
            return
        self.codes = torch.cat([self.codes, codes.codes.to(self.codes)])
        self.mean, self.std = torch.cat([self.mean, codes.mean]), torch.cat([self.std, codes.std])
        self.embedding = torch.cat([self.embedding, codes.embedding])
        self.ready = torch.cat([self.ready, torch.ones(1, dtype=torch.bool)])
        self.n_added += 1
        self._changed()

    def _changed(self) -> None:
        self._covariance = None
        self.version += 1

    def rows(self, subset: Sequence[int] = ()) -> Tensor:
        """Return indices of the ready images, of a subset if given."""
        ready = torch.nonzero(self.ready)[:, 0]
        if not len(subset):
            return ready.to(self.codes.device)
        chosen = torch.as_tensor([i for i in sorted(set(subset)) if i < len(self)], dtype=torch.long)
        return chosen[self.ready[chosen]].to(self.codes.device)

    def head_covariance(
        self, subset: Sequence[int] = (), head: Head | None = None
    ) -> Float[Tensor, "layer head augmented augmented"]:
        """Covariance of every head's (or one's) augmented codes over the ready images; see lens.textspan.head_span.

        0 for a head that writes the same on all of them.
        """
        if self._covariance is not None and not len(subset):
            place = None if head is None else (self.layer_index(head[0]), head[1])
            return self._covariance if place is None else self._covariance[place][None, None]
        rows = self.rows(subset)
        if len(rows) < 2:
            raise ValueError(
                f"expected at least 2 images that have been read, got {len(rows)}; wait or add images"
            )
        chosen = self.stored if head is None else self.stored.select([head[0]], [head[1]])
        found = code_moments(chosen, rows)
        return without_rounding(found.mean, found.covariance).to(self.basis.basis.device)

    def head_scores(
        self, direction: Float[Tensor, " d_embed"], layer: int, head: int, cosine: bool = False
    ) -> Float[Tensor, " image"]:
        """Direct effect of one head on a direction, for every image; cosine: divided by the effect's length."""
        codes, basis = self.of_head(layer, head)
        return direction_scores(codes, basis, direction[None].to(codes.mean), [(layer, 0)], cosine)[0]

    def of_head(self, layer: int, head: int) -> tuple[Codes, HeadBasis]:
        """Return the codes of one head alone and its basis, where the codes are; it is then head 0 of its layer."""
        self.layer_index(layer)
        basis = self.basis.select([layer], [head]).to(self.mean.device, self.mean.dtype)
        return self.stored.select([layer], [head]), basis

    def head_effects(self, rows: Tensor, layer: int, head: int) -> Float[Tensor, "image d_embed"]:
        """Direct effects of one head on some images."""
        self.layer_index(layer)
        one = self.basis.select([layer], [head])
        chosen = self.stored.select([layer], [head])[rows].to(one.basis.device, one.basis.dtype)
        return effects_from_codes(chosen.codes, chosen.mean, chosen.std, one)[:, 0, 0]

    def layer_index(self, layer: int) -> int:
        """Return where a layer's codes are; ValueError when they are not kept."""
        if layer not in self.layers:
            raise ValueError(
                f"layer {layer} is not among the layers kept for this collection, {list(self.layers)}; "
                "choose one of them, or open the session with layers=..."
            )
        return self.layers.index(layer)


def without_rounding(
    mean: Float[Tensor, "*head augmented"], covariance: Float[Tensor, "*head augmented augmented"]
) -> Float[Tensor, "*head augmented augmented"]:
    """Return the covariance of codes, 0 for heads whose codes differ by rounding alone.

    The same image in batches of two sizes gives codes that differ in their last digits, by about 3e-7 of their length;
    two images of one colour that differ by one level of 255 give codes that differ by 2e-3.
    """
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    same = variance <= ROUNDING**2 * (mean.square().sum(-1) + variance)
    return covariance.masked_fill(same[..., None, None], 0)


class _GaveWay(Exception):
    """Ends a pass whose images are traced again later."""


def _give_way(awaited: Callable[[], bool]) -> None:
    if awaited():
        raise _GaveWay


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device, or the machine, has no memory left."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
