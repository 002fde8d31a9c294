"""Rosetta rows that begin with a feature of a dictionary of directions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from panels.asking import ask
from tiny_dictionary import TEXTS, tiny

import clipviz
from clipviz.models.dictionaries import Dictionary
from clipviz.models.feature_maps import FeaturedPartner, digest, featured_partner
from clipviz.models.preprocess import take
from clipviz.panels.rosetta.panel import Rosetta

NAME = "mine"


def drawn(model, n=24, seed=1):
    rows = torch.randn(n, model.weights.d_model, generator=torch.Generator().manual_seed(seed))
    rows = rows / rows.norm(dim=1, keepdim=True)
    return Dictionary(2, "residual", rows, torch.zeros(n), rows, torch.zeros(rows.shape[1]))


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(model, clipviz.demo.images().subset(range(28)), TEXTS, background=False)
    made.neurons.use(drawn(model), NAME)
    yield made
    made.close()


def shuffled(model):
    """A partner whose only units are the same features in another order, and that order."""
    one = drawn(model)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(4))
    turned = dataclasses.replace(one, encoder=one.encoder[order], decoder=one.decoder[order])
    whole = featured_partner(model, "twin", {"turned": turned})

    class Twin:
        name, module, preprocess, loss = "twin", whole.module, whole.preprocess, "the same"

        def maps(self, images, layers=None):
            return whole.maps(images, ["turned"])

        def layer_names(self):
            return ["turned"]

    return Twin(), order


def test_maps_of_features_are_their_activations_beside_those_of_neurons(session, model):
    partner = featured_partner(model, "clip", session.neurons.dictionaries)
    pictures = take(session.images.opened, range(3))
    found = partner.maps(pictures)
    pixels = partner.preprocess(pictures)
    expected = model.second_order(pixels, session.neurons.dictionaries[NAME]).activation_maps()
    torch.testing.assert_close(found[NAME], expected, rtol=1e-4, atol=1e-5)
    plain = featured_partner(model, "clip")
    assert not isinstance(plain, FeaturedPartner)
    neurons = plain.maps(pictures)
    assert list(found)[: len(neurons)] == list(neurons)
    for name, maps in neurons.items():
        assert torch.equal(found[name], maps)
    alone = partner.maps(pictures, [NAME])
    assert list(alone) == [NAME]
    assert torch.equal(alone[NAME], found[NAME])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.visual.modules())


def test_features_are_matched_with_a_partner_that_has_them_and_shown_in_the_panel(session, model, tmp_path):
    twin, order = shuffled(model)
    book = session.rosetta.mine(
        tmp_path / "book", [twin], 24, control=False, features=[NAME], above=0.0, same=0.999
    )
    rows = {}
    for concept in range(len(book.concepts)):
        place = book.neuron(concept)
        if isinstance(place[0], str):
            rows[place] = concept
    assert len(rows) >= 12
    for (name, feature), concept in rows.items():
        own, other = book.cells(concept)
        assert (name, own.layer) == (NAME, NAME)
        assert order[other.unit] == feature
        assert other.heldout == pytest.approx(1, abs=1e-3)
    (name, feature), concept = next(iter(rows.items()))
    assert book.concept_of(name, feature) == concept
    assert book.opened.about["features"] == {NAME: digest(session.neurons.dictionaries[NAME])}
    seen = book.on_image(5)
    assert np.array_equal(seen.maps[concept, 0], seen.maps[concept, 1])
    panel = Rosetta(session)
    session.wait(60)
    ask(panel, {}, action="visit", neuron=[NAME, feature])
    shown = panel.data()
    assert session.selection.dictionary == NAME
    assert shown["concept"] == concept
    assert shown["detail"]["neuron"] == (NAME, feature)
    panel.close()


def test_a_book_of_features_that_are_not_in_use_is_shown_on_its_own_images(session, model, tmp_path):
    twin, _ = shuffled(model)
    folder = session.rosetta.mine(
        tmp_path / "book", [twin], 24, control=False, features=[NAME], above=0.0
    ).opened.folder
    other = clipviz.Session(model, clipviz.demo.images().subset(range(4)), TEXTS, background=False)
    assert not other.rosetta.units(folder).columns[0].at_hand
    other.neurons.use(drawn(model, seed=9), NAME)  # another dictionary of the same name
    assert not other.rosetta.units(folder).columns[0].at_hand
    other.close()
    third = clipviz.Session(model, clipviz.demo.images().subset(range(4)), TEXTS, background=False)
    third.neurons.use(drawn(model), NAME)
    assert third.rosetta.units(folder).columns[0].at_hand
    third.close()


def test_names_of_dictionaries_are_checked(session, tmp_path):
    with pytest.raises(ValueError, match=r'write \["L3 features"\] for one'):
        session.rosetta.mine(tmp_path / "x", [tiny("one", 0)], features=NAME)
    with pytest.raises(ValueError, match="expected the name of a dictionary"):
        session.rosetta.mine(tmp_path / "x", [tiny("one", 0)], features=["nobody"])
