"""One image's maps beside each other: the rivals' for a text, a head's texts (Fig. 2.6), and the true mask.

`rivals(session, text)` is Table 2.4 for one image; `joint(session, layer, head)` is what a head says here and where
from; `agreement(session, heatmap)` scores any map against the image's true mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clipviz.data.segmentation import fit_mask
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS, all_maps
from clipviz.lens.joint import joint_maps
from clipviz.models.attribution import record
from clipviz.session.core import SHOWN_TEXTS

if TYPE_CHECKING:
    from clipviz.lens.segment import SegmentationScore
    from clipviz.session import Session

RIVALS = tuple(METHODS)


class Joint(NamedTuple):
    """A head's texts on one image (Fig. 2.6), those it agrees with most first, then those it agrees with least.

    texts: [2 k]; coefficients: [2 k], parts of the cosine with the pool's mean direction taken out; maps:
    [2 k, rows, cols], each text's coefficient over the image tokens (the class token's share left out).
    """

    texts: tuple[str, ...]
    coefficients: np.ndarray
    maps: np.ndarray


def rivals(session: Session, text: str, image: int | None = None, text_b: str = "") -> dict[str, np.ndarray]:
    """Every rival's map [rows, cols] of an image for a text, or for one text minus another, by name.

    One forward and one backward pass for all of them; what is explained is the cosine with the text's direction.
    """
    i = session._image(image)

    def make() -> dict[str, np.ndarray]:
        direction = session.direction(text) - (session.direction(text_b) if text_b else 0)
        unit = torch.nn.functional.normalize(direction, dim=-1)
        found = record(session.model, [session.images[i]], unit[None])
        maps = all_maps(found, session.model.weights.grid)
        return {name: maps[name][0].float().cpu().numpy() for name in RIVALS}

    return session.remember(("rivals", i, text, text_b), make)


def shared_scores(session: Session, image: int | None = None) -> np.ndarray:
    """Token effects on the mean of all texts, [layer, head, token]: the bias that every text's map shares (2.5)."""
    i = session._image(image)

    def make() -> np.ndarray:
        mean = session.pool().mean(0)
        scores = session.trace(i).token_scores(mean[None], normalize=True)[0, 0]
        return scores.float().cpu().numpy()

    return session.remember(("shared tokens", i), make)


def joint(
    session: Session,
    layer: int,
    head: int,
    image: int | None = None,
    k: int = 2,
    n_texts: int = SHOWN_TEXTS,
) -> Joint:
    """The k TextSpan texts of a head that an image agrees with most and the k least, with their token maps.

    Fewer where the head has fewer texts; an only one comes once.
    """
    i = session._image(image)
    described = session.textspan(layer, head, n_texts)
    k = min(k, max(1, len(described.order) // 2))
    trace, pool = session.trace(i), session.pool()
    found = joint_maps(trace, 0, layer, head, pool[described.order], pool, k)
    least = 0 if len(described.order) == 1 else k  # an only text is not shown twice
    chosen = torch.cat([found.positive, found.negative.flip(0)[:least]])
    maps = torch.cat([found.positive_maps, found.negative_maps.flip(0)[:least]]) / trace.norm[0]
    coefficients = found.coefficients[chosen] / trace.norm[0]
    texts = tuple(described.texts[place] for place in chosen.tolist())
    return Joint(texts, coefficients.float().cpu().numpy(), maps.float().cpu().numpy())


def true_mask(session: Session, image: int | None = None) -> np.ndarray | None:
    """The true objects of an image as the model sees it, bool [rows, cols], or None where nothing is known."""
    i = session._image(image)

    def make() -> np.ndarray | None:
        mask = session.images.masks(i)
        if mask is None or not mask.any():
            return None
        return fit_mask(mask, session.model.image_size) > 0

    return session.remember(("mask", i), make)


def agreement(session: Session, heatmap: np.ndarray, image: int | None = None) -> SegmentationScore | None:
    """A map [rows, cols] scored as a segmentation of the image's objects (lens.segment); None without a true mask."""
    mask = true_mask(session, image)
    if mask is None:
        return None
    return segment.score(torch.as_tensor(np.array(heatmap))[None], torch.as_tensor(mask)[None])
