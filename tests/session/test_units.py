"""A dictionary's features where a layer's neurons stand: one path through the session."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz.models.dictionaries import Dictionary
from clipviz.models.interventions import intervened_embeddings, mean_activations

TEXTS = [*COMMON, "a car", "a blue star"]
LAYER, N_IMAGES, NAME = 3, 24, "mine"


@pytest.fixture(scope="module")
def dictionary(model):
    """Features +p and -p of the first neurons of a layer, and the rest of the stream as the error."""
    rng = torch.Generator().manual_seed(3)
    width = model.weights.d_model
    drawn = torch.randn(60, width, generator=rng)
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    return Dictionary(LAYER, "residual", drawn, torch.zeros(60), drawn, torch.zeros(width), "topk", k=8)


@pytest.fixture(scope="module")
def session(model, dictionary):
    images = clipviz.demo.images().subset(range(N_IMAGES))
    session = clipviz.Session(model, images, texts=TEXTS, background=False)
    session.neurons.use(dictionary, NAME)
    yield session
    session.close()


def test_what_is_known_of_features_is_computed_from_their_effects(session, model, dictionary):
    known = session.neurons.layer(NAME)
    assert known.n_neurons == 60
    second = model.second_order([session.images[i] for i in known.ids.tolist()], dictionary)
    assert known.norms.float().numpy() == pytest.approx(second.norms().numpy(), rel=2e-3, abs=1e-6)
    assert known.stats.mean.numpy() == pytest.approx(second.scaled()[0].mean(0).numpy(), abs=1e-6)
    assert session.neurons.layer(dictionary) is known  # one reading, by its name or itself


def test_a_feature_is_found_described_and_shown_as_a_neuron_is(session, model, dictionary):
    found = session.neurons.find("strength", NAME, k=3)
    unit = found.neurons[0]
    words = session.neurons.describe(NAME, [unit])[0]
    assert words.words
    assert 0 < words.share <= 1
    known = session.neurons.layer(NAME)
    image = known.top(unit, 1).ids[0]
    second = model.second_order(session.images[image], dictionary)
    shown = session.neurons.map(image=image, neurons=[(NAME, unit)])
    raw = second.activation_maps([unit])[0, 0].numpy()
    assert np.corrcoef(shown.ravel(), raw.ravel())[0, 1] == pytest.approx(1, abs=1e-4)
    assert session.neurons.histogram(unit, NAME).counts.sum() == N_IMAGES


def test_effects_of_a_feature_are_direct_through_later_heads_and_by_intervention(session, model, dictionary):
    unit, image = session.neurons.find("strength", NAME, k=1).neurons[0], 5
    found = session.neurons.effects(unit, image, NAME)
    pictures = [session.images[i] for i in range(N_IMAGES)]
    exact = model.dictionary_effects(pictures, dictionary)
    norms = exact.units.embedding.norm(dim=1)[:, None]
    for said, how in ((found.first_order, {"later": False}), (found.second_order, {"direct": False})):
        each = exact.features([unit], **how)[:, 0] / norms
        torch.testing.assert_close(said, each[image] - each.mean(0), rtol=1e-3, atol=1e-5)
    mean = mean_activations(model, [pictures], dictionary)
    plain = model.encode_images(pictures[image : image + 1])
    without = intervened_embeddings(model, pictures[image : image + 1], dictionary, mean, [unit])
    torch.testing.assert_close(found.indirect, ((plain - without) / plain.norm())[0], rtol=1e-3, atol=1e-5)


def test_replacing_all_features_takes_their_effects_against_their_means_from_the_embedding(
    session, model, dictionary
):
    """The accuracy beside that of the explicit sum over features."""
    task = session.ablation.task(None)
    rows = [i for i in range(N_IMAGES) if task.labels[i] >= 0]
    exact = model.dictionary_effects([session.images[i] for i in range(N_IMAGES)], dictionary)
    lengths = exact.units.embedding.norm(dim=1, keepdim=True)
    later = exact.features(direct=False) / lengths[:, None]
    left = exact.units.embedding / lengths - (later - later.mean(0)).sum(1)
    labels = torch.tensor([task.labels[i] for i in rows])
    right = (left[rows] @ session.ablation.classifier(task).T).argmax(1) == labels
    found = session.neurons.ablate(NAME, task)
    assert found["w/o all neurons"].top1 == pytest.approx(float(right.float().mean()))


def test_the_reconstruction_is_measured_when_a_dictionary_is_taken_and_said(session, model, dictionary):
    again = session.neurons.use(dictionary, NAME)
    measured = model.measure_dictionary([session.images[i] for i in range(N_IMAGES)], dictionary)
    assert again.reconstruction.explained == pytest.approx(measured.explained, abs=1e-4)
    assert f"{measured.explained:.1%} of the variance" in repr(again)
    assert "8.0 active features per token" in repr(again)
    assert session.neurons.reconstruction(NAME) is again.reconstruction
    wrong = dataclasses.replace(dictionary, bias=10 * torch.ones(model.weights.d_model))
    assert "check the layer, the point and the format's convention" in repr(
        session.neurons.use(wrong, "wrong bias")
    )


def test_a_dictionary_of_another_model_or_name_is_refused(session, dictionary):
    narrow = Dictionary(1, "residual", torch.ones(3, 5), torch.zeros(3), torch.ones(3, 5), torch.zeros(5))
    with pytest.raises(ValueError, match=r"expected a dictionary of width 192 .* got Dictionary\(3 features"):
        session.neurons.use(narrow)
    other = dataclasses.replace(dictionary, model="0123456789ab")
    with pytest.raises(ValueError, match="trained on the weights 0123456789ab"):
        session.neurons.use(other)
    last = dataclasses.replace(dictionary, layer=session.model.n_layers - 1)
    with pytest.raises(ValueError, match="has no later attention"):
        session.neurons.use(last)
    with pytest.raises(ValueError, match="choose another name"):
        session.neurons.use(dataclasses.replace(dictionary), NAME)
    with pytest.raises(ValueError, match=r"expected the name of a dictionary, one of .*'mine'.*got 'nobody'"):
        session.neurons.find("strength", "nobody")
    assert session.neurons.use(dataclasses.replace(dictionary)).name != NAME


def test_a_selection_names_the_dictionary_of_its_feature(session):
    session.select(layer=LAYER, neuron=50, dictionary=NAME)
    assert session.selection.dictionary == NAME
    reopened = clipviz.View.from_token(session.view.token_string()).selection
    assert reopened == session.selection
    session.select(neuron=50)
    assert session.selection.dictionary == ""  # named without a dictionary: one of the MLP
    assert session.open(neuron=(NAME, 7)).neuron == 7
    assert (session.selection.layer, session.selection.dictionary) == (LAYER, NAME)
    session.select(layer=1)
    assert (session.selection.neuron, session.selection.dictionary) == (None, "")
    with pytest.raises(ValueError, match=r"expected neuron within 0\.\.59"):
        session.select(layer=LAYER, neuron=60, dictionary=NAME)
    with pytest.raises(ValueError, match="expected layer 3, which the dictionary 'mine' belongs to"):
        session.select(layer=2, neuron=1, dictionary=NAME)
    with pytest.raises(ValueError, match="expected the name of a dictionary"):
        session.select(layer=LAYER, neuron=1, dictionary="nobody")
    assert clipviz.Selection(dictionary="x").dictionary == ""
