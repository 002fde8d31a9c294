"""Measured values with their 95% intervals and what they were measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A value, its 95% interval, and the number of things it was measured on."""

    value: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> str:
        """The interval in two digits."""
        return f"{self.low:.2f}–{self.high:.2f}" if self.n else "–"

    @property
    def in_full(self) -> str:
        """Value, interval and n in one line."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}), n = {self.n}" if self.n else "–"

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.n else "–"


def share(n_right: int, n: int) -> Estimate:
    """A share of n independent things; Wilson's score interval, which holds near 0 and 1 too.

    (p + z^2/2n +- z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with z = 1.96.
    """
    if not 0 <= n_right <= n:
        raise ValueError(f"expected 0 to {n} right of {n}, got {n_right}")
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    p, scale = n_right / n, 1 + Z**2 / n
    centre = (p + Z**2 / (2 * n)) / scale
    half = Z / scale * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


def share_of(right: Sequence[bool] | np.ndarray) -> Estimate:
    """The share of true cases. Raises ValueError where there is none to count."""
    if len(right) == 0:
        raise ValueError("expected at least one case, got none; measure more samples")
    return share(int(np.sum(right)), len(right))


def mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of independent values; mean +- 1.96 standard errors."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    centre = float(np.mean(values))
    half = Z * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Estimate(centre, centre - half, centre + half, n)


def spread(draws: Sequence[float] | np.ndarray) -> Estimate:
    """The median of random draws and the range that 95% of them lie in."""
    if len(draws) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    low, middle, high = np.quantile(np.asarray(draws, float), (0.025, 0.5, 0.975)).tolist()
    return Estimate(middle, low, high, len(draws))
