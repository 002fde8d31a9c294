"""The interface of an opened model, for code that computes with one without being part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor

from clipviz.lens.trace import Trace
from clipviz.models.towers.anatomy import Tower
from clipviz.values import TowerWeights

Pictures = Tensor | Image.Image | Sequence[Image.Image]
"""Preprocessed pixels [image, 3, rows, cols], or PIL images."""


class Opened(Protocol):
    """The parts of models.clip.ClipModel that its own methods pass to other modules."""

    tower: Tower
    name: str
    fingerprint: str
    weights_fingerprint: str
    registers: tuple[tuple[int, int], ...]
    sum_check: float

    @property
    def visual(self) -> Any: ...

    @property
    def weights(self) -> TowerWeights: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def limit(self) -> float: ...

    def prepare(self, images: Pictures) -> Tensor: ...

    def encode_images(self, images: Pictures) -> Tensor: ...

    def trace(self, images: Pictures, tokens: bool = True) -> Trace: ...


Model = TypeVar("Model", bound=Opened)
