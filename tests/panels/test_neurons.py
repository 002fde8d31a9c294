"""The Neurons panel without a browser: a request changes the selection, a selection changes the buffers."""

from __future__ import annotations

import functools
import gc
import weakref

import numpy as np
import pytest
import torch
from session.test_neurons import TEXTS

import clipviz
from clipviz.data.recent import Recent
from clipviz.models.dictionaries import Dictionary
from clipviz.panels.neurons.panel import Neurons
from clipviz.session import Board
from clipviz.session.state import REMEMBERED
from panels import asking

ask = functools.partial(asking.ask, background=True)


def lent(lend, model):
    return lend(model, clipviz.demo.images().subset(range(24)), TEXTS)


@pytest.fixture
def session(lend, model):
    """The module's: its neurons are read from the first test on."""
    with lent(lend, model) as session:
        yield session


@pytest.fixture
def unread(lend, model):
    """The module's, with nothing read of its neurons."""
    with lent(lend, model) as session:
        session._state._works = Recent(REMEMBERED)
        yield session


@pytest.fixture
def panel(session):
    panel = Neurons(session)
    session.wait(60, background=True)
    return panel


def test_it_opens_on_the_best_neuron_for_the_text(unread):
    session = unread
    session.select(text="a dog")
    panel = Neurons(session, n_listed=5)
    session.wait(60, background=True)
    shown = panel.data()
    known = Board.of(session).neuron_reading(shown["layer"]).latest
    expected = known.towards(session.neurons.direction("a dog"), 5)
    assert shown["found_by"] == "text"
    assert [row["neuron"] for row in shown["list"]] == [one.neuron for one in expected]
    assert shown["neuron"]["number"] == expected[0].neuron
    assert not shown["pinned"]
    assert shown["n_read"] == 24
    assert shown["complete"]
    assert panel.progress == (24, 24)


def test_a_request_selects_a_neuron_and_its_layer(panel, session):
    ask(panel, {"layer": 2, "neuron": 31})
    assert (session.selection.layer, session.selection.neuron) == (2, 31)
    shown = panel.data()
    assert shown["layer"] == 2
    assert shown["neuron"]["number"] == 31
    assert shown["pinned"]


def test_a_selection_changes_the_buffers(panel, session):
    before = panel.data()
    session.select(layer=3, neuron=40)
    session.wait(60)
    after = panel.data()
    assert after["neuron"]["number"] == 40
    assert after["maps"].shape == (24, 12, 12)
    assert not np.array_equal(before["maps"], after["maps"])
    known = Board.of(session).neuron_reading(3).latest
    assert np.allclose(after["maps"], known.top(40, 24).maps)
    session.select(image=7)
    session.wait(60)
    second = session.model.second_order(session.images[7], 3)
    assert np.allclose(panel.data()["map"], second.activation_maps([40])[0, 0].numpy(), atol=1e-5)
    assert panel.data()["current"]["norm"] == pytest.approx(float(second.norms()[0, 40]), rel=1e-4)


def test_a_word_becomes_the_sessions_text_and_searches(panel, session):
    panel.find = "strength"
    session.wait(60)
    word = panel.data()["neuron"]["words"][0][0]
    panel.find = "text"
    ask(panel, {"text": word, "neuron": None})
    assert session.selection.text == word
    shown = panel.data()
    direction = session.neurons.direction(word)
    assert (
        shown["list"][0]["neuron"]
        == Board.of(session).neuron_reading(shown["layer"]).latest.towards(direction, 1)[0].neuron
    )


def test_lists_fall_back_to_what_there_is(panel, session):
    session.select(text="", image=3)
    session.wait(60)
    assert panel.data()["found_by"] == "image"
    active = Board.of(session).neuron_reading(panel.data()["layer"]).most_active(3, 1)[0][0]
    assert panel.data()["list"][0]["neuron"] == active
    session.select(image=None)
    session.wait(60)
    assert panel.data()["found_by"] == "strength"
    assert panel.data()["current"] is None


@pytest.mark.parametrize("show", ["top", "groups", "quantiles", "random"])
def test_every_gallery_has_images_with_maps(panel, session, show):
    panel.show = show
    ask(panel)
    shown = panel.data()
    gallery = shown["gallery"]
    assert gallery["how"] == show
    assert len(gallery["ids"]) == len(gallery["norms"]) == len(shown["maps"]) == 24
    assert bytes(shown["sprite"][:2]) == b"\xff\xd8"
    places = sorted(place for group in gallery["groups"] for place in group["places"])
    assert places == (list(range(24)) if show == "groups" else [])


def test_an_unknown_neuron_is_an_error_in_the_panel(panel, session):
    ask(panel, {"layer": 3, "neuron": 100_000})
    assert "expected neuron within 0.." in panel.error["message"]
    assert session.selection.neuron is None


def test_a_head_of_another_layer_lets_the_neuron_go(panel, session):
    session.select(layer=3, neuron=9)
    session.select(layer=5, head=2)
    session.wait(60)
    assert session.selection.neuron is None
    assert not panel.data()["pinned"]


def test_a_hidden_panel_reads_nothing(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(8)), TEXTS, background=False)
    panel = Neurons(session, visible=False)
    session.wait(60, background=True)
    assert panel.data()["waiting"]
    assert Board.of(session).neuron_reading(session.neurons.default_layer).n_read == 0
    panel.visible = True
    ask(panel)
    assert panel.data()["n_read"] == 8
    session.close()


def test_another_layer_is_read_when_it_is_chosen(panel, session):
    panel.layer = 1
    ask(panel, {"neuron": None})
    assert panel.data()["layer"] == 1
    assert Board.of(session).neuron_reading(1).complete(None)
    panel.layer = 99
    ask(panel)
    assert panel.data()["layer"] == 4


