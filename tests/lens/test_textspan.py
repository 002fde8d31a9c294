"""TextSpan: the literal algorithm's choices, its null, streamed moments, by hand, and what it refuses."""

from __future__ import annotations

import naive
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import clipviz
from clipviz.lens import pursuit, textspan
from clipviz.lens.covariance import augmented_codes
from clipviz.lens.decompose import effects_from_codes


def problem(seed: int, n_images: int = 200, d_embed: int = 40, rank: int = 12, n_pool: int = 300):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(rank, d_embed, generator=generator)
    codes = torch.randn(n_images, rank, generator=generator) * torch.logspace(0, -1.3, rank)
    pool = torch.randn(n_pool, d_embed, generator=generator) + 0.5
    return codes @ basis + 3, torch.nn.functional.normalize(pool, dim=-1)


@pytest.mark.parametrize("seed", range(20))
def test_choices_equal_the_literal_algorithm(seed):
    effects, pool = problem(seed)
    chosen = textspan.textspan(effects, pool, 12)
    order, explained = naive.textspan(effects, pool, 12)
    assert chosen.order.tolist() == order
    assert torch.allclose(chosen.explained.double(), torch.tensor(explained, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_float32_effects_held_in_float64_choose_the_same_texts(seed):
    """What float32 rounded off is no span, also where float64 could hold it."""
    effects, pool = problem(seed)
    single, double = (
        textspan.textspan(effects, pool, 12),
        textspan.textspan(effects.double(), pool.double(), 12),
    )
    assert double.order.tolist() == single.order.tolist()
    torch.testing.assert_close(double.explained.float(), single.explained, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"within 1\.\.12 "):  # the span has as many directions
        textspan.textspan(effects.double(), pool.double(), 13)


@pytest.mark.parametrize("rank", [5, 20])
def test_a_fixed_rank_equals_the_literal_algorithm_at_that_rank(rank):
    effects, pool = problem(3, rank=30)
    chosen, (order, explained) = (
        textspan.textspan(effects, pool, 5, rank=rank),
        naive.textspan(effects, pool, 5, rank),
    )
    assert chosen.order.tolist() == order
    assert chosen.explained.tolist() == pytest.approx(explained, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_rank_wider_than_the_span_chooses_as_the_authors_code_does(seed):
    """In float64, where the surplus directions are the same rounding in both."""
    effects, pool = (tensor.double() for tensor in problem(seed, d_embed=96, rank=64, n_pool=800))
    assert (
        textspan.textspan(effects, pool, 30, rank=80).order.tolist()
        == naive.textspan(effects, pool, 30, 80)[0]
    )


def test_the_span_is_cut_at_the_precision_of_the_data():
    """A direction of 1e-6 of the variation is rounding in float32 and data in float64."""
    draw = torch.Generator().manual_seed(2)
    codes = torch.randn(60, 3, generator=draw).double() * torch.tensor([1.0, 1e-2, 1e-6]).double()
    effects = codes @ torch.eye(3, 9).double()
    pool = torch.eye(9).double()
    assert textspan.textspan(effects, pool, 3).order.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"span 2 directions\), got 3"):
        textspan.textspan(effects.float(), pool.float(), 3)


def distinct(pool: torch.Tensor, kind: str) -> torch.Tensor:
    """The first two texts of a pool, then texts that add nothing to them."""
    first, second = pool[0], pool[1]
    return {
        "duplicates": torch.stack([first, second, first, first * (1 + 1e-7), second]),
        "combinations": torch.stack(
            [first, second, first + second, (first - second) / 3, second - 2 * first]
        ),
    }[kind]


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("kind", ["duplicates", "combinations"])
def test_texts_of_which_nothing_is_left_gain_nothing(kind, normalised):
    effects, pool = problem(9)
    alone = textspan.textspan(effects, pool[:2], 2, normalised=normalised)
    chosen = textspan.textspan(effects, distinct(pool, kind), 5, normalised=normalised)
    assert sorted(chosen.order.tolist()) == [0, 1, 2, 3, 4]
    span = torch.linalg.qr(pool[:2].T.double())[0].T  # whichever texts are taken, they span two directions
    inside = torch.linalg.svd(effects.double() - effects.double().mean(0), full_matrices=False)[2][:12]
    span = torch.linalg.qr((span @ inside.T @ inside).T)[0].T
    centred = effects.double() - effects.double().mean(0)
    whole = float((centred @ span.T).square().sum() / centred.square().sum())
    assert float(alone.explained[-1]) == pytest.approx(whole, abs=1e-5)
    assert chosen.explained.tolist()[1:] == pytest.approx([whole] * 4, abs=1e-5)
    assert chosen.directions[2:].abs().max() == 0
    assert (chosen.gains[2:] == 0).all()


def test_texts_orthogonal_to_the_span_gain_nothing_and_are_counted():
    effects = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) @ torch.eye(4, 10)
    pool = torch.eye(10)
    chosen = textspan.textspan(effects, pool[[0, 1, 5, 6, 7, 0, 2]], 4)
    assert (
        int(chosen.n_used_up) == 3 + 1 - 1
    )  # three orthogonal, one duplicate, of which one fills the fourth place
    assert float(chosen.gains[3]) == 0
    more = textspan.textspan(effects, pool, 3)
    assert int(more.n_used_up) == 6


def test_a_text_of_which_little_lies_in_the_span_is_not_used_up():
    """A thousandth of its length is a direction, a hundred-thousandth is rounding."""
    effects = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) @ torch.eye(2, 6)
    pool = torch.eye(6)[[0, 2, 3]].clone()
    pool[1, 1] = 1e-3
    chosen = textspan.textspan(effects, pool, 2)
    assert chosen.order.tolist() == [0, 1]
    assert float(chosen.explained[-1]) == pytest.approx(1, abs=1e-4)
    assert int(chosen.n_used_up) == 1


