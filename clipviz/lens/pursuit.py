"""The greedy search of TextSpan (thesis Alg. 1) in the coordinates of a head's span.

With P = I - (chosen directions), the score of text j is X_j P S P X_j^T; after choosing the unit direction q it falls
by 2 (X_j.q)(X_j P S q) - (X_j.q)^2 (q S q): two matrix-vector products per round. P S P and P are kept in float64 and
change by one direction per round. Scores are refreshed from scratch every few rounds and the leaders are rescored in
float64 before each choice, so the choices are those of the literal algorithm.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

REFRESH = 15
LEADERS = 12
HEADS_AT_ONCE = 4
NUMBERS_AT_ONCE = 1 << 22  # products of texts' coordinates held together, 16 MB


def greedy(
    pool: Float[Tensor, "pool rank text"],
    floors: Float[Tensor, " text"],
    covariance: Float[Tensor, "head rank rank"],
    n_texts: int,
    normalised: bool,
    first: Float[Tensor, "head text"] | None = None,
) -> tuple[Int[Tensor, "head n_texts"], Float[Tensor, "head n_texts rank"], Bool[Tensor, "head text"]]:
    """Return the chosen texts, their unit residuals (0 once a text is used up), and which texts were found to be
    used up.

    pool: one for each head, or a single one for all heads. first: the initial scores, if known.
    """
    n_heads, rank, _ = covariance.shape
    # covariances of the effects, minus the part along the chosen directions
    exact = left = covariance.double()
    projection = torch.eye(rank, dtype=torch.float64, device=pool.device).repeat(n_heads, 1, 1)
    directions = torch.zeros(n_heads, n_texts, rank, dtype=torch.float64, device=pool.device)
    order = torch.zeros(n_heads, n_texts, dtype=torch.long, device=pool.device)
    every = pool.expand(n_heads, -1, -1)
    used_up = (pool.square().sum(1) <= floors.square()).repeat(n_heads // len(pool), 1)
    scores = lengths = torch.empty(0)
    for step in range(n_texts):
        if step % REFRESH == 0:
            gone = used_up.scatter(1, order[:, :step], True)
            fresh = all_scores(pool, left) if first is None or step else first
            scores = fresh.masked_fill(gone, -torch.inf)
            lengths = _all_lengths(pool, directions[:, :step]) if normalised else lengths
        values = scores / lengths.clamp_min(1e-12) if normalised else scores
        best, known, direction = _best(every, floors, exact, projection, values, used_up, normalised)
        if normalised:
            scores.masked_fill_(used_up, -torch.inf)
        if not known:  # a head whose texts are all used up takes the first of the remaining ones
            done = torch.zeros_like(used_up).scatter_(1, order[:, :step], True)
            best = torch.where(direction.any(-1), best, done.to(torch.uint8).argmin(-1))
        order[:, step], directions[:, step] = best, direction
        if step == n_texts - 1:
            break
        along, across, left, projection = _fall(pool, left, projection, direction)
        scores.addcmul_(along, across, value=-2).scatter_(1, best[:, None], -torch.inf)
        lengths = (lengths - along.square()).clamp_min(0) if normalised else lengths
    return order, directions, used_up


def all_scores(pool: Tensor, left: Tensor) -> Float[Tensor, "head text"]:
    """Return the variance that each residual text explains, from scratch, a few heads at a time to fit caches."""
    if len(pool) < len(left):
        return _scores_in_one_pool(pool[0], left)
    parts = zip(left.to(pool).split(HEADS_AT_ONCE), pool.split(HEADS_AT_ONCE), strict=True)
    return torch.cat([(matrix @ texts).mul_(texts).sum(1) for matrix, texts in parts])


def _scores_in_one_pool(
    texts: Float[Tensor, "rank text"], left: Float[Tensor, "head rank rank"]
) -> Float[Tensor, "head text"]:
    """Return x^T S x of the same texts x for many symmetric S: sum over i <= j of (2 - [i = j]) S_ij x_i x_j, in one
    product.
    """
    rank = len(texts)
    rows, columns = torch.triu_indices(rank, rank, device=left.device)
    weights = (left * (2 - torch.eye(rank).to(left)))[:, rows, columns].to(texts)
    parts = texts.split(max(1, NUMBERS_AT_ONCE // len(rows)), 1)
    products = texts.new_empty(len(rows), parts[0].shape[1])
    return torch.cat([weights @ _products(part, products[:, : part.shape[1]]) for part in parts], 1)


def _products(texts: Float[Tensor, "rank text"], products: Float[Tensor, "pair text"]) -> Tensor:
    """Write x_i x_j for i <= j of every text into `products` and return it."""
    end = 0
    for i, row in enumerate(texts):
        start, end = end, end + len(texts) - i
        torch.mul(texts[i:], row, out=products[start:end])
    return products


def empty(pool: Tensor, floors: Tensor, directions: Tensor) -> Bool[Tensor, "head text"]:
    """Return which texts are used up, judged by the residuals: squared lengths lose half the digits."""
    parts = zip(directions.to(pool).split(HEADS_AT_ONCE), pool.split(HEADS_AT_ONCE), strict=True)
    rests = (torch.baddbmm(part, rows.transpose(1, 2), rows @ part, alpha=-1) for rows, part in parts)
    return torch.cat([rest.square_().sum(1) <= floors.square() for rest in rests])


def _all_lengths(pool: Tensor, directions: Tensor) -> Float[Tensor, "head text"]:
    """Return the squared length of each residual text, computed from scratch."""
    return (pool.square().sum(1) - _along(directions, pool).square().sum(1)).clamp_min(0)


def _best(
    pool: Tensor,
    floors: Tensor,
    covariance: Float[Tensor, "head rank rank"],
    projection: Float[Tensor, "head rank rank"],
    values: Float[Tensor, "head text"],
    used_up: Bool[Tensor, "head text"],
    normalised: bool,
) -> tuple[Int[Tensor, " head"], bool, Float[Tensor, "head rank"]]:
    """Return the best text that is not used up, whether every head has one, and its unit residual direction.

    The leaders by the running scores are rescored in float64. Because of rounding a used-up text can lead.
    Leaders are therefore drawn again, in growing numbers, until no new one is used up; used-up texts are marked
    in `used_up` and in `values`. A head without any text left gets a direction of 0.
    """
    n_leaders = LEADERS
    while True:
        best, leaders = values.topk(min(n_leaders, values.shape[1]))
        known = best > -torch.inf
        rows = torch.gather(pool, 2, leaders[:, None].expand(-1, pool.shape[1], -1)).transpose(1, 2).double()
        # twice is enough: the second removes the first's rounding
        rows = rows.bmm(projection).bmm(projection)
        lengths = torch.linalg.vector_norm(rows, dim=-1)
        empty = (lengths <= floors.take(leaders)) & known
        if not bool(empty.any()):
            break
        used_up.scatter_(1, leaders, torch.gather(used_up, 1, leaders) | empty)
        values.scatter_(1, leaders, best.masked_fill_(empty, -torch.inf))
        n_leaders *= 2
    exact = rows.bmm(covariance).mul_(rows).sum(-1)
    exact = exact / lengths.square().clamp_min(1e-24) if normalised else exact
    position = exact.masked_fill_(~known, -torch.inf).argmax(-1, keepdim=True)
    direction = torch.gather(rows, 1, position[..., None].expand(-1, -1, rows.shape[-1]))[:, 0]
    direction = direction / torch.gather(lengths, 1, position).clamp_min(1e-30)
    chosen, every = torch.gather(leaders, 1, position)[:, 0], bool(known[:, 0].all())
    return chosen, every, direction if every else direction * known[:, :1]


def _fall(
    pool: Tensor, left: Tensor, projection: Tensor, direction: Tensor
) -> tuple[Float[Tensor, "head text"], Float[Tensor, "head text"], Tensor, Tensor]:
    """Return the residual covariance after projecting out `direction` q, and X.q and X.t; every score falls by twice
    their product.

    With s = S q of the residual covariance S and t = s - (q.s) q / 2, the score of text j falls by 2
    (X_j.q)(X_j.s) - (q.s)(X_j.q)^2 = 2 (X_j.q)(X_j.t), and S by q t^T + t q^T: one pass over the pool.
    """
    column = direction[..., None]
    seen = left.bmm(column)
    seen = torch.baddbmm(seen, column, column.transpose(1, 2).bmm(seen), alpha=-0.5)
    pair, turned = torch.cat([column, seen], 2), torch.cat([seen, column], 2)
    along, across = _along(pair.transpose(1, 2), pool).unbind(1)
    left = torch.baddbmm(left, pair, turned.transpose(1, 2), alpha=-1)
    return along, across, left, torch.baddbmm(projection, column, column.transpose(1, 2), alpha=-1)


def _along(rows: Float[Tensor, "head row rank"], pool: Tensor) -> Float[Tensor, "head row text"]:
    """Return products of rows with the texts of each head's pool, or of the one pool of all heads."""
    if len(pool) < len(rows):
        found: Tensor = (rows.flatten(0, 1).to(pool) @ pool[0]).unflatten(0, rows.shape[:2])
        return found
    return rows.to(pool).bmm(pool)
