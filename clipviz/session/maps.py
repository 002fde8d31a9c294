"""One image's maps: the baselines' for a text (Table 2.4), those of a head's texts (Fig. 2.6), the true mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from clipviz.data.segmentation import fit_mask
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS, all_maps
from clipviz.lens.baselines.readouts import POOLED_METHODS, pooled_maps
from clipviz.lens.heatmap import one_placeless
from clipviz.lens.joint import joint_maps
from clipviz.models.attending import attend
from clipviz.models.attribution import record, steps_through

if TYPE_CHECKING:
    from clipviz.lens.segment import SegmentationScore
    from clipviz.session.core import Session

BASELINES = tuple(METHODS)
POOLED_BASELINES = POOLED_METHODS
IGNORING = (
    "raw attention",
    "rollout",
    "rollout, every layer",
)  # baselines whose map is the same for every text


class Joint(NamedTuple):
    """A head's texts on one image (Fig. 2.6), those it agrees with most first, then those it agrees with least.

    texts: [2 k]; coefficients: [2 k], parts of the cosine minus the pool's mean direction; maps:
    [2 k, rows, cols], each text's coefficient over the image tokens (the class token's share left out).
    """

    texts: tuple[str, ...]
    coefficients: np.ndarray
    maps: np.ndarray


def compare(session: Session, text: str, image: int, text_b: str = "") -> dict[str, np.ndarray]:
    """The map [rows, cols] of every baseline that applies, by name, for the cosine with the text's direction.

    One forward and one backward pass for all of them.
    """
    direction = session.direction(text) - (session.direction(text_b) if text_b else 0)
    unit = torch.nn.functional.normalize(direction, dim=-1)
    model, shown = session.model, [session.images[image]]
    if steps_through(model):
        maps = all_maps(record(model, shown, unit[None]), model.weights.grid)
    else:
        maps = pooled_maps(attend(model, shown, unit[None]), model.weights.grid)
    return {name: found[0].float().cpu().numpy() for name, found in maps.items()}


def applicable(session: Session) -> tuple[str, ...]:
    """The names of the baselines that apply to the session's model."""
    return BASELINES if steps_through(session.model) else POOLED_METHODS


def shared_scores(session: Session, image: int) -> np.ndarray:
    """Token effects on the mean of all texts, [layer, head, token]: the bias that every text's map shares (2.5)."""
    mean = session.pool().mean(0)
    scores = session.trace(image).token_scores(mean[None], normalize=True)[0, 0]
    scores = one_placeless(scores, session.model.weights.prefix)
    return scores.float().cpu().numpy()


def joint(session: Session, layer: int, head: int, image: int, k: int, n_texts: int) -> Joint:
    """The k TextSpan texts of a head that an image agrees with most and the k least, with their token maps.

    Fewer where the head has fewer texts; a single text is returned once.
    """
    described = session.textspan(layer, head, n_texts)
    k = min(k, max(1, len(described.order) // 2))
    trace, pool = session.trace(image), session.pool()
    found = joint_maps(trace, 0, layer, head, pool[described.order], pool, k)
    least = 0 if len(described.order) == 1 else k  # a single text is not returned twice
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


def agreement(
    heatmap: np.ndarray, mask: np.ndarray | None, threshold: float | None = None
) -> SegmentationScore | None:
    """A map [rows, cols] scored as a segmentation of the image's objects (lens.segment); None without a true mask."""
    if mask is None:
        return None
    return segment.score(torch.as_tensor(np.array(heatmap))[None], torch.as_tensor(mask)[None], threshold)
