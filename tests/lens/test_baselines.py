"""Baselines against naive autograd references, loops, and cases worked out by hand."""

import copy
import dataclasses

import pytest
import torch

import clipviz
from clipviz.lens import baselines
from clipviz.lens.baselines import attention as attention_maps
from clipviz.lens.baselines import relevance as rules
from clipviz.models import attribution


@pytest.fixture(scope="module")
def pixels(model):
    return torch.randn(2, 3, *model.image_size, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def directions(model):
    return model.encode_texts(["a red circle", "a dog on the grass"])


@pytest.fixture(scope="module")
def recorded(model, pixels, directions):
    return attribution.record(model, pixels, directions)


@pytest.fixture(scope="module")
def exact(model, recorded):
    """The same pass in float64 throughout: relevance divides by small numbers."""
    visual = copy.deepcopy(model.visual).double()
    stream, layers = recorded.layers[0].residual.double(), []
    with torch.no_grad():
        for block, weights in zip(visual.transformer.resblocks, model.weights.layers, strict=True):
            arrays = {f.name: getattr(weights, f.name) for f in dataclasses.fields(weights)}
            widened = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in arrays.items()}
            layers.append(attribution._run_layer(block, type(weights)(**widened), stream))
            stream = layers[-1].residual + layers[-1].attention_output + layers[-1].mlp_output
        final = visual.ln_post(stream[:, 0])
    return dataclasses.replace(
        recorded,
        layers=tuple(layers),
        score=recorded.score.double(),
        gradients=recorded.gradients.double(),
        final=final,
        final_weights=recorded.final_weights.double(),
    )


# -- the recorder ---------------------------------------------------------------------------------------------


def test_the_record_is_the_models_own_pass(model, pixels, directions, recorded):
    embedding = model.encode_images(pixels)
    cosine = torch.nn.functional.cosine_similarity(embedding, directions)
    torch.testing.assert_close(recorded.score, cosine, atol=1e-5, rtol=1e-5)
    scale = embedding.norm(dim=-1)
    torch.testing.assert_close(
        (recorded.final * recorded.final_weights).sum(-1) / scale, cosine, atol=1e-5, rtol=1e-5
    )
    trace = model.trace(pixels)
    torch.testing.assert_close(recorded.attention[:, :, :, 0], trace.attention, atol=1e-5, rtol=1e-4)


def test_gradients_equal_finite_differences_of_the_model(model, pixels, directions, recorded):
    """dy/dA of some class-row weights of the last layer, by moving that weight alone and redoing what follows."""
    layer = recorded.layers[-1]
    visual, weights = model.visual, layer.weights

    def score(attention):
        written = torch.einsum("ihte,hde->itd", attention @ layer.value, weights.output) + weights.output_bias
        stream = layer.residual + written
        with torch.no_grad():
            block = visual.transformer.resblocks[-1]
            stream = stream + block.mlp(block.ln_2(stream))
            embedding = visual.ln_post(stream[:, 0]) @ visual.proj
        return torch.nn.functional.cosine_similarity(embedding, directions)

    for head, token in [(0, 0), (3, 17), (7, 100)]:
        step = torch.zeros_like(layer.attention)
        step[:, head, 0, token] = 1e-2
        slope = (score(layer.attention + step) - score(layer.attention - step)) / 2e-2
        torch.testing.assert_close(recorded.gradients[:, -1, head, 0, token], slope, atol=2e-4, rtol=2e-2)


