"""Neurons and features are units alike: activations, an output direction, a place in the sum, an intervention."""

from __future__ import annotations

import dataclasses

import naive
import pytest
import torch

from clipviz.models import wrap
from clipviz.models.dictionaries import Dictionary
from clipviz.models.dictionaries.kinds import POINTS
from clipviz.models.interventions import indirect_effects, intervened_embeddings, mean_activations
from clipviz.models.units import units_of
from tests.models import families
from tests.models.families import images
from tests.models.test_dictionaries import literal, random_dictionary


@pytest.fixture(scope="module")
def model():
    return wrap(naive.small_clip(2).double(), name="units")


def by_hand(model, pixels, dictionary, mean, unit):
    """The embeddings with one feature at its mean: a pass whose point is rewritten a token at a time."""
    block = model.visual.transformer.resblocks[dictionary.layer]
    d = dictionary.to(dtype=torch.float64)

    def rewrite(stream):
        changed = stream.clone()
        for image in range(stream.shape[0]):
            for token in range(stream.shape[1]):
                x = stream[image, token]
                a = torch.relu((x - d.bias) @ d.encoder[unit] + d.encoder_bias[unit])
                changed[image, token] = x + (mean[token, unit] - a) * d.decoder[unit]
        return changed

    def before(_module, inputs):
        return (rewrite(inputs[0]),)

    def after(_module, _inputs, output):
        return (rewrite(output[0]), *output[1:]) if isinstance(output, tuple) else rewrite(output)

    handle = {
        "residual": lambda: block.register_forward_hook(after),
        "mlp output": lambda: block.mlp.register_forward_hook(after),
        "mlp hidden": lambda: block.mlp.c_proj.register_forward_pre_hook(before),
        "attention output": lambda: block.attn.register_forward_hook(after),
    }[dictionary.point]()
    try:
        with torch.no_grad():
            return model.visual(pixels)
    finally:
        handle.remove()


@pytest.mark.parametrize("point", POINTS)
def test_the_indirect_effect_of_a_feature_is_a_pass_with_it_at_its_mean(model, point):
    dictionary = random_dictionary(model, point, layer=1)
    pixels, others = images(model).double(), images(model).double().flip(0) * 0.7
    mean = mean_activations(model, [pixels, others], dictionary)
    plain = model.encode_images(pixels)
    busy = model.second_order(pixels, dictionary).activations.var((0, 1)).topk(3).indices.tolist()
    found = indirect_effects(model, pixels, dictionary, mean, busy, normalize=False)
    for place, unit in enumerate(busy):
        expected = plain - by_hand(model, pixels, dictionary, mean, unit)
        assert expected.abs().max() > 1e-6
        torch.testing.assert_close(found[:, place], expected, rtol=1e-9, atol=1e-12)
        alone = intervened_embeddings(model, pixels, dictionary, mean, [unit])
        torch.testing.assert_close(plain - alone, expected, rtol=1e-9, atol=1e-12)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.visual.modules())


@pytest.mark.parametrize("family", ["class token", "CLIPA", "SigLIP", "EVA-02", "Hugging Face CLIP"])
def test_a_feature_that_is_a_neuron_is_answered_as_the_neuron(family):
    """One path: effects, means, interventions of a dictionary whose features are +p and -p of the layer's neurons."""
    model = wrap(families.FAMILIES[family]().double(), name=family)
    n_neurons = model.weights.n_neurons
    identity = torch.eye(n_neurons, dtype=torch.float64)
    both, nothing = torch.cat([identity, -identity]), torch.zeros(2 * n_neurons, dtype=torch.float64)
    features = Dictionary(0, "mlp hidden", both, nothing, both, nothing[:n_neurons])
    pixels = images(model).double()
    one, other = model.second_order(pixels, features), model.second_order(pixels, 0)

    def joined(tensor):
        return tensor.unflatten(1, (2, n_neurons))

    torch.testing.assert_close(
        joined(one.effects()).sum(1), other.effects(shared=False), rtol=1e-9, atol=1e-12
    )
    maps = joined(one.activation_maps())
    torch.testing.assert_close(maps[:, 0] - maps[:, 1], other.activation_maps())
    mean, neurons_mean = (mean_activations(model, [pixels], place) for place in (features, 0))
    torch.testing.assert_close(mean[:, :n_neurons] - mean[:, n_neurons:], neurons_mean)
    off = [5, 5 + n_neurons]
    together = intervened_embeddings(model, pixels, features, mean, off)
    torch.testing.assert_close(together, intervened_embeddings(model, pixels, 0, neurons_mean, [5]))


def test_second_order_effects_of_features_equal_the_literal_sum_and_have_no_share_of_biases(model):
    network = naive.small_clip(11).double()
    model = wrap(network, name="literal")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)).double()
    dictionary = random_dictionary(model, layer=1, n_units=4)
    second, effects = (
        model.second_order(pixels, dictionary),
        model.dictionary_effects(pixels, dictionary),
    )
    streams = []
    hook = network.visual.transformer.resblocks[1].register_forward_hook(
        lambda *args: streams.append(args[2])
    )
    with torch.no_grad():
        network.visual(pixels)
    hook.remove()
    exact = dictionary.to(dtype=torch.float64)
    activations = torch.relu((streams[0] - exact.bias) @ exact.encoder.T + exact.encoder_bias).detach()
    for unit in range(4):
        written = activations[..., unit : unit + 1] * exact.decoder[unit]
        found = second.effects([unit], normalize=False) + second.first_order([unit], normalize=False)
        torch.testing.assert_close(found[:, 0], literal(network, pixels, 1, written))
        torch.testing.assert_close(found, effects.features([unit]))
    assert second.basis is model.neuron_basis(dictionary)


def test_a_dictionary_of_the_class_token_leaves_other_tokens_to_the_error(model):
    whole = random_dictionary(model, layer=1)
    first = dataclasses.replace(whole, cls_token_only=True)
    pixels = images(model).double()
    one, other = model.second_order(pixels, first), model.second_order(pixels, whole)
    torch.testing.assert_close(one.activations[:, 0], other.activations[:, 0])
    assert not one.activations[:, 1:].any()
    assert other.activations[:, 1:].any()
    effects = model.dictionary_effects(pixels, first)
    assert effects.residual < 1e-12
    measured = model.measure_dictionary(pixels, first)
    assert effects.explained == pytest.approx(measured.explained)
    assert effects.n_active == pytest.approx(measured.n_active)


def test_units_of_a_place_that_the_model_does_not_have_are_refused(model):
    with pytest.raises(ValueError, match=r"expected a layer within 0\.\.2"):
        units_of(model, 3)
    narrow = Dictionary(1, "residual", torch.ones(3, 5), torch.zeros(3), torch.ones(3, 5), torch.zeros(5))
    with pytest.raises(ValueError, match=r"expected a dictionary of width \d+ .* belongs to another model"):
        model.second_order(images(model), narrow)
    assert units_of(model, 1).n_units == model.weights.n_neurons
