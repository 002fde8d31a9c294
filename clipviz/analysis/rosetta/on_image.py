"""Every unit of a dictionary on one image, each model with its own preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from clipviz.analysis.rosetta.mining import maps_of_units
from clipviz.lens.unit_thumbnails import drawn

if TYPE_CHECKING:
    from clipviz.analysis.rosetta.networks import SharedNetworks
    from clipviz.values import Concepts

SIDE = 48
"""Rows and columns of a unit's map."""


class OnImage(NamedTuple):
    """Every unit of the dictionary on one image.

    maps: uint8 [concept, model, rows, cols], 0 at the unit's mean, 255 at its usual peak; strength: [concept,
    model] the highest activation there on the same scale (1: as high as on its strongest images); 0 if there is
    no unit or the model is not loaded.
    """

    maps: np.ndarray
    strength: np.ndarray


@torch.no_grad()
def on_image(
    concepts: Concepts, networks: SharedNetworks, image: Image.Image, latents: Any = None
) -> OnImage:
    """Return the units on an image. latents: of the image if the generator among the networks painted it."""
    n_rows, n_models = np.asarray(concepts.units).shape
    maps = np.zeros((n_rows, n_models, SIDE, SIDE), np.uint8)
    strength = np.zeros((n_rows, n_models), np.float32)
    if concepts.thumbnails is None:
        return OnImage(maps, strength)
    side = min(image.size)
    picture = ImageOps.fit(image.convert("RGB"), (side, side))
    for i, name in enumerate(concepts.models):
        partner = networks.get(name)
        seen: Any = [picture] if networks.reads(name) else latents
        if partner is None or seen is None:
            continue
        units, floor, peak = (
            torch.as_tensor(np.asarray(table)[:, i])
            for table in (concepts.units, concepts.thumbnails.floor, concepts.thumbnails.peak)
        )
        found = maps_of_units(partner, seen, units, concepts.layers[i]).cpu()
        maps[:, i] = drawn(found, floor, peak, SIDE)[0].numpy()
        share = (found[0].amax((1, 2)) - floor) / (peak - floor).clamp_min(1e-30)
        strength[:, i] = torch.where((peak > floor) & (units >= 0), share, 0.0).clamp(0, 9).numpy()
        maps[units.numpy() < 0, i] = 0
    return OnImage(maps, strength)
