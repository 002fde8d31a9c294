"""TextSpan: the texts that explain the most of a head's variance (thesis Alg. 1, Eq. 2.7), in the head's own span.

The data enter only through their covariance. A head's effects live in the span of its basis, so with Q an
orthonormal basis of that span, X = R Q and S = Q^T Cov(c) Q the greedy search (lens.pursuit) runs on [text, rank] and
[rank, rank] arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.lens import pursuit
from clipviz.lens.covariance import code_moments, linear_maps
from clipviz.lens.rotations import random_rotations
from clipviz.values import Codes, HeadBasis, TextBasis

DRAWS_AT_ONCE = 50  # draws of the null at once, which bounds how long a click waits
NOTHING_LEFT = 1e-5  # a residual below this share of its text's length is only rounding


def textspan(
    effects: Float[Tensor, "image *head d_embed"],
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    rank: int | None = None,
    centre_pool: bool = False,
    normalised: bool = False,
) -> TextBasis:
    """Return texts that greedily explain the variance of a head's effects (thesis Alg. 1).

    Each step takes the text t of largest variance sum_i <x_i, t>^2 over the centred effects x_i (Eq. 2.7), and projects
    its direction out of the effects and out of all other texts.

    Args:
        effects: Effects of one head over images, [image, d_embed], or of several heads at once, [image, head, d_embed],
            in the units of the embedding before it is normalised. They are centred here.
        text_directions: The encoded pool R, [text, d_embed].
        n_texts: How many texts to choose, m.
        rank: None uses the numerical rank of the centred data, at the precision of float32 if float32 can
            represent the effects (even if they are passed as float64). A number uses as many leading directions
            of the data before centring, as in the authors' code (80, which exceeds a head's span, so that
            numerical noise has an influence).
        centre_pool: Subtract the pool's mean direction first.
        normalised: Score residual texts at unit length, so that long texts have no advantage. By default they are
            not normalised, as in the thesis.

    Returns:
        A TextBasis with the leading head axes kept: the order of the texts, the share of the variance that the first
        ones explain, and their directions. Texts whose residual is zero (duplicates, combinations of chosen
        texts, texts orthogonal to the span) gain 0 and come last; `n_used_up` counts them.

    Raises:
        ValueError: Shapes do not fit, the pool is empty, n_texts exceeds the size of the pool or of the span, or
            the effects do not vary.
    """
    _check(effects, text_directions, n_texts)
    data = effects.reshape(effects.shape[0], -1, effects.shape[-1]).transpose(0, 1)
    centred = data - data.mean(1, keepdim=True)
    span, n_valid = _span_of_data(centred, _is_single(data)) if rank is None else _leading(data, rank)
    coordinates = centred @ span
    covariance = coordinates.transpose(1, 2) @ coordinates / data.shape[1]
    total = centred.square().sum((1, 2)) / data.shape[1]
    if not bool(torch.isfinite(total).all()):
        raise ValueError(
            f"expected effects whose squares {data.dtype} can hold, got {float(data.abs().max()):.2g}; scale them down"
        )
    basis = textspan_from_covariance(
        covariance, span, text_directions, n_texts, centre_pool, normalised, n_valid, total
    )
    shape = effects.shape[1:-1]
    return TextBasis(
        basis.order.reshape(*shape, -1),
        basis.explained.reshape(*shape, -1),
        basis.directions.reshape(*shape, *basis.directions.shape[1:]),
        basis.n_used_up.reshape(shape),
    )


def textspan_from_covariance(
    covariance: Float[Tensor, "head rank rank"],
    span: Float[Tensor, "head d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    centre_pool: bool = False,
    normalised: bool = False,
    n_valid: Int[Tensor, " head"] | None = None,
    total: Float[Tensor, " head"] | None = None,
) -> TextBasis:
    """Run TextSpan on many heads at once, from the covariance of their effects in an orthonormal span.

    Streamed collections use this form: see `head_span`.

    Args:
        covariance: S in coordinates of `span`, [head, rank, rank].
        span: Orthonormal columns, [head, d_embed, rank]; zero columns pad heads of smaller rank.
        text_directions: The encoded pool, [text, d_embed].
        n_texts: How many texts to choose, m.
        centre_pool: As in `textspan`.
        normalised: As in `textspan`.
        n_valid: The number of columns of each head that are not padding. None takes all.
        total: The variance to which shares refer, [head]. None takes that in the span.

    Returns:
        Order and explained shares [head, n_texts], and directions [head, n_texts, d_embed].

    Raises:
        ValueError: n_texts exceeds the size of the pool or of the smallest span.
    """
    limit = int(covariance.shape[-1] if n_valid is None else n_valid.min())
    if not 1 <= n_texts <= min(limit, text_directions.shape[0]):
        raise ValueError(
            f"expected n_texts within 1..{min(limit, text_directions.shape[0])} (the pool has "
            f"{text_directions.shape[0]} texts, the smallest head's span {limit} directions), got {n_texts}"
        )
    pool = _pool(span, text_directions, centre_pool)
    floors = NOTHING_LEFT * text_directions.to(pool).norm(dim=-1)
    order, chosen, explained, n_used_up = _explained(pool, floors, covariance, n_texts, normalised, total)
    return TextBasis(order, explained, torch.einsum("hdr,hmr->hmd", span, chosen.to(span)), n_used_up)


def describe_heads(
    codes: Codes,
    basis: HeadBasis,
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    centre_pool: bool = False,
    normalised: bool = False,
) -> TextBasis:
    """Run TextSpan (Alg. 1) on every head that the codes keep, from the covariance of the codes alone.

    Args:
        codes: The collection.
        basis: The basis of the same layers.
        text_directions: The encoded pool, [text, d_embed].
        n_texts: How many texts to choose, m.
        centre_pool: As in `textspan`.
        normalised: As in `textspan`.

    Returns:
        Order and explained shares [head_all, n_texts], and directions [head_all, n_texts, d_embed], heads in the
        order of headset.all_heads(codes).
    """
    covariance, span = head_span(basis, code_moments(codes).covariance)
    return textspan_from_covariance(covariance, span, text_directions, n_texts, centre_pool, normalised)


def variance_along(
    covariance: Float[Tensor, "head rank rank"],
    span: Float[Tensor, "head d_embed rank"],
    directions: Float[Tensor, "text d_embed"],
) -> Float[Tensor, "head text"]:
    """Return the share of every head's variance along each unit direction: t^T S_h t / tr S_h, 0 without variance.

    This is the first step of Alg. 1 for one text, without the choice between texts.

    Args:
        covariance: [head, rank, rank], as in `textspan_from_covariance`.
        span: [head, d_embed, rank].
        directions: Unit vectors, [text, d_embed].

    Returns:
        [head, text].
    """
    shares = []
    for within, axes in zip(covariance, span, strict=True):
        along = directions.to(axes) @ axes
        total = within.diagonal().sum().clamp_min(1e-30)
        shares.append(((along @ within) * along).sum(1) / total)
    return torch.stack(shares)


def null_explained(
    covariance: Float[Tensor, "head rank rank"],
    span: Float[Tensor, "head d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    n_draws: int = 20,
    seed: int = 0,
    centre_pool: bool = False,
    normalised: bool = False,
) -> tuple[Float[Tensor, "draw head n_texts"], Int[Tensor, "draw head n_texts"]]:
    """Return TextSpan's result for texts that are unrelated to the head: its data are randomly rotated within its span.

    A rotation keeps the spectrum of the head's variance and the pool, and destroys the relation between them.

    Args:
        covariance: [head, rank, rank], as in `textspan_from_covariance`.
        span: [head, d_embed, rank].
        text_directions: The encoded pool, [text, d_embed].
        n_texts: How many texts to choose, m.
        n_draws: The number of rotations.
        seed: Seed of the rotations.
        centre_pool: As in `textspan`.
        normalised: As in `textspan`.

    Returns:
        The cumulative explained shares and the texts chosen, both [draw, head, n_texts].
    """
    parts = null_in_parts(covariance, span, text_directions, n_texts, n_draws, seed, centre_pool, normalised)
    explained, order = zip(*parts, strict=True)
    return torch.cat(explained), torch.cat(order)


def null_in_parts(
    covariance: Float[Tensor, "head rank rank"],
    span: Float[Tensor, "head d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    n_draws: int = 20,
    seed: int = 0,
    centre_pool: bool = False,
    normalised: bool = False,
) -> Iterator[tuple[Float[Tensor, "draw head n_texts"], Int[Tensor, "draw head n_texts"]]]:
    """Compute `null_explained` in parts of DRAWS_AT_ONCE draws, so that other work can interrupt.

    Args:
        covariance: [head, rank, rank], as in `textspan_from_covariance`.
        span: [head, d_embed, rank].
        text_directions: The encoded pool, [text, d_embed].
        n_texts: How many texts to choose, m.
        n_draws: The number of rotations.
        seed: Seed of the rotations.
        centre_pool: As in `textspan`.
        normalised: As in `textspan`.

    Yields:
        Explained shares and texts of some draws, [draw, head, n_texts].
    """
    pool = _pool(span, text_directions, centre_pool)  # the pool is the same for all rotations
    floors = NOTHING_LEFT * text_directions.to(pool).norm(dim=-1)
    rotated_by = _rotations if len(covariance) == 1 else _rotations.__wrapped__
    rotations = rotated_by(n_draws, *covariance.shape[:2], seed).to(covariance)
    rotated = rotations @ covariance @ rotations.transpose(-1, -2)
    scores = [
        pursuit.all_scores(texts, drawn)
        for texts, drawn in zip(pool.split(1), rotated.unbind(1), strict=True)
    ]
    for part in torch.arange(n_draws).split(DRAWS_AT_ONCE):
        explained, order = [], []
        for head, texts in enumerate(pool.split(1)):
            drawn = rotated[part, head]
            found, directions, _ = pursuit.greedy(
                texts, floors, drawn, n_texts, normalised, scores[head][part]
            )
            explained.append(_shares(directions, drawn).to(pool.dtype))
            order.append(found)
        yield torch.stack(explained, 1), torch.stack(order, 1)


@lru_cache(maxsize=4)
def _rotations(n_draws: int, n_heads: int, rank: int, seed: int) -> Float[Tensor, "draw head rank rank"]:
    """Return random rotations; those for single heads are cached, since they cost as much as a search."""
    rotations = random_rotations(n_draws * n_heads, rank, torch.Generator().manual_seed(seed))
    found: Tensor = rotations.unflatten(0, (n_draws, n_heads))
    return found


def _explained(
    pool: Float[Tensor, "head rank text"],
    floors: Float[Tensor, " text"],
    covariance: Float[Tensor, "head rank rank"],
    n_texts: int,
    normalised: bool,
    total: Float[Tensor, " head"] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the chosen texts, their directions in the span, their cumulative share of `total`, and those used up."""
    order, chosen, used_up = pursuit.greedy(pool, floors, covariance, n_texts, normalised)
    left_out = (used_up | pursuit.empty(pool, floors, chosen)).scatter(1, order, False)
    return order, chosen, _shares(chosen, covariance, total).to(pool.dtype), left_out.sum(-1)


