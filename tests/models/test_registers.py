"""A model run with an added token that takes over what register neurons write, and the search for such neurons."""

from __future__ import annotations

import copy

import naive
import numpy as np
import pytest
import torch
from PIL import Image

import clipviz
from clipviz.demo.model.evaluate import HELD_OUT_SEED
from clipviz.demo.world.scenes import render
from clipviz.lens import intervals, segment
from clipviz.models.attending import attend
from clipviz.models.registers import token_norms
from clipviz.page.export import CannotExport, check_carried
from tests.models import literal
from tests.models.families import FAMILIES, images

PAIRS = [(0, 3), (0, 11), (1, 5)]


def literal_pass(network, pixels, pairs):
    """open_clip's class-token tower with an added token of zeros at place 1, block by block."""
    visual = network.visual
    stream = visual._embeds(pixels)
    stream = torch.cat([stream[:, :1], torch.zeros_like(stream[:, :1]), stream[:, 1:]], 1)
    for layer, block in enumerate(visual.transformer.resblocks):
        stream = stream + block.attention(block.ln_1(stream))
        hidden = block.mlp.gelu(block.mlp.c_fc(block.ln_2(stream)))
        for image in range(len(hidden)):
            for where, neuron in pairs:
                if where == layer:
                    largest = max(float(hidden[image, token, neuron]) for token in range(hidden.shape[1]))
                    for token in range(hidden.shape[1]):
                        hidden[image, token, neuron] = largest if token == 1 else 0.0
        stream = stream + block.mlp.c_proj(hidden)
    return visual.ln_post(stream[:, 0]) @ visual.proj, stream


@torch.no_grad()
def test_the_added_token_takes_the_largest_activation_and_all_others_zero():
    network = naive.small_clip(4).double()
    model = clipviz.wrap(network, name="small")
    pixels = images(model).double()
    registered = model.with_registers(PAIRS)
    expected, stream = literal_pass(network, pixels, PAIRS)
    torch.testing.assert_close(registered.encode_images(pixels), expected)
    trace = registered.trace(pixels)
    torch.testing.assert_close(trace.embedding, expected)
    assert trace.sum_check() < 1e-12
    assert (model.encode_images(pixels) - expected).abs().max() > 1e-3  # the model itself runs as before
    norms = token_norms(registered, pixels)
    assert norms.largest[-1] == pytest.approx(float(stream[:, 2:].norm(dim=-1).max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_lens_follows_and_sums(family):
    """Effects, token scores and second-order effects of a tower of each family with an added token."""
    plain = clipviz.wrap(FAMILIES[family]().double(), name=family)
    pixels = images(plain).double()
    n_hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in plain.network.modules())
    model = plain.with_registers(PAIRS)
    trace = model.trace(pixels)
    assert trace.sum_check() < 1e-12
    assert (trace.embedding - plain.encode_images(pixels)).abs().max() > 1e-6
    assert model.weights.n_tokens == plain.weights.n_tokens + 1
    directions = torch.randn(2, model.weights.d_embed).double()
    scores = trace.token_scores(directions)
    heads = torch.einsum("ilhk,xk->xilh", trace.head_effects(), directions)
    torch.testing.assert_close(scores.sum(-1), heads)
    assert trace.heatmap(directions).shape[2:] == plain.weights.grid
    placed = scores.sum((2, 3))[..., model.weights.prefix :].unflatten(-1, plain.weights.grid)
    torch.testing.assert_close(trace.heatmap(directions), placed)
    if model.weights.readout.pools:
        read = trace.pool_scores(directions)
        whole = trace.embedding - (0 if trace.tail is None else trace.tail)
        torch.testing.assert_close(read.sum(-1), directions @ whole.T)
        assert (trace.reads[..., plain.weights.prefix] == 0).all()
    second = model.second_order(pixels, 0)
    activations = second.activations
    if plain.tower.blocks[0].mlp_norm is None:
        rest = [token for token in range(activations.shape[1]) if token != plain.weights.prefix]
        assert (activations[:, rest][..., [3, 11]] == 0).all()
    assert second.activation_maps([3]).shape[-2:] == plain.weights.grid
    after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in plain.network.modules())
    assert after == n_hooks
    again = clipviz.wrap(FAMILIES[family]().double(), name=family)
    torch.testing.assert_close(plain.encode_images(pixels), again.encode_images(pixels))


