"""Intervals by hand, and that they hold what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipviz.lens import intervals


def test_a_share_by_hand():
    # Wilson for 8 of 10: (0.8 + 0.19207 +- 1.96 sqrt(0.016 + 0.009604)) / 1.38415
    found = intervals.share(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert intervals.share(10, 10).high == pytest.approx(1)
    assert intervals.share(0, 10).low == pytest.approx(0, abs=1e-12)
    assert intervals.share(0, 0).interval == "–"
    with pytest.raises(ValueError, match="expected 0 to 3 right of 3, got 4"):
        intervals.share(4, 3)
    assert intervals.share_of([True, False, True]) == intervals.share(2, 3)
    with pytest.raises(ValueError, match="at least one case"):
        intervals.share_of([])


def test_the_ends_of_a_share_solve_its_equation():
    found = intervals.share(8, 10)
    for end in (found.low, found.high):  # |p - 0.8| = 1.96 sqrt(p (1 - p) / 10)
        assert abs(end - 0.8) == pytest.approx(intervals.Z * (end * (1 - end) / 10) ** 0.5, rel=1e-6)


def test_a_mean_by_hand():
    found = intervals.mean([1.0, 2.0, 3.0, 6.0])
    half = 1.96 * math.sqrt((4 + 1 + 0 + 9) / 3) / 2
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (3, 3 - half, 3 + half, 4), abs=1e-3
    )


def test_draws_are_summed_up_by_their_quantiles():
    found = intervals.spread(np.arange(201.0))
    assert (found.low, found.value, found.high, found.n) == (5, 100, 195, 201)


@pytest.mark.parametrize("p", [0.5, 0.93])
def test_intervals_cover_the_truth_19_times_of_20(p):
    rng = np.random.default_rng(0)
    right = rng.binomial(300, p, 2000)
    covered = [found.low <= p <= found.high for found in (intervals.share(int(k), 300) for k in right)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    samples = rng.exponential(1, (2000, 300))
    means = [intervals.mean(row) for row in samples]
    assert np.mean([found.low <= 1 <= found.high for found in means]) == pytest.approx(0.95, abs=0.015)
