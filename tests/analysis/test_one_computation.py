"""What a panel and a report both show comes from one function, and is the same number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz.analysis.collection import classifiers
from clipviz.analysis.heads import labels
from clipviz.analysis.neurons import sums as neuron_sums
from clipviz.lens import ablate, headset
from clipviz.lens.ablate import Terms
from clipviz.lens.covariance import code_moments
from clipviz.lens.neuron_stats import rank_one
from clipviz.panels import Heads, TextSpan
from clipviz.reproduce.chapter2 import chapter as chapter2
from clipviz.reproduce.chapter3 import chapter as chapter3
from clipviz.reproduce.chapter3 import layers
from clipviz.reproduce.evaluation import Evaluation
from clipviz.reproduce.report import Report, Steps
from clipviz.reproduce.world import measures as world_measures
from clipviz.session.topics import readings
from clipviz.values import Task

LAYER = 3


@pytest.fixture(scope="module")
def session(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(0, 96, 2)), background=False)
    yield session
    session.close()


@pytest.fixture(scope="module")
def late(session):
    return Terms(session.images.codes.stored, session.images.codes.basis)


@pytest.fixture(scope="module")
def index(session, tmp_path_factory):
    """Of the session's images, with the statistics of one layer."""
    folder = tmp_path_factory.mktemp("index") / "index"
    return clipviz.Index.build(session.model, session.images, folder, neurons=[LAYER])


def test_the_covariance_is_the_same(session, late):
    assert torch.equal(session.images.codes.head_covariance(), code_moments(late.codes).covariance)


def test_a_head_has_one_label_in_panels_and_reports(session, late, tmp_path, monkeypatch):
    some = [(5, 0), (4, 3), (5, 6)]
    monkeypatch.setattr(headset, "all_heads", lambda codes: some)
    real = labels.label_heads
    at = [session.images.codes.layer_index(layer) * session.model.n_heads + head for layer, head in some]
    monkeypatch.setattr(labels, "label_heads", lambda heads, c, s, *pool: real(heads, c[at], s[at], *pool))
    report = Report(tmp_path, "labels", "")
    texts_of = {head: [session.texts[0]] for head in some}
    found = chapter2.roles_section(report, session.model, session.texts.opened, late, texts_of)
    panel = TextSpan(session)
    for head in some:
        role = found[head]
        label = session.heads.label(*head)
        assert (label.name, label.why, label.p_value) == (role.label, role.why, role.p_value)
        assert list(label.texts) == [session.texts[place] for place in role.first[: len(label.texts)]]
        session.select(layer=head[0], head=head[1])
        session.wait(60)
        assert panel.data()["label"]["name"] == role.label
    panel.close()


def test_the_grid_of_heads_shows_the_same_labels(model):
    texts = [*COMMON, "a car", "a star"]
    session = clipviz.Session(model, clipviz.demo.images().subset(range(30)), texts, background=False)
    panel = Heads(session)
    session.wait(60, background=True)
    session.wait(60)
    shown = panel.data()["summaries"]
    assert len(shown) == 48
    labelled = {f"{layer},{head}": one for (layer, head), one in session.heads.summaries().items()}
    assert {at: (one["label"], one["texts"], one["p"]) for at, one in shown.items()} == {
        at: (one.label, list(one.texts), one.p_value) for at, one in labelled.items()
    }
    assert shown["5,2"]["label"] == session.heads.label(5, 2).name
    panel.close()
    session.close()


def test_neuron_statistics_are_the_same_in_session_report_and_index(session, model, index, tmp_path):
    known = session.neurons.layer(LAYER).stats
    images = session.images
    report = layers.layer_statistics(model, images, [LAYER], Steps(tmp_path, {}), quiet=True)[0].stats
    stored = index.neurons(LAYER)
    assert known.count == report.count == stored.count == len(images)
    for name in neuron_sums.SUMS:
        if name == "scatter":  # which an index alone keeps
            continue
        ours = getattr(known, name)
        for other in (report, stored):
            torch.testing.assert_close(
                getattr(other, name), ours, rtol=1e-4, atol=1e-6 * float(ours.abs().max())
            )
    assert known.scatter is report.scatter is None
    share = rank_one(stored, model.neuron_basis(LAYER)).share
    torch.testing.assert_close(session.neurons.layer(LAYER).line.share, share, rtol=1e-3, atol=1e-4)


