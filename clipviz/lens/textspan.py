"""TextSpan: the texts that explain most of a head's variance (thesis Alg. 1, Eq. 2.7), in the head's own span.

The data enter only through their covariance. A head's effects live in the span of its basis, so with Q an
orthonormal basis of that span, X = R Q and S = Q^T Cov(c) Q the greedy search runs on [text, rank] and
[rank, rank] arrays. With P = I - (chosen directions), the score of text j is X_j P S P X_j^T; after choosing
the unit direction q it falls by 2 (X_j.q)(X_j P S q) - (X_j.q)^2 (q S q): two mat-vecs a round. Scores are
refreshed from scratch every few rounds and the leaders are rescored in float64 before each choice, so the
choices are those of the literal algorithm.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipviz.lens.covariance import code_moments, linear_maps
from clipviz.values import Codes, HeadBasis, TextBasis

REFRESH = 15
LEADERS = 12
HEADS_AT_ONCE = 4
RANK_TOLERANCE = 1e-4  # singular values below this share of the largest are float32 noise, not span


def textspan(
    effects: Float[Tensor, "image *head d_embed"],
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    rank: int | None = None,
    centre_pool: bool = False,
    normalised: bool = False,
) -> TextBasis:
    """Texts that greedily explain the variance of a head's effects (thesis Alg. 1).

    effects: one head's effects over images, [image, d_embed], or several heads' at once, [image, head, d_embed];
    they are centred here (Eq. 2.7). text_directions: the encoded pool R. n_texts: how many to choose, m.
    rank: directions of the head's span that count; None takes the numerical rank of the data. A fixed rank wider
    than the span (80 in the authors' code) lets numerical noise decide among texts; pass it to reproduce that.
    centre_pool: subtract the pool's mean direction first. normalised: score unit-length residual texts, so that
    long texts have no advantage; the thesis's raw greedy is the default.
    Returns a TextBasis with leading head axes kept. Raises ValueError for wrong shapes, an empty pool, more
    texts than the pool or the span holds, or effects that do not vary.
    """
    _check(effects, text_directions, n_texts)
    data = effects.reshape(effects.shape[0], -1, effects.shape[-1]).transpose(0, 1)
    data = data - data.mean(1, keepdim=True)
    span, n_valid = _span_of_data(data, rank)
    coordinates = data @ span
    covariance = coordinates.transpose(1, 2) @ coordinates / data.shape[1]
    basis = textspan_from_covariance(
        covariance, span, text_directions, n_texts, centre_pool, normalised, n_valid
    )
    shape = effects.shape[1:-1]
    return TextBasis(
        basis.order.reshape(*shape, -1),
        basis.explained.reshape(*shape, -1),
        basis.directions.reshape(*shape, *basis.directions.shape[1:]),
    )


def textspan_from_covariance(
    covariance: Float[Tensor, "head rank rank"],
    span: Float[Tensor, "head d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    n_texts: int,
    centre_pool: bool = False,
    normalised: bool = False,
    n_valid: Int[Tensor, " head"] | None = None,
) -> TextBasis:
    """TextSpan of many heads at once from the covariance of their effects in an orthonormal span.

    covariance: S in coordinates of `span`, whose columns are orthonormal (zero columns pad heads of smaller
    rank; n_valid counts the others). This is what a streamed collection needs: see `head_span`.
    """
    limit = int(covariance.shape[-1] if n_valid is None else n_valid.min())
    if not 1 <= n_texts <= min(limit, text_directions.shape[0]):
        raise ValueError(
            f"expected n_texts within 1..{min(limit, text_directions.shape[0])} (the pool has "
            f"{text_directions.shape[0]} texts, the smallest head's span {limit} directions), got {n_texts}"
        )
    order, chosen = _greedy(_pool(span, text_directions, centre_pool), covariance, n_texts, normalised)
    gains = torch.einsum("hmr,hrs,hms->hm", chosen, covariance.to(chosen), chosen)
    total = torch.diagonal(covariance, dim1=1, dim2=2).sum(-1).to(chosen)
    explained = (gains.cumsum(-1) / total[:, None]).to(span.dtype)
    return TextBasis(order, explained, torch.einsum("hdr,hmr->hmd", span, chosen.to(span)))


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
    covariance, span = head_span(basis, code_moments(codes).covariance)
    return textspan_from_covariance(covariance, span, text_directions, n_texts, centre_pool, normalised)


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
    """What TextSpan finds when the texts mean nothing to the head: its data under random rotations of its span.

    A rotation keeps the spectrum of the head's variance and the pool, and breaks their relation. Returns the
    cumulative explained shares and the texts chosen, a draw each. All draws run as one batch.
    """
    rank = covariance.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(n_draws, covariance.shape[0], rank, rank, generator=generator)
    rotations = torch.linalg.qr(gaussian)[0].to(covariance)
    rotated = rotations @ covariance @ rotations.transpose(-1, -2)
    basis = textspan_from_covariance(
        rotated.flatten(0, 1),
        span.repeat(n_draws, 1, 1),
        text_directions,
        n_texts,
        centre_pool,
        normalised,
    )
    shape = (n_draws, covariance.shape[0], n_texts)
    return basis.explained.reshape(shape), basis.order.reshape(shape)


def head_span(
    basis: HeadBasis,
    code_covariance: Float[Tensor, "layer head augmented augmented"],
) -> tuple[Float[Tensor, "layer_head rank rank"], Float[Tensor, "layer_head d_embed rank"]]:
    """A head's span and its covariance there, from streamed moments of the codes alone.

    code_covariance: covariance of v = [u / std, 1 / std, mean / std], in which head effects are linear
    (lens.covariance), so no vector of d_embed numbers per image is needed.
    The span is cut to what varies over these images (Alg. 1 projects the pool onto the span of C): with fewer
    images than d_head it is smaller than the head's. Its axes are the principal ones, so the covariance is
    diagonal; heads of smaller rank are padded with zero columns.
    """
    linear = linear_maps(basis).flatten(0, 1)
    rank = min(linear.shape[1:])
    span, triangular = torch.linalg.qr(linear.double().transpose(1, 2))
    coordinates = (
        triangular[:, :rank] @ code_covariance.double().flatten(0, 1) @ triangular[:, :rank].transpose(1, 2)
    )
    variances, axes = torch.linalg.eigh(coordinates)
    varies = variances > RANK_TOLERANCE**2 * variances[:, -1:].clamp_min(1e-24)
    width = max(1, int(varies.sum(-1).max()))
    axes = (axes * varies[:, None]).flip(-1)[..., :width]
    covariance = torch.diag_embed((variances * varies).flip(-1)[..., :width])
    return covariance.to(linear), (span[..., :rank] @ axes).to(linear)


def _greedy(
    pool: Float[Tensor, "head rank text"],
    covariance: Float[Tensor, "head rank rank"],
    n_texts: int,
    normalised: bool,
) -> tuple[Int[Tensor, "head n_texts"], Float[Tensor, "head n_texts rank"]]:
    n_heads, rank, n_pool = pool.shape
    heads = torch.arange(n_heads, device=pool.device)
    exact = covariance.double()
    directions = torch.zeros(n_heads, 0, rank, dtype=torch.float64, device=pool.device)
    order = torch.empty(n_heads, n_texts, dtype=torch.long, device=pool.device)
    taken = torch.zeros(n_heads, n_pool, dtype=torch.bool, device=pool.device)
    scores = lengths = torch.empty(0)
    for step in range(n_texts):
        if step % REFRESH == 0:
            scores = _all_scores(pool, exact, directions)
            lengths = _all_lengths(pool, directions) if normalised else lengths
        values = scores / lengths.clamp_min(1e-12) if normalised else scores
        leaders = values.masked_fill(taken, -torch.inf).topk(min(LEADERS, n_pool), dim=-1).indices
        best, direction = _best_leader(pool, exact, directions, leaders, taken, normalised)
        order[:, step] = best
        taken[heads, best] = True
        along, fall = _fall(pool, exact, directions, direction)
        scores = scores - fall
        lengths = (lengths - along.square()).clamp_min(0) if normalised else lengths
        directions = torch.cat([directions, direction[:, None]], 1)
    return order, directions


def _all_scores(pool: Tensor, covariance: Tensor, directions: Tensor) -> Float[Tensor, "head text"]:
    """Variance that each residual text explains, from scratch; a few heads at a time, so that they fit caches."""
    identity = torch.eye(pool.shape[1], dtype=torch.float64, device=pool.device)
    residual = identity - directions.transpose(1, 2) @ directions
    deflated = (residual @ covariance @ residual).to(pool)
    parts = zip(deflated.split(HEADS_AT_ONCE), pool.split(HEADS_AT_ONCE), strict=True)
    return torch.cat([(matrix @ texts).mul_(texts).sum(1) for matrix, texts in parts])


def _all_lengths(pool: Tensor, directions: Tensor) -> Float[Tensor, "head text"]:
    """Squared length of each residual text, from scratch."""
    return (pool.square().sum(1) - (directions.to(pool) @ pool).square().sum(1)).clamp_min(0)


def _best_leader(
    pool: Tensor, covariance: Tensor, directions: Tensor, leaders: Tensor, taken: Tensor, normalised: bool
) -> tuple[Int[Tensor, " head"], Float[Tensor, "head rank"]]:
    """The best of the leading texts, rescored in float64, and its unit residual direction."""
    rows = torch.gather(pool, 2, leaders[:, None].expand(-1, pool.shape[1], -1)).transpose(1, 2).double()
    for _ in range(2):  # twice is enough: the second pass removes the first one's rounding
        rows = rows - (rows @ directions.transpose(1, 2)) @ directions
    values = ((rows @ covariance) * rows).sum(-1)
    if normalised:
        values = values / rows.square().sum(-1).clamp_min(1e-24)
    values = values.masked_fill(torch.gather(taken, 1, leaders), -torch.inf)
    position = values.argmax(-1, keepdim=True)
    direction = torch.gather(rows, 1, position[..., None].expand(-1, -1, rows.shape[-1]))[:, 0]
    length = direction.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    return torch.gather(leaders, 1, position)[:, 0], direction / length


def _fall(
    pool: Tensor, covariance: Tensor, directions: Tensor, direction: Tensor
) -> tuple[Float[Tensor, "head text"], Float[Tensor, "head text"]]:
    """X.q and the fall of every score once `direction` q is projected out: one pass over the pool."""
    seen = (covariance @ direction[..., None])[..., 0]
    own = (seen * direction).sum(-1)
    seen = seen - ((directions @ seen[..., None]).transpose(1, 2) @ directions)[:, 0]
    along, across = (torch.stack([direction, seen], 1).to(pool) @ pool).unbind(1)
    return along, 2 * along * across - along.square() * own[:, None].to(pool)


def _pool(span: Tensor, text_directions: Tensor, centre_pool: bool) -> Float[Tensor, "head rank text"]:
    """The pool in the span's coordinates, texts last: a mat-vec over a row-major [rank, text] is the fast one."""
    texts = text_directions - text_directions.mean(0) if centre_pool else text_directions
    return span.transpose(1, 2) @ texts.to(span).T


def _span_of_data(data: Float[Tensor, "head image d_embed"], rank: int | None) -> tuple[Tensor, Tensor]:
    """Orthonormal columns spanning each head's data, zero columns where a head's rank is smaller."""
    _, singular, right = torch.linalg.svd(data.double(), full_matrices=False)
    n_valid = (singular > RANK_TOLERANCE * singular[:, :1]).sum(-1)
    if int(n_valid.min()) == 0 or bool((singular[:, 0] <= 1e-12).any()):
        raise ValueError(
            "expected effects that vary over images, got constant effects; use more than one image"
        )
    if rank is not None:
        if not 1 <= rank <= right.shape[1]:
            raise ValueError(f"expected rank within 1..{right.shape[1]}, got {rank}")
        n_valid = torch.full_like(n_valid, rank)
    width = int(n_valid.max())
    keep = torch.arange(width, device=data.device) < n_valid[:, None]
    return (right[:, :width].transpose(1, 2) * keep[:, None]).to(data), n_valid


def _check(effects: Tensor, text_directions: Tensor, n_texts: int) -> None:
    if effects.ndim < 2 or effects.shape[0] < 2:
        raise ValueError(f"expected effects [image >= 2, ..., d_embed], got {list(effects.shape)}")
    if text_directions.ndim != 2 or text_directions.shape[1] != effects.shape[-1]:
        raise ValueError(
            f"text directions have shape {list(text_directions.shape)} but the effects have "
            f"d_embed={effects.shape[-1]}; encode the pool with model.encode_texts(...)"
        )
    if text_directions.shape[0] == 0 or n_texts < 1:
        raise ValueError(
            f"expected a pool of texts and n_texts >= 1, got {text_directions.shape[0]} and {n_texts}"
        )