def test_second_order_effects_of_an_added_token_equal_the_literal_sums():
    for family in ("class token", "SigLIP", "EVA-02"):
        model = clipviz.wrap(FAMILIES[family]().double(), name=family).with_registers(PAIRS)
        expected, _ = literal.second_order(model, 0)
        found = model.second_order(images(model, 1).double(), 0).effects(normalize=False)[0]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "family", ["CLIPA", "CoCa", "norm, GAP, registers", "PE-Core", "Hugging Face SigLIP"]
)
def test_attention_is_read_without_the_added_token(family):
    """Rows over tokens and a pool's attention give the added token nothing, and the others what the tower gave."""
    model = clipviz.wrap(FAMILIES[family](), name=family).with_registers(PAIRS)
    pixels = images(model)
    directions = torch.nn.functional.normalize(torch.randn(2, model.weights.d_embed), dim=-1)
    found, at = attend(model, pixels, directions), model.weights.prefix - 1
    assert found.attention.shape[-1] == model.weights.n_tokens
    assert (found.rows[:, at] == 0).all()
    torch.testing.assert_close(found.rows.sum(-1), torch.ones(2))
    if found.pool is not None:
        assert (found.pool[..., at] == 0).all()
        reads = model.trace(pixels).reads  # the pool's attention over norms' deviations
        shown = found.pool > 0
        assert torch.equal(shown, reads > 0)


# planted


def plant(network, seed, layer=None, pixels=None, share=0.02):
    """Writes register neurons into a tower: they fire at a share of the tokens and write one direction.

    Beside them two decoys in the same layer: a neuron that writes as much everywhere, and one that is as active at the
    same tokens and writes next to nothing. Returns the images, the pairs, and where the planted neurons fire.
    """
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=rng)

    blocks = network.visual.transformer.resblocks
    layer = int(torch.randint(len(blocks) - 1, (), generator=rng)) if layer is None else layer
    pixels = draw(6, 3, 64, 64) if pixels is None else pixels
    mlp, seen = blocks[layer].mlp, []
    hooks = [
        mlp.c_fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 1:])),
        blocks[layer].register_forward_hook(lambda _, __, output: seen.append(output[:, 1:])),
    ]
    with torch.no_grad():
        network.visual(pixels)
    for hook in hooks:
        hook.remove()
    read, stream = seen
    direction = draw(read.shape[-1])
    along = read @ direction
    threshold, deviation = along.flatten().quantile(1 - share), along.std()
    n_planted = int(torch.randint(2, 6, (), generator=rng))
    chosen = torch.randperm(mlp.c_fc.out_features, generator=rng)[: n_planted + 2].tolist()
    planted, everywhere, idle = chosen[:n_planted], chosen[-2], chosen[-1]
    written = torch.nn.functional.normalize(draw(read.shape[-1]), dim=0) * stream.norm(dim=-1).median()
    with torch.no_grad():
        for neuron in (*planted, idle):
            gain = 4 + 4 * float(torch.rand((), generator=rng))
            mlp.c_fc.weight[neuron] = gain * direction / deviation
            mlp.c_fc.bias[neuron] = 3 - gain * threshold / deviation
            mlp.c_proj.weight[:, neuron] = written * (1e-4 if neuron == idle else 2.0 / n_planted)
        mlp.c_fc.weight[everywhere], mlp.c_fc.bias[everywhere] = 0, 8.0
        mlp.c_proj.weight[:, everywhere] = written / 16
    return pixels, [(layer, neuron) for neuron in planted], along > threshold


def planted_clip(seed):
    network = naive.small_clip(seed, image_size=64, layers=4)
    pixels, pairs, fires = plant(network, seed)
    return clipviz.wrap(network, name="planted"), pixels, pairs, fires


def test_planted_register_neurons_are_found_and_moved():
    """Precision and recall over 20 random models, the sum check, and outliers that are gone afterwards."""
    right, n_found, n_planted, by_activation = 0, 0, 0, 0
    for seed in range(20):
        model, pixels, pairs, fires = planted_clip(seed)
        found = model.find_registers(pixels)
        assert found.layer == pairs[0][0]
        right += len(set(found.neurons) & set(pairs))
        n_found, n_planted = n_found + len(found.neurons), n_planted + len(pairs)
        by_activation += len(set(most_active(model, pixels, fires, len(pairs))) & set(pairs))
        outside = found.after.n_outliers[found.layer]
        assert outside <= 0.1 * found.before.n_outliers[found.layer]
        registered = model.with_registers(found)
        assert registered.trace(pixels).sum_check() < 1e-5
        assert "register neurons write" in str(found)
    print(right, n_found, n_planted, by_activation)
    assert right / n_found >= 0.95  # precision
    assert right / n_planted >= 0.95  # recall
    assert by_activation < right  # the decoys are as active as the planted


def most_active(model, pixels, fires, n):
    """The neurons of largest mean activation at the given tokens, in all layers."""
    seen = []
    hooks = [
        block.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 1:][fires].mean(0)))
        for block in model.tower.blocks
    ]
    model.encode_images(pixels)
    for hook in hooks:
        hook.remove()
    order = torch.stack(seen).flatten().argsort(descending=True)[:n].tolist()
    return [divmod(place, model.weights.n_neurons) for place in order]


