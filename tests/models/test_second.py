"""The second-order lens on real open_clip towers: Eq. 3.3 and B.5 written literally, interventions, hooks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from clipviz.models.interventions import indirect_effects, intervened_embeddings, mean_activations
from clipviz.models.opening import wrap
from clipviz.models.second import basis_of

VARIANTS = {
    "plain": {},
    "layer_scale": {"ls_init_value": 0.3},
    "no_ln_pre": {"no_ln_pre": True},
    "quick_gelu": {"quick_gelu": True},
}


def random_model(seed: int = 0, quick_gelu: bool = False, **vision):
    """A small CLIP whose LayerNorms, biases and layer scales are strongly perturbed."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    vision_cfg = {"layers": 4, "width": 48, "head_width": 12, "patch_size": 8, "image_size": 32, **vision}
    text_cfg = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    network = CLIP(24, vision_cfg, text_cfg, quick_gelu=quick_gelu)
    for module in network.visual.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, 1.0, 0.5)
            nn.init.normal_(module.bias, 0.0, 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.bias, 0.0, 0.5)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_bias, 0.0, 0.5)
            nn.init.normal_(module.out_proj.bias, 0.0, 0.5)
        elif hasattr(module, "gamma"):
            nn.init.normal_(module.gamma, 0.5, 0.3)
    return wrap(network)


