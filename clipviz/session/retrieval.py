"""Nearest images under the whole model and under one head, and subsets named by an attribute.

Under a head, images are compared by the cosine of the head's effects. The thesis's inner product (2.4, kept as
`session.neighbours`) puts the few images first on which the head writes most, whatever the query; reproduce.chapter2
measures the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from clipviz.lens import retrieve

if TYPE_CHECKING:
    from clipviz.session import Session

Ranked = list[tuple[int, float]]
MOST_VALUES = 60  # a column with more different words is no attribute to choose by


def alike(session: Session, image: int, k: int, layer: int | None = None, head: int | None = None) -> Ranked:
    """The k images most like one, itself left out: cosine of embeddings, or of one head's effects."""
    collection = session.collection
    known = image < len(collection) and bool(collection.ready[image])
    if layer is None or head is None or not known:  # an image added to a collection that stays in its file
        found = session.neighbours(image, k + 1, layer, head)
        return [(i, score) for i, score in found if i != image][:k]
    basis = collection.basis.to(collection.embedding.device, collection.embedding.dtype)
    scores = retrieve.similarity(collection.stored, basis, [image], [(layer, head)], cosine=True)[0]
    scores = scores.masked_fill(~collection.ready.to(scores.device), -torch.inf)
    scores[image] = -torch.inf
    values, rows = scores.topk(min(k, collection.n_ready - 1))
    return list(zip(rows.tolist(), values.tolist(), strict=True))


def attributes(session: Session) -> dict[str, dict[str, int]]:
    """Columns that subsets can be chosen by, and how many images have each word; common words first."""

    def make() -> dict[str, dict[str, int]]:
        found = {}
        for column, words in (session.images.attributes or {}).items():
            counts: dict[str, int] = {}
            for word in words:
                if word is not None:
                    counts[word] = counts.get(word, 0) + 1
            if 2 <= len(counts) <= MOST_VALUES:
                found[column] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        return found

    return session.remember(("attributes", len(session.images)), make)