def test_recording_leaves_the_model_untouched(model, pixels, directions):
    before = {name: parameter.clone() for name, parameter in model.network.named_parameters()}
    attribution.record(model, pixels[:1], directions[:1])
    assert not model.visual.transformer.resblocks[0]._forward_pre_hooks
    for name, parameter in model.network.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    with pytest.raises(ValueError, match=r"one direction per image \(2\)"):
        attribution.record(model, pixels, directions[:1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_every_precision_are_recorded_in_float32_or_better(
    model, recorded, directions, pixels, dtype
):
    network = copy.deepcopy(model.network).to(dtype)
    other = clipviz.wrap(network, tokenizer=model.tokenizer)
    found = attribution.record(other, pixels.to(dtype), directions)
    better = torch.float64 if dtype == torch.float64 else torch.float32
    assert found.gradients.dtype == found.layers[0].attention.dtype == found.final.dtype == better
    near = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float64: 1e-4}[dtype]
    torch.testing.assert_close(found.attention.float(), recorded.attention, atol=near, rtol=0.05)
    maps = baselines.all_maps(found, model.weights.grid)
    assert all(bool(tokens.isfinite().all()) for tokens in maps.values())
    with torch.autocast("cpu", torch.bfloat16):
        assert attribution.record(model, pixels, directions).gradients.dtype == torch.float32


# -- attention maps -------------------------------------------------------------------------------------------


@pytest.fixture
def small():
    """Two images, three layers, two heads, four tokens; rows of the attention sum to 1."""
    generator = torch.Generator().manual_seed(0)
    attention = torch.softmax(torch.randn(2, 3, 2, 4, 4, generator=generator), -1)
    return attention, torch.randn(2, 3, 2, 4, 4, generator=generator)


def test_raw_attention_by_hand(small):
    attention, _ = small
    expected = (attention[0, 2, 0, 0, 1:] + attention[0, 2, 1, 0, 1:]) / 2
    torch.testing.assert_close(baselines.raw_attention(attention)[0], expected)


def test_rollout_by_hand():
    """One layer copies token 1 into the class token, the next token 2 into token 1."""
    first, second = torch.eye(3), torch.eye(3)
    first[1] = torch.tensor([0.0, 0.0, 1.0])
    second[0] = torch.tensor([0.0, 1.0, 0.0])
    attention = torch.stack([first, second])[None, :, None]
    # class row of (second + I)/2 is [.5, .5, 0]; token 1's row of (first + I)/2 is [0, .5, .5]
    torch.testing.assert_close(baselines.rollout(attention), torch.tensor([[0.25, 0.25]]))


def test_rollout_equals_summed_paths_and_keeps_mass(small):
    attention, _ = small
    mixed = 0.5 * attention.mean(2) + 0.5 * torch.eye(4)
    for token in range(1, 4):
        paths = sum(
            mixed[:, 2, 0, i] * mixed[:, 1, i, j] * mixed[:, 0, j, token] for i in range(4) for j in range(4)
        )
        torch.testing.assert_close(baselines.rollout(attention)[:, token - 1], paths)
    assert bool((baselines.rollout(attention).sum(-1) < 1).all())


def test_effects_are_traced_back_along_every_path(small):
    """By loops over the tokens in float64; the sum over all tokens stays, and so do the effects through layer 0."""
    attention = small[0].double()
    effects = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = baselines.traced_back(effects, attention, (0, 2))
    mixed = 0.5 * attention.mean(2) + 0.5 * torch.eye(4)
    for image in range(2):
        expected = effects[image, 0].clone()
        for token in range(4):
            for read in range(4):
                for between in range(4):
                    share = mixed[image, 1, token, between] * mixed[image, 0, between, read]
                    expected[read] += effects[image, 1, token] * share
        torch.testing.assert_close(found[image], expected[1:])
        assert expected.sum().item() == pytest.approx(effects[image].sum().item())
    torch.testing.assert_close(baselines.traced_back(effects[:, :1], attention, (0,)), effects[:, 0, 1:])


def test_grad_cam_by_hand():
    """Head 0: row [.2, .4], mean slope 1; head 1: row [.6, .0], mean slope -2 -> ReLU of [.2-1.2, .4]/2."""
    attention, gradients = torch.zeros(1, 1, 2, 3, 3), torch.zeros(1, 1, 2, 3, 3)
    attention[0, 0, 0, 0] = torch.tensor([0.4, 0.2, 0.4])
    attention[0, 0, 1, 0] = torch.tensor([0.4, 0.6, 0.0])
    gradients[0, 0, 0, 0] = torch.tensor([9.0, 2.0, 0.0])
    gradients[0, 0, 1, 0] = torch.tensor([9.0, -1.0, -3.0])
    torch.testing.assert_close(baselines.grad_cam(attention, gradients), torch.tensor([[0.0, 0.2]]))


def test_chefer_generic_by_hand_and_by_its_update_rule(small):
    attention, gradients = small
    found = baselines.chefer_generic(attention, gradients)
    for image in range(2):
        relevance = torch.eye(4)
        for layer in range(3):
            positive = (gradients[image, layer] * attention[image, layer]).clamp(min=0).mean(0)
            relevance = relevance + positive @ relevance
        torch.testing.assert_close(found[image], relevance[0, 1:])
    one = torch.zeros(1, 1, 1, 2, 2)
    one[..., 0, 1] = 0.5
    torch.testing.assert_close(baselines.chefer_generic(one, 4 * torch.ones_like(one)), torch.tensor([[2.0]]))


def test_attention_maps_refuse_a_class_row(unchecked_shapes):
    with pytest.raises(ValueError, match="full attention"):
        baselines.rollout(torch.zeros(1, 2, 3, 5))
    with pytest.raises(ValueError, match="gradients of the attention's shape"):
        baselines.grad_cam(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 3))
    with pytest.raises(ValueError, match="2 x 3 image tokens, got 5"):
        attention_maps.on_grid(torch.zeros(1, 5), (2, 3))


