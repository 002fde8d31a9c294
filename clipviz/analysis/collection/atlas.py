"""The collection in a plane: the two directions along which the whole model, or one head, varies most over images.

The plane is also described in words: the texts at the ends of its axes, and a text for every dense region of
images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad

from clipviz.lens.textspan import check_varies
from clipviz.values.tables import Columns, Table

if TYPE_CHECKING:
    from clipviz.analysis.collection.image_codes import ImageCodes
    from clipviz.values import Head

MOST_POINTS = 1_000_000
CELLS = 64  # cells along the longer side of the grid in which dense regions are found
REACH = 3  # radius of a dense region, in cells
MOST_REGIONS = 40
ALIKE = 0.9  # of two texts whose cosine exceeds this, only the better one names an end
ROUNDING = 1e-5  # unit embeddings with a smaller deviation count as equal
SAMPLED = 400  # images sampled from a region; ten times as many from the whole collection


@dataclass(frozen=True, eq=False, repr=False)
class Atlas(Table):
    """The collection in a plane: ids [point] of the images, their positions [point, 2] (centred), the share of
    variance in the plane, the number of images from which the points are an even sample, and the plane's unit axes
    [2, d_embed].
    """

    ids: np.ndarray
    places: np.ndarray
    share: float
    n_images: int
    axes: np.ndarray

    def _columns(self) -> Columns:
        return {"image": self.ids, "x": self.places[:, 0], "y": self.places[:, 1]}

    def _title(self) -> str:
        return f"Images in the plane of two axes, which hold {self.share:.1%} of the variance"


class Region(NamedTuple):
    """A dense region: its text, its centre, and its number of points."""

    text: str
    place: tuple[float, float]
    n_points: int


@dataclass(frozen=True, eq=False, repr=False)
class Words(Table):
    """ends: texts at the low and the high end of the first axis, then of the second; regions: the densest first."""

    ends: tuple[tuple[str, ...], ...]
    regions: tuple[Region, ...]

    def _columns(self) -> Columns:
        n_ends = len(self.ends)
        return {
            "place": [*(f"{end} end of axis {axis}" for axis in (1, 2) for end in ("low", "high"))][:n_ends]
            + ["dense place"] * len(self.regions),
            "texts": [*map(", ".join, self.ends), *(region.text for region in self.regions)],
            "n_points": [0] * n_ends + [region.n_points for region in self.regions],
        }

    def _title(self) -> str:
        return "Texts of the plane of the images"


def of_model(images: ImageCodes) -> Atlas:
    """Return the unit embeddings' principal components. Raises ValueError for fewer than 3 images, or equal ones."""
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
    """Return the principal components of one head's effects (Eq. 2.6 summed over tokens).

    covariance: of the effects in the head's span (lens.textspan.head_span), so no [image, d_embed] effects are
    formed. A second axis without variation is 0. Raises ValueError if fewer than 3 images are read, or if the
    head writes the same on all of them.
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
    """Describe a plane with texts of the pool, after subtracting the pool's mean direction from every text.

    An end of an axis that is not constant is named by the `n_texts` texts of largest cosine with it; of texts
    that are ALIKE only the best is used. A dense region is named by the text of largest cosine with the mean of
    its images (unit embeddings, or the head's effects) minus the mean of all images. A region whose text equals
    that of a denser one, or is ALIKE to it, has no name.
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
    """Return where points are denser than around: the centre of each such region and its points, the densest first.

    Points are counted in a grid and the counts smoothed; a region is a maximum within REACH cells with more
    points than an even spread over all occupied cells would give.
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
    """Return the texts with the highest scores, without texts that are ALIKE to a better one."""
    left, chosen = scores.clone(), list[int]()
    while len(chosen) < n_texts and bool((left > -torch.inf).any()):
        chosen.append(int(left.argmax()))
        left[directions @ directions[chosen[-1]] > ALIKE] = -torch.inf
        left[chosen[-1]] = -torch.inf
    return chosen


def _smoothed(counts: np.ndarray) -> np.ndarray:
    """Return counts blurred by a Gaussian of REACH / 2 cells."""
    reach = np.arange(-2 * REACH, 2 * REACH + 1)
    kernel = np.exp(-2 * (reach / REACH) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, "same")
    return counts


def _mean(images: ImageCodes, rows: np.ndarray, head: Head | None, most: int) -> Float[Tensor, " d_embed"]:
    """Return the mean of an even sample of images: of their unit embeddings, or of a head's effects."""
    chosen = torch.as_tensor(rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int)])
    if head is None:
        return normalize(images.embedding[chosen.to(images.embedding.device)], dim=-1).mean(0)
    return images.head_effects(chosen.to(images.codes.device), *head).mean(0)


def _points(images: ImageCodes) -> Tensor:
    """Return the images shown: all that have been read, or an even sample of them."""
    ready = images.rows()
    if len(ready) < 3:
        raise ValueError(
            f"expected at least 3 images that have been read, got {len(ready)}; wait, or add images"
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
    """Return 1 or -1 for each axis so that its longest tail is positive, which keeps the plot from flipping while
    images are read.
    """
    return torch.where(places.pow(3).sum(0) < 0, -1.0, 1.0).to(places)
