"""Slow, literal float64 references for a tower of any family: what its modules wrote, token by token."""

from __future__ import annotations

import torch

from clipviz.models.towers.recording import AttentionCalls, recording
from tests.models.families import images


def passed(exact):
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


def layer_scale(block):
    module = block.module
    for name in ("ls_1", "ls1"):
        if hasattr(getattr(module, name, None), "gamma"):
            return getattr(module, name).gamma
    gamma = getattr(module, "gamma_1", None)
    return 1.0 if gamma is None else gamma


def second_order(exact, layer):
    """Second-order effects [neuron, d_embed] of one image in float64, and its trace.

    Eq. 3.3 and B.5 through every later head and every readout head, token by token, biases and means shared out.
    """
    trace, layers, w = passed(exact)
    tower, readout = exact.weights, exact.weights.readout
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
        count = (later if tower.thesis_shares else 1 + 2 * later) * n_neurons
        n_terms = tower.n_layers if tower.thesis_shares else 1 + 2 * tower.n_layers
        total = count * n_terms * tower.n_heads
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
    return expected.detach(), trace
