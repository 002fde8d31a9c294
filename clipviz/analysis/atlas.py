"""The collection in the plane: the two directions in which the whole model, or one head, varies most over images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from clipviz.analysis.image_codes import ImageCodes

MOST_POINTS = 20_000


class Atlas(NamedTuple):
    """ids [point] of the images, their places [point, 2] (centred), the share of variance the plane holds, how many
    images there are to choose from (points are an even sample of them)."""

    ids: np.ndarray
    places: np.ndarray
    share: float
    n_images: int


def of_model(images: ImageCodes) -> Atlas:
    """Principal components of the unit embeddings. Raises ValueError with fewer than 3 images read."""
    rows = _points(images)
    unit = normalize(images.embedding[rows], dim=-1)
    unit = unit - unit.mean(0)
    values, vectors = torch.linalg.eigh((unit.T @ unit).double())
    return _made(rows, unit @ vectors[:, -2:].flip(-1).to(unit), values, images.n_ready)


def of_head(
    images: ImageCodes,
    layer: int,
    head: int,
    covariance: Float[Tensor, "rank rank"],
    span: Float[Tensor, "d_embed rank"],
) -> Atlas:
    """Principal components of one head's effects (Eq. 2.6 summed over tokens).

    covariance: of the effects in the head's span (lens.textspan.head_span), so no [image, d_embed] effects are formed.
    Raises ValueError with fewer than 3 images read.
    """
    rows = _points(images)
    values, vectors = torch.linalg.eigh(covariance.double())
    axes = span.double() @ vectors[:, -2:].flip(-1)
    places = torch.stack([images.head_scores(axis.to(span), layer, head)[rows] for axis in axes.T], 1)
    return _made(rows, places - places.mean(0), values, images.n_ready)


def _points(images: ImageCodes) -> Tensor:
    """The images shown: all that have been read, or an even sample of them."""
    ready = images.rows()
    if len(ready) < 3:
        raise ValueError(
            f"expected at least 3 images that have been read, got {len(ready)}; wait or add some"
        )
    return ready[torch.linspace(0, len(ready) - 1, min(len(ready), MOST_POINTS)).round().long()]


def _made(rows: Tensor, places: Tensor, values: Tensor, n_images: int) -> Atlas:
    share = float(values[-2:].sum() / values.sum().clamp_min(1e-30))
    return Atlas(rows.cpu().numpy(), _steady(places).cpu().float().numpy(), share, n_images)


def _steady(places: Tensor) -> Tensor:
    """Each axis turned so that its longest tail is positive: the picture does not flip as images are read."""
    return places * torch.where(places.pow(3).sum(0) < 0, -1.0, 1.0).to(places)
