"""A person's own shortcut on files of his own: groups from the table, typed shortcuts, roles given by hand."""

from __future__ import annotations

import json

import pytest
import torch
from few_texts import COMMON
from panels.asking import ask
from waterbirds import write_birds

import clipviz
from clipviz.analysis.collection import classifiers
from clipviz.data.roles import Roles
from clipviz.lens import ablate
from clipviz.panels import Heads, TextSpan
from clipviz.panels.ablate.panel import Ablate
from clipviz.session import Board
from clipviz.values import N_LATE, Ablation

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = [*COMMON, "a car", "a star"]
GROUPS = {f"{bird} on {place}" for bird in ("landbird", "waterbird") for place in ("land", "water")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("birds")
    write_birds(made)
    return made


@pytest.fixture(scope="module")
def opened(model, folder):
    session = clipviz.Session(model, str(folder), TEXTS, background=False)
    yield session
    session.close()


@pytest.fixture(scope="module")
def traces(model, opened):
    """Of one image at a time."""
    return [model.trace(picture) for picture in opened.images]


@pytest.fixture(scope="module")
def head_effects(traces):
    return torch.cat([trace.head_effects() for trace in traces])


@pytest.fixture(scope="module")
def class_token_scores(opened, traces):
    """Of the class token with the directions of the birds' classes, [image, layer, head, class]."""
    classes = classifiers.from_prompts(opened.model, opened.ablation.tasks()["birds"].prompts)
    return torch.cat([trace.token_scores(classes)[..., 0].movedim(0, -1) for trace in traces])


@pytest.fixture
def session(opened):
    yield opened
    for panel in list(Board.of(opened)._watchers):
        panel.close()
    for layer, head in opened.heads.roles():
        opened.heads.set_role(layer, head, "")
    opened.select(ablation=Ablation())


def test_groups_and_the_worst_of_them_come_from_the_table(session, head_effects):
    assert list(session.ablation.tasks()) == ["birds", "birds by example"]
    task = session.ablation.tasks()["birds"]
    assert set(task.groups) == GROUPS
    heads = session.ablation.presets(task=task)[0].heads
    found = session.ablation.run(Ablation(heads=heads))
    effects, before = head_effects, session.images.codes.embedding
    after = before - sum(effects[:, layer, head] - effects[:, layer, head].mean(0) for layer, head in heads)
    classes = classifiers.from_prompts(session.model, task.prompts)
    for column, embedding in (("before", before), ("after", after)):
        hits = (embedding @ classes.T).argmax(1) == torch.tensor(task.labels)
        rows = {name: [g == name for g in task.groups] for name in GROUPS}
        expected = {name: float(hits[rows[name]].float().mean()) for name in GROUPS}
        assert {row.name: getattr(row, column) for row in found.groups} == pytest.approx(expected)
        assert getattr(found.worst, column) == pytest.approx(min(expected.values()))
        assert getattr(found, column).top1 == pytest.approx(float(hits.float().mean()))
        assert 0.2 < float(hits.float().mean()) < 1


@pytest.mark.parametrize("how", ["mean", "zero"])
def test_single_mlps_and_the_class_token_are_measured_on_traces(
    session, traces, head_effects, class_token_scores, how
):
    task, ablation = (
        session.ablation.tasks()["birds"],
        Ablation(mlps={2, 6}, tokens={0}, heads={(5, 1)}, how=how),
    )
    found = session.ablation.run(ablation)
    classes = classifiers.from_prompts(session.model, task.prompts).double()
    heads = head_effects.double()
    mlps = torch.cat([trace.mlp_effects() for trace in traces]).double()[:, [2, 6]].sum(1)
    tokens = class_token_scores.double().clone()
    tokens[:, 5, 1] = 0
    removed = (heads[:, 5, 1] + mlps) @ classes.T + tokens.sum((1, 2))
    removed = removed - removed.mean(0) if how == "mean" else removed
    embedding = torch.cat([trace.embedding for trace in traces]).double()
    expected = embedding @ classes.T - removed
    traced = session.ablation._traced(task, frozenset({0}))
    shown = ablate.embedding_after(traced.terms, ablation, traced.means).double() @ classes.T
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=0)
    hits = (expected.argmax(1) == torch.tensor(task.labels)).double()
    assert found.after.top1 == pytest.approx(float(hits.mean()))
    assert found.n_heads == 1
    assert found.drawn_from == (5,)
    assert len(found.random) == session.model.n_heads - 1  # every other head of the layer, once
    assert found.before.top1 == session.ablation.run(Ablation()).before.top1
    assert session.ablation.run(Ablation(mlps={2})).random == ()
    with pytest.raises(ValueError, match=r"all MLPs together.*by session\.ablation\.run"):
        session.ablation.on_desk(Ablation(mlps={2}))