# -- relevance rules ------------------------------------------------------------------------------------------


def test_linear_rule_by_hand():
    """x = [1, 2], w = [3, -1]: z+ gives all to x_0; epsilon gives 3/1 and -2/1 of the output 1."""
    inputs, weights, relevance = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]), torch.ones(1, 1)
    torch.testing.assert_close(rules.linear(inputs, weights, relevance), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(
        rules.linear(inputs, weights, relevance, "epsilon"), torch.tensor([[3.0, -2.0]])
    )


def test_linear_rule_equals_a_loop_and_keeps_the_sum():
    generator = torch.Generator().manual_seed(1)
    inputs, weights = (
        torch.randn(12, generator=generator).double(),
        torch.randn(3, 12, generator=generator).double(),
    )
    relevance = torch.rand(3, generator=generator).double()
    expected = torch.zeros(12).double()
    for i in range(3):
        shares = [max(float(inputs[j] * weights[i, j]), 0.0) for j in range(12)]
        for j in range(12):
            expected[j] += shares[j] / sum(shares) * relevance[i]
    found = rules.linear(inputs, weights, relevance)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(), relevance.sum())


def test_residual_rule_by_hand():
    """a = 3, b = 1 share R = 2 as 1.5 : 0.5. With a = 3, b = -1, R_a = 3 and R_b = -1 become 1.5 and 0.5."""
    a, r = torch.full((1, 1, 1), 3.0), torch.full((1, 1, 1), 2.0)
    for b, normalise, expected in [
        (1.0, True, (1.5, 0.5)),
        (-1.0, False, (3.0, -1.0)),
        (-1.0, True, (1.5, 0.5)),
    ]:
        left, right = rules.residual(a, torch.full((1, 1, 1), b), r, normalise)
        assert (float(left), float(right)) == pytest.approx(expected, abs=1e-5)


def test_product_rule_halves_the_relevance():
    left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [1.0]])
    for_left, for_right = rules.product(left, right, torch.tensor([[5.0]]))
    torch.testing.assert_close(for_left, torch.tensor([[1.5, 1.0]]))
    torch.testing.assert_close(for_right, torch.tensor([[1.5], [1.0]]))


def test_relevance_keeps_its_sum_through_the_whole_tower(exact):
    relevance = baselines.propagate(exact)
    torch.testing.assert_close(relevance.tokens.sum((1, 2)), torch.ones(2).double(), atol=1e-3, rtol=1e-3)


def key_bias(layer):
    """What the recorded keys have beyond W_K z."""
    bare = torch.einsum("itd,hed->ihte", layer.attention_input, layer.weights.key)
    return (layer.key - bare)[0, :, 0]


