"""TextSpan evaluated: every late head replaced by its projection on a few texts (thesis 2.4, Fig. 2.3, A.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.lens import headset
from clipviz.lens.textspan import augmented_codes, head_span, textspan_from_covariance
from clipviz.values import Codes, HeadBasis, TextBasis

IMAGES_AT_ONCE = 4096


def describe_heads(
    codes: Codes,
    basis: HeadBasis,
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    centre_pool: bool = False,
    normalised: bool = False,
) -> TextBasis:
    """TextSpan (Alg. 1) of every head that the codes keep, from the covariance of the codes alone.

    Returns order and explained [head_all, n_texts] and directions [head_all, n_texts, d_embed], heads in the
    order of headset.all_heads(codes).
    """
    covariance, span = head_span(basis, code_covariance(codes))
    return textspan_from_covariance(covariance, span, text_directions, n_texts, centre_pool, normalised)


def code_covariance(codes: Codes) -> Float[Tensor, "layer head augmented augmented"]:
    """Covariance of every head's augmented codes over the collection, in float64 and a few images at a time."""
    total: Tensor | float = 0.0
    second: Tensor | float = 0.0
    n_images = 0
    for vectors in _augmented(codes):
        vectors = vectors.double()
        total, n_images = total + vectors.sum(0), n_images + len(vectors)
        second = second + torch.einsum("ilha,ilhb->lhab", vectors, vectors)
    mean = torch.as_tensor(total) / n_images
    return second / n_images - torch.einsum("lha,lhb->lhab", mean, mean)


def project_heads(
    codes: Codes, basis: HeadBasis, texts: TextBasis, sizes: Sequence[int], centred: bool = True
) -> dict[int, Float[Tensor, "image d_embed"]]:
    """The embedding when every kept head is its projection on its first m texts and the rest is mean-ablated.

    rep_m = mean rep + sum_heads Proj_m(c - mean c), for every m in `sizes` (m = 0: the mean alone).
    centred=False projects c itself, rep_m = mean rep + sum_heads (Proj_m c - mean c), as the thesis's sentence
    reads; Eq. 2.7 and the search are about c - mean c, the default.
    """
    directions = texts.directions.flatten(0, -3)
    n_heads, n_texts = directions.shape[:2]
    if n_heads != len(headset.all_heads(codes)):
        raise ValueError(
            f"expected the texts of {len(headset.all_heads(codes))} heads, got {n_heads}; run "
            "describe_heads(codes, basis, ...) on the same layers"
        )
    wrong = [size for size in sizes if not 0 <= size <= n_texts]
    if wrong:
        raise ValueError(f"expected sizes within 0..{n_texts} (the texts chosen a head), got {wrong}")
    coefficients, shift = _coefficients(codes, basis, directions, centred)
    mean = headset.as_float(codes.embedding).mean(0) - shift
    return {
        size: mean + coefficients[:, :, :size].flatten(1) @ directions[:, :size].flatten(0, 1)
        for size in sizes
    }


def _coefficients(
    codes: Codes, basis: HeadBasis, directions: Float[Tensor, "head_all n_texts d_embed"], centred: bool
) -> tuple[Float[Tensor, "image head_all n_texts"], Float[Tensor, " d_embed"] | float]:
    """<c, q> of every head and text, centred over the images or not, and the sum of mean effects if not."""
    linear = linear_maps(basis)
    readers = torch.einsum("had,hmd->ham", linear, directions.to(linear))
    parts = [torch.einsum("iha,ham->ihm", part.flatten(1, 2), readers) for part in _augmented(codes)]
    coefficients = torch.cat(parts)
    if centred:
        return coefficients - coefficients.mean(0), 0.0
    constant = headset.as_float(basis.constant)
    mean_code = torch.cat([part.flatten(1, 2) for part in _augmented(codes)]).mean(0)
    mean_effects = torch.einsum("ha,had->d", mean_code, linear) + len(linear) * constant
    return coefficients + torch.einsum("d,hmd->hm", constant, directions.to(constant)), mean_effects


def linear_maps(basis: HeadBasis) -> Float[Tensor, "head_all augmented d_embed"]:
    """[B; b; -m] of every head: its effect is the augmented code times this, plus the constant."""
    n_heads = basis.basis.shape[1]
    extra = torch.stack([basis.output_bias, -basis.mean_share.expand(len(basis.layers), -1)], 1)
    return torch.cat([basis.basis, extra[:, None].expand(-1, n_heads, -1, -1)], 2).flatten(0, 1)


def _augmented(codes: Codes) -> Iterator[Float[Tensor, "image layer head augmented"]]:
    n_images = len(codes.mean)
    for start in range(0, n_images, IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        yield augmented_codes(
            headset.as_float(codes.codes[part]),
            headset.as_float(codes.mean[part]),
            headset.as_float(codes.std[part]),
        )
