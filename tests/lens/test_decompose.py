"""Direct effects and heatmaps on a tower small enough to work out on paper, and what wrong input is told."""

from __future__ import annotations

import pytest
import torch

from clipviz.lens.decompose import class_attention, effects_from_codes, head_basis, head_codes
from clipviz.lens.trace import Trace
from clipviz.values import LayerWeights, Readout, TowerWeights


def tensor(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.fixture
def weights():
    """One layer, one head: no query, so attention is even; it reads coordinate 0, adds 1, doubles, adds 3."""
    layer = LayerWeights(
        query=torch.zeros(1, 1, 2),
        query_bias=torch.zeros(1, 1),
        key=torch.ones(1, 1, 2),
        value=tensor([[1, 0]]),
        value_bias=tensor([1]),
        output=tensor([[2], [0]]),
        output_bias=tensor(3, 0),
        ln_gamma=torch.ones(2),
        ln_beta=torch.zeros(2),
        ln_eps=0.0,
        mlp_output=torch.zeros(2, 1),
        mlp_output_bias=torch.zeros(2),
    )
    return TowerWeights((layer,), Readout.after_norm(torch.ones(2), tensor(3, 0), tensor([1], [0])), (1, 2))


@pytest.fixture
def trace(weights):
    tokens = tensor([[0, 0], [3, 0], [6, 3]])
    attention = class_attention(tokens, weights.layers[0])
    codes = head_codes(tokens, attention, weights.layers[0])
    writes = tensor([[8, 1], [0, 0], [2, 5]])
    return Trace(
        weights,
        tensor([9.5]),
        codes[:, None],
        writes,
        tensor(6),
        tensor(2),
        (tokens,),
        attention[:, None, :, None],
    )


def test_codes_by_hand(trace):
    assert trace.attention.flatten().tolist() == pytest.approx([1 / 3] * 3)
    assert trace.codes.flatten().tolist() == pytest.approx([4])  # the mean of 0, 3, 6, and 1


def test_a_heads_effect_by_hand(trace, weights):
    # 2 * 4 + 3 = 11; less a third of the mean 6; over the std 2; plus a third of beta
    assert trace.head_effects().flatten().tolist() == pytest.approx([(11 - 2) / 2 + 1])
    again = effects_from_codes(trace.codes, trace.mean, trace.std, head_basis(weights))
    assert torch.equal(again, trace.head_effects())
    assert trace.head_effects(normalize=True).item() == pytest.approx(5.5 / 9.5)


def test_mlp_effects_by_hand(trace):
    assert trace.mlp_effects().flatten().tolist() == pytest.approx(
        [(8 - 2) / 2 + 1, 0 - 1 + 1, (2 - 2) / 2 + 1]
    )


def test_the_sum_check_is_the_distance_from_the_embedding(trace):
    # effects sum to 5.5 + 4 + 0 + 1 = 10.5, the embedding said 9.5
    assert trace.sum_check() == pytest.approx(1 / 9.5)


def test_token_scores_by_hand(trace):
    # a third of 2 (x + 1), a third of 3, less a ninth of 6; over 2; plus a ninth of 3
    expected = [(2 * (x + 1) / 3 + 1 - 2 / 3) / 2 + 1 / 3 for x in (0, 3, 6)]
    scores = trace.token_scores(tensor([1]))
    assert scores.shape == (1, 1, 1, 1, 3)
    assert scores.flatten().tolist() == pytest.approx(expected)
    assert scores.sum().item() == pytest.approx(trace.head_effects().item())


def test_a_heatmap_leaves_out_the_class_token(trace):
    heatmap = trace.heatmap(tensor([1], [-2]))
    assert heatmap.shape == (2, 1, 1, 2)
    assert heatmap[0].flatten().tolist() == pytest.approx([11 / 6, 17 / 6])
    assert torch.allclose(heatmap[1], -2 * heatmap[0])
    assert trace.heatmap(tensor([1]), heads=[(0, 0)]).equal(heatmap[:1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.head_effects(layers=[1]), r"expected layers within 0..0 .*got \[1\]"),
        (
            lambda t: t.heatmap(torch.ones(1, 2)),
            r"directions have shape \[1, 2\] but the model embeds to \[text, 1\]",
        ),
        (
            lambda t: t.heatmap(torch.ones(1, 1), heads=[(0, 3)]),
            r"expected heads as \(layer, head\).*got \(0, 3\)",
        ),
        (lambda t: t.token_scores(torch.ones(1)), "directions have shape"),
    ],
)
def test_wrong_input_is_told_what_was_expected(trace, unchecked_shapes, call, message):
    with pytest.raises(ValueError, match=message):
        call(trace)


def test_a_trace_without_tokens_says_so(trace, weights):
    bare = Trace(weights, trace.embedding, trace.codes, trace.mlp_writes, trace.mean, trace.std)
    assert torch.equal(bare.head_effects(), trace.head_effects())
    with pytest.raises(ValueError, match="tokens"):
        bare.heatmap(tensor([1]))


def test_a_trace_of_some_images_is_their_trace(model):
    images = torch.randn(4, 3, *model.image_size, generator=torch.Generator().manual_seed(3))
    trace, direction = model.trace(images), torch.eye(model.weights.d_embed)[:2]
    for rows, chosen in ((2, [2]), (slice(1, 3), [1, 2]), ([3, 0], [3, 0]), (torch.tensor([1]), [1])):
        part = trace[rows]
        assert len(part) == len(chosen)
        assert torch.equal(part.codes, trace.codes[chosen])
        torch.testing.assert_close(part.head_effects(), trace.head_effects()[chosen])
        torch.testing.assert_close(part.mlp_effects(), trace.mlp_effects()[chosen])
        torch.testing.assert_close(part.heatmap(direction), trace.heatmap(direction)[:, chosen])
    assert len(model.trace(images, tokens=False)[[0, 2]].to_codes()) == 2
    with pytest.raises(IndexError, match=r"within 0..3, got 4"):
        trace[4]
