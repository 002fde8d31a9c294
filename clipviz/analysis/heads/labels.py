"""Labels of heads: one definition for the session, the panels and the reports.

A head's label is the broad family that at least 3 of its first 5 texts share, provided that in at most 5% of 200
random rotations of the head's data inside its span any family is as frequent (lens.roles). The texts are those of
TextSpan with a centred pool and length-normalised scores, since the raw search of Alg. 1 prefers long texts and
the part common to all texts. Every head is searched alone in its own span with the same rotations, so its label
does not depend on which other heads are requested. docs/nulls.md reports how often heads of noise get a label.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from clipviz.data.texts import Texts, broad
from clipviz.lens import roles, textspan
from clipviz.lens.roles import Chosen, Role
from clipviz.values import Head

N_FIRST, AT_LEAST, LEVEL, N_DRAWS = 5, 3, 0.05, 200

RULE = (
    f"A role is clear if at least {AT_LEAST} of the first {N_FIRST} texts share a family and if in "
    f"at most {LEVEL:.0%} of {N_DRAWS} random rotations inside the head's span (same spectrum, same "
    "pool, no relation between them) any family is as frequent. Among equal counts, p also compares "
    "the share of the explained variance that the family's texts account for, so that p is uniform "
    "for a head of noise."
)
"""The definition, as reports state it."""


def label_head(
    covariance: Float[Tensor, "rank rank"],
    span: Float[Tensor, "d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    texts: Texts,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Role:
    """Return the role of one head from its covariance in its span (lens.textspan.head_span; zero columns are left
    out).

    text_directions, texts: the pool, encoded and in words. Raises ValueError for a head that does not vary.
    """
    steps = label_in_steps(covariance, span, text_directions, texts, n_draws, seed)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Role = done.value
            return found


def label_in_steps(
    covariance: Float[Tensor, "rank rank"],
    span: Float[Tensor, "d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    texts: Texts,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Generator[None, None, Role]:
    """Run `label_head` as a generator that returns the role, so that other work can be done between two steps."""
    textspan.check_varies(span)
    kept = span.norm(dim=0) > 0.5
    own = covariance[kept][:, kept][None], span[:, kept][None], text_directions.to(span)
    n_texts = min(N_FIRST, int(kept.sum()), len(text_directions))
    basis = textspan.textspan_from_covariance(*own, n_texts, centre_pool=True, normalised=True)
    (chosen,) = _chosen(basis.order, basis.explained)
    null: list[Chosen] = []
    for explained, order in textspan.null_in_parts(
        *own, n_texts, n_draws, seed, centre_pool=True, normalised=True
    ):
        null += _chosen(order[:, 0], explained[:, 0])
        yield
    families = [broad(family) for family in texts.families]
    return roles.role_of(chosen, null, families, N_FIRST, AT_LEAST, LEVEL)


def _chosen(order: Int[Tensor, "draw n_texts"], explained: Float[Tensor, "draw n_texts"]) -> list[Chosen]:
    """Return the texts of each draw and how much each adds to the variance that its predecessors explain."""
    gains = explained.diff(dim=1, prepend=explained.new_zeros(len(explained), 1))
    return [Chosen(*drawn) for drawn in zip(order.tolist(), gains.tolist(), strict=True)]


def label_heads(
    heads: Sequence[Head],
    covariance: Float[Tensor, "head_all rank rank"],
    span: Float[Tensor, "head_all d_embed rank"],
    text_directions: Float[Tensor, "text d_embed"],
    texts: Texts,
) -> dict[Head, Role]:
    """Return the role of every head; heads: the heads along the first axis of covariance and span."""
    if not len(heads) == len(covariance) == len(span):
        raise ValueError(
            f"expected the covariance and span of {len(heads)} heads, got {len(covariance)} and {len(span)}"
        )
    return {
        head: label_head(own, axes, text_directions, texts)
        for head, own, axes in zip(heads, covariance, span, strict=True)
    }