def pixels(n_images: int = 2) -> torch.Tensor:
    return torch.randn(n_images, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def layer_norm(norm: nn.LayerNorm, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return residual.mean(-1), (residual.var(-1, unbiased=False) + norm.eps).sqrt()


def literal(model, images: torch.Tensor, layer: int) -> torch.Tensor:
    """Eq. B.5 a head, a token and a neuron at a time, in float64, from the modules' own inputs and weights."""
    visual = model.visual.double()
    residuals, activations, final = [], [], []
    handles = [
        visual.transformer.resblocks[layer].mlp.gelu.register_forward_hook(
            lambda m, i, o: activations.append(o)
        ),
        visual.ln_post.register_forward_pre_hook(lambda m, i: final.append(i[0])),
    ]
    handles += [
        b.register_forward_pre_hook(lambda m, i: residuals.append(i[0])) for b in visual.transformer.resblocks
    ]
    with torch.no_grad():
        embedding = visual(images.double())
    for handle in handles:
        handle.remove()
    blocks, n_layers = visual.transformer.resblocks, len(visual.transformer.resblocks)
    source, n_heads = blocks[layer], blocks[0].attn.num_heads
    w_out, b_out = source.mlp.c_proj.weight, source.mlp.c_proj.bias
    if hasattr(source.ls_2, "gamma"):
        w_out, b_out = source.ls_2.gamma[:, None] * w_out, source.ls_2.gamma * b_out
    n_neurons, width = w_out.shape[1], w_out.shape[0]
    d_head = width // n_heads
    effects = torch.zeros(len(images), n_neurons, visual.proj.shape[1], dtype=torch.float64)
    for image in range(len(images)):
        class_token = final[0][image] if final[0].ndim == 2 else final[0][image, 0]
        mean, std = layer_norm(visual.ln_post, class_token)
        gamma, beta = visual.ln_post.weight, visual.ln_post.bias
        for later in range(layer + 1, n_layers):
            block, count = blocks[later], (1 + 2 * later) * n_neurons
            total = count * (1 + 2 * n_layers) * n_heads
            tokens = residuals[later][image]
            token_means, token_stds = layer_norm(block.ln_1, tokens)
            w_q, w_k, w_v = block.attn.in_proj_weight.chunk(3)
            b_q, b_k, b_v = block.attn.in_proj_bias.chunk(3)
            scale = (
                block.ls_1.gamma if hasattr(block.ls_1, "gamma") else torch.ones(width, dtype=torch.float64)
            )
            z = block.ln_1(tokens)
            for head in range(n_heads):
                rows = slice(head * d_head, (head + 1) * d_head)
                scores = (z[0] @ w_q[rows].T + b_q[rows]) @ (z @ w_k[rows].T + b_k[rows]).T / d_head**0.5
                attention = torch.softmax(scores, -1)
                w_o, b_o = (
                    scale[:, None] * block.attn.out_proj.weight[:, rows],
                    scale * block.attn.out_proj.bias,
                )
                for token in range(len(tokens)):
                    # e_i = p_i w (Eq. 3.1) for every neuron, then LN^{l'} with the neuron's share of its constants
                    writes = activations[0][image, token][:, None] * w_out.T + b_out / n_neurons
                    a_later = block.ln_1.weight / token_stds[token]
                    normed = a_later * (writes - token_means[token] / count) + block.ln_1.bias / count
                    heads_out = (normed @ w_v[rows].T + b_v[rows] / count) @ w_o.T + b_o / (count * n_heads)
                    read = gamma * (heads_out - mean / total) / std + beta / total
                    effects[image] += attention[token] * (read @ visual.proj)
    visual.float()
    return effects / embedding.norm(dim=-1)[:, None, None]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layer", [0, 2])
def test_effects_equal_the_literal_per_head_per_token_form(variant, layer):
    model = random_model(**VARIANTS[variant])
    expected = literal(model, pixels(), layer)
    second = model.second_order(pixels(), layer)
    assert (second.effects() - expected).norm() / expected.norm() < 1e-5
    assert torch.allclose(second.norms().double(), expected.norm(dim=-1), rtol=1e-4, atol=1e-7)


def test_norms_equal_explicit_norms_with_and_without_the_shared_part():
    second = random_model(1).second_order(pixels(3), 1)
    for shared in (True, False):
        for normalize in (True, False):
            explicit = second.effects(shared=shared, normalize=normalize).norm(dim=-1)
            assert torch.allclose(second.norms(shared, normalize), explicit, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_first_order_effects_equal_the_literal_products(variant):
    """Eq. 3.1 a neuron at a time: P (A (p_0 w_n + b / N - mean / c) + beta / c), in float64 from the modules."""
    model, images, layer = random_model(7, **VARIANTS[variant]), pixels(), 1
    visual, seen = copy.deepcopy(model.visual).double(), {}
    block, norm = visual.transformer.resblocks[layer], visual.ln_post
    block.mlp.gelu.register_forward_hook(lambda m, i, o: seen.update(activations=o[:, 0]))
    visual.transformer.register_forward_hook(lambda m, i, o: seen.update(last=o[:, 0]))
    with torch.no_grad():
        embedding = visual(images.double())
    scale = getattr(block.ls_2, "gamma", torch.ones(48).double())
    columns, bias = scale[:, None] * block.mlp.c_proj.weight, scale * block.mlp.c_proj.bias
    n_neurons, count = columns.shape[1], (1 + 2 * model.n_layers) * columns.shape[1]
    plain, shared = (
        model.second_order(images, layer).first_order(shared=own, normalize=False) for own in (False, True)
    )
    for image in range(len(images)):
        mean, std = layer_norm(norm, seen["last"][image])
        for neuron in range(n_neurons):
            writes = seen["activations"][image, neuron] * columns[:, neuron]
            expected = (norm.weight * writes / std) @ visual.proj
            assert (plain[image, neuron] - expected).abs().max() < 1e-5 * embedding[image].norm()
            writes = writes + bias / n_neurons - mean / count
            expected = (norm.weight * writes / std + norm.bias / count) @ visual.proj
            assert (shared[image, neuron] - expected).abs().max() < 1e-5 * embedding[image].norm()
    unit = model.second_order(images, layer).first_order([3, 0])
    lengths = embedding.norm(dim=1)[:, None, None].float()
    torch.testing.assert_close(unit, shared[:, [3, 0]] / lengths, atol=1e-6, rtol=1e-4)


def test_first_order_effects_sum_to_the_mlps_direct_effect():
    model = random_model(2)
    for layer in range(model.n_layers - 1):
        expected = model.trace(pixels()).mlp_effects(normalize=True)[:, 1 + layer]
        found = model.second_order(pixels(), layer).first_order().sum(1)
        assert torch.allclose(found, expected, atol=1e-5)


def test_model_is_untouched_and_the_basis_is_kept_a_layer():
    model = random_model(3)
    before = model.encode_images(pixels())
    second = model.second_order(pixels(), 1)
    assert torch.equal(model.encode_images(pixels()), before)
    assert torch.equal(second.embedding, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.visual.modules())
    assert model.second_order(pixels(), 1).basis is second.basis is basis_of(model.weights, 1)


def test_bases_used_last_are_kept_within_their_room(monkeypatch):
    weights = random_model(3).weights
    first, second = basis_of(weights, 0), basis_of(weights, 1)
    assert basis_of(weights, 0) is first
    monkeypatch.setattr("clipviz.models.second.BASES_BYTES", 1)
    assert basis_of(weights, 0) is first  # the one in use stays, however large
    monkeypatch.undo()
    assert basis_of(weights, 1) is not second
    assert basis_of(weights, 0) is first


def test_hooks_are_gone_after_an_error():
    model = random_model(3)
    with pytest.raises(ValueError, match="expected images"):
        model.second_order(torch.zeros(1, 3, 5, 5), 1)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.visual.modules())


def test_last_layer_is_refused_by_name():
    with pytest.raises(ValueError, match=r"expected a layer within 0\.\.2 .* got 3; choose an earlier layer"):
        random_model().second_order(pixels(), 3)


def test_indirect_effects_equal_one_intervention_at_a_time():
    model, images = random_model(4, **VARIANTS["layer_scale"]), pixels(3)
    mean = mean_activations(model, [images[:2], images[2:]], 1)
    plain = model.encode_images(images)
    found = indirect_effects(model, images, 1, mean, [5, 0, 17], normalize=False)
    for place, neuron in enumerate([5, 0, 17]):
        changed = intervened_embeddings(model, images, 1, mean, [neuron])
        assert torch.allclose(found[:, place], plain - changed, atol=1e-5)
    assert not any(m._forward_hooks for m in model.visual.modules())


def test_mean_activations_are_per_token_and_replacing_all_is_constant():
    model, images = random_model(5), pixels(4)
    mean = mean_activations(model, [images], 2)
    assert torch.allclose(mean, model.second_order(images, 2).activations.mean(0), atol=1e-6)
    alone = intervened_embeddings(model, images[:1], 2, model.second_order(images[:1], 2).activations[0])
    assert torch.allclose(alone, model.encode_images(images[:1]), atol=1e-5)


def test_indirect_effects_are_the_same_however_few_run_at_a_time(monkeypatch):
    model = random_model(5)
    mean = mean_activations(model, [pixels()], 1)
    together = indirect_effects(model, pixels(), 1, mean, [0, 3, 4])
    monkeypatch.setattr("clipviz.models.interventions.COPIES_BYTES", 1)
    assert torch.allclose(indirect_effects(model, pixels(), 1, mean, [0, 3, 4]), together, atol=1e-6)


def test_interventions_refuse_an_unknown_layer_and_an_empty_collection():
    with pytest.raises(ValueError, match=r"expected a layer within 0\.\.3"):
        mean_activations(random_model(), [pixels()], 4)
    with pytest.raises(ValueError, match="expected at least one batch"):
        mean_activations(random_model(), [], 1)


def test_several_layers_from_one_pass_equal_one_layer_at_a_time():
    model = random_model(6)
    for second in model.second_orders(pixels(), [2, 0]):
        alone = model.second_order(pixels(), second.basis.layer)
        assert torch.equal(second.effects([1, 5]), alone.effects([1, 5]))
    assert [second.basis.layer for second in model.second_orders(pixels(), [2, 0])] == [2, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_pass_in_mixed_precision_leaves_float32_bases_and_numbers(dtype):
    """The basis is kept with the tower: made under autocast, half precision would meet float32 in the next pass."""
    model, images = random_model(), pixels()
    plain = random_model().second_order(images, 1)
    with torch.autocast("cpu", dtype):
        mixed = model.second_order(images, 1)
        codes = model.trace(images, tokens=False).codes
    assert codes.dtype == torch.float32
    tensors = [*vars(mixed).values(), *vars(mixed.basis).values()]
    assert {t.dtype for t in tensors if isinstance(t, torch.Tensor)} == {torch.float32}
    torch.testing.assert_close(mixed.basis.directions([0, 5]), plain.basis.directions([0, 5]))
    again = model.second_order(images, 1)
    torch.testing.assert_close(again.coordinates, plain.coordinates)
    torch.testing.assert_close(again.norms(), plain.norms())
