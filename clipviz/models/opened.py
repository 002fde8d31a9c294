"""A model opened up, as those see it who compute with one without being part of it."""

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
    """What models.clip.ClipModel is to those whom its own methods call."""

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
