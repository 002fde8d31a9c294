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
    half = 3.18245 * math.sqrt((4 + 1 + 0 + 9) / 3) / 2  # Student's t with 3 degrees of freedom
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


@pytest.mark.parametrize("n", [2, 5, 10])
def test_the_mean_of_a_few_values_is_covered_as_often_as_is_said(n):
    """95% of normal samples, and of skewed ones as many as the docstring says."""
    rng = np.random.default_rng(n)

    def covered(samples, truth):
        found = [intervals.mean(row) for row in samples]
        return np.mean([one.low <= truth <= one.high for one in found])

    assert covered(rng.normal(3, 2, (4000, n)), 3) == pytest.approx(0.95, abs=0.012)
    said = {5: 0.88, 10: 0.90}
    if n in said:
        assert covered(rng.exponential(1, (4000, n)), 1) == pytest.approx(said[n], abs=0.015)


def test_a_paired_change_by_hand():
    # Bonett and Price, 2 lost and 9 gained of 48: shares 3/50 and 10/50, 0.14 +- 1.96 sqrt((0.26 - 0.14^2) / 50)
    found = intervals.paired(2, 9, 48)
    assert found.value == pytest.approx(7 / 48)
    half = 1.96 * math.sqrt((0.26 - 0.0196) / 50)
    assert (found.low, found.high, found.n) == (
        pytest.approx(0.14 - half, abs=1e-5),
        pytest.approx(0.14 + half, abs=1e-5),
        48,
    )
    assert found.differs
    assert not intervals.paired(3, 4, 48).differs
    unchanged = intervals.paired(0, 0, 48)
    assert unchanged.low == -unchanged.high < 0 == unchanged.value
    assert intervals.paired(0, 0, 0).interval == "–"
    with pytest.raises(ValueError, match="at most 3 things, got 2 lost and 2 gained"):
        intervals.paired(2, 2, 3)


def test_a_difference_of_two_shares_by_hand():
    # Newcombe 1998, example (a): 56/70 and 48/80, 0.2 with 0.0524 to 0.3339
    found = intervals.difference(intervals.share(48, 80), intervals.share(56, 70))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    assert found.differs
    assert found.n == 70


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.02), (0.02, 0.2), (0.3, 0.1), (0, 0.05)])
@pytest.mark.parametrize("n", [20, 60])
def test_paired_changes_cover_the_truth(lost, gained, n):
    """Exactly: over all counts, weighted by their probability under the multinomial."""
    covered = 0.0
    for k in range(n + 1):
        for j in range(n + 1 - k):
            ways = math.comb(n, k) * math.comb(n - k, j)
            weight = ways * lost**k * gained**j * (1 - lost - gained) ** (n - k - j)
            found = intervals.paired(k, j, n) if weight else None
            covered += weight if found and found.low <= gained - lost <= found.high else 0
    assert covered >= 0.94


def test_the_interval_of_a_mean_stays_within_what_a_value_can_be():
    whole = intervals.mean([1.0, 1.0, 1.0, 0.0])
    assert whole.low < 0
    assert whole.high > 1
    kept = intervals.mean([1.0, 1.0, 1.0, 0.0], 0.0, 1.0)
    assert (kept.value, kept.low, kept.high) == (whole.value, 0, 1)


def test_few_values_and_none_have_the_widest_interval_there_is():
    for nothing in (
        intervals.mean([]),
        intervals.spread([]),
        intervals.share(0, 0),
        intervals.paired(0, 0, 0),
    ):
        assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
        assert nothing.n == 0
        assert str(nothing) == nothing.interval == "–"
    assert intervals.mean([3.0]) == intervals.Estimate(3.0, -math.inf, math.inf, 1)
    assert intervals.mean([0.3], 0.0, 1.0) == intervals.Estimate(0.3, 0.0, 1.0, 1)
    assert intervals.spread([2.0]) == intervals.Estimate(2.0, 2.0, 2.0, 1)
    assert str(intervals.share(4, 5)) == "0.800"
    assert (intervals.paired(1, 0, 1).low, intervals.paired(0, 1, 1).high) == (-1, 1)
    for lost, gained in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError, match=f"got {lost} lost and {gained} gained"):
            intervals.paired(lost, gained, 3)
