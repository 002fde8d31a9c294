"""The contract of a tower family: exact sums in float64, token scores that add up, hooks gone, the model untouched."""

from __future__ import annotations

import copy

import pytest
import torch

import clipviz
from clipviz.models.towers.recording import AttentionCalls, recording
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


def literally(exact):
    """One float64 pass of one image, with the full attention of every layer, and what is read of it.

    Returns the trace, and for every layer (residual, attention [head, to, from], deviation [to], heads' outputs
    [to, head * d_head] or None); then the readout's weights [readout_head, token].
    """
    tower, pixels = exact.tower, images(exact, 1).double()
    layers = [{} for _ in tower.blocks]
    running = []

    def note(query, key, value, attn_mask=None, **_):
        if running:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            layers[running.pop()]["attention"] = scores.softmax(-1)[0]

    handles = []
    for layer, block in enumerate(tower.blocks):

        def keep(_module, inputs, layer=layer, name="residual"):
            layers[layer][name] = inputs[0][0]

        def start(_module, _inputs, layer=layer):
            running.append(layer)

        handles.append(block.module.register_forward_pre_hook(keep))
        handles.append(block.attention.register_forward_pre_hook(start))
        out = getattr(block.attention, "proj", None) or block.attention.out_proj
        before = block.inner_norm or out
        handles.append(
            before.register_forward_pre_hook(lambda m, i, layer=layer: keep(m, i, layer=layer, name="heads"))
        )
        if block.write_norm is not None:
            handles.append(
                block.write_norm.register_forward_pre_hook(
                    lambda m, i, layer=layer: keep(m, i, layer=layer, name="summed")
                )
            )
    with recording(tower, True) as recorder, AttentionCalls(note), torch.no_grad():
        embedding = tower.visual(pixels)
        embedding = embedding[0] if isinstance(embedding, tuple) else embedding
    trace = recorder.trace(embedding)
    for handle in handles:
        handle.remove()
    weights = recorder.weights
    if weights is None:
        weights = torch.zeros(1, 1, tower.weights.n_tokens, dtype=torch.float64)
        weights[..., 0] = 1
    for layer, kept in enumerate(layers):
        if "attention" not in kept:  # nn.MultiheadAttention hides its call
            matrices, z = tower.weights.layers[layer], tower.blocks[layer].norm(kept["residual"])
            query = torch.einsum("td,hed->hte", z, matrices.query) + matrices.query_bias[:, None]
            key = torch.einsum("td,hed->hte", z, matrices.key)
            kept["attention"] = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(-1)
    return trace, layers, weights[0]


def spread(layer_values, block):
    """The standard deviation of each token that a norm after the heads divides by, 1 where there is none."""
    if block.scaling_norm is None:
        return torch.ones(len(layer_values["residual"]), dtype=torch.float64)
    inputs = layer_values["heads" if block.inner_norm is not None else "summed"]
    return (inputs.var(-1, unbiased=False) + block.scaling_norm.eps).sqrt()


def test_every_head_writes_its_own_part(exact):
    """c = sum_p sum_q w[p, q] y_q M[p] with y the head's own write, from the attention module's own output matrix."""
    trace, layers, w = literally(exact)
    readout, n_heads = exact.weights.readout, exact.weights.n_heads
    shares = exact.weights.n_terms * n_heads
    for layer, (kept, block) in enumerate(zip(layers, exact.tower.blocks, strict=True)):
        if "heads" not in kept:  # nn.MultiheadAttention never calls its output matrix as a module
            continue
        out = getattr(block.attention, "proj", None) or block.attention.out_proj
        s, kept_heads = spread(kept, block)[:, None], kept["heads"].unflatten(-1, (n_heads, -1))
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
            write = write * layer_scale(block)
            read = torch.einsum("pq,qd,pdk->k", w, write, readout.matrices)
            read = (read - trace.mean * readout.mean_matrix / shares + readout.bias / shares) / trace.std
            expected = read + readout.constant / shares
            found = trace.head_effects([layer])[0, 0, head]
            assert largest(found - expected, trace.embedding) <= DOUBLE


def layer_scale(block):
    module = block.module
    for name in ("ls_1", "ls1"):
        if hasattr(getattr(module, name, None), "gamma"):
            return getattr(module, name).gamma
    gamma = getattr(module, "gamma_1", None)
    return 1.0 if gamma is None else gamma


@pytest.mark.parametrize("layer", [0, 1])
def test_second_order_effects_equal_the_literal_sums(exact, layer):
    """Eq. 3.3 and B.5 through every later head and every readout head, token by token, biases and means shared out."""
    trace, layers, w = literally(exact)
    tower, readout = exact.weights, exact.weights.readout
    second = exact.second_order(images(exact, 1).double(), layer)
    source, block = tower.layers[layer], exact.tower.blocks[layer]
    noted = {}
    handles = [block.hidden.register_forward_pre_hook(lambda m, i: noted.update(p=i[0][0]))]
    if block.mlp_norm is not None:
        handles.append(block.mlp_norm.register_forward_pre_hook(lambda m, i: noted.update(summed=i[0][0])))
    exact.encode_images(images(exact, 1).double())
    for handle in handles:
        handle.remove()
    n_neurons = tower.n_neurons
    writes = noted["p"][:, :, None] * source.mlp_output.T
    if block.mlp_norm is not None:
        s = (noted["summed"].var(-1, unbiased=False) + block.mlp_norm.eps).sqrt()
        writes = (writes + source.mlp_scaled_bias / n_neurons) / s[:, None, None]
    writes = writes + source.mlp_output_bias / n_neurons
    expected = torch.zeros(n_neurons, tower.d_embed, dtype=torch.float64)
    for later in range(layer + 1, tower.n_layers):
        target, kept, own = tower.layers[later], layers[later], exact.tower.blocks[later]
        count = (1 + 2 * later) * n_neurons
        total = count * tower.n_terms * tower.n_heads
        normed = writes
        if own.norm is not None:
            x = kept["residual"]
            std = (x.var(-1, unbiased=False) + own.norm.eps).sqrt()[:, None, None]
            normed = (
                own.norm.weight * (writes - x.mean(-1)[:, None, None] / count) / std + own.norm.bias / count
            )
        out_s = spread(kept, own)
        for head in range(tower.n_heads):
            values = normed @ target.value[head].T + target.value_bias[head] / count
            mixed = torch.einsum("qs,sne->qne", kept["attention"][head], values)
            out = mixed @ target.output[head].T
            if target.scaled_bias is not None:
                out = out + target.scaled_bias / (count * tower.n_heads)
            out = out / out_s[:, None, None] + target.output_bias / (count * tower.n_heads)
            read = torch.einsum("pq,qnd,pdk->nk", w, out, readout.matrices)
            read = (read - trace.mean * readout.mean_matrix / total + readout.bias / total) / trace.std
            expected += read + readout.constant / total
    found = second.effects(normalize=False)[0]
    assert largest(found - expected, expected) <= DOUBLE
    assert torch.allclose(second.norms(normalize=False)[0], expected.detach().norm(dim=-1), rtol=1e-9)
    total = second.first_order(normalize=False)[0].sum(0)
    assert largest(total - trace.mlp_effects()[0, 1 + layer], trace.embedding) <= DOUBLE