def test_two_typed_texts_find_the_heads_that_tell_them_apart(session, head_effects):
    task, layers = session.ablation.tasks()["birds"], session.images.codes.layers[-N_LATE:]
    found = session.ablation.shortcut_heads(" the sea, a lake", "a forest")
    assert (found.kind, found.name) == ("shortcut", "the sea, a lake from a forest")
    assert len(found.heads) == N_LATE * session.model.n_heads // 5
    effects = head_effects.double()

    def share(texts, texts_b):
        one, other = classifiers.from_prompts(session.model, (texts, texts_b)).double()
        variance = (effects @ (one - other)).var(0, unbiased=False)
        return variance / variance.sum()

    excess = share(("the sea", "a lake"), ("a forest",)) - share(*task.prompts)
    best = excess[list(layers)].flatten().topk(len(found.heads)).indices.tolist()
    assert set(found.heads) == {(layers[i // 8], i % 8) for i in best}
    for sides in (("the sea", " "), ("a forest", "a forest")):
        with pytest.raises(
            ValueError, match=r'two different texts for a shortcut, got .* type both, such as "the sea"'
        ):
            session.ablation.shortcut_heads(*sides)


def test_the_desk_offers_typed_shortcuts_and_given_roles(session):
    panel, heads, spans = Ablate(session), Heads(session), TextSpan(session, n_texts=3, n_images=1)
    ask(panel, options={"shortcut": "the sea", "shortcut_b": ""})
    assert [p["name"] for p in panel.view["presets"] if p["kind"] == "shortcut"] == ["water from land"]
    ask(panel, options={"shortcut": "the sea", "shortcut_b": "a forest"})
    assert [p["name"] for p in panel.view["presets"] if p["kind"] == "shortcut"][1] == "the sea from a forest"
    assert {row["name"] for row in panel.view["outcome"]["groups"]} == GROUPS
    assert panel.view["outcome"]["by"] == "bird and background"
    ask(spans, {"layer": 5, "head": 3}, action="role", head=[5, 3], role="  back<b>ground ")
    ask(spans, action="role", head=[4, 1], role="back<b>ground")
    session.wait(60, background=True)
    session.wait(60)
    assert session.heads.roles() == {(4, 1): "back<b>ground", (5, 3): "back<b>ground"}
    assert spans.view["role"] == "back<b>ground"
    assert spans.view["label"]["name"] != spans.view["role"]
    given = [(p["name"], p["heads"]) for p in panel.view["presets"] if p["kind"] == "role"]
    assert given == [("back<b>ground", ((4, 1), (5, 3)))]
    summaries = heads.view["summaries"]
    assert (summaries["5,3"]["role"], summaries["5,2"]["role"]) == ("back<b>ground", "")
    ask(spans, action="role", role="texture")
    assert "expected the head to give the role to" in spans.error["message"]


def test_classes_are_typed_with_the_groups_of_the_table(session):
    task = session.ablation.typed("a waterbird, a landbird")
    assert set(task.groups) == GROUPS
    assert task.n_labelled == 24


def test_roles_are_kept_for_the_model_by_every_session(model, tmp_path, monkeypatch):
    picture = clipviz.demo.images()[0]
    monkeypatch.setenv("CLIPVIZ_CACHE", str(tmp_path))
    one, other = (clipviz.Session(model, picture, TEXTS, background=False) for _ in range(2))
    one.heads.set_role(5, 3, "background")
    other.heads.set_role(0, 0, "edges")
    one.heads.set_role(5, 3, "place")
    one.close()
    other.close()
    file = tmp_path / "roles" / f"{model.fingerprint}.json"
    assert json.loads(file.read_text()) == {"model": "demo", "roles": {"0,0": "edges", "5,3": "place"}}
    with pytest.raises(ValueError, match="expected head within"):
        one.heads.set_role(5, 99, "background")
    with pytest.raises(ValueError, match="at most 60 characters, got 61"):
        one.heads.set_role(5, 3, "x" * 61)
    file.write_text("{]")
    roles = Roles.of("demo", model.fingerprint)
    assert roles.all() == {}
    roles.set((1, 2), "texture")
    assert Roles.of("demo", model.fingerprint).all() == {(1, 2): "texture"}
    assert file.with_suffix(".damaged").read_text() == "{]"
