"""The collection in the plane: the two directions in which the whole model, or one head, varies most over images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from clipviz.session.core import Session

MOST_POINTS = 20_000


class Atlas(NamedTuple):
    """ids [point] of the images, their places [point, 2] (centred), the share of variance the plane holds, how many
    images there are to choose from (points are an even sample of them)."""

    ids: np.ndarray
    places: np.ndarray
    share: float
    n_images: int


def atlas(session: Session, layer: int | None = None, head: int | None = None) -> Atlas:
    """Principal components of the unit embeddings, or of one head's effects (Eq. 2.6 summed over tokens).

    A head's components come from the covariance of its codes, so no [image, d_embed] effects are formed.
    Raises ValueError with fewer than 3 images read, and for a layer that is not kept.
    """
    collection = session.collection
    if collection.n_ready < 3:
        raise ValueError(
            f"expected at least 3 images that have been read, got {collection.n_ready}; wait or add some"
        )
    if layer is not None and head is not None:
        collection.layer_index(layer)
    else:
        layer = head = None
    return session.remember(("atlas", collection.version, layer, head), lambda: _atlas(session, layer, head))


def _atlas(session: Session, layer: int | None, head: int | None) -> Atlas:
    collection = session.collection
    ready = collection.rows()
    rows = ready[torch.linspace(0, len(ready) - 1, min(len(ready), MOST_POINTS)).round().long()]
    if layer is None or head is None:
        unit = normalize(collection.embedding[rows], dim=-1)
        unit = unit - unit.mean(0)
        places, share = _components(unit)
    else:
        covariance, span = session.span()
        at = collection.layer_index(layer) * session.model.n_heads + head
        values, vectors = torch.linalg.eigh(covariance[at].double())
        axes = span[at].double() @ vectors[:, -2:].flip(-1)
        scores = [collection.head_scores(axis.to(span), layer, head)[rows] for axis in axes.T]
        places = torch.stack(scores, 1)
        places = places - places.mean(0)
        share = float(values[-2:].sum() / values.sum().clamp_min(1e-30))
    return Atlas(rows.cpu().numpy(), _steady(places).cpu().float().numpy(), share, len(ready))


def _components(centred: Tensor) -> tuple[Tensor, float]:
    values, vectors = torch.linalg.eigh((centred.T @ centred).double())
    places = centred @ vectors[:, -2:].flip(-1).to(centred)
    return places, float(values[-2:].sum() / values.sum().clamp_min(1e-30))


def _steady(places: Tensor) -> Tensor:
    """Each axis turned so that its longest tail is positive: the picture does not flip as images are read."""
    return places * torch.where(places.pow(3).sum(0) < 0, -1.0, 1.0).to(places)
