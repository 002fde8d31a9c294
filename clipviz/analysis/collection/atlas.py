"""The collection in the plane: the two directions in which the whole model, or one head, varies most over images.

The plane in words: the texts that the ends of its axes point to, and a text for every place where images lie dense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from clipviz.lens.textspan import check_varies

if TYPE_CHECKING:
    from clipviz.analysis.collection.image_codes import ImageCodes
    from clipviz.values import Head

MOST_POINTS = 1_000_000
CELLS = 64  # of the grid in which dense places are found, along the plane's longer side
REACH = 3  # cells around a dense place that belong to it
MOST_REGIONS = 40
ALIKE = 0.9  # cosine of two texts beyond which only the better one names an end
ROUNDING = 1e-5  # deviation of unit embeddings below which they are all the same
SAMPLED = 400  # images that stand for those of a region; ten times as many for the whole collection


class Atlas(NamedTuple):
    """ids [point] of the images, their places [point, 2] (centred), the share of variance the plane holds, how many
    images there are to choose from (points are an even sample of them), and its unit axes [2, d_embed]."""

    ids: np.ndarray
    places: np.ndarray
    share: float
    n_images: int
    axes: np.ndarray


class Region(NamedTuple):
    """A dense place: its text, where its middle is, and how many points lie there."""

    text: str
    place: tuple[float, float]
    n_points: int


class Words(NamedTuple):
    """ends: texts at the low and the high end of the first axis, then of the second; regions: the densest first."""

    ends: tuple[tuple[str, ...], ...]
    regions: tuple[Region, ...]


def of_model(images: ImageCodes) -> Atlas:
    """Principal components of the unit embeddings. Raises ValueError with fewer than 3 images read, or equal ones."""
    rows = _points(images)
    unit = normalize(images.embedding[rows], dim=-1)
    unit = unit - unit.mean(0)
    if float(unit.square().sum(1).mean()) < ROUNDING**2:
        raise ValueError(
            "expected images whose embeddings differ, got the same one for all; add other images"
        )
    values, vectors = torch.linalg.eigh((unit.T @ unit).double())
    axes = vectors[:, -2:].flip(-1).T
    return _made(rows, unit @ axes.T.to(unit), values, images.n_ready, axes)


def of_head(
    images: ImageCodes,
    layer: int,
    head: int,
    covariance: Float[Tensor, "rank rank"],
    span: Float[Tensor, "d_embed rank"],
) -> Atlas:
    """Principal components of one head's effects (Eq. 2.6 summed over tokens).

    covariance: of the effects in the head's span (lens.textspan.head_span), so no [image, d_embed] effects are formed.
    A second axis along which nothing varies is 0. Raises ValueError with fewer than 3 images read, or where the head
    writes the same on all of them.
    """
    check_varies(span)
    rows = _points(images)
    if covariance.shape[-1] == 1:
        covariance, span = pad(covariance, (1, 0, 1, 0)), pad(span, (1, 0))
    values, vectors = torch.linalg.eigh(covariance.double())
    axes = (span.double() @ vectors[:, -2:].flip(-1)).T
    places = torch.stack([images.head_scores(axis.to(span), layer, head)[rows] for axis in axes], 1)
    return _made(rows, places - places.mean(0), values, images.n_ready, axes)


def words(
    plane: Atlas,
    images: ImageCodes,
    head: Head | None,
    pool: Float[Tensor, "text d_embed"],
    texts: list[str],
    n_texts: int = 2,
) -> Words:
    """Return a plane in texts of the pool, with the pool's mean direction subtracted from every text.

    An end of an axis along which anything varies is named by the `n_texts` texts with the largest cosine with it, of
    texts that are ALIKE the best; a dense place by the text with the largest cosine with what its images have on
    average beyond all images: their unit embeddings, or the head's effects. A place whose text is that of a denser
    one, or ALIKE to it, has none.
    """
    centred = normalize(pool - pool.mean(0), dim=-1)
    along = centred @ torch.as_tensor(plane.axes).to(centred).T
    ends = [
        tuple(texts[i] for i in _first_unlike(sign * along[:, axis], centred, n_texts))
        if np.any(plane.axes[axis])
        else ()
        for axis in (0, 1)
        for sign in (-1, 1)
    ]
    everyone = _mean(images, plane.ids, head, 10 * SAMPLED)
    regions, used = list[Region](), list[int]()
    for place, members in dense_places(plane.places):
        beyond = _mean(images, plane.ids[members], head, SAMPLED) - everyone
        best = int((centred @ beyond.to(centred)).argmax())
        if not bool((centred[used] @ centred[best] > ALIKE).any()):
            used.append(best)
            regions.append(Region(texts[best], place, len(members)))
    return Words(tuple(ends), tuple(regions))


def dense_places(places: Float[np.ndarray, "point 2"]) -> list[tuple[tuple[float, float], np.ndarray]]:
    """Return where points lie denser than around: the middle of each such place and its points, the densest first.

    Points are counted in a grid and the counts smoothed; a place is a maximum within REACH cells that has more points
    than they would have if spread evenly over the cells that hold any.
    """
    low, size = places.min(0), max(float(np.ptp(places, axis=0).max()), 1e-12) / CELLS
    cell = np.minimum(((places - low) / size).astype(int), CELLS - 1)
    counts = np.zeros((CELLS, CELLS))
    np.add.at(counts, (cell[:, 0], cell[:, 1]), 1)
    smooth = _smoothed(counts)
    padded = np.pad(smooth, REACH, constant_values=-1)
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1, 2 * REACH + 1)).max((2, 3))
    peaks = np.argwhere((smooth == around) & (smooth > len(places) / max(1, (smooth > 1e-3).sum())))
    peaks = peaks[np.argsort(-smooth[peaks[:, 0], peaks[:, 1]], kind="stable")][:MOST_REGIONS]
    found = []
    for peak in peaks:
        members = np.flatnonzero(np.square(cell - peak).sum(1) <= REACH**2)
        if len(members) > 1:
            middle = places[members].mean(0)
            found.append(((float(middle[0]), float(middle[1])), members))
    return found


def _first_unlike(
    scores: Float[Tensor, " text"], directions: Float[Tensor, "text d_embed"], n_texts: int
) -> list[int]:
    """Return the texts with the highest scores, none of them ALIKE to one before it."""
    left, chosen = scores.clone(), list[int]()
    while len(chosen) < n_texts and bool((left > -torch.inf).any()):
        chosen.append(int(left.argmax()))
        left[directions @ directions[chosen[-1]] > ALIKE] = -torch.inf
        left[chosen[-1]] = -torch.inf
    return chosen


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Counts blurred by a Gaussian of REACH / 2 cells."""
    reach = np.arange(-2 * REACH, 2 * REACH + 1)
    kernel = np.exp(-2 * (reach / REACH) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, "same")
    return counts


