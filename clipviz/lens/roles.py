"""A head's role read from its TextSpan texts, with a null, and the heads of a property (thesis Table 2.2).

The thesis labels heads by eye. Here a head is given the family that most of its first texts belong to, if that
many of them would be rare under the null (the head's data under random rotations inside its span: same spectrum,
same pool, no relation between them). "No clear role" is an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from clipviz.values import Head

NO_ROLE = "no clear role"


@dataclass(frozen=True)
class Role:
    """What one head is about. family: of most of its first texts; n_texts of the n_first belong to it.

    p_value: share of null draws (the observation counted in) in which the same family has as many or more of the
    first texts; confidence = 1 - p_value.
    """

    head: Head
    family: str | None
    n_texts: int
    n_first: int
    p_value: float
    clear: bool

    @property
    def confidence(self) -> float:
        return 1 - self.p_value

    @property
    def label(self) -> str:
        return self.family if self.clear and self.family is not None else NO_ROLE


def label_heads(
    heads: Sequence[Head],
    order: Int[Tensor, "head_all n_texts"],
    null_order: Int[Tensor, "draw head_all n_texts"],
    families: Sequence[str | None],
    n_first: int = 5,
    at_least: int = 3,
    level: float = 0.05,
) -> list[Role]:
    """The role of every head from its first texts.

    order: texts chosen for the heads; null_order: for random rotations of them (lens.textspan.null_explained).
    families: of every text of the pool. A role is clear when at least `at_least` of the first texts share a
    family and the same family gets as many in at most a share `level` of the null draws (20 draws can show .05).
    """
    if order.shape[0] != len(heads) or null_order.shape[1] != len(heads):
        raise ValueError(
            f"expected texts of {len(heads)} heads, got {order.shape[0]} and a null of {null_order.shape[1]}"
        )
    if int(order.max()) >= len(families):
        raise ValueError(
            f"expected a family for each text of the pool ({int(order.max()) + 1} or more), got {len(families)}"
        )
    n_first = min(n_first, order.shape[1])
    roles = []
    for i, head in enumerate(heads):
        family, n_texts = _largest(order[i, :n_first].tolist(), families)
        draws = [_count(draw, families, family) for draw in null_order[:, i, :n_first].tolist()]
        p_value = (1 + sum(count >= n_texts for count in draws)) / (1 + len(draws))
        clear = family is not None and n_texts >= at_least and p_value <= level
        roles.append(Role(head, family, n_texts, n_first, p_value, clear))
    return roles


def heads_with(roles: Sequence[Role], labels: Collection[str]) -> frozenset[Head]:
    """The heads whose clear role is one of `labels`."""
    return frozenset(role.head for role in roles if role.clear and role.family in labels)


def _largest(texts: Sequence[int], families: Sequence[str | None]) -> tuple[str | None, int]:
    """The most frequent family of some texts; the one found first among equals."""
    counts = Counter(families[text] for text in texts if families[text] is not None)
    return counts.most_common(1)[0] if counts else (None, 0)


def _count(texts: Sequence[int], families: Sequence[str | None], family: str | None) -> int:
    return sum(families[text] == family for text in texts)