def test_epsilon_lrp_equals_gradient_times_input_of_the_linearised_tower(exact, monkeypatch):
    """With every non-linearity frozen to its local slope y / x, LRP-0 is gradient x input (a known identity)."""
    monkeypatch.setattr(rules, "EPSILON", 0.0)
    record = exact
    start = record.layers[0].residual.clone().requires_grad_(True)
    stream, attentions = start, []

    def frozen(inputs, outputs):
        return inputs * (outputs / inputs).detach()

    def bilinear(left, right):
        return 0.5 * (left @ right.detach() + left.detach() @ right)

    for layer in record.layers:
        weights = layer.weights
        normed = frozen(stream, layer.attention_input)
        query = torch.einsum("itd,hed->ihte", normed, weights.query) + weights.query_bias[:, None]
        key = torch.einsum("itd,hed->ihte", normed, weights.key) + key_bias(layer)[:, None]
        value = torch.einsum("itd,hed->ihte", normed, weights.value) + weights.value_bias[:, None]
        attention = frozen(bilinear(query, key.transpose(-1, -2)), layer.attention)
        attentions.append(attention)
        context = bilinear(attention, value)
        written = torch.einsum("ihte,hde->itd", context, weights.output) + weights.output_bias
        middle = stream + written
        hidden = frozen(middle, layer.mlp_input) @ layer.mlp_hidden.T
        hidden = hidden + (layer.hidden - layer.mlp_input @ layer.mlp_hidden.T).detach()
        stream = middle + frozen(hidden, layer.activation) @ weights.mlp_output.T + weights.mlp_output_bias
    score = (frozen(stream[:, 0], record.final) * record.final_weights).sum(-1)
    slopes = torch.autograd.grad((score / score.detach()).sum(), [start, *attentions])
    found = baselines.propagate(record, "epsilon", normalise=False)
    scale = found.tokens.abs().max()
    torch.testing.assert_close(found.tokens / scale, start.detach() * slopes[0] / scale, atol=1e-5, rtol=1e-4)
    for layer, (attention, slope) in enumerate(zip(attentions, slopes[1:], strict=True)):
        expected = attention.detach() * slope
        scale = expected.abs().max()
        torch.testing.assert_close(found.attention[:, layer] / scale, expected / scale, atol=1e-5, rtol=1e-4)


def by_gradient(function, operands, relevance):
    """x * d<function(x), R / z>/dx of every operand: the published rules' common step, by autograd."""
    operands = [operand.clone().requires_grad_(True) for operand in operands]
    outputs = function(*operands)
    # Away from 0 on either side: with + 1e-9 alone a small negative sum comes closer to 0.
    small = 1e-9 * torch.where(outputs < 0, -1, 1)
    shares = torch.where(outputs == 0, 0.0, relevance / (outputs.detach() + small))
    slopes = torch.autograd.grad(outputs, operands, shares)
    return [operand.detach() * slope for operand, slope in zip(operands, slopes, strict=True)]


def published_linear(inputs, weights, relevance, apart):
    """Positive inputs through positive weights and negative ones through negative: two layers (apart) or their sum."""
    parts = (inputs.clamp_min(0), inputs.clamp_max(0))
    halves = (weights.clamp_min(0), weights.clamp_max(0))
    if apart:
        return sum(
            by_gradient(lambda x, half=half: x @ half.T, [part], relevance)[0]
            for part, half in zip(parts, halves, strict=True)
        )
    return sum(by_gradient(lambda x, y: x @ halves[0].T + y @ halves[1].T, parts, relevance))


def published_add(left, right, relevance, apart):
    """Rows "LRP": shares of the sum as they are; Chefer et al.: rescaled by the branches' absolute sums, an image."""
    found = by_gradient(torch.add, [left, right], relevance)
    if apart:
        return found
    totals = [part.sum((1, 2), keepdim=True) for part in found]
    whole = relevance.sum((1, 2), keepdim=True) / (totals[0].abs() + totals[1].abs())
    return [part * whole * total.abs() / total for part, total in zip(found, totals, strict=True)]


