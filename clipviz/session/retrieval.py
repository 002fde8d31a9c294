"""Images ranked: nearest to a text, to another image under the whole model or under one head, and by attribute.

Under a head, images are compared by the cosine of the head's effects. The thesis's inner product (2.4) puts the few
images first on which the head writes most, whatever the query; reproduce.chapter2 measures the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.lens import retrieve
from clipviz.session import ablation as ablations

if TYPE_CHECKING:
    from clipviz.analysis.image_codes import Collection
    from clipviz.data.images import Images
    from clipviz.session.core import Session
    from clipviz.values import Ablation

Ranked = list[tuple[int, float]]
BY = ("cosine", "product")
MOST_VALUES = 60  # a column with more different words is no attribute to choose by


def search(session: Session, direction: Tensor, k: int, ablation: Ablation) -> Ranked:
    """The k images nearest to a text's direction by cosine; for a difference of two, by that of the cosines."""
    return best(session.collection, cosines(session, direction, ablation), k)


def cosines(session: Session, direction: Tensor, ablation: Ablation) -> Tensor:
    """Cosine of every image with a text's direction, after an ablation, [image]."""
    unit = normalize(ablations.embeddings_after(session, ablation), dim=-1)
    return unit @ direction.to(unit)


def top_images(collection: Collection, direction: Tensor, layer: int, head: int, k: int) -> Ranked:
    """The k images on which one head writes most along a direction."""
    return best(collection, collection.head_scores(direction, layer, head), k)


def neighbours(session: Session, image: int, layer: int | None, head: int | None, k: int, by: str) -> Ranked:
    """The k images most like one; see Session.neighbours."""
    if by not in BY:
        raise ValueError(f"expected by to be one of {', '.join(BY)}, got {by!r}")
    collection = session.collection
    scores = _scores(session, image, layer, head, by)
    if by == "cosine" and image < len(scores):
        scores = scores.clone()
        scores[image] = -torch.inf
        return [pair for pair in best(collection, scores, k) if pair[0] != image]
    return best(collection, scores, k)


def _scores(session: Session, image: int, layer: int | None, head: int | None, by: str) -> Tensor:
    collection = session.collection
    known = image < len(collection) and bool(collection.ready[image])
    if layer is None or head is None:
        unit = normalize(collection.embedding, dim=-1)
        own = collection.embedding[image] if known else session.trace(image).embedding[0].to(unit)
        return unit @ normalize(own, dim=-1)
    if known and by == "cosine":
        basis = collection.basis.to(collection.embedding.device, collection.embedding.dtype)
        return retrieve.similarity(collection.stored, basis, [image], [(layer, head)], cosine=True)[0]
    if known:
        row = torch.tensor([image], device=collection.codes.device)
        effect = collection.head_effects(row, layer, head)[0]
    else:  # an image that was added to a collection whose codes stay in their file
        effect = session.trace(image).head_effects(layers=[layer])[0, 0, head]
    return collection.head_scores(effect, layer, head)


def best(collection: Collection, scores: Tensor, k: int) -> Ranked:
    """The k highest scores among the images that have been read, best first."""
    ready = collection.ready.to(scores.device)
    values, rows = scores.masked_fill(~ready, -torch.inf).topk(min(k, collection.n_ready))
    return list(zip(rows.tolist(), values.tolist(), strict=True))


def attributes(images: Images) -> dict[str, dict[str, int]]:
    """Columns that subsets can be chosen by, and how many images have each word; common words first."""
    found = {}
    for column, words in (images.attributes or {}).items():
        counts: dict[str, int] = {}
        for word in words:
            if word is not None:
                counts[word] = counts.get(word, 0) + 1
        if 2 <= len(counts) <= MOST_VALUES:
            found[column] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return found
