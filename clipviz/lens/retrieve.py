"""Retrieval by the effects of some heads: nearest neighbours and top images (thesis 2.4, Fig. 2.4, 2.5, A.5, A.6).

Similarity of two images under a set S of heads is <c_S(I), c_S(I')> with c_S the sum of the heads' effects (for
one head, the thesis's). As c_S = V M (see lens.headset; V gets a column of ones for the constant), the whole
collection is one product in code space: V_q G V^T with G = M M^T. No d_embed vector per image is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens import headset
from clipviz.values import Codes, Head, HeadBasis


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The best images of every query, best first. images: [query, k] indices; scores: [query, k]."""

    images: Tensor
    scores: Tensor


def similarity(
    codes: Codes,
    basis: HeadBasis,
    queries: Sequence[int],
    heads: Iterable[Head],
    centre: bool = False,
    cosine: bool = False,
) -> Float[Tensor, "query image"]:
    """Return inner products of the queries' effects with every image's, through a set of heads (Fig. 2.5).

    Args:
        codes: The collection.
        basis: The basis of the heads' layers.
        queries: Indices of images.
        heads: (layer, head) pairs.
        centre: Subtract the collection's mean effect first, so that the part common to all images does not count.
        cosine: Divide by both lengths. The thesis does neither.

    Returns:
        [query, image].

    Raises:
        ValueError: An index is unknown.
    """
    vectors, linear = _factors(codes, basis, heads, centre)
    index = torch.as_tensor(list(queries))
    n_images = vectors.shape[0]
    if index.numel() == 0 or int(index.min()) < 0 or int(index.max()) >= n_images:
        raise ValueError(f"expected image indices within 0..{n_images - 1}, got {index.tolist()}")
    asked = vectors[index] @ linear
    products = (asked @ linear.T) @ vectors.T
    if not cosine:
        return products
    lengths = _squared_lengths(vectors, linear).clamp_min(1e-12).sqrt()
    found: Tensor = products / (asked.norm(dim=-1).clamp_min(1e-6)[:, None] * lengths)
    return found


def whole_similarity(
    codes: Codes, queries: Sequence[int], centre: bool = False, cosine: bool = True
) -> Float[Tensor, "query image"]:
    """Return the similarity under the whole model's embedding, for comparison with a head's.

    Args:
        codes: The collection.
        queries: Indices of images.
        centre: Subtract the collection's mean embedding first.
        cosine: Divide by both lengths (Eq. 2.1).

    Returns:
        [query, image].
    """
    embeddings = headset.as_float(codes.embedding)
    embeddings = embeddings - embeddings.mean(0) if centre else embeddings
    embeddings = torch.nn.functional.normalize(embeddings, dim=-1) if cosine else embeddings
    return embeddings[torch.as_tensor(list(queries))] @ embeddings.T


def direction_scores(
    codes: Codes,
    basis: HeadBasis,
    directions: Float[Tensor, "text d_embed"],
    heads: Iterable[Head],
    cosine: bool = False,
) -> Float[Tensor, "text image"]:
    """Return <c_S(I), t> of every image for every direction, through a set of heads (Fig. 2.4).

    Args:
        codes: The collection.
        basis: The basis of the heads' layers.
        directions: Unit text vectors or TextSpan directions, [text, d_embed].
        heads: (layer, head) pairs.
        cosine: Divide by the length of c_S(I), which the thesis does not.

    Returns:
        [text, image], in unnormalised embedding units.

    Raises:
        ValueError: The directions have another width.
    """
    vectors, linear = _factors(codes, basis, heads, centre=False)
    if directions.ndim != 2 or directions.shape[1] != linear.shape[1]:
        raise ValueError(
            f"directions have shape {list(directions.shape)} but the heads write to d_embed={linear.shape[1]}; "
            "encode texts with model.encode_texts(...)"
        )
    scores = (directions.to(linear) @ linear.T) @ vectors.T
    return scores / _squared_lengths(vectors, linear).clamp_min(1e-12).sqrt() if cosine else scores


def nearest(
    codes: Codes,
    basis: HeadBasis,
    queries: Sequence[int],
    heads: Iterable[Head],
    k: int = 4,
    centre: bool = False,
    cosine: bool = False,
) -> Retrieved:
    """Return the nearest neighbours of each query through a set of heads; a query is not its own neighbour.

    Args:
        codes: The collection.
        basis: The basis of the heads' layers.
        queries: Indices of images.
        heads: (layer, head) pairs.
        k: Neighbours per query.
        centre: As in `similarity`.
        cosine: As in `similarity`.

    Returns:
        Images and scores, [query, k].
    """
    queries = list(queries)
    scores = similarity(codes, basis, queries, heads, centre, cosine)
    scores[torch.arange(len(queries)), torch.as_tensor(queries)] = -torch.inf
    return best(scores, min(k, scores.shape[1] - 1))


def top_images(
    codes: Codes,
    basis: HeadBasis,
    directions: Float[Tensor, "text d_embed"],
    heads: Iterable[Head],
    k: int = 4,
) -> Retrieved:
    """Return the images on which the heads write most along each direction.

    Args:
        codes: The collection.
        basis: The basis of the heads' layers.
        directions: [text, d_embed].
        heads: (layer, head) pairs.
        k: Images per direction.

    Returns:
        Images and scores, [text, k].
    """
    return best(direction_scores(codes, basis, directions, heads), k)


def text_variance(
    codes: Codes, basis: HeadBasis, directions: Float[Tensor, "text d_embed"]
) -> Float[Tensor, "text layer head"]:
    """Return the variance over the collection of every head's score <c, t>: which heads respond to a text.

    Args:
        codes: The collection.
        basis: The basis of the same layers.
        directions: [text, d_embed]. To find the heads of a property, pass the difference of two texts.

    Returns:
        [text, layer, head].
    """
    rows = [
        direction_scores(codes, basis, directions, [head]).var(1, unbiased=False)
        for head in headset.all_heads(codes)
    ]
    found: Tensor = torch.stack(rows, 1).unflatten(1, (len(codes.layers), -1))
    return found


def best(scores: Float[Tensor, "query image"], k: int) -> Retrieved:
    """Return the highest scores of every row.

    Args:
        scores: [query, image].
        k: How many.

    Returns:
        Images and scores, [query, k], best first.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"expected k >= 1 and more than one image, got k={k}")
    found = scores.topk(min(k, scores.shape[1]), dim=1)
    return Retrieved(found.indices, found.values)


def _factors(
    codes: Codes, basis: HeadBasis, heads: Iterable[Head], centre: bool
) -> tuple[Float[Tensor, "image code"], Float[Tensor, "code d_embed"]]:
    """Return V and M of the module, with the constant as a last column of ones. Centring removes the constant."""
    heads = list(heads)
    vectors = headset.set_codes(codes, heads)
    linear = headset.set_map(basis, heads)
    if centre:
        return vectors - vectors.mean(0), linear
    constant = len(heads) * headset.as_float(basis.constant)
    return torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1), torch.cat([linear, constant[None]])


def _squared_lengths(
    vectors: Float[Tensor, "image code"], linear: Float[Tensor, "code d_embed"]
) -> Float[Tensor, " image"]:
    """Return |c_S|^2, computed from the Gram matrix or from the effects, whichever is smaller."""
    if linear.shape[0] < linear.shape[1]:
        return ((vectors @ (linear @ linear.T)) * vectors).sum(-1)
    return (vectors @ linear).square().sum(-1)
