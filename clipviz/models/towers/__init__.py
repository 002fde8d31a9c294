"""Vision towers by family: each file has one adapter, and all adapters return the same values (see anatomy.Tower)."""

from __future__ import annotations

from torch import nn

from clipviz.models.towers import clip_vit, hf_vit, timm_vit
from clipviz.models.towers.anatomy import Tower, UnsupportedTower, unsupported

__all__ = ["Tower", "UnsupportedTower", "read_tower", "unsupported"]

_ADAPTERS = (clip_vit, timm_vit, hf_vit)


def read_tower(visual: nn.Module) -> Tower:
    """Return a decomposed tower: its weights as values (views of the model's own if it is float32), and its modules.

    Raises ValueError, naming the tower, if its embedding is not a sum of terms or its family is unknown.
    """
    for adapter in _ADAPTERS:
        tower = adapter.read(visual)
        if tower is not None:
            found: Tower = tower
            return found
    raise unsupported(f"tower {type(visual).__name__}")
