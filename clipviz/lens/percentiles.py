"""Is a number large? A cosine beside those of other texts and images, and whether a model knows an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

FAR = 0.01  # share of the collection below which an image's best text is unusually low

THINGS = (("class", "label", "category"), ("second class",))
"""Columns whose words name what an image's mask outlines; a text has to name one of each tuple."""


class Percentiles(NamedTuple):
    """Where a text's cosine with an image lies among those of other texts and images.

    cosine: that with text A, or A minus B; rank: 1 + the number of the n_texts pool texts whose cosine with the image
    is larger, None for A minus B; share: of the n_images images read, those whose cosine with the text is smaller.
    """

    cosine: float
    rank: int | None
    n_texts: int
    share: float
    n_images: int


class Familiarity(NamedTuple):
    """Whether an image is of the kind that a model knows.

    known: False where it is far from that; why: in words, "" where it is known; cosine: with its best text of the pool;
    share: of the n_images images read, those whose best text scores lower.
    """

    known: bool
    why: str
    cosine: float
    share: float
    n_images: int


def rank_among(cosine: float, others: Tensor) -> int:
    """1 + the number of others, [other], that are larger."""
    return 1 + int((others > cosine).sum())


def share_below(cosine: float, others: Tensor) -> float:
    """Return the share of others, [other], that are smaller; 0 of none."""
    return float((others < cosine).float().mean()) if len(others) else 0.0


def best_cosines(embeddings: Tensor, pool: Tensor) -> Tensor:
    """Return the largest cosine of every image, [image, d_embed], with a unit text of a pool, [text, d_embed]:
    [image].
    """
    unit = normalize(embeddings, dim=-1)
    return torch.cat([(part @ pool.T.to(part)).amax(1) for part in unit.split(4096)])


def among_images(cosine: float, best: Tensor) -> Familiarity:
    """Return an image judged by a collection: it is far when its best text scores below the collection's 1st
    percentile.

    cosine: with its best text; best: [image] those of the others with theirs. Fewer than 100 others judge nothing.
    """
    share = share_below(cosine, best) if len(best) else 1.0
    known = share >= FAR or len(best) < 1 / FAR
    why = f"Its best text scores {cosine:.3f}, lower than on all but {share:.1%} of this collection's images."
    return Familiarity(known, "" if known else why, cosine, share, len(best))


def names_object(text: str, columns: Mapping[str, Sequence[str | None]], image: int) -> bool | None:
    """Return whether a text names what the image's mask outlines (all of it); None where no column says what that
    is.
    """
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