def _shares(
    chosen: Float[Tensor, "head n_texts rank"],
    covariance: Float[Tensor, "head rank rank"],
    total: Float[Tensor, " head"] | None = None,
) -> Float[Tensor, "head n_texts"]:
    """Return the cumulative share of `total` (default: the span's variance) that orthonormal directions explain."""
    gains = torch.einsum("hmr,hrs,hms->hm", chosen, covariance.to(chosen), chosen)
    total = torch.diagonal(covariance, dim1=1, dim2=2).sum(-1) if total is None else total
    return gains.cumsum(-1) / total.to(chosen)[:, None]


def head_span(
    basis: HeadBasis,
    code_covariance: Float[Tensor, "layer head augmented augmented"],
) -> tuple[Float[Tensor, "layer_head rank rank"], Float[Tensor, "layer_head d_embed rank"]]:
    """Return a head's span and its covariance there, from streamed moments of the codes alone.

    No vector of d_embed numbers per image is needed. The span is restricted to directions that vary over these images
    (Alg. 1 projects the pool onto the span of C): with fewer images than d_head it is smaller than the head's. Its axes
    are the principal ones, so the covariance is diagonal; heads of smaller rank are padded with zero columns.

    Args:
        basis: The basis of the same layers.
        code_covariance: Covariance of v = [u / std, 1 / std, mean / std], in which head effects are linear
            (lens.covariance), [layer, head, augmented, augmented].

    Returns:
        Covariance [head_all, rank, rank] and span [head_all, d_embed, rank].
    """
    linear = linear_maps(basis).flatten(0, 1)
    rank = min(linear.shape[1:])
    span, triangular = torch.linalg.qr(linear.double().transpose(1, 2))
    coordinates = (
        triangular[:, :rank] @ code_covariance.double().flatten(0, 1) @ triangular[:, :rank].transpose(1, 2)
    )
    variances, axes = torch.linalg.eigh(coordinates)
    floor = max(_tolerance(linear.dtype) ** 2, 64 * torch.finfo(torch.float64).eps)
    varies = variances > floor * variances[:, -1:].clamp_min(1e-24)
    width = max(1, int(varies.sum(-1).max()))
    axes = (axes * varies[:, None]).flip(-1)[..., :width]
    covariance = torch.diag_embed((variances * varies).flip(-1)[..., :width])
    return covariance.to(linear), (span[..., :rank] @ axes).to(linear)


