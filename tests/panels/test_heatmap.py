"""The heatmap without a browser: maps sum to what the model says, baselines are their lenses', texts add up."""

from __future__ import annotations

import matplotlib.text
import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS, all_maps
from clipviz.models.attribution import record
from clipviz.panels.heatmap import parts
from clipviz.panels.heatmap.panel import Heatmap
from clipviz.session import Board
from clipviz.session.topics import maps as topic

TEXTS = [*COMMON, "a car", "a star"]


@pytest.fixture
def session(lend, model):
    with lend(model, clipviz.demo.images().subset(range(12)), TEXTS) as session:
        session.select(image=3, layer=5, head=2, text="a dog", text_b="")
        yield session


@pytest.fixture
def panel(session):
    panel = Heatmap(session)
    session.wait(60)
    return panel


def show(panel, name, **changes):
    panel.show = name
    if changes:
        panel.session.select(**changes)
    panel.session.wait(60)


def test_all_heads_and_the_class_token_sum_to_the_cosine_less_the_mlps(session, panel):
    panel.scope = "all"
    scores = session.heads.effects("a dog", 3)
    class_token = session.maps.tokens("a dog", 3).scores[:, :, 0].sum()
    assert panel.map().sum() + class_token + scores.mlps.sum() == pytest.approx(scores.cosine, abs=1e-5)


def test_a_baseline_is_its_lens_on_the_texts_direction(session, panel, model):
    direction = model.encode_texts("a dog")
    found = all_maps(record(model, [session.images[3]], direction), model.weights.grid)
    for name in METHODS:
        show(panel, name)
        expected = found[name][0].numpy()
        assert panel.map() == pytest.approx(expected, abs=1e-6 * max(1.0, float(abs(expected).max()))), name
    show(panel, "rollout", text_b="a car")
    difference = model.encode_texts("a dog") - model.encode_texts("a car")
    unit = difference / difference.norm()
    expected = all_maps(record(model, [session.images[3]], unit), model.weights.grid)["Grad-CAM"]
    show(panel, "Grad-CAM")
    assert panel.map() == pytest.approx(expected[0].numpy(), abs=1e-6)


def test_neurons_maps_are_those_most_along_the_text(session, panel, model):
    """Table 3.4, literally: 200 neurons of the late layers by |<r, v>|, their activations averaged, 0..1."""
    pictures = list(session.images)
    show(panel, "neurons", image=3)
    assert list(session.neurons.late_layers) == [2, 3, 4]
    directions, maps = [], []
    for layer in (2, 3, 4):
        directions.append(session.neurons.layer(layer, 64).line.directions.double())
        maps.append(model.second_order(pictures[3:4], layer).activations[0, 1:].T.double())  # [neuron, token]
    v = model.encode_texts("a dog")[0].double()
    best = np.argsort(-np.abs((torch.cat(directions) @ v).numpy()))[:200]
    mean = torch.cat(maps)[best.copy()].mean(0).reshape(model.weights.grid)
    expected = ((mean - mean.min()) / (mean.max() - mean.min())).numpy()
    assert panel.map() == pytest.approx(expected, abs=1e-4)
    mask = torch.as_tensor(session.maps.truth(3))[None]
    assert panel.agreement()[1] == pytest.approx(
        segment.score(torch.as_tensor(expected)[None], mask, 0.5).miou
    )
    assert panel.figure() is not None
    other = session.neurons.map("a dog", 3, "a car", n_images=64)
    v = v - model.encode_texts("a car")[0].double()
    best = np.argsort(-np.abs((torch.cat(directions) @ v).numpy()))[:200]
    mean = torch.cat(maps)[best.copy()].mean(0).reshape(model.weights.grid)
    assert other == pytest.approx(((mean - mean.min()) / (mean.max() - mean.min())).numpy(), abs=1e-4)


def test_the_selected_neurons_map(session, panel, model):
    show(panel, "neuron")
    assert "neuron" not in panel.data()  # none is selected: the effect stays
    assert panel.map() == pytest.approx(session.maps.tokens("a dog", 3).map("late"), abs=1e-5)
    show(panel, "neuron", layer=4, neuron=17, text="")
    own = model.second_order([session.images[3]], 4).activation_maps([17])[0, 0].numpy()
    assert panel.map() == pytest.approx((own - own.min()) / np.ptp(own), abs=1e-5)
    with pytest.raises(ValueError, match="at least one"):
        session.neurons.map(image=3, neurons=[])


def test_the_map_of_a_selected_feature_is_its_own_and_not_that_of_the_neuron_of_its_number(
    session, panel, model
):
    [(name, dictionary)] = session.neurons.dictionaries.items()
    second = model.second_order([session.images[3]], dictionary)
    unit = int(second.activations[0].sum(0).argmax())
    show(panel, "neuron", layer=dictionary.layer, neuron=unit, dictionary=name, text="")
    own = second.activation_maps([unit])[0, 0].numpy()
    assert panel.map() == pytest.approx((own - own.min()) / np.ptp(own), abs=1e-4)
    assert f"feature {unit} of {name}" in drawn_text(panel)
    show(panel, "neuron", layer=dictionary.layer, neuron=unit % model.weights.n_neurons, text="")
    assert panel.map() != pytest.approx((own - own.min()) / np.ptp(own), abs=1e-2)


def drawn_text(panel):
    figure = panel.draw(3.4)
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def test_the_heads_texts_are_of_its_first_ten_or_sixty(session, panel):
    found = session.maps.joint(5, 2, 3, n_texts=60)
    panel.joint_texts = 60
    session.wait(60)
    assert panel.data()["joint"]["texts"] == list(found.texts)
    assert panel.data()["joint"]["n_texts"] == 60
    assert panel.data()["joint_maps"] == pytest.approx(found.maps, abs=1e-6)


