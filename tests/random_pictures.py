"""Pictures of noise, and a preprocessing that leaves them as they are."""

from __future__ import annotations

import torch

from clipviz.models.preprocess import Preprocess

IDENTITY = Preprocess(16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def random_images(n, side=16, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
