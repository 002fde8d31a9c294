"""The ablation desk without a browser: what it sends sums to the model's own answer; the collection follows."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz.analysis.heads import ablation as analysis
from clipviz.lens import intervals, zeroshot
from clipviz.panels.ablate.panel import Ablate
from clipviz.session import Board
from clipviz.session.topics.ablation import N_TOWARDS
from clipviz.values import N_LATE, Ablation
from panels.asking import ask

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = [*COMMON, "a car", "a star"]


@pytest.fixture(scope="module")
def images():
    demo = clipviz.demo.images()
    birds = [i for i, group in enumerate(demo.attributes["bird group"]) if group][:24]
    return demo.subset([*range(24), *birds])


@pytest.fixture
def session(lend, model, images):
    with lend(model, images, TEXTS) as session:
        yield session


@pytest.fixture
def panel(session):
    panel = Ablate(session)
    session.wait(60)
    return panel


def desk_arrays(panel):
    return {
        name: np.frombuffer(panel.desk[p["offset"] : p["offset"] + p["size"]], p["dtype"]).reshape(p["shape"])
        for name, p in panel.view["desk"]["arrays"].items()
    }


@pytest.fixture(scope="module")
def trace(model, images):
    """Of all images at once."""
    return model.trace(list(images))


@pytest.fixture(scope="module")
def heads(trace):
    return trace.head_effects().double()


@pytest.fixture(scope="module")
def class_token(trace):
    """Effects of the class token through every head, [image, layer, head, d_embed]."""
    basis = torch.eye(128)  # token effects along every axis are the effects themselves
    return trace.token_scores(basis)[..., 0].movedim(0, -1).double()


def naive(session, trace, heads, task, image, ablation):
    """Class probabilities from the trace's own effects, term by term, float64; means over every image's trace."""
    rest = trace.mlp_effects().sum(1).double()
    after = trace.embedding[image].double()
    for layer, head in ablation.heads:
        after = after - heads[image, layer, head]
        after = after + (heads[:, layer, head].mean(0) if ablation.how == "mean" else 0)
    if ablation.mlps:
        after = after - rest[image] + (rest.mean(0) if ablation.how == "mean" else 0)
    cosines = session.ablation.classifier(task).double() @ after / after.norm()
    return torch.softmax(session.model.logit_scale * cosines, 0).numpy()


@pytest.mark.parametrize("how", ["mean", "zero"])
def test_the_desk_is_exact(session, panel, trace, heads, how):
    task = session.ablation.tasks()["objects"]
    for ablation in (
        Ablation(how=how),
        Ablation(heads={(5, 1), (2, 3), (0, 0)}, how=how),
        Ablation(heads={(5, 7)}, mlps=range(7), how=how),
    ):
        session.select(ablation=ablation, image=3)
        session.wait(60)
        ours = panel.probabilities()
        assert tuple(ours) == task.classes
        expected = naive(session, trace, heads, task, 3, ablation)
        np.testing.assert_allclose(list(ours.values()), expected, atol=2e-5)


@pytest.mark.parametrize("how", ["mean", "zero"])
def test_single_mlps_and_the_class_token_are_exact_on_the_desk(
    session, panel, trace, heads, class_token, how
):
    out = {(5, 7), (3, 0)}
    session.select(ablation=Ablation(heads=out, how=how), image=3)
    ask(panel, options={"mlps": [2, 6], "class_token": True})
    task, labels = (
        session.ablation.tasks()["objects"],
        torch.tensor(session.ablation.tasks()["objects"].labels),
    )
    classes = session.ablation.classifier(task).double()
    removed = trace.mlp_effects().double()[:, [2, 6]].sum(1)
    for layer in range(6):
        for head in range(8):
            gone = heads if (layer, head) in out else class_token
            removed = removed + gone[:, layer, head]
    if how == "mean":
        removed = removed - removed[labels >= 0].mean(0)
    after = trace.embedding.double() - removed
    cosines = torch.nn.functional.normalize(after, dim=1) @ classes.T
    expected = torch.softmax(session.model.logit_scale * cosines[3], 0).numpy()
    np.testing.assert_allclose(list(panel.probabilities().values()), expected, atol=2e-5)
    hits = (cosines.argmax(1) == labels)[labels >= 0].double()
    assert panel.view["outcome"]["everything"]["after"] == pytest.approx(float(hits.mean()))
    assert panel.view["desk"]["apart"]
    assert session.selection.ablation == Ablation(heads=out, how=how)  # the other panels do not know of them
    assert panel.removed().without(8, 7) == "without 2 heads, 2 MLPs and the class token"
    before = desk_arrays(panel)["logits"]  # of the whole embedding, whatever is out
    np.testing.assert_allclose(before, classes @ session.images.codes.embedding[3].double(), atol=1e-4)
    ask(panel, options={"mlps": [7]})
    assert "expected mlps within 0..6, got [7]" in panel.error["message"]
    ask(panel, options={"mlps": [], "class_token": False})
    assert not panel.view["desk"]["apart"]


def test_what_the_browser_gets_sums_as_python_does(session, panel):
    session.select(ablation=Ablation(heads={(5, 1), (4, 4)}, mlps=range(7)))
    session.wait(60)
    desk, arrays = panel.view["desk"], desk_arrays(panel)
    out = [head in ((5, 1), (4, 4)) for head in desk["heads"]] + [True]
    s = np.array(out, np.float64)
    logits = arrays["logits"] - s @ arrays["terms_mean"]
    squared = arrays["squared_norm"][0] - 2 * s @ arrays["cross_mean"] + s @ arrays["gram_mean"] @ s
    scores = desk["scale"] * logits / np.sqrt(squared)
    scores = np.exp(scores - scores.max())
    np.testing.assert_allclose(scores / scores.sum(), list(panel.probabilities().values()), atol=1e-5)


def test_the_desk_is_sent_once_an_image(session, panel):
    desk, key = panel.desk, panel.view["desk"]["key"]
    ask(panel, {"ablation": Ablation(heads={(5, 0)}).to_dict()})
    assert session.selection.ablation == Ablation(heads={(5, 0)})
    assert panel.desk is desk
    assert panel.view["desk"]["key"] == key
    session.select(image=2)
    session.wait(60)
    assert panel.view["desk"]["key"] == key + 1


def test_the_collections_accuracy_equals_the_ablated_embeddings(session, panel, heads):
    ablation = Ablation(heads={(5, 0), (5, 7), (3, 2)})
    session.select(ablation=ablation)
    ask(panel, options={"task": "birds"})
    task, shown = session.ablation.tasks()["birds"], panel.view["outcome"]
    removed = sum(heads[:, layer, head] - heads[:, layer, head].mean(0) for layer, head in ablation.heads)
    after = session.images.codes.embedding - removed
    predicted = (after @ session.ablation.classifier(task).double().T).argmax(1)
    labels = torch.tensor(task.labels)
    hits = (predicted == labels)[labels >= 0].float()
    assert shown["everything"]["after"] == pytest.approx(float(hits.mean()))
    assert shown["everything"]["n_images"] == int((labels >= 0).sum())
    first = (session.images.codes.embedding @ session.ablation.classifier(task).T).argmax(1)
    before = (first == labels)[labels >= 0]
    lost, gained = int((before & (hits == 0)).sum()), int((~before & (hits == 1)).sum())
    paired = intervals.paired(lost, gained, len(hits))
    assert shown["everything"]["change"] == (paired.low, paired.high)
    assert shown["everything"]["differs"] == paired.differs
    assert session.ablation.run(ablation, task).everything.change == paired
    worst = min(row["after"] for row in shown["groups"])
    assert shown["worst"]["after"] == worst
    assert len(shown["everything"]["random"]) == analysis.N_DRAWS
    assert (shown["n_heads"], shown["drawn_from"]) == (3, [3, 5])


def test_the_worst_groups_change_is_paired_where_it_is_one_group():
    def outcome(before, after):
        made = [
            zeroshot.Accuracy(0.5, 20, 2, {name: (share, 10) for name, share in found.items()})
            for found in (before, after)
        ]
        changes = {name: intervals.paired(1, 3, 10) for name in before}
        return analysis.Outcome(*made, intervals.paired(2, 6, 20), changes, (), 1, (5,))

    same = outcome({"a": 0.3, "b": 0.7}, {"a": 0.5, "b": 0.9})
    assert same.worst.change == intervals.paired(1, 3, 10)
    other = outcome({"a": 0.3, "b": 0.7}, {"a": 0.9, "b": 0.4})
    assert other.worst.change == intervals.difference(intervals.share(3, 10), intervals.share(4, 10))
    assert not other.worst.change.differs


def test_classes_are_learnt_from_examples_that_are_no_part_of_the_test(model):
    demo = clipviz.demo.images()
    groups = demo.attributes["bird group"]
    birds = [i for name in sorted({*groups} - {None}) for i in demo.where("bird group", name)[:20]]
    session = clipviz.Session(model, demo.subset(birds), texts=TEXTS, background=False)
    panel = Ablate(session, task="birds by example")
    session.wait(60)
    task = session.ablation.tasks()["birds by example"]
    unit = torch.nn.functional.normalize(session.images.codes.embedding.double(), dim=1)
    learnt = torch.stack([unit[list(rows)].mean(0) for rows in task.examples])
    labels = torch.tensor(task.labels)
    assert (labels[[i for rows in task.examples for i in rows]] == -1).all()
    hits = ((unit @ (learnt / learnt.norm(dim=1, keepdim=True)).T).argmax(1) == labels)[labels >= 0]
    shown = panel.view["outcome"]["everything"]
    assert shown["before"] == pytest.approx(float(hits.double().mean()))
    assert shown["n_images"] == len(hits) == 80 - 20
    assert "learnt from 20 other pictures, of which 80%" in panel.view["note"]
    shortcut = next(preset for preset in panel.view["presets"] if preset["kind"] == "shortcut")
    late = session.images.codes.layers[-N_LATE:]
    assert shortcut["name"] == "water from forest"
    assert len(shortcut["heads"]) == 4 * session.model.n_heads // 5
    assert {layer for layer, _ in shortcut["heads"]} <= set(late)
    session.close()


def test_examples_that_are_still_unread_are_waited_for(model, monkeypatch):
    demo = clipviz.demo.images()
    session = clipviz.Session(model, demo, texts=TEXTS, background=False)
    task = session.ablation.tasks()["birds by example"]
    session.wait(60)
    unread = task.examples[0][0]
    monkeypatch.setattr(
        type(session.images.codes),
        "rows",
        lambda collection: torch.tensor([i for i in range(8) if i != unread]),
    )
    monkeypatch.setattr(type(session.images.codes), "complete", False)
    assert session.ablation.classifier(task) is None
    assert session.ablation.desk(task, 0) is None
    session.close()


def test_nothing_ablated_changes_nothing(panel):
    row = panel.view["outcome"]["everything"]
    assert row["before"] == row["after"]
    assert row["random"] == ()


def test_presets_name_heads(session, panel):
    session.select(text="a dog")
    session.wait(60)
    by_kind = {preset["kind"]: preset for preset in panel.view["presets"]}
    assert len(by_kind["early"]["heads"]) == 2 * 8
    best = np.unravel_index(session.heads.effects("a dog").heads.argmax(), (6, 8))
    assert tuple(map(int, best)) in by_kind["text"]["heads"]
    assert len(by_kind["text"]["heads"]) == N_TOWARDS
    labels = {at: about.label for at, about in session.heads.summaries().items()}
    for preset in panel.view["presets"]:
        if preset["kind"] == "property":
            assert all(labels[tuple(head)] == preset["name"] for head in preset["heads"])


def test_typed_classes(session, panel):
    ask(panel, options={"task": "typed", "classes": "a <b>swan</b>, an owl, a truck"})
    assert panel.view["desk"]["names"] == ["<b>swan</b>", "owl", "truck"]
    assert panel.view["outcome"] is None
    ask(panel, options={"task": "typed", "classes": "owl"})
    assert "at least two class names, got ['owl']" in panel.error["message"]
    ask(panel, options={"task": "objects", "classes": "owl"})
    assert not panel.error
    assert panel.view["desk"]["n_classes"] == len(session.ablation.tasks()["objects"].classes)


def test_what_the_desk_cannot_take_out_is_said(session, panel):
    session.select(ablation=Ablation(tokens={0}))
    session.wait(60)
    assert "its options mlps and class_token" in panel.error["message"]
    session.select(ablation=Ablation(layers={4}))
    session.wait(60)
    assert not panel.error
    assert panel.view["outcome"]["n_heads"] == 8
    with pytest.raises(TypeError, match="class_token, classes, mlps, shortcut, shortcut_b, task, visible"):
        Ablate(session, wrong=1)


def test_images_without_classes_wait_for_typed_ones(model):
    session = clipviz.Session(model, [np.zeros((40, 40, 3), np.uint8)] * 4, texts=TEXTS, background=False)
    panel = Ablate(session)
    session.wait(60)
    assert "Type class names" in panel.view["message"]
    ask(panel, options={"task": "typed", "classes": "a dog, a cat"})
    assert panel.view["desk"]["names"] == ["dog", "cat"]
    session.close()


def test_before_anything_is_read_it_says_so(model, images):
    session = clipviz.Session(model, images.subset(range(4)), texts=TEXTS, background=False)
    session.images.codes.ready[:] = False
    session.images.codes.version += 1
    Board.of(session).reading.reached(0)
    panel = Ablate(session)
    session.wait(60)
    assert panel.view["message"].startswith("Reading the images: 0 of 4")
    session.close()


def test_a_hidden_desk_computes_nothing(session):
    panel = Ablate(session, visible=False)
    session.wait(60)
    assert panel.view["waiting"]
    assert panel.desk == b""


def test_partial_layers_join_the_rest(model, images):
    session = clipviz.Session(model, images, texts=TEXTS, layers=[4, 5], background=False)
    panel = Ablate(session)
    session.wait(60)
    rest = panel.view["rest"]
    assert rest["layers"] == [0, 1, 2, 3]
    session.select(ablation=Ablation(mlps=rest["mlps"], layers=rest["layers"], heads={(5, 2)}))
    session.wait(60)
    assert panel.view["outcome"]["n_heads"] == 1
    session.select(ablation=Ablation(heads={(0, 2)}))
    session.wait(60)
    assert "not among the layers kept" in panel.error["message"]
    session.close()


def test_the_figure_shows_the_groups(session, panel):
    session.select(ablation=Ablation(heads={(5, 0)}))
    session.wait(60)
    figure = panel.figure()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "all images" in labels


def test_close_leaves_nothing(session):
    panel = Ablate(session)
    session.wait(60)
    gone = weakref.ref(panel)
    panel.close()
    del panel
    gc.collect()
    session.wait(60)
    assert session.selection is not None
    assert gone() is None
    assert not Board.of(session)._watchers