def test_the_count_of_texts_used_up_is_a_heads_own():
    draw = torch.Generator().manual_seed(1)
    narrow = torch.randn(50, 3, generator=draw) @ torch.eye(3, 10)
    wide = torch.randn(50, 10, generator=draw)
    chosen = textspan.textspan(torch.stack([narrow, wide], 1), torch.eye(10), 3)
    assert chosen.n_used_up.tolist() == [7, 0]


def test_many_rounds_beyond_the_refresh_equal_the_literal_algorithm():
    effects, pool = problem(1, d_embed=96, rank=64, n_pool=800)
    assert textspan.textspan(effects, pool, 60).order.tolist() == naive.textspan(effects, pool, 60)[0]


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do.

    A bare ":" keeps everything and is not counted: torch 2.8 calls slice for it, torch 2.13 does not.
    """

    n = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        self.n += function is not torch.ops.aten.slice.Tensor or found.shape != args[0].shape
        return found


@pytest.mark.parametrize(("normalised", "most"), [(False, 58), (True, 67)])
def test_a_round_is_few_operations(normalised, most):
    """A head's arrays are small: what a round costs is how often torch is called."""
    generator = torch.Generator().manual_seed(0)
    span = torch.linalg.qr(torch.randn(1, 64, 32, generator=generator))[0]
    covariance, pool = torch.linspace(1, 0.1, 32).diag()[None], torch.randn(500, 64, generator=generator)
    counts = []
    for n_texts in (3, 13):
        with Operations() as operations:
            textspan.textspan_from_covariance(covariance, span, pool, n_texts, normalised=normalised)
        counts.append(operations.n)
    assert (counts[1] - counts[0]) / 10 <= most


def test_heads_in_one_batch_equal_heads_alone():
    heads = [problem(seed)[0] for seed in range(4)]
    pool = problem(0)[1]
    together = textspan.textspan(torch.stack(heads, 1).unflatten(1, (2, 2)), pool, 8)
    for i, effects in enumerate(heads):
        alone = textspan.textspan(effects, pool, 8)
        assert together.order.flatten(0, 1)[i].tolist() == alone.order.tolist()
        assert torch.allclose(together.explained.flatten(0, 1)[i], alone.explained, atol=1e-5)


