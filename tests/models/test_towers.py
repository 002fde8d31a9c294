"""The contract of a tower family: exact sums in float64, token scores that add up, hooks gone, the model untouched."""

from __future__ import annotations

import copy

import pytest
import torch

import clipviz
from tests.models.families import FAMILIES, images

DOUBLE, SINGLE = 1e-12, 1e-5


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return clipviz.wrap(FAMILIES[request.param](), name=request.param)


@pytest.fixture(scope="module")
def exact(model):
    """The same model in float64."""
    return clipviz.wrap(copy.deepcopy(model.network).double(), name=model.name)


def largest(difference: torch.Tensor, scale: torch.Tensor) -> float:
    return float(difference.abs().max() / scale.abs().max())


def test_effects_sum_to_the_embedding(model, exact):
    assert exact.trace(images(exact).double()).sum_check() <= DOUBLE
    trace = model.trace(images(model))
    assert trace.sum_check() <= SINGLE
    with torch.no_grad():
        plain = model.network.visual(images(model))
    plain = plain[0] if isinstance(plain, tuple) else plain
    assert largest(trace.embedding - plain, plain) <= SINGLE
    assert trace.codes.shape[-1] == model.weights.d_code
    assert trace.mlp_effects().shape[1] == model.weights.n_mlp_terms


def test_token_scores_sum_to_head_effects(exact):
    trace = exact.trace(images(exact).double())
    directions = torch.randn(3, exact.weights.d_embed, dtype=torch.float64)
    scores = trace.token_scores(directions)
    expected = torch.einsum("ilhk,xk->xilh", trace.head_effects(), directions)
    assert largest(scores.sum(-1) - expected, expected) <= DOUBLE
    assert trace.heatmap(directions).shape == (3, 2, *exact.weights.grid)
    assert torch.allclose(trace.attention.sum(-1), torch.ones(()).double())


def test_a_trace_without_tokens_has_the_same_effects(model):
    whole, bare = model.trace(images(model)), model.trace(images(model), tokens=False)
    assert torch.equal(whole.codes, bare.codes)
    assert torch.equal(whole.mlp_effects(), bare.mlp_effects())
    assert bare.tokens is None
    assert bare.paths is None


def test_the_model_is_untouched_and_hooks_are_gone(model):
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    plain = model.encode_images(images(model))
    model.trace(images(model))
    model.second_order(images(model), 0)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert not [m for m in model.network.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert torch.equal(model.encode_images(images(model)), plain)
