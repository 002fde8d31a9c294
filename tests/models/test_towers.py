"""The contract of a tower family: exact sums in float64, token scores that add up, hooks gone, the model untouched."""

from __future__ import annotations

import copy

import pytest
import torch

import clipviz
from clipviz.lens import decompose, heatmap
from clipviz.models.towers.recording import recording
from tests.models import literal
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
    return float(difference.detach().abs().max() / scale.detach().abs().max())


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


def test_effects_of_few_images_are_those_of_a_basis(exact, monkeypatch):
    """For few images what heads write is read, without the basis of all codes: the same effects."""
    trace, layers = exact.trace(images(exact).double()), (exact.n_layers - 1, 0)
    expected = [
        decompose.effects_from_codes(
            trace.codes[:, list(part)], trace.mean, trace.std, exact.head_basis(part)
        )
        for part in (range(exact.n_layers), layers)
    ]
    monkeypatch.delattr(decompose, "head_basis")
    assert largest(trace.head_effects() - expected[0], expected[0]) <= DOUBLE
    assert largest(trace.head_effects(layers) - expected[1], expected[1]) <= DOUBLE


def test_heatmaps_of_many_texts_are_those_of_each(exact, monkeypatch):
    """Where texts are many, tokens are carried forward instead: the same sums over heads and layers."""
    monkeypatch.setattr(heatmap, "SCORES_BYTES", 0)
    carried, asked = heatmap._summed_scores, []
    monkeypatch.setattr(heatmap, "_summed_scores", lambda *given: asked.append(1) or carried(*given))
    trace = exact.trace(images(exact).double())
    many = torch.randn(5, exact.weights.d_embed, dtype=torch.float64)
    some = [(0, 1), (exact.n_layers - 1, 0), (exact.n_layers - 1, 1)]
    layers = range(exact.n_layers)
    for heads in (None, some):
        for normalize in (False, True):
            scores = trace.token_scores(many, normalize=normalize)[..., exact.weights.prefix :]
            chosen = [(n, h) for n in layers for h in range(exact.n_heads)] if heads is None else heads
            expected = sum(scores[:, :, layer, head] for layer, head in chosen)
            found = trace.heatmap(many, heads=heads, normalize=normalize)
            assert largest(found.flatten(2) - expected, expected) <= DOUBLE
    assert len(asked) == 4
    last = trace.heatmap(many, layers=[exact.n_layers - 1])
    expected = trace.token_scores(many, [exact.n_layers - 1]).sum((2, 3))[..., exact.weights.prefix :]
    assert largest(last.flatten(2) - expected, expected) <= DOUBLE


def test_pool_scores_sum_to_the_embedding_less_the_tail(exact):
    trace = exact.trace(images(exact).double())
    directions = torch.randn(3, exact.weights.d_embed, dtype=torch.float64)
    if not exact.weights.readout.pools:
        with pytest.raises(ValueError, match="reads a class token"):
            trace.pool_scores(directions)
        return
    scores, linear = (
        trace.pool_scores(directions),
        trace.embedding - (0 if trace.tail is None else trace.tail),
    )
    assert largest(scores.sum(-1) - directions @ linear.T, linear @ directions.T) <= DOUBLE
    left_out = trace.reads.sum(1) == 0  # have their share of the bias only
    assert all(scores[:, i, row].std(-1).max() <= DOUBLE for i, row in enumerate(left_out) if row.sum() > 1)
    assert scores.shape == (3, 2, exact.weights.n_tokens)


def test_a_trace_without_tokens_has_the_same_effects(model):
    whole, bare = model.trace(images(model)), model.trace(images(model), tokens=False)
    assert torch.equal(whole.codes, bare.codes)
    assert torch.equal(whole.mlp_effects(), bare.mlp_effects())
    assert bare.tokens is None
    assert bare.paths is None
    assert bare.final is None


def test_queries_and_keys_wait_only_where_they_cannot_be_formed_anew(model):
    with torch.no_grad(), recording(model.tower, True) as recorder:
        model.visual(images(model))
    turned = {"SigLIP 2, query and key norms", "PE-Core", "PE without class token"}
    waiting = turned | {"post-norm, pooled", "post-norm, mean"}
    assert len(recorder.attended) == (model.n_layers if model.name in waiting else 0)


def test_the_model_is_untouched_and_hooks_are_gone(model):
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    plain = model.encode_images(images(model))
    model.trace(images(model))
    model.second_order(images(model), 0)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert not [m for m in model.network.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert torch.equal(model.encode_images(images(model)), plain)


def test_every_head_writes_its_own_part(exact):
    """c = sum_p sum_q w[p, q] y_q M[p] with y the head's own write, from the attention module's own output matrix."""
    trace, layers, w = literal.passed(exact)
    readout, n_heads = exact.weights.readout, exact.weights.n_heads
    shares = exact.weights.n_terms * n_heads
    for layer, (kept, block) in enumerate(zip(layers, exact.tower.blocks, strict=True)):
        if "heads" not in kept:  # nn.MultiheadAttention never calls its output matrix as a module
            continue
        out = getattr(block.attention, "proj", None) or block.attention.out_proj
        s, kept_heads = literal.spread(kept, block)[:, None], kept["heads"].unflatten(-1, (n_heads, -1))
        for head in range(n_heads):
            own = torch.zeros_like(kept_heads)
            own[:, head] = kept_heads[:, head]
            own = own.flatten(1)
            bias = out.bias / n_heads
            if block.inner_norm is not None:
                norm = block.inner_norm
                own = norm.weight * (own - own.mean(-1, keepdim=True)) / s + norm.bias / n_heads
            write = own @ out.weight.T + bias
            if block.write_norm is not None:
                norm = block.write_norm
                write = norm.weight * (write - write.mean(-1, keepdim=True)) / s + norm.bias / n_heads
            write = write * literal.layer_scale(block)
            read = torch.einsum("pq,qd,pdk->k", w, write, readout.matrices)
            read = (read - trace.mean * readout.mean_matrix / shares + readout.bias / shares) / trace.std
            expected = read + readout.constant / shares
            found = trace.head_effects([layer])[0, 0, head]
            assert largest(found - expected, trace.embedding) <= DOUBLE


@pytest.mark.parametrize("thesis", [False, True], ids=["all terms", "as in the thesis"])
@pytest.mark.parametrize("layer", [0, 1])
def test_second_order_effects_equal_the_literal_sums(exact, layer, thesis):
    """Eq. 3.3 and B.5 through every later head and every readout head, token by token, biases and means shared out."""
    exact = exact.with_thesis_shares() if thesis else exact
    expected, trace = literal.second_order(exact, layer)
    second = exact.second_order(images(exact, 1).double(), layer)
    found = second.effects(normalize=False)[0]
    assert largest(found - expected, expected) <= DOUBLE
    assert torch.allclose(second.norms(normalize=False)[0], expected.norm(dim=-1), rtol=1e-9)
    total = second.first_order(normalize=False)[0].sum(0)
    assert largest(total - trace.mlp_effects()[0, 1 + layer], trace.embedding) <= DOUBLE