def test_directions_are_orthonormal_and_explain_what_is_said():
    effects, pool = problem(7)
    chosen = textspan.textspan(effects, pool, 10)
    assert torch.allclose(chosen.directions @ chosen.directions.T, torch.eye(10), atol=1e-4)
    centred = effects - effects.mean(0)
    share = (centred @ chosen.directions.T).square().sum() / centred.square().sum()
    assert share == pytest.approx(float(chosen.explained[-1]), abs=1e-4)
    assert torch.allclose(chosen.gains.cumsum(-1), chosen.explained, atol=1e-6)
    assert (chosen.gains > 0).all()


def test_by_hand():
    effects = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    pool = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]])
    chosen = textspan.textspan(effects, pool, 2)
    assert chosen.order.tolist() == [1, 0]  # variances 4.5 and 0.5; the third text mixes both, 3.06
    assert torch.allclose(chosen.explained, torch.tensor([0.9, 1.0]))


def test_normalised_scores_ignore_the_length_of_texts():
    effects, pool = problem(11)
    lengths = torch.linspace(0.1, 5, len(pool))[:, None]
    plain = textspan.textspan(effects, pool, 6, normalised=True).order
    assert torch.equal(textspan.textspan(effects, pool * lengths, 6, normalised=True).order, plain)


def test_a_centred_pool_does_not_care_about_a_common_direction():
    effects, pool = problem(12)
    shifted = textspan.textspan(effects, pool + torch.randn(40), 6, centre_pool=True).order
    assert torch.equal(shifted, textspan.textspan(effects, pool, 6, centre_pool=True).order)


def test_streamed_moments_give_the_choices_of_the_raw_effects():
    model = clipviz.load("demo", device="cpu")
    trace = model.trace(torch.randn(64, 3, 96, 96, generator=torch.Generator().manual_seed(0)), tokens=False)
    vectors = augmented_codes(trace.codes, trace.mean, trace.std).double()
    centred = vectors - vectors.mean(0)
    moments = torch.einsum("ilha,ilhb->lhab", centred, centred) / len(vectors)
    covariance, span = textspan.head_span(model.head_basis(), moments)
    pool = torch.nn.functional.normalize(torch.randn(200, 128), dim=-1)
    effects = effects_from_codes(trace.codes, trace.mean, trace.std, model.head_basis())
    streamed = textspan.textspan_from_covariance(covariance, span, pool, 10)
    raw = textspan.textspan(effects, pool, 10)
    assert torch.equal(streamed.order, raw.order.flatten(0, 1))
    assert torch.allclose(streamed.explained, raw.explained.flatten(0, 1), atol=1e-3)