def test_shares_are_those_of_a_literal_sum():
    """A neuron's share by loops over tokens, in float64; all writes up to the layer and the input sum to 1."""
    network = naive.small_clip(1, image_size=64, layers=4)
    pixels, *_ = plant(network, 1)
    network, pixels = network.double(), pixels.double()
    model = clipviz.wrap(network, name="planted")
    found = model.find_registers(pixels)
    blocks, kept = network.visual.transformer.resblocks, {}
    hooks = [blocks[0].register_forward_pre_hook(lambda _, inputs: kept.update(stream=inputs[0][:, 1:]))]
    for layer in range(found.layer + 1):

        def keep(_, inputs, output, layer=layer):
            kept[layer] = (inputs[0][:, 1:], output[:, 1:])

        hooks.append(blocks[layer].mlp.c_proj.register_forward_hook(keep))
        hooks.append(
            blocks[layer].register_forward_hook(lambda _, __, output: kept.update(end=output[:, 1:]))
        )
    with torch.no_grad():
        network.visual(pixels)
    for hook in hooks:
        hook.remove()
    end = kept["end"].flatten(0, 1)
    norms = end.norm(dim=-1)
    outlier = norms >= 3 * norms.median()
    apart = end[outlier].mean(0) - end[~outlier].mean(0)
    for (layer, neuron), share in zip(found.neurons, found.shares, strict=True):
        at, elsewhere = [], []
        for token, there in zip(kept[layer][0].flatten(0, 1), outlier, strict=True):
            (at if there else elsewhere).append(float(token[neuron]))
        gap = sum(at) / len(at) - sum(elsewhere) / len(elsewhere)
        along = float(blocks[layer].mlp.c_proj.weight[:, neuron].detach() @ apart)
        assert share == pytest.approx(gap * along / float(apart @ apart), rel=1e-9)
    assert found.before.n_outliers[found.layer] == int(outlier.sum())
    assert found.before.median[found.layer] == pytest.approx(float(norms.median()))


def test_a_model_without_outliers_says_so():
    model = clipviz.wrap(naive.small_clip(5, image_size=64), name="plain")
    found = model.find_registers(images(model))
    assert not found
    assert found.after is None
    largest = max(found.before.excess)
    assert f"No outlier tokens: the largest norm is {largest:.1f} times the median" in repr(found)
    with pytest.raises(ValueError, match=r"at least one register neuron, got none\. No outlier tokens"):
        model.with_registers(found)


def test_a_model_with_registers_is_another_model():
    model = clipviz.wrap(naive.small_clip(5), name="plain")
    one, other = model.with_registers([(0, 1)]), model.with_registers([(0, 2)])
    assert len({each.fingerprint for each in (model, one, other)}) == 3
    assert "1 register neuron moved" in repr(one)
    assert "2 register neurons moved" in repr(model.with_registers([(0, 1), (0, 2)]))
    assert "register" not in repr(model)
    assert one.fingerprint == model.with_registers([(0, 1), (0, 1)]).fingerprint
    assert one.identity()["fingerprint"] == one.fingerprint
    with pytest.raises(ValueError, match="without registers, got one with 1"):
        one.with_registers([(0, 2)])
    with pytest.raises(ValueError, match=r"layers within 0\.\.2 and neurons within 0\.\.191, got \(3, 0\)"):
        model.with_registers([(3, 0)])
    with pytest.raises(ValueError, match=r"expected \(layer, neuron\) pairs, got 7"):
        model.with_registers([7])
    with pytest.raises(CannotExport, match="with 1 moved register neurons"):
        check_carried(one)
    with torch.no_grad():
        model.network.visual.proj.mul_(2)
    with pytest.raises(ValueError, match="have changed since it was opened"):
        one.encode_images(images(model))


def test_maps_find_objects_again_once_planted_outliers_are_moved():
    """Average precision of the demo's maps against true masks: lower with planted outliers, back with registers."""
    demo = clipviz.load("demo")
    scenes = render(100, HELD_OUT_SEED)
    rows = [i for i, scene in enumerate(scenes.scenes) if scene.single][:40]
    pixels = demo.prepare([Image.fromarray(scenes.images[i]) for i in rows])
    masks = [torch.from_numpy(scenes.masks[i] > 0) for i in rows]
    texts = demo.encode_texts([f"a {scenes.scenes[i].subject.name}" for i in rows])
    assert not demo.find_registers(pixels)
    network = copy.deepcopy(demo.network)
    _, pairs, _ = plant(network, 0, layer=0, pixels=pixels, share=0.05)
    planted = clipviz.wrap(network, demo.tokenizer, demo.preprocess, name="planted")
    found = planted.find_registers(pixels)
    assert set(found.neurons) == set(pairs)
    assert found.before.n_outliers[0] > 100
    assert found.after.n_outliers[0] == 0
    precision = [
        [
            segment.average_precision(segment.to_pixels(one, mask.shape).flatten(), mask.flatten())
            for one, mask in zip(segment.token_maps(model.trace(pixels), texts, texts), masks, strict=True)
        ]
        for model in (demo, planted, planted.with_registers(found))
    ]
    before, outliers, after = np.array(precision)
    print(before.mean(), outliers.mean(), after.mean())
    assert intervals.mean(before - outliers).low > 0
    assert intervals.mean(after - outliers).low > 0
    assert before.mean() - after.mean() < (before - outliers).mean() / 2