def test_baselines_are_computed_once_and_only_when_asked_for(session, panel, monkeypatch):
    calls = []
    real = topic.record
    monkeypatch.setattr(topic, "record", lambda *a, **k: calls.append(1) or real(*a, **k))
    session.select(text="a star")
    session.wait(60)
    assert not calls
    for name in METHODS:
        show(panel, name)
    assert len(calls) == 1  # one forward and one backward pass for all six
    show(panel, "effect", token=5)
    assert len(calls) == 1


def test_the_centred_map_leaves_out_what_all_texts_share(session, panel):
    panel.scope = "all"
    each = [session.maps.tokens(text, 3).scores for text in TEXTS]
    expected = (session.maps.tokens("a dog", 3).scores - np.mean(each, 0))[:, :, 1:].sum((0, 1))
    show(panel, "centred")
    assert panel.map().ravel() == pytest.approx(expected, abs=1e-5)


def test_without_a_text_the_attention_is_shown(session, panel):
    show(panel, "rollout", text="")
    assert panel.map().ravel() == pytest.approx(
        session.images.trace(3).attention[0, -4:, :, 1:].sum((0, 1)).numpy(), abs=1e-5
    )


def test_the_heads_that_write_at_a_token_are_the_largest(session, panel):
    session.select(token=17)
    session.wait(60)
    found = panel.token_heads()
    scores = session.maps.tokens("a dog", 3).scores[:, :, 17]
    assert [abs(h.value) for h in found] == sorted(np.abs(scores).ravel(), reverse=True)[:5]
    assert all(h.value == pytest.approx(scores[h.layer, h.head]) for h in found)
    with pytest.raises(ValueError, match=r"expected a token within 0\.\.144, got 999"):
        panel.token_heads(999)


def test_agreement_is_the_scores_of_the_segmentation_lens(session, panel):
    mask = session.images.opened.masks(3)
    assert mask.shape == (96, 96)  # the demo's pictures are as large as the model's input
    expected = segment.score(torch.tensor(panel.map())[None], torch.tensor(mask > 0)[None])
    assert panel.agreement() == (expected.pixel_accuracy, expected.miou, expected.map)
    assert panel.data()["mask"].tolist() == (mask > 0).astype(int).tolist()


def test_a_heads_texts_are_ranked_and_their_maps_sum_to_the_coefficients(session, panel):
    found = session.maps.joint(5, 2, 3, k=2)
    effect = session.images.trace(3).head_effects(normalize=True)[0, 5, 2]
    shifted = session.texts.pool() - session.texts.pool().mean(0)
    expected = {text: float(effect @ shifted[i]) for i, text in enumerate(TEXTS)}
    described = session.heads.textspan(5, 2).texts
    ranked = sorted(described, key=lambda text: -expected[text])
    assert list(found.texts) == ranked[:2] + ranked[-2:]
    assert found.coefficients == pytest.approx([expected[text] for text in found.texts], abs=1e-5)
    scores = session.images.trace(3).token_scores(
        shifted[[TEXTS.index(t) for t in found.texts]], normalize=True
    )
    assert found.maps.reshape(4, -1) == pytest.approx(scores[:, 0, 5, 2, 1:].numpy(), abs=1e-6)
    assert panel.view["joint"]["texts"] == list(found.texts)
    assert panel.data()["joint_maps"] == pytest.approx(found.maps)


def test_an_only_text_is_shown_once(model):
    images = clipviz.demo.images().subset(range(2))
    session = clipviz.Session(model, images, texts=TEXTS, background=False)
    assert len(session.heads.textspan(5, 2).texts) == 1
    found = session.maps.joint(5, 2, 0)
    assert found.texts == tuple(session.heads.textspan(5, 2).texts)
    assert len(found.maps) == len(found.coefficients) == 1
    session.close()


def test_a_layer_that_was_not_read_is_said(model):
    images = clipviz.demo.images().subset(range(4))
    session = clipviz.Session(model, images, texts=TEXTS, layers=[4, 5], background=False)
    panel = Heatmap(session)
    session.select(layer=1, head=0, text="a dog")
    session.wait(60)
    assert "Layer 1 was not read" in panel.view["joint"]["message"]
    assert panel.map().shape == (12, 12)
    session.close()


def test_the_early_view_has_the_map_and_the_late_one_the_rest(session, panel, monkeypatch):
    seen = []
    monkeypatch.setattr(
        panel,
        "_publish",
        lambda view, blob, real=panel._publish: (seen.append(view["joint"]), real(view, blob))[1],
    )
    session.select(head=4)
    session.wait(60)
    assert seen[0] is None
    assert seen[-1]["texts"]


def test_unknown_options_are_refused(session):
    with pytest.raises(
        TypeError, match="takes a session and joint_texts, opacity, outline, scale, scope, show"
    ):
        Heatmap(session, method="rollout")
    with pytest.raises(Exception, match="saliency"):
        Heatmap(session, show="saliency")


def test_nearest_texts_say_whether_they_are_true_where_the_world_knows(session, monkeypatch):
    said, board = [], Board.of(session)
    for image in range(len(session.images)):
        shown = parts.context(board, session.selection.replace(image=image))[0]["context"]
        texts = [text for text, _ in shown["nearest"]]
        assert shown["true"] == session.model.bundle.truths(texts, session.images.opened, image)
        said += shown["true"]
    assert {True, False} <= set(said)
    monkeypatch.setattr(session.model, "bundle", None)
    assert parts.context(board, session.selection)[0]["context"]["true"] is None