def test_the_null_keeps_the_spectrum_and_breaks_the_relation():
    effects, pool = problem(5)
    planted = torch.cat([pool, torch.linalg.svd(effects - effects.mean(0), full_matrices=False)[2][:3]])
    data = effects - effects.mean(0)
    span = torch.linalg.svd(data, full_matrices=False)[2][:12].T[None]
    coordinates = data @ span[0]
    covariance = (coordinates.T @ coordinates / len(data))[None]
    real = textspan.textspan_from_covariance(covariance, span, planted, 3)
    null, order = textspan.null_explained(covariance, span, planted, 3, n_draws=20, seed=1)
    assert null.shape == order.shape == (20, 1, 3)
    assert (null <= 1 + 1e-5).all()
    assert real.explained[0, -1] > null[:, 0, -1].max()
    assert torch.equal(null, textspan.null_explained(covariance, span, planted, 3, n_draws=20, seed=1)[0])


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("effects", "pool", "n_texts", "message"),
    [
        (torch.randn(1, 8), torch.randn(5, 8), 2, "image >= 2"),
        (torch.randn(3, 0), torch.randn(5, 0), 2, r"image >= 2.*no axis empty, got \[3, 0\]"),
        (torch.randn(3, 0, 8), torch.randn(5, 8), 2, r"got \[3, 0, 8\]"),
        (
            torch.ones(9, 8).long(),
            torch.randn(5, 8),
            2,
            "effects as a tensor of floating-point numbers, got torch.int64",
        ),
        (
            torch.randn(9, 8),
            torch.randn(5, 8).numpy(),
            2,
            "text directions as a tensor .*float32; convert them",
        ),
        (torch.randn(9, 8), torch.randn(5, 7), 2, r"\[5, 7\].*d_embed=8.*encode_texts"),
        (torch.randn(9, 8), torch.zeros(0, 8), 2, "pool of texts"),
        (torch.randn(9, 8), torch.randn(5, 8), 0, "n_texts >= 1"),
        (torch.randn(9, 8), torch.randn(5, 8), 6, r"within 1\.\.5.*got 6"),
        (torch.ones(9, 8), torch.randn(5, 8), 2, "constant effects"),
    ],
)
def test_wrong_input_is_told_what_was_expected(effects, pool, n_texts, message):
    with pytest.raises(ValueError, match=message):
        textspan.textspan(effects, pool, n_texts)


def test_rank_is_checked():
    with pytest.raises(ValueError, match="rank within"):
        textspan.textspan(torch.randn(9, 8), torch.randn(5, 8), 2, rank=40)


@pytest.mark.parametrize("normalised", [False, True])
def test_every_draw_of_the_null_is_the_search_of_a_rotated_head(monkeypatch, normalised):
    """Draws share one pool and are searched together, a few at a time; alone, each chooses the same texts."""
    effects, pool = problem(5)
    data = effects - effects.mean(0)
    span = torch.linalg.svd(data, full_matrices=False)[2][:12].T[None].repeat(2, 1, 1)
    covariance = (span[0].T @ data.T @ data @ span[0] / len(data))[None].repeat(2, 1, 1)
    monkeypatch.setattr(textspan, "DRAWS_AT_ONCE", 3)
    monkeypatch.setattr(pursuit, "NUMBERS_AT_ONCE", 12 * 13 // 2 * 7)  # of seven texts
    monkeypatch.setattr(pursuit, "REFRESH", 2)
    shares, order = textspan.null_explained(
        covariance, span, pool, 5, n_draws=7, seed=2, centre_pool=True, normalised=normalised
    )
    gaussian = torch.randn(7, 2, 12, 12, generator=torch.Generator().manual_seed(2))
    turned = torch.linalg.qr(gaussian)[0].to(covariance)
    for draw in range(7):
        alone = textspan.textspan_from_covariance(
            turned[draw] @ covariance @ turned[draw].mT, span, pool, 5, True, normalised
        )
        assert torch.equal(order[draw], alone.order)
        torch.testing.assert_close(shares[draw], alone.explained, atol=1e-5, rtol=0)


def test_variance_along_a_text_is_that_of_the_projected_effects():
    generator = torch.Generator().manual_seed(3)
    effects = torch.randn(40, 2, 6, generator=generator, dtype=torch.float64) @ torch.randn(
        6, 10, generator=generator, dtype=torch.float64
    )
    texts = torch.nn.functional.normalize(torch.randn(3, 10, generator=generator, dtype=torch.float64), dim=1)
    span = torch.linalg.svd(effects.transpose(0, 1).transpose(1, 2), full_matrices=False)[0][:, :, :6]
    within = [torch.cov((effects[:, head] @ span[head]).T, correction=0) for head in range(2)]
    found = textspan.variance_along(torch.stack(within), span, texts)
    for head in range(2):
        centred = effects[:, head] - effects[:, head].mean(0)
        expected = (centred @ texts.T).square().sum(0) / centred.square().sum()
        torch.testing.assert_close(found[head], expected)
    assert not textspan.variance_along(torch.zeros(1, 6, 6).double(), span[:1], texts).any()
