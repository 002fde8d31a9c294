"""A session's images as head codes, read batch by batch in the background or loaded from an index."""

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

FIRST = 4  # images of the first step, before the speed is known
STEP = 0.5  # target duration of a batch in seconds
PATIENCE = 3  # how often a step is interrupted before it is completed regardless
ROUNDING = 1e-5  # codes of a head with a smaller relative deviation count as equal
LARGE = 1 << 30  # above this size of float32 codes, only late layers are kept, in half precision


class KeptCodes:
    """The cache entry for the codes of one collection under one model and preprocessing.

    It is found by the weights, the preprocessing (by its effect on two pictures), precision, kind of device,
    layers, and images (by their content).
    """

    def __init__(
        self, model: ClipModel, images: Images, layers: Sequence[int], cache: Cache | None = None
    ) -> None:
        self.cache = default() if cache is None else cache
        self.about = f"codes of {len(images):,} images ({images.fingerprint}) encoded by {model.name}"
        self._images = images
        seen = str(model.identity())
        fixed = seen, str(tuple(layers))
        self._key: Callable[[], tuple[str, ...]] = lambda: (
            *("codes", images.fingerprint, *fixed),
            *model.cache_key(),
        )

    def fill(self, collection: ImageCodes) -> bool:
        """Load the cached codes; return False if there are none. Images that could not be read then are tried again."""
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
        """Store a collection that has been read completely. Failures to read images are not stored, since their
        cause (memory, a missing disk) may be gone next time. Nothing is stored if a file has been replaced in the
        meantime.
        """
        if not collection.complete or collection.mapped or collection.n_added:
            return
        if not self.cache.folder or self._images.changed():
            return
        columns = {name: getattr(collection, name) for name in ("codes", "mean", "std", "embedding", "ready")}
        arrays = {name: column.cpu().numpy() for name, column in columns.items()}
        self.cache.write(*self._key(), arrays=arrays, about=self.about)


class ImageCodes:
    """Codes of every image that has been read so far, and answers to the linear questions about them.

    layers: the layers whose heads are kept; ready: rows whose image has been read (False for a broken one);
    mapped: whether the codes stay in the index's file because they do not fit in memory or on the device.
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
        self.n_added = 0  # images at the end that a user added
        self.mapped = False
        self._covariance: Tensor | None = None

    @classmethod
    def from_stored(
        cls, model: ClipModel, stored: Codes[np.ndarray], moments: tuple[np.ndarray, np.ndarray] | None
    ) -> ImageCodes:
        """Return the codes of an index of this model, loaded at once, or left in their file if larger than LARGE
        bytes.

        moments: mean [layer, head, d_code + 2] and covariance of these codes (lens.covariance); None computes
        them when they are first needed.
        """
        made = cls(model, 0, stored.layers)
        made.mapped = 2 * stored.codes.size > LARGE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns that the array is read-only
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
        """The codes of every image, including those not read yet; nothing is copied."""
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
        """Trace the images not read yet, one batch per step, and yield how many have been read. Broken ones are
        recorded.

        The first step has FIRST images; later ones have as many as can be read in STEP seconds, at most `batch`.
        If memory runs out, the step is halved, which `notes` reports; an image that is too large on its own
        counts as broken. awaited: called between layers; if it returns True because a request waits, the step is
        aborted and repeated, at most PATIENCE times.
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
                broken |= dict.fromkeys(rows, "too large for the remaining memory")
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
        """Return some pictures' codes, independent of the caller's autocast, since other sessions read them."""
        with unmixed(model.device):
            return model.trace(pictures, False, check).to_codes(self.layers)

    def _halved(self, batch: int) -> int:
        """Halve the number of images per forward pass, and record a note."""
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
        """Add one image at the end; codes that stay in a file are not changed."""
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
        """Return the covariance of every head's (or one head's) augmented codes over the read images; see
        lens.textspan.head_span.

        It is 0 for a head that writes the same on all of them.
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
        """Return a head's direct effect on a direction for every image; cosine: divide by the effect's length."""
        return self.each_head_scores(direction[None], layer, head, cosine)[0]

    def each_head_scores(
        self, directions: Float[Tensor, "text d_embed"], layer: int, head: int, cosine: bool = False
    ) -> Float[Tensor, "text image"]:
        """Return `head_scores` for each of several directions; the head's codes are gathered once."""
        codes, basis = self.of_head(layer, head)
        return direction_scores(codes, basis, directions.to(codes.mean), [(layer, 0)], cosine)

    def of_head(self, layer: int, head: int) -> tuple[Codes, HeadBasis]:
        """Return the codes and basis of one head alone, on the codes' device; the head becomes head 0 of its layer."""
        self.layer_index(layer)
        basis = self.basis.select([layer], [head]).to(self.mean.device, self.mean.dtype)
        return self.stored.select([layer], [head]), basis

    def head_effects(self, rows: Tensor, layer: int, head: int) -> Float[Tensor, "image d_embed"]:
        """Return direct effects of one head on some images."""
        self.layer_index(layer)
        one = self.basis.select([layer], [head])
        chosen = self.stored.select([layer], [head])[rows].to(one.basis.device, one.basis.dtype)
        return effects_from_codes(chosen.codes, chosen.mean, chosen.std, one)[:, 0, 0]

    def layer_index(self, layer: int) -> int:
        """Return the position of a layer among the codes. Raises ValueError if it is not kept."""
        if layer not in self.layers:
            raise ValueError(
                f"layer {layer} is not among the layers kept for this collection, {list(self.layers)}; "
                "choose one of them, or open the session with layers=..."
            )
        return self.layers.index(layer)


def without_rounding(
    mean: Float[Tensor, "*head augmented"], covariance: Float[Tensor, "*head augmented augmented"]
) -> Float[Tensor, "*head augmented augmented"]:
    """Return the covariance of codes, set to 0 for heads whose codes differ only by rounding.

    The same image in batches of two sizes gives codes that differ in their last digits, by about 3e-7 of their length;
    two images of one colour that differ by one level of 255 give codes that differ by 2e-3.
    """
    variance = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    same = variance <= ROUNDING**2 * (mean.square().sum(-1) + variance)
    return covariance.masked_fill(same[..., None, None], 0)


class _GaveWay(Exception):
    """Ends a pass whose images will be traced again later."""


def _give_way(awaited: Callable[[], bool]) -> None:
    if awaited():
        raise _GaveWay


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that the device or the machine is out of memory."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