def test_neurons_of_an_index_are_read_not_computed_again(session, model, index, tmp_path, monkeypatch):
    monkeypatch.setattr(readings, "FIRST", 16)
    images = session.images.opened
    opened = clipviz.Session(model, images, index=index)
    known = opened.neurons.layer(LAYER)
    stored = index.neurons(LAYER)
    assert torch.equal(known.stats.top_images, stored.top_images)
    assert known.stats.count == len(images)
    assert len(known.ids) == 16 < len(images)  # images read for the norms alone
    neuron = known.strongest(1)[0][0]
    groups = known.groups(known.top(neuron)).groups
    assert sum(len(group.places) for group in groups) == len(known.top(neuron).ids)
    opened.close()
    study = chapter3.open_study(model, tmp_path, limit=8, quiet=True, index=str(index.path))
    assert study.layers == [LAYER]
    layer = study.layer(LAYER)
    for name in (*neuron_sums.SUMS, "top_images"):
        assert torch.equal(getattr(layer.stats, name), getattr(known.stats, name))
    assert torch.equal(layer.line.directions, known.line.directions)
    assert layer.norms.shape[0] == len(study.sample) == len(images)
    assert f"{len(images)} images of an index" in chapter3._reference(study)
    with pytest.raises(ValueError, match="index with statistics of neurons"):
        chapter3.open_study(model, tmp_path, limit=8, index=str(index_without(model, images, tmp_path)))


def index_without(model, images, folder):
    return clipviz.Index.build(model, images.subset(range(4)), folder / "plain").path


def test_classifiers_are_the_same_in_desk_and_report(session, model):
    task = session.ablation.tasks()["objects"]
    panel_side = session.ablation.desk(task, 0).mean.logits
    direct = session.images.trace(0).embedding[0] @ classifiers.by_name(model, task).directions.T
    torch.testing.assert_close(panel_side.float().cpu(), direct.float().cpu(), rtol=1e-4, atol=1e-5)
    examples = (tuple(range(0, 12)), tuple(range(12, 24)))
    learnt = Task("halves", ("first", "second"), (("one",), ("two",)), examples=examples)
    desk = session.ablation.classifier(learnt)
    pictures = classifiers.from_pictures(model, session.images, examples)
    torch.testing.assert_close(desk, pictures, rtol=1e-4, atol=1e-5)


def test_accuracy_after_an_ablation_is_the_same(session, model, late):
    task = classifiers.by_name(model, session.ablation.tasks()["objects"])
    ablation = clipviz.Ablation(heads=frozenset({(5, 1), (4, 2), (5, 7)}))
    shown = session.ablation.run(ablation, "objects").everything
    terms = ablate.with_rest(late)
    evaluation = Evaluation("same images", session.images, [task], {})
    measured = chapter2.Measured(evaluation, terms, range(len(session.images)))
    assert measured.top1(ablation)["objects"] == pytest.approx(shown.after)
    assert measured.top1(clipviz.Ablation())["objects"] == pytest.approx(shown.before)


def test_the_world_report_reads_neurons_the_same_way(session, model):
    pool = dict(zip(["a", "b"], model.encode_texts(["a dog", "a car"]).cpu(), strict=True))
    images = session.images.opened.subset(range(20))
    found = world_measures.neuron_layers(model, images, pool, quiet=True)[LAYER]
    stats = neuron_sums.read_layers(model, images, [LAYER], 2, shared=False, norms=False)[0].stats
    strongest = stats.total.topk(found.n_neurons).indices
    assert found.squared_share == pytest.approx(float(stats.top_share()[strongest].mean()))
    assert np.isfinite(found.first_component)
