"""A pool of texts as unit directions, encoded a few at a time and cached on disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.data.cache import Cache, default
from clipviz.data.texts import Texts, open_texts
from clipviz.models.towers.anatomy import unmixed
from clipviz.waits import Work

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel

BATCH = 32  # texts between two checks for waiting requests
WORTH_KEEPING = 1.0  # if encoding takes fewer seconds, the result is not cached

Tell = Callable[[Work], None]
"""Called after each batch with the progress."""


def open_pool(model: ClipModel, texts: Any) -> Texts:
    """Return the given pool, the pool of the model's bundle (which can also be named), or the general one."""
    bundle = model.bundle
    named = texts is None or (isinstance(texts, str) and bundle is not None and texts == bundle.name)
    if bundle is not None and bundle.texts is not None and named:
        return bundle.texts()
    return open_texts("general" if texts is None else texts)


class TextPool:
    """Directions of a pool, or of the texts encoded so far; interrupted encoding continues where it stopped.

    cache: where directions of other sessions are stored; None for the user's cache. Directions are found by the
    weights, tokens, precision and kind of device, whatever the pool's file is called.
    """

    def __init__(self, model: ClipModel, texts: Texts, cache: Cache | None = None) -> None:
        self.model = model
        self.texts = texts
        self.cache = default() if cache is None else cache
        self._parts: list[Tensor] = []
        self.work = Work("Encoding the texts", len(texts))
        self._looked = False
        self._lock = threading.Lock()

    @property
    def n_ready(self) -> int:
        return sum(len(part) for part in self._parts)

    def directions(self, tell: Tell | None = None) -> Float[Tensor, "text d_embed"]:
        """Return unit directions of all texts; `tell` may raise to interrupt."""
        for _ in self.steps():
            if tell is not None:
                tell(self.work)
        return torch.cat(self._parts)

    def steps(self) -> Iterator[int]:
        """Encode the missing texts, one batch per step, and yield how many are encoded."""
        while self._step():
            yield self.n_ready

    def _step(self) -> bool:
        """Encode one batch; return False if none is missing. A notebook's thread and the worker may both call this."""
        with self._lock:
            if not self._looked:
                self._looked = True
                kept = self.cache.read(*self._key()) if self.cache.folder else None
                if kept is not None:
                    self._parts = [torch.from_numpy(kept[0]["directions"]).to(self.model.device)]
            texts, at = list(self.texts), self.n_ready
            if at == len(texts):
                self.work.reached(at)
                return False
            self.work.resume()
            with unmixed(
                self.model.device
            ):  # independent of the caller's autocast, since they are stored for others
                self._parts.append(self.model.encode_texts(texts[at : at + BATCH]))
            self.work.reached(self.n_ready)
            if self.n_ready == len(texts) and self.work.seconds > WORTH_KEEPING:
                self._keep()
            return True

    def _keep(self) -> None:
        about = f"{len(self.texts):,} texts of {self.texts.name!r} encoded by {self.model.name}"
        arrays = {"directions": torch.cat(self._parts).cpu().numpy()}
        self.cache.write(*self._key(), arrays=arrays, about=about)

    def _key(self) -> tuple[str, ...]:
        digest = hashlib.blake2b(digest_size=16)
        texts = list(self.texts)
        for at in range(0, len(texts), 1024):
            tokens = self.model.tokenizer(texts[at : at + 1024])
            digest.update(f"{tokens.dtype}{tuple(tokens.shape)}".encode())
            digest.update(tokens.cpu().contiguous().numpy().tobytes())
        return "texts", digest.hexdigest(), *self.model.cache_key()
