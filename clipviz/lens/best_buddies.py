"""Best buddies, Rosetta units and concepts: the set operations of thesis chapter 4 on a correlation table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k most correlated units of every unit, for two models. Best buddies need no more of the correlation table.

    values_a, index_a: [unit_a, k] correlations and units of b, strongest first; values_b, index_b: [unit_b, k]
    likewise. Missing entries are -inf and -1. Memory: 12 k (n_a + n_b) bytes, however large the table.
    """

    values_a: Float[Tensor, "unit_a k"]
    index_a: Int[Tensor, "unit_a k"]
    values_b: Float[Tensor, "unit_b k"]
    index_b: Int[Tensor, "unit_b k"]

    @classmethod
    def empty(cls, n_a: int, n_b: int, k: int, device: torch.device | str = "cpu") -> Neighbours:
        """Return an object without any neighbours yet.

        Args:
            n_a: Units of model a.
            n_b: Units of model b.
            k: Neighbours per unit.
            device: Where the tables are kept.

        Returns:
            Neighbours to `include` blocks in.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError(f"expected k >= 1 nearest neighbours, got {k}; the thesis uses 5")
        tables = []
        for n_units in (n_a, n_b):
            tables.append(torch.full((n_units, k), float("-inf"), device=device))
            tables.append(torch.full((n_units, k), -1, dtype=torch.long, device=device))
        return cls(*tables)

    def include(
        self, correlation: Float[Tensor, "block_a block_b"], start_a: int, start_b: int
    ) -> Neighbours:
        """Return the neighbours after one more block of the table.

        Args:
            correlation: The block, [unit_a, unit_b].
            start_a: Its first unit of model a.
            start_b: Its first unit of model b.

        Returns:
            Neighbours over all blocks so far.
        """
        rows = slice(start_a, start_a + correlation.shape[0])
        cols = slice(start_b, start_b + correlation.shape[1])
        side_a = _keep_top(self.values_a, self.index_a, correlation, rows, start_b)
        side_b = _keep_top(self.values_b, self.index_b, correlation.T, cols, start_a)
        return Neighbours(*side_a, *side_b)

    def without_self(self) -> Neighbours:
        """Return the neighbours of a model with itself without the unit itself, so that each list is one shorter."""

        def leave_out(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            own = index == torch.arange(len(index), device=index.device)[:, None]
            order = own.to(torch.int8).argsort(dim=1, stable=True)[:, :-1]
            return values.gather(1, order), index.gather(1, order)

        return Neighbours(*leave_out(self.values_a, self.index_a), *leave_out(self.values_b, self.index_b))

    def pairs(self, above: float = 0.0) -> tuple[Int[Tensor, "pair 2"], Float[Tensor, " pair"]]:
        """Return mutual neighbours whose correlation exceeds `above`, and this correlation, best first (Eq. 4.3)."""
        n_a, k = self.index_a.shape
        unit_a = torch.arange(n_a, device=self.index_a.device).repeat_interleave(k)
        unit_b, strength = self.index_a.flatten(), self.values_a.flatten()
        known = (unit_b >= 0) & (strength > above)
        unit_a, unit_b, strength = unit_a[known], unit_b[known], strength[known]
        mutual = (self.index_b[unit_b] == unit_a[:, None]).any(1)
        pairs, strength = torch.stack([unit_a, unit_b], 1)[mutual], strength[mutual]
        order = strength.argsort(descending=True, stable=True)
        return pairs[order], strength[order]


def _keep_top(
    values: Tensor, index: Tensor, block: Tensor, rows: slice, offset: int
) -> tuple[Tensor, Tensor]:
    """Return the top k of each row from the known entries and a new block of columns, without changing the inputs."""
    k = values.shape[1]
    new_values, new_index = block.topk(min(k, block.shape[1]), dim=1)
    joint_values = torch.cat([values[rows], new_values.to(values)], 1)
    joint_index = torch.cat([index[rows], new_index + offset], 1)
    kept_values, kept = joint_values.topk(k, dim=1)
    values, index = values.clone(), index.clone()
    values[rows], index[rows] = kept_values, joint_index.gather(1, kept)
    return values, index


def best_buddies(
    correlation: Float[Tensor, "unit_a unit_b"], k: int = 5, above: float = 0.0
) -> Int[Tensor, "pair 2"]:
    """Return pairs that are among each other's k nearest neighbours, BB(F1, F2; K) of thesis Eq. 4.3.

    Args:
        correlation: [unit_a, unit_b].
        k: Neighbours on each side.
        above: Only larger correlations count: Rosetta neurons are positively correlated by definition, and a dead unit
            (correlation 0 with everything) never matches.

    Returns:
        [pair, 2], strongest first.

    Raises:
        ValueError: k is below 1, or the table holds NaN.

    Examples:
        best_buddies(torch.tensor([[.9, .1], [.2, .8]]), k=1)     # [[0, 0], [1, 1]]
    """
    if torch.isnan(correlation).any():
        raise ValueError(
            "the correlation table holds NaN; use CorrelationSums.correlation(), which gives dead units 0"
        )
    found = Neighbours.empty(len(correlation), correlation.shape[1], k, correlation.device)
    return found.include(correlation, 0, 0).pairs(above)[0]


def self_best_buddies(
    correlation: Float[Tensor, "unit _"], k: int = 5, above: float = 0.0
) -> Int[Tensor, "pair 2"]:
    """Return the best buddies of a model with itself, BB(G, G; K). A unit is not counted among its own neighbours.

    Args:
        correlation: [unit, unit].
        k: As in `best_buddies`.
        above: As in `best_buddies`.

    Returns:
        [pair, 2]; each pair is listed once, the smaller unit first.

    Raises:
        ValueError: The table is not square.
    """
    if correlation.shape[0] != correlation.shape[1]:
        raise ValueError(f"expected a square table of one model with itself, got {list(correlation.shape)}")
    diagonal = torch.eye(len(correlation), dtype=torch.bool, device=correlation.device)
    pairs = best_buddies(correlation.masked_fill(diagonal, float("-inf")), k, above)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def rosetta_units(
    pairs_by_model: Sequence[Int[Tensor, "_ 2"]], strongest: bool = False
) -> Int[Tensor, "tuple model"]:
    """Return R(G, D_1 ... D_m) of thesis Eq. 4.4: pivot units with a best buddy in EVERY model.

    Args:
        pairs_by_model: For each model D_i its pairs (pivot unit, unit of D_i), strongest first.
        strongest: List each pivot unit once, with its strongest partner in each model, instead of all combinations, at
            most k^m per pivot unit.

    Returns:
        [tuple, model], column 0 the pivot unit and column i the unit of model i, sorted by pivot unit.

    Raises:
        ValueError: There is no model.
    """
    if not pairs_by_model:
        raise ValueError(
            "expected the pairs of at least one model, got none; call best_buddies for each model"
        )
    partners: list[dict[int, list[int]]] = []
    for pairs in pairs_by_model:
        table: dict[int, list[int]] = {}
        for pivot, unit in torch.as_tensor(pairs).tolist():
            table.setdefault(pivot, []).append(unit)
        partners.append(table)
    common = sorted(set.intersection(*(set(table) for table in partners)))
    tuples = []
    for pivot in common:
        choices = [table[pivot][:1] if strongest else table[pivot] for table in partners]
        tuples += [(pivot, *units) for units in itertools.product(*choices)]
    return torch.tensor(tuples, dtype=torch.long).reshape(len(tuples), 1 + len(partners))


def clusters(units: Int[Tensor, "tuple model"], self_pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " tuple"]:
    """Return the concept of each Rosetta tuple: pivot units that are self best buddies share one, transitively.

    Args:
        units: From `rosetta_units`.
        self_pairs: From `self_best_buddies` of the pivot model; only pairs of units that occur in `units` link.

    Returns:
        [tuple], numbered from 0 in order of first appearance.
    """
    pivots = units[:, 0].tolist()
    parent = {pivot: pivot for pivot in pivots}

    def root(pivot: int) -> int:
        while parent[pivot] != pivot:
            parent[pivot] = parent[parent[pivot]]
            pivot = parent[pivot]
        return pivot

    for one, other in torch.as_tensor(self_pairs).tolist():
        if one in parent and other in parent:
            parent[root(one)] = root(other)
    names: dict[int, int] = {}
    return torch.tensor([names.setdefault(root(pivot), len(names)) for pivot in pivots], dtype=torch.long)
