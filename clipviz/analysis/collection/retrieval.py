"""Ranked images: nearest to a text, or to another image under the whole model or one head; and subsets by attribute.

Under a head, images are compared by the cosine of the head's effects. The thesis's inner product (2.4) ranks the
few images on which the head writes most first, whatever the query; reproduce.chapter2.chapter measures the
difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.lens.retrieve import similarity

if TYPE_CHECKING:
    from clipviz.analysis.collection.image_codes import ImageCodes
    from clipviz.data.images import Images
    from clipviz.lens.trace import Trace
    from clipviz.values import Head

Ranked = list[tuple[int, float]]
BY = ("cosine", "product")
MOST_VALUES = 60  # a column with more distinct words is not offered as an attribute


def cosines(
    embeddings: Float[Tensor, "image d_embed"], direction: Float[Tensor, " d_embed"]
) -> Float[Tensor, " image"]:
    """Return the cosine of every image with a text's direction, or the difference for that of two texts."""
    unit = normalize(embeddings, dim=-1)
    return unit @ direction.to(unit)


def top_images(
    images: ImageCodes,
    direction: Float[Tensor, " d_embed"],
    layer: int,
    head: int,
    k: int,
    by: str = "product",
) -> Ranked:
    """Return the k images on which one head writes most along a direction (Fig. 2.4), by inner product or by cosine."""
    _check_by(by)
    if by == "product":
        return best(images, images.head_scores(direction, layer, head), k)
    return best(images, images.head_scores(normalize(direction, dim=0), layer, head, cosine=True), k)


def neighbours(
    images: ImageCodes, image: int, head: Head | None, k: int, by: str, trace: Callable[[], Trace]
) -> Ranked:
    """Return the k images most like one under the whole model, or under one head, best first (thesis 2.4, Fig. 2.5).

    by="cosine" leaves the image itself out; by="product" is the thesis's inner product of the head's effects.
    trace: called for the image's trace if its codes are not among `images`.
    """
    _check_by(by)
    scores = _scores(images, image, head, by, trace)
    if by == "cosine" and image < len(scores):
        scores = scores.clone()
        scores[image] = -torch.inf
        return [pair for pair in best(images, scores, k) if pair[0] != image]
    return best(images, scores, k)


def _check_by(by: str) -> None:
    if by not in BY:
        raise ValueError(f"expected by to be one of {', '.join(BY)}, got {by!r}")


def _scores(
    images: ImageCodes, image: int, head: Head | None, by: str, trace: Callable[[], Trace]
) -> Float[Tensor, " image"]:
    known = image < len(images) and bool(images.ready[image])
    if head is None:
        unit = normalize(images.embedding, dim=-1)
        own = images.embedding[image] if known else trace().embedding[0].to(unit)
        return unit @ normalize(own, dim=-1)
    if known:
        codes, basis = images.of_head(*head)
        return similarity(codes, basis, [image], [(head[0], 0)], cosine=by == "cosine")[0]
    # an image added to a collection whose codes stay in their file
    return images.head_scores(trace().head_effects(layers=[head[0]])[0, 0, head[1]], *head)


def best(images: ImageCodes, scores: Float[Tensor, " image"], k: int) -> Ranked:
    """Return the k highest scores among the images that have been read, best first."""
    ready = images.ready.to(scores.device)
    values, rows = scores.masked_fill(~ready, -torch.inf).topk(min(k, images.n_ready))
    return list(zip(rows.tolist(), values.tolist(), strict=True))


def attributes(images: Images) -> dict[str, dict[str, int]]:
    """Return the columns by which subsets can be chosen, with the number of images per word; common words first."""
    found = {}
    for column, words in (images.attributes or {}).items():
        counts: dict[str, int] = {}
        for word in words:
            if word is not None:
                counts[word] = counts.get(word, 0) + 1
        if 2 <= len(counts) <= MOST_VALUES:
            found[column] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return found
