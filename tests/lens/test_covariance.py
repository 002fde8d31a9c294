"""One covariance: against float64 in one batch, by hand, and under any split and order of merging."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipviz.lens import covariance
from clipviz.lens.covariance import (
    Moments,
    augmented_codes,
    code_moments,
    effect_covariance,
    effect_mean,
    merge_means,
    moments,
)
from clipviz.values import Codes, HeadBasis


def assert_same(a: Moments, b: Moments) -> None:
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(a.covariance, b.covariance, rtol=1e-10, atol=1e-10)


def test_two_samples_by_hand():
    found = moments(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    assert found.mean.tolist() == [1.0, 2.0]
    assert found.covariance.tolist() == [[1.0, 2.0], [2.0, 4.0]]


def test_moments_equal_torch_cov():
    samples = torch.randn(50, 3, 5, generator=torch.Generator().manual_seed(0)) * 3 + 7
    found = moments(samples)
    for row in range(3):
        expected = torch.cov(samples[:, row].double().T, correction=0)
        torch.testing.assert_close(found.covariance[row], expected)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    offset=st.floats(-1e4, 1e4),
)
def test_parts_merge_to_the_whole_in_any_order(sizes, order, offset):
    samples = torch.randn(sum(sizes), 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    samples = samples + offset
    parts = [moments(part) for part in samples.split(sizes)]
    order.shuffle(parts)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    whole = moments(samples)
    assert total.count == whole.count
    torch.testing.assert_close(total.mean, whole.mean, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(total.scatter, whole.scatter, rtol=1e-8, atol=1e-8)


def test_merging_with_nothing_changes_nothing():
    some, nothing = moments(torch.randn(4, 3)), moments(torch.zeros(0, 3))
    assert_same(some + nothing, some)
    assert_same(nothing + some, some)
    assert merge_means(0, torch.zeros(2), 3, torch.ones(2)).tolist() == [1.0, 1.0]
    assert merge_means(1, torch.tensor([4.0]), 3, torch.tensor([8.0])).tolist() == [7.0]  # (4 + 3 x 8) / 4


def test_merging_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"got means \[3\] and \[4\]; merge statistics of the same model"):
        moments(torch.zeros(2, 3)) + moments(torch.zeros(2, 4))


def test_effect_moments_follow_from_code_moments():
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    basis = HeadBasis(draw(2, 3, 4, 6), draw(2, 6), draw(6), draw(6), (0, 1))
    codes, mean, std = draw(30, 2, 3, 4), draw(30), draw(30).abs() + 0.5
    writes = torch.einsum("ilhe,lhek->ilhk", codes, basis.basis) + basis.output_bias[:, None]
    effects = (writes - mean[:, None, None, None] * basis.mean_share) / std[:, None, None, None]
    effects = effects + basis.constant
    found = moments(augmented_codes(codes, mean, std))
    torch.testing.assert_close(effect_mean(found.mean, basis), effects.mean(0))
    covariance = effect_covariance(found.covariance, basis)
    torch.testing.assert_close(covariance[1, 2], torch.cov(effects[:, 1, 2].T, correction=0))


def test_code_moments_of_a_large_mean_lose_no_digits(monkeypatch):
    """E[vv] - E[v]^2 in float64 keeps no digit here: means of 1e9 beside deviations of 1."""
    monkeypatch.setattr(covariance, "IMAGES_AT_ONCE", 7)
    draw = torch.Generator().manual_seed(4)
    codes_, mean = (torch.randn(*shape, generator=draw).double() + 1e9 for shape in ((40, 2, 3, 4), (40,)))
    codes = Codes(codes_, mean, torch.ones(40).double(), torch.zeros(40, 5), (2, 3))
    vectors = augmented_codes(codes.codes, codes.mean, codes.std)
    found = code_moments(codes)
    expected = torch.cov((vectors[:, 1, 2] - 1e9).T, correction=0)
    torch.testing.assert_close(found.covariance[1, 2], expected, rtol=1e-6, atol=1e-6)
    rows = torch.tensor([3, 30, 8, 9, 21, 22, 11, 12, 4])
    expected = torch.cov((vectors[rows][:, 0, 1] - 1e9).T, correction=0)
    torch.testing.assert_close(code_moments(codes, rows).covariance[0, 1], expected, rtol=1e-6, atol=1e-6)


def test_code_moments_take_stored_half_precision_codes():
    draw = torch.Generator().manual_seed(5)
    shapes = ((9, 2, 3, 4), (9,), (9,), (9, 5))
    columns = [torch.rand(shape, generator=draw).half() + 1 for shape in shapes]
    stored = Codes(*(column.numpy() for column in columns), layers=(0, 1))
    wide = Codes(*(column.double() for column in columns), layers=(0, 1))
    assert_same(code_moments(stored), code_moments(wide))
