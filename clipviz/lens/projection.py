"""TextSpan evaluated: every late head is replaced by its projection on a few texts (thesis 2.4, Fig. 2.3, A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens import headset
from clipviz.lens.covariance import IMAGES_AT_ONCE, augmented_codes, linear_maps
from clipviz.values import Codes, HeadBasis, TextBasis


def project_heads(
    codes: Codes, basis: HeadBasis, texts: TextBasis, sizes: Sequence[int], centred: bool = True
) -> dict[int, Float[Tensor, "image d_embed"]]:
    """Return the embedding when every kept head is its projection on its first m texts and the rest is mean-ablated.

    rep_m = mean rep + sum_heads Proj_m(c - mean c).

    Args:
        codes: The collection.
        basis: The basis of the same layers.
        texts: Each head's texts, from textspan.describe_heads on the same layers.
        sizes: Values of m; 0 is the mean alone.
        centred: False projects c itself, rep_m = mean rep + sum_heads (Proj_m c - mean c), as the thesis's sentence
            reads; Eq. 2.7 and the search are about c - mean c.

    Returns:
        m -> [image, d_embed].

    Raises:
        ValueError: The texts are of other heads, or a size exceeds their number.
    """
    directions = texts.directions.flatten(0, -3)
    n_heads, n_texts = directions.shape[:2]
    if n_heads != len(headset.all_heads(codes)):
        raise ValueError(
            f"expected the texts of {len(headset.all_heads(codes))} heads, got {n_heads}; run "
            "textspan.describe_heads(codes, basis, ...) on the same layers"
        )
    wrong = [size for size in sizes if not 0 <= size <= n_texts]
    if wrong:
        raise ValueError(f"expected sizes within 0..{n_texts} (the texts chosen per head), got {wrong}")
    coefficients, shift = _coefficients(codes, basis, directions, centred)
    mean = headset.as_float(codes.embedding).mean(0) - shift
    return {
        size: mean + coefficients[:, :, :size].flatten(1) @ directions[:, :size].flatten(0, 1)
        for size in sizes
    }


def _coefficients(
    codes: Codes, basis: HeadBasis, directions: Float[Tensor, "head_all n_texts d_embed"], centred: bool
) -> tuple[Float[Tensor, "image head_all n_texts"], Float[Tensor, " d_embed"] | float]:
    """Return <c, q> of every head and text, centred over the images or not, and the sum of mean effects if not."""
    linear = linear_maps(basis).flatten(0, 1)
    readers = torch.einsum("had,hmd->ham", linear, directions.to(linear))
    parts = [torch.einsum("iha,ham->ihm", part.flatten(1, 2), readers) for part in _augmented(codes)]
    coefficients = torch.cat(parts)
    if centred:
        return coefficients - coefficients.mean(0), 0.0
    constant = headset.as_float(basis.constant)
    mean_code = torch.cat([part.flatten(1, 2) for part in _augmented(codes)]).mean(0)
    mean_effects = torch.einsum("ha,had->d", mean_code, linear) + len(linear) * constant
    return coefficients + torch.einsum("d,hmd->hm", constant, directions.to(constant)), mean_effects


def _augmented(codes: Codes) -> Iterator[Float[Tensor, "image layer head augmented"]]:
    n_images = len(codes.mean)
    for start in range(0, n_images, IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        yield augmented_codes(
            headset.as_float(codes.codes[part]),
            headset.as_float(codes.mean[part]),
            headset.as_float(codes.std[part]),
        )