def _mean(images: ImageCodes, rows: np.ndarray, head: Head | None, most: int) -> Float[Tensor, " d_embed"]:
    """Return what an even sample of images has on average: unit embeddings, or a head's effects."""
    chosen = torch.as_tensor(rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int)])
    if head is None:
        return normalize(images.embedding[chosen.to(images.embedding.device)], dim=-1).mean(0)
    return images.head_effects(chosen.to(images.codes.device), *head).mean(0)


def _points(images: ImageCodes) -> Tensor:
    """Return the images shown: all that have been read, or an even sample of them."""
    ready = images.rows()
    if len(ready) < 3:
        raise ValueError(
            f"expected at least 3 images that have been read, got {len(ready)}; wait or add some"
        )
    return ready[
        torch.linspace(0, len(ready) - 1, min(len(ready), MOST_POINTS), dtype=torch.float64).round().long()
    ]


def _made(
    rows: Tensor, places: Tensor, values: Tensor, n_images: int, axes: Float[Tensor, "2 d_embed"]
) -> Atlas:
    share = float(values[-2:].sum() / values.sum().clamp_min(1e-30))
    turned = _turns(places)
    shown = (places * turned).cpu().float().numpy()
    return Atlas(
        rows.cpu().numpy(), shown, share, n_images, (axes * turned[:, None].to(axes)).cpu().float().numpy()
    )


def _turns(places: Tensor) -> Tensor:
    """1 or -1 for each axis, so that its longest tail is positive: the picture does not flip as images are read."""
    return torch.where(places.pow(3).sum(0) < 0, -1.0, 1.0).to(places)
