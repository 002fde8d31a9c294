"""The script that trains the demo's dictionary of directions: what counts as showing an attribute, and a tiny run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import clipviz
from clipviz.demo.world.scenes import render
from clipviz.models.dictionaries import Dictionary
from clipviz.models.untrained import untrained_module
from tools.demo import features


def test_units_that_follow_an_attribute_show_it_and_random_ones_do_not():
    """Units that are active on one background with noise, beside noise alone and a unit that is active on all alike."""
    scenes = render(400, 11)
    rng = np.random.default_rng(0)
    column = scenes.attribute("background")
    common = [value for value in np.unique(column) if 60 <= (column == value).sum() <= 130][:3]
    assert common
    following = np.stack([(column == value) * 2.0 for value in common], 1) + rng.random((400, len(common)))
    noise = rng.random((400, 300))
    silent = np.zeros((400, 1))
    found = features.showing(torch.tensor(np.concatenate([following, noise, silent], 1)).float(), scenes)
    assert found[: len(common)].all()
    assert found[len(common) : -1].mean() <= 0.01
    assert not found[-1]


def test_a_direction_has_a_text_only_where_one_is_nearer_than_by_chance(monkeypatch):
    """Directions along texts of the pool, either way, beside random ones; the null is met by about one in twenty."""
    model, rng = clipviz.load("demo"), torch.Generator().manual_seed(2)
    texts = model.encode_texts(list(clipviz.demo.texts()))
    along = torch.nn.functional.normalize((texts - texts.mean(0))[::60][:12], dim=1)
    noise = torch.nn.functional.normalize(torch.randn(400, texts.shape[1], generator=rng), dim=1)
    made = SimpleNamespace(directions=torch.cat([along, -along, noise]))
    monkeypatch.setattr(features, "rank_one", lambda *_: made)
    found = features.worded(model, features.pictures(render(2, 5)), model.n_layers - 2)
    assert found[:24].all()
    assert 0.02 <= found[24:].mean() <= 0.09


def test_directions_of_two_dictionaries_are_compared_by_their_nearest():
    identity = torch.eye(4)
    one = Dictionary(0, "residual", identity, torch.zeros(4), 3 * identity, torch.zeros(4))
    turned = torch.nn.functional.normalize(identity[[2, 0, 1, 0]] + torch.tensor([0.0, 0, 0, 1]), dim=1)
    other = Dictionary(0, "residual", identity, torch.zeros(4), turned, torch.zeros(4))
    torch.testing.assert_close(features.alike(one, other), torch.full((4,), 0.5**0.5))


def test_the_layer_is_the_first_that_no_other_is_better_than_beyond_chance():
    shares = {0: 0.07, 1: 0.11, 2: 0.141, 3: 0.133, 4: 0.154}
    assert features.first_of_the_best(shares, 1280) == 2
    assert features.first_of_the_best(shares, 12_800) == 4
    assert features.first_of_the_best(shares, 100) == 0


def test_a_tiny_one_is_trained_saved_and_reported(tmp_path):
    sizes = features.Sizes(n=24, k=4, scenes=8, chosen_on=40, held_out=40, passes=1, tried=0.5, coded=40)
    model, said = clipviz.load("demo"), []
    found = features.make(model, tmp_path / "out", tmp_path / "work", sizes, print=said.append)
    shipped = Dictionary.load(tmp_path / "out")
    assert (shipped.n_units, shipped.k, shipped.layer) == (24, 4, found["layer"])
    assert shipped.model == model.weights_fingerprint
    assert sum("show one attribute" in line for line in said) == model.n_layers - 1
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(found))
    assert [f"layer {layer}: {share:.1%}" for layer, share in found["layers"].items()] == [
        line.split(" of the")[0] for line in said if "show one attribute" in line
    ]
    assert (
        f"the stream after layer {max(found['layers'], key=found['layers'].get)}"
        in features.of_dictionary(found)
    )
    units = found["units with one attribute"]
    assert [units[name]["n"] for name in units] == [24, model.weights.n_neurons, 24, 24]
    assert {name: one["n"] for name, one in found["units with a text"].items()} == {
        name: one["n"] for name, one in units.items()
    }
    assert found["zero-shot"]["background"]["plain"] > found["zero-shot"]["background"]["chance"]
    text = (tmp_path / "out" / "REPORT.md").read_text()
    assert f"| variance explained | {found['reconstruction']['explained']:.3f} |" in text


def test_the_dictionary_that_ships_is_the_models_own_and_every_session_of_it_offers_it(model):
    shipped = clipviz.load_dictionary("demo")
    assert sum(path.stat().st_size for path in features.FOLDER.iterdir()) <= features.LARGEST
    assert (shipped.n_units, shipped.k) == (features.Sizes().n, features.Sizes().k)
    assert shipped.model == model.weights_fingerprint
    session = clipviz.Session(model, clipviz.demo.images().subset(range(16)), background=False)
    [(name, own)] = session.neurons.dictionaries.items()
    assert own is shipped
    assert name == f"L{shipped.layer} features"
    measured = session.neurons.reconstruction(name)
    assert measured.explained > 0.85
    assert measured.cosine > 0.9 > measured.cosine_of_mean
    session.close()
    with pytest.raises(ValueError, match=r"clipviz\.Dictionary\.load"):
        clipviz.load_dictionary("another")
    other = clipviz.wrap(
        untrained_module(model.network), model.tokenizer, model.preprocess, bundle=model.bundle
    )
    session = clipviz.Session(other, clipviz.demo.images().subset(range(4)), background=False)
    assert not session.neurons.dictionaries  # made for other weights
    session.close()


def test_the_report_in_words_says_what_was_measured():
    found = json.loads((features.FOLDER / "report.json").read_text())
    assert features.as_markdown(found) == (features.FOLDER / "REPORT.md").read_text()
