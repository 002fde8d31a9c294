"""A head's role read from its TextSpan texts, with a null, and the heads of a property (thesis Table 2.2).

The thesis labels heads by eye. Here a head is labelled with the most frequent family among its first texts. Under
the null (the head's data under random rotations inside its span: same spectrum, same pool, no relation between
them) any family must rarely be that frequent. A head may have no clear role.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clipviz.values import Head

NO_ROLE = "no clear role"


class Chosen(NamedTuple):
    """Texts that TextSpan chose, best first, as indices into the pool, and the variance that each adds."""

    texts: Sequence[int]
    gains: Sequence[float]

    def first(self, n: int) -> Chosen:
        """Return the first n texts."""
        return Chosen(self.texts[:n], self.gains[:n])


class Largest(NamedTuple):
    """The most frequent family of some texts: how many of them belong to it, and what share of the variance
    explained by all of them these texts explain. Compared as a pair: the share decides between equal counts.
    """

    n_texts: int
    weight: float


@dataclass(frozen=True)
class Role:
    """The role of a head. family: the most frequent one among its first texts; n_texts of the n_first belong to it.

    n_as_many: the number of the n_draws null draws in which any family has at least as many of the first texts.
    p_value: share of the draws (counting the observation) in which any family has more of them, or equally many
    that explain at least as large a share of what all the first texts explain. confidence = 1 - p_value. For a
    head without any relation to the texts p_value is uniform. first: the first texts as indices into the pool;
    null_counts: [draw] how many of the first texts share the largest family there.
    """

    family: str | None
    n_texts: int
    n_first: int
    n_as_many: int
    p_value: float
    n_draws: int
    clear: bool
    first: tuple[int, ...] = ()
    null_counts: tuple[int, ...] = ()

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
            return "the pool does not state its texts' families"
        as_good = round(self.p_value * (1 + self.n_draws)) - 1
        return (
            f"{self.n_texts} of the first {self.n_first} texts are about {self.family}; under random "
            f"rotations of the head's span some family is as frequent in {self.n_as_many} of "
            f"{self.n_draws} draws, and also explains as large a share in {as_good}"
        )


def role_of(
    chosen: Chosen,
    null: Sequence[Chosen],
    families: Sequence[str | None],
    n_first: int = 5,
    at_least: int = 3,
    level: float = 0.05,
) -> Role:
    """Return the role of one head, judged by its first texts.

    A role is clear if enough of the first texts share a family and if any family is as frequent in few of the null
    draws. The draws are searched for any family rather than the head's own, since that one was selected for being the
    largest. Only the count decides, since it does not depend on the draws; p_value also distinguishes heads of equal
    counts.

    Args:
        chosen: The head's texts.
        null: Those of each random rotation of it (lens.textspan.null_explained).
        families: The family of every text of the pool.
        n_first: How many texts are judged.
        at_least: How many of them must share a family.
        level: The share of draws in which a family may be as frequent (20 draws suffice for .05).

    Returns:
        The role, with its evidence.

    Raises:
        ValueError: There are fewer families than texts.
    """
    highest = max(chosen.texts, default=-1)
    if highest >= len(families):
        raise ValueError(
            f"expected a family for each text of the pool ({highest + 1} or more), got {len(families)}"
        )
    n_first = min(n_first, len(chosen.texts))
    family, found = largest(chosen.first(n_first), families)
    drawn = [largest(draw.first(n_first), families)[1] for draw in null]
    n_as_many, as_good = (
        sum(one.n_texts >= found.n_texts for one in drawn),
        sum(one >= found for one in drawn),
    )
    rare = 1 + n_as_many <= level * (1 + len(null))
    clear = family is not None and found.n_texts >= at_least and rare
    p_value = (1 + as_good) / (1 + len(null))
    return Role(
        family,
        found.n_texts,
        n_first,
        n_as_many,
        p_value,
        len(null),
        clear,
        tuple(chosen.texts[:n_first]),
        tuple(one.n_texts for one in drawn),
    )


def heads_with(roles: Mapping[Head, Role], labels: Collection[str]) -> frozenset[Head]:
    """Return the heads whose clear role is one of some labels.

    Args:
        roles: (layer, head) -> role.
        labels: Families.

    Returns:
        (layer, head) pairs.
    """
    return frozenset(head for head, role in roles.items() if role.clear and role.family in labels)


def largest(chosen: Chosen, families: Sequence[str | None]) -> tuple[str | None, Largest]:
    """Return the most frequent family of some texts; among equal counts, the one with the larger share.

    Args:
        chosen: The texts and their gains.
        families: The family of every text of the pool.

    Returns:
        The family and its weight, or None and zeros if no text has a family.
    """
    sums: dict[str, tuple[int, float]] = {}
    for text, gain in zip(*chosen, strict=True):
        family = families[text]
        if family is not None:
            n_texts, explained = sums.get(family, (0, 0.0))
            sums[family] = n_texts + 1, explained + gain
    if not sums:
        return None, Largest(0, 0.0)
    family = max(sums, key=sums.__getitem__)
    n_texts, explained = sums[family]
    return family, Largest(n_texts, explained / (sum(chosen.gains) or 1.0))
