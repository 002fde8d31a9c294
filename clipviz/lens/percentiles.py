"""Percentiles of a cosine among other texts and images, and a test of whether a model knows an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.values.tables import Table

FAR = 0.01  # an image whose best cosine lies below this share of the collection is unusual

THINGS = (("class", "label", "category"), ("second class",))
"""Columns whose words name what an image's mask outlines. A text has to contain a word of each in a tuple."""


@dataclass(frozen=True, repr=False)
class Percentiles(Table):
    """Where a text's cosine with an image ranks among those of other texts and other images.

    cosine: that with text A, or A minus B; rank: 1 + the number of the n_texts pool texts whose cosine with the
    image is larger, None for A minus B; share: the share of the n_images images read whose cosine with the text
    is smaller.
    """

    cosine: float
    rank: int | None
    n_texts: int
    share: float
    n_images: int


@dataclass(frozen=True, repr=False)
class Familiarity(Table):
    """Whether an image is of a kind that the model knows.

    known: False if it is far from that; why: the reason in words, "" if it is known; cosine: that with its best
    text of the pool; share: the share of the n_images images read whose best text scores lower.
    """

    known: bool
    why: str
    cosine: float
    share: float
    n_images: int


def rank_among(cosine: float, others: Tensor) -> int:
    """Return 1 + the number of values in others, [other], that are larger."""
    return 1 + int((others > cosine).sum())


def share_below(cosine: float, others: Tensor) -> float:
    """Return the share of values in others, [other], that are smaller; 0 if there are none."""
    return float((others < cosine).float().mean()) if len(others) else 0.0


def best_cosines(embeddings: Tensor, pool: Tensor) -> Tensor:
    """Return the largest cosine of every image, [image, d_embed], with a pool's unit texts, [text, d_embed]."""
    unit = normalize(embeddings, dim=-1)
    return torch.cat([(part @ pool.T.to(part)).amax(1) for part in unit.split(4096)])


def among_images(cosine: float, best: Tensor) -> Familiarity:
    """Judge an image by a collection: it is far from it if its best text scores below the collection's 1st
    percentile.

    cosine: that with its best text; best: [image], the same for the other images. With fewer than 100 others
    every image counts as known.
    """
    share = share_below(cosine, best) if len(best) else 1.0
    known = share >= FAR or len(best) < 1 / FAR
    why = f"Its best text scores {cosine:.3f}, lower than on all but {share:.1%} of this collection's images."
    return Familiarity(known, "" if known else why, cosine, share, len(best))


def names_object(text: str, columns: Mapping[str, Sequence[str | None]], image: int) -> bool | None:
    """Return whether a text names everything that the image's mask outlines, or None if no column says what that is."""
    wanted = []
    for group in THINGS:
        words = [columns[column][image] for column in group if column in columns]
        if any(words):
            wanted.append([word for word in words if word])
    if not wanted:
        return None
    return all(any(_names(word, text.lower()) for word in words) for words in wanted)


def _names(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word.lower())}(e?s)?\b", text) is not None