def test_codes_have_as_many_texts_as_asked_for(panel, session):
    shown, known = panel.data(), Board.of(session).neuron_reading(panel.data()["layer"]).latest
    assert shown["m"] == 8  # a quarter of the width is 32; the pool has eight texts
    ask(panel, options={"m": 4})
    after = panel.data()
    number = after["neuron"]["number"]
    assert after["m"] == len(after["neuron"]["words"]) == 4
    assert after["neuron"]["code_share"] == pytest.approx(known.codes([number], 4)[0].share)
    small = Neurons(session, m=8, n_words=3)
    session.wait(60, background=True)
    words = small.data()["neuron"]["words"]
    code = session.neurons.describe(shown["layer"], [number], 3, m=8)[0]
    assert words == [(word.text, word.weight) for word in code.words]
    assert small.data()["neuron"]["code_share"] == pytest.approx(code.share)
    assert code.share > after["neuron"]["code_share"]
    assert small.data()["neuron"]["differs"] == code.differs
    assert small.data()["neuron"]["random_share"] == code.by_chance


def test_the_indirect_effect_is_a_second_run_of_the_model(panel, session, model):
    session.select(image=5, layer=3, neuron=40, text="a dog", text_b="")
    ask(panel, options={"indirect": True})
    shown = panel.data()["current"]["effects"]
    pictures = list(session.images)
    seconds = model.second_order(pictures, 3)
    mean = seconds.activations.mean(0)  # [token, neuron]
    unit, hidden = model.encode_images(pictures[5:6])[0], seconds.activations[5, :, 40]

    def at_its_mean(_module, inputs):
        changed = inputs[0].clone()
        changed[0, :, 40] = mean[:, 40]
        return (changed,)

    handle = model.tower.blocks[3].hidden.register_forward_pre_hook(at_its_mean)
    without = model.encode_images(pictures[5:6])[0]
    handle.remove()
    indirect = (unit - without) / unit.norm()
    effects = seconds.effects([40])[:, 0]
    second = effects[5] - effects.mean(0)
    text = model.encode_texts("a dog")[0]
    assert float(hidden.abs().max()) > 0
    direct = seconds.first_order([40])[:, 0]
    first = direct[5] - direct.mean(0)
    assert list(shown["rows"]) == ["first order", "second order", "indirect"]
    for name, effect in (("indirect", indirect), ("second order", second), ("first order", first)):
        expected = [float(effect.norm()), float(effect @ text)]
        assert shown["rows"][name] == pytest.approx(expected, rel=2e-3, abs=2e-6), name
    cosine = float(indirect @ second / indirect.norm() / second.norm())
    assert shown["cosine"] == pytest.approx(cosine, abs=2e-3)
    assert shown["n_images"] == 24
    ask(panel, options={"indirect": False})
    assert panel.data()["current"]["effects"] is None


def test_a_figure_for_print(panel):
    assert panel.figure().axes


def test_unknown_options_are_refused(session):
    with pytest.raises(TypeError, match="Neurons takes a session and"):
        Neurons(session, colour="red")


def test_close_leaves_nothing(session):
    panel = Neurons(session)
    session.wait(60, background=True)
    ask(panel, {"layer": 3, "neuron": 2})
    panel.close()
    gone = weakref.ref(panel)
    session.select(neuron=3)
    session.wait(60, background=True)
    del panel
    gc.collect()
    assert gone() is None


@pytest.fixture
def features(session):
    """The name of a dictionary of forty random directions of the stream after layer 3."""
    rng = torch.Generator().manual_seed(8)
    drawn = torch.randn(40, session.model.weights.d_model, generator=rng)
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    made = Dictionary(3, "residual", drawn, torch.zeros(40), drawn, torch.zeros(drawn.shape[1]), "topk", k=6)
    return session.neurons.use(made).name


def test_the_chooser_offers_a_dictionary_and_its_features_are_shown_as_neurons_are(panel, session, features):
    session.wait(60, background=True)
    assert features in panel.data()["dictionaries"]
    ask(panel, {"neuron": None}, options={"layer": features, "find": "strength"})
    shown = panel.data()
    known = session.neurons.layer(features)
    assert (shown["dictionary"], shown["layer"], shown["n_neurons"]) == (features, 3, 40)
    assert [row["neuron"] for row in shown["list"]] == [one for one, _ in known.strongest(14)]
    assert shown["reconstruction"] == str(session.neurons.reconstruction(features))
    ask(panel, {"layer": 3, "neuron": 30, "dictionary": features})
    shown = panel.data()
    assert shown["neuron"]["number"] == 30
    assert shown["pinned"]
    assert np.allclose(shown["maps"], known.top(30, 24).maps)
    ask(panel, {"image": 7}, options={"indirect": True})
    rows = panel.data()["current"]["effects"]["rows"]
    found = session.neurons.effects(30, 7, features)
    assert rows["indirect"][0] == pytest.approx(float(found.indirect.norm()), rel=1e-4)
    assert rows["first order"][0] == pytest.approx(float(found.first_order.norm()), rel=1e-4)
    ask(panel, {"layer": 3, "neuron": 30})  # without a dictionary, one of the MLP
    shown = panel.data()
    assert (shown["dictionary"], shown["reconstruction"], shown["n_neurons"]) == ("", "", 768)


def test_a_feature_that_the_session_no_longer_knows_is_refused(panel, session):
    with pytest.raises(ValueError, match="expected the name of a dictionary"):
        session.select(layer=3, neuron=1, dictionary="gone")
    panel.layer = "gone"
    session.wait(60, background=True)
    assert panel.data()["layer"] == session.neurons.default_layer