def varies(span: Float[Tensor, "d_embed rank"]) -> bool:
    """Return whether a head's effects vary over the images, so that its span (see `head_span`) has an axis."""
    return bool((span.norm(dim=0) > 0.5).any())


def check_varies(span: Float[Tensor, "d_embed rank"]) -> None:
    """Check that a head's effects vary over the images.

    Raises:
        ValueError: The effects are the same on all images.
    """
    if not varies(span):
        raise ValueError("expected a head whose effects vary over the images, got a constant one; add images")


def _pool(span: Tensor, text_directions: Tensor, centre_pool: bool) -> Float[Tensor, "head rank text"]:
    """Return the pool in the span's coordinates, texts last: products with a row-major [rank, text] are faster."""
    texts = text_directions - text_directions.mean(0) if centre_pool else text_directions
    return span.transpose(1, 2) @ texts.to(span).T


def _span_of_data(data: Float[Tensor, "head image d_embed"], single: bool) -> tuple[Tensor, Tensor]:
    """Return orthonormal columns that span each head's data, zero columns where a head's rank is smaller.

    single: the numbers were computed in float32, whatever their dtype is now.
    """
    _, singular, right = torch.linalg.svd(data.double(), full_matrices=False)
    tolerance = _tolerance(torch.float32 if single else data.dtype)
    n_valid = (singular > tolerance * singular[:, :1]).sum(-1)
    if int(n_valid.min()) == 0 or bool((singular[:, 0] <= 1e-12).any()):
        raise ValueError(
            "expected effects that vary over images, got constant effects; use more than one image"
        )
    width = int(n_valid.max())
    keep = torch.arange(width, device=data.device) < n_valid[:, None]
    return (right[:, :width].transpose(1, 2) * keep[:, None]).to(data), n_valid