def published_relevance(record, model, apart):
    """Relevance of the tokens and of every attention, from the modules' own packed matrices, layer by layer."""
    final, towards = record.final, record.final_weights
    start = torch.stack(
        [
            published_linear(final[i], towards[i : i + 1], torch.ones(1).double(), apart)
            for i in range(len(final))
        ]
    )
    relevance = torch.zeros_like(record.layers[0].residual)
    relevance[:, 0] = start
    attentions = []
    for layer, block in zip(
        reversed(record.layers), reversed(model.visual.transformer.resblocks), strict=True
    ):
        middle = layer.residual + layer.attention_output
        kept, written = published_add(middle, layer.mlp_output, relevance, apart)
        hidden = published_linear(layer.activation, block.mlp.c_proj.weight.double(), written, apart)
        relevance = kept + published_linear(layer.mlp_input, block.mlp.c_fc.weight.double(), hidden, apart)
        kept, written = published_add(layer.residual, layer.attention_output, relevance, apart)
        n_heads = layer.attention.shape[1]
        packed, bias = block.attn.in_proj_weight.double(), block.attn.in_proj_bias.double()
        query, key, value = (
            part.unflatten(-1, (n_heads, -1)).transpose(1, 2)
            for part in (layer.attention_input @ packed.T + bias).chunk(3, -1)
        )
        heads = (layer.attention @ value).transpose(1, 2).flatten(2)
        context = published_linear(heads, block.attn.out_proj.weight.double(), written, apart)
        context = context.unflatten(-1, (n_heads, -1)).transpose(1, 2)
        weights, values = by_gradient(torch.matmul, [layer.attention, value], context)
        attentions.append(weights / 2)
        queries, keys = by_gradient(lambda q, k: q @ k.transpose(-1, -2), [query, key], weights / 2)
        stacked = torch.cat([part.transpose(1, 2).flatten(2) / 2 for part in (queries, keys, values)], -1)
        relevance = kept + published_linear(layer.attention_input, packed, stacked, apart)
    return relevance, torch.stack(attentions[::-1], 1)


@pytest.mark.parametrize("name", ["LRP", "partial LRP", "rollout", "Chefer et al."])
def test_methods_equal_their_published_forms(model, exact, name):
    record, grid = exact, model.weights.grid
    found = baselines.all_maps(record, grid, [name])[name].flatten(1)
    identity = torch.eye(record.attention.shape[-1]).double()
    if name == "rollout":
        product = identity
        for layer in range(1, 6):
            mixed = record.attention[:, layer].mean(1) + identity
            product = mixed / mixed.sum(-1, keepdim=True) @ product
        expected = product[:, 0, 1:]
    else:
        tokens, attention = published_relevance(record, model, apart=name != "Chefer et al.")
        expected = tokens.sum(-1)[:, 1:]
    if name == "partial LRP":
        expected = attention[:, -1].clamp(min=0).mean(1)[:, 0, 1:]
    if name == "Chefer et al.":
        product = identity
        for layer in range(1, 6):
            product = (
                identity + (record.gradients[:, layer] * attention[:, layer]).clamp(min=0).mean(1)
            ) @ product
        expected = product[:, 0, 1:]
    scale = expected.abs().amax(1, keepdim=True)
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-4, rtol=1e-3)


def test_keys_are_recorded_with_their_bias(model, recorded):
    layer, block = recorded.layers[2], model.visual.transformer.resblocks[2]
    keys = (layer.attention_input @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, -1)[1]
    expected = keys.unflatten(-1, (layer.key.shape[1], -1)).transpose(1, 2)
    torch.testing.assert_close(layer.key, expected, atol=1e-5, rtol=1e-4)
    assert block.attn.in_proj_bias.chunk(3)[1].abs().max() > 0


def test_variants_keep_the_sum_or_take_every_layer(model, recorded):
    relevance = baselines.propagate(recorded)
    maps = baselines.all_maps(recorded, model.weights.grid, baselines.VARIANTS)
    expected = {
        "LRP, sum kept": relevance.tokens.sum(-1)[:, 1:],
        "partial LRP, sum kept": relevance.attention[:, -1, :, 0, 1:].mean(1),
        "rollout, every layer": baselines.rollout(recorded.attention),
        "Chefer et al., every layer": attention_maps.weighted_rollout(
            relevance.attention, recorded.gradients
        ),
    }
    for name, tokens in expected.items():
        torch.testing.assert_close(maps[name].flatten(1), tokens, atol=1e-6, rtol=1e-3)
    with pytest.raises(ValueError, match=r"expected methods among LRP, .* got 'nothing'"):
        baselines.all_maps(recorded, model.weights.grid, ["nothing"])


def test_all_maps_are_finite_and_on_the_grid(model, recorded):
    maps = baselines.all_maps(recorded, model.weights.grid)
    assert tuple(maps) == baselines.METHODS
    for name, found in maps.items():
        assert found.shape == (2, *model.weights.grid), name
        assert bool(found.isfinite().all()), name


def test_an_unknown_rule_is_refused(recorded, unchecked_shapes):
    with pytest.raises(ValueError, match="'alpha1beta0', 'apart' or 'epsilon'"):
        baselines.propagate(recorded, "gamma")
