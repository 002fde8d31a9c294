"""A head's role read from its TextSpan texts, with a null, and the heads of a property (thesis Table 2.2).

The thesis labels heads by eye. Here a head is given the family that most of its first texts belong to, if that
many of them would be rare under the null (the head's data under random rotations inside its span: same spectrum,
same pool, no relation between them). "No clear role" is an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from clipviz.values import Head

NO_ROLE = "no clear role"


@dataclass(frozen=True)
class Role:
    """What a head is about. family: of most of its first texts; n_texts of the n_first belong to it.

    p_value: share of the n_draws null draws (the observation counted in) in which the same family has as many or
    more of the first texts; confidence = 1 - p_value.
    """

    family: str | None
    n_texts: int
    n_first: int
    p_value: float
    n_draws: int
    clear: bool

    @property
    def confidence(self) -> float:
        return 1 - self.p_value

    @property
    def label(self) -> str:
        return self.family if self.clear and self.family is not None else NO_ROLE

    @property
    def why(self) -> str:
        """The evidence in words."""
        if self.family is None:
            return "the pool says nothing about its texts' families"
        as_good = round(self.p_value * (1 + self.n_draws)) - 1
        return (
            f"{self.n_texts} of the first {self.n_first} texts are about {self.family}; random rotations of the "
            f"head's span do as well in {as_good} of {self.n_draws} draws"
        )


def role_of(
    texts: Sequence[int],
    null_texts: Sequence[Sequence[int]],
    families: Sequence[str | None],
    n_first: int = 5,
    at_least: int = 3,
    level: float = 0.05,
) -> Role:
    """The role of one head from its first texts.

    texts: chosen for the head, best first; null_texts: for each random rotation of it (lens.textspan.null_explained).
    families: of every text of the pool. A role is clear when at least `at_least` of the first texts share a family
    and the same family gets as many in at most a share `level` of the null draws (20 draws can show .05).
    """
    highest = max(texts, default=-1)
    if highest >= len(families):
        raise ValueError(
            f"expected a family for each text of the pool ({highest + 1} or more), got {len(families)}"
        )
    n_first = min(n_first, len(texts))
    family, n_texts = largest(texts[:n_first], families)
    as_good = sum(_count(draw[:n_first], families, family) >= n_texts for draw in null_texts)
    p_value = (1 + as_good) / (1 + len(null_texts))
    clear = family is not None and n_texts >= at_least and p_value <= level
    return Role(family, n_texts, n_first, p_value, len(null_texts), clear)


def heads_with(roles: Mapping[Head, Role], labels: Collection[str]) -> frozenset[Head]:
    """The heads whose clear role is one of `labels`."""
    return frozenset(head for head, role in roles.items() if role.clear and role.family in labels)


def largest(texts: Sequence[int], families: Sequence[str | None]) -> tuple[str | None, int]:
    """The most frequent family of some texts; the one found first among equals."""
    counts = Counter(families[text] for text in texts if families[text] is not None)
    return counts.most_common(1)[0] if counts else (None, 0)


def _count(texts: Sequence[int], families: Sequence[str | None], family: str | None) -> int:
    return sum(families[text] == family for text in texts)
