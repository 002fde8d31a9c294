"""One image's maps: the baselines' for a text (Table 2.4), those of a head's texts (Fig. 2.6), the true mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clipviz.data.segmentation import fit_mask
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS, all_maps
from clipviz.lens.joint import joint_maps
from clipviz.models.attribution import record

if TYPE_CHECKING:
    from clipviz.lens.segment import SegmentationScore
    from clipviz.session.core import Session

BASELINES = tuple(METHODS)


class Joint(NamedTuple):
    """A head's texts on one image (Fig. 2.6), those it agrees with most first, then those it agrees with least.

    texts: [2 k]; coefficients: [2 k], parts of the cosine with the pool's mean direction taken out; maps:
    [2 k, rows, cols], each text's coefficient over the image tokens (the class token's share left out).
    """

    texts: tuple[str, ...]
    coefficients: np.ndarray
    maps: np.ndarray


def compare(session: Session, text: str, image: int, text_b: str = "") -> dict[str, np.ndarray]:
    """Every baseline's map [rows, cols], by name, for what is explained: the cosine with the text's direction.

    One forward and one backward pass for all of them.
    """
    direction = session.direction(text) - (session.direction(text_b) if text_b else 0)
    unit = torch.nn.functional.normalize(direction, dim=-1)
    found = record(session.model, [session.images[image]], unit[None])
    maps = all_maps(found, session.model.weights.grid)
    return {name: maps[name][0].float().cpu().numpy() for name in BASELINES}


def shared_scores(session: Session, image: int) -> np.ndarray:
    """Token effects on the mean of all texts, [layer, head, token]: the bias that every text's map shares (2.5)."""
    mean = session.pool().mean(0)
    scores = session.trace(image).token_scores(mean[None], normalize=True)[0, 0]
    return scores.float().cpu().numpy()


def joint(session: Session, layer: int, head: int, image: int, k: int, n_texts: int) -> Joint:
    """The k TextSpan texts of a head that an image agrees with most and the k least, with their token maps.

    Fewer where the head has fewer texts; an only one comes once.
    """
    described = session.textspan(layer, head, n_texts)
    k = min(k, max(1, len(described.order) // 2))
    trace, pool = session.trace(image), session.pool()
    found = joint_maps(trace, 0, layer, head, pool[described.order], pool, k)
    least = 0 if len(described.order) == 1 else k  # an only text is not shown twice
    chosen = torch.cat([found.positive, found.negative.flip(0)[:least]])
    maps = torch.cat([found.positive_maps, found.negative_maps.flip(0)[:least]]) / trace.norm[0]
    coefficients = found.coefficients[chosen] / trace.norm[0]
    texts = tuple(described.texts[place] for place in chosen.tolist())
    return Joint(texts, coefficients.float().cpu().numpy(), maps.float().cpu().numpy())


def true_mask(session: Session, image: int) -> np.ndarray | None:
    """The true objects of an image as the model sees it, bool [rows, cols], or None where nothing is known."""
    mask = session.images.masks(image)
    if mask is None or not mask.any():
        return None
    return fit_mask(mask, session.model.image_size) > 0


def agreement(heatmap: np.ndarray, mask: np.ndarray | None) -> SegmentationScore | None:
    """A map [rows, cols] scored as a segmentation of the image's objects (lens.segment); None without a true mask."""
    if mask is None:
        return None
    return segment.score(torch.as_tensor(np.array(heatmap))[None], torch.as_tensor(mask)[None])