def _leading(data: Float[Tensor, "head image d_embed"], rank: int) -> tuple[Tensor, Tensor]:
    """Return the `rank` leading right singular vectors of each head's data, rounding included."""
    if not 1 <= rank <= min(data.shape[1:]):
        raise ValueError(f"expected rank within 1..{min(data.shape[1:])}, got {rank}")
    right = torch.linalg.svd(data.double(), full_matrices=False)[2][:, :rank]
    return right.transpose(1, 2).to(data), torch.full((len(data),), rank, device=data.device)


def _is_single(data: Tensor) -> bool:
    """Return whether float32 represents these numbers exactly, so that they contain its rounding."""
    return data.dtype != torch.float64 or bool((data == data.float().double()).all())


def _tolerance(dtype: torch.dtype) -> float:
    """Return the share of the largest singular value below which others count as rounding."""
    return 1e-12 if dtype == torch.float64 else 1e-4


def _check(effects: Tensor, text_directions: Tensor, n_texts: int) -> None:
    for what, given in (("effects", effects), ("text directions", text_directions)):
        if not isinstance(given, Tensor) or not given.is_floating_point():
            kind = getattr(given, "dtype", type(given).__name__)
            raise ValueError(
                f"expected {what} as a tensor of floating-point numbers, got {kind}; convert them with "
                "torch.as_tensor(...).float()"
            )
    if effects.ndim < 2 or effects.shape[0] < 2 or 0 in effects.shape:
        raise ValueError(
            f"expected effects [image >= 2, ..., d_embed], no axis empty, got {list(effects.shape)}; "
            "pass the effects of more images"
        )
    if text_directions.ndim != 2 or text_directions.shape[1] != effects.shape[-1]:
        raise ValueError(
            f"text directions have shape {list(text_directions.shape)} but the effects have "
            f"d_embed={effects.shape[-1]}; encode the pool with model.encode_texts(...)"
        )
    if not (torch.isfinite(effects).all() and torch.isfinite(text_directions).all()):
        raise ValueError(
            "expected finite effects and text directions, got NaN or infinity; check the model's precision"
        )
    if text_directions.shape[0] == 0 or n_texts < 1:
        raise ValueError(
            f"expected a pool of texts and n_texts >= 1, got {text_directions.shape[0]} and {n_texts}"
        )
