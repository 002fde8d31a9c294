"""Every method of a session answers on towers without CLIP's class token: a tiny SigLIP, a tiny EVA-02."""

from __future__ import annotations

import dataclasses

import naive
import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz.lens import ablate
from clipviz.values import Ablation
from tests.models.families import with_texts

pytestmark = pytest.mark.usefixtures("few_rotations")

TEXTS = [*COMMON, "a car", "a blue square"]
N_IMAGES = 20


@pytest.fixture(scope="module", params=["SigLIP", "EVA-02", "PE-Core", "CLIPA"])
def session(request):
    images = clipviz.demo.images().subset(range(N_IMAGES))
    session = clipviz.Session(with_texts(request.param), images, texts=TEXTS, background=False)
    session.wait()
    yield session
    session.close()


def test_effects_add_up_to_the_cosine(session):
    scores, maps = session.heads.effects("a dog", 3), session.maps.tokens("a dog", 3)
    assert scores.heads.sum() + scores.mlps.sum() == pytest.approx(scores.cosine, abs=1e-5)
    assert len(scores.mlps) == session.model.weights.n_mlp_terms
    rows, cols = session.model.weights.grid
    assert maps.scores.shape[-1] == 1 + rows * cols
    assert maps.scores.sum(-1) == pytest.approx(scores.heads, abs=1e-5)
    assert session.maps.shared(3).shape == maps.scores.shape
    assert session.maps.attention(3).shape == maps.scores.shape
    assert session.maps.attention(3).sum(-1) == pytest.approx(1, abs=1e-5)


def test_the_pool_has_a_map_of_its_own(session):
    model, panel = session.model, clipviz.panels.Heatmap(session, show="pool")
    session.select(image=3, text="a dog", text_b="")
    session.wait()
    if not model.weights.readout.pools:
        assert "reads a class token and has no pool" in panel.error["message"]
        panel.show = "effect"  # panels of a session share their options
        panel.close()
        return
    found, scores = session.maps.pool("a dog", 3), session.heads.effects("a dog", 3)
    tail = scores.mlps[-1] if model.weights.readout.has_tail else 0
    assert found.sum() == pytest.approx(scores.cosine - tail, abs=1e-5)
    assert panel.map() == pytest.approx(found[1:].reshape(model.weights.grid), abs=1e-6)
    panel.show = "effect"
    panel.close()


def test_textspan_equals_textspan_of_the_raw_effects(session):
    model, layer = session.model, session.model.n_layers - 1
    described = session.heads.textspan(layer, 1, n_texts=4)
    effects = torch.cat([model.trace(session.images[i]).head_effects()[:, layer, 1] for i in range(N_IMAGES)])
    spans = session.heads.spans()[1]
    place = session.images.codes.layers.index(layer) * model.n_heads + 1
    order, explained = naive.textspan(effects, model.encode_texts(TEXTS), 4, span=spans[place])
    assert described.order.tolist() == order
    assert described.gains == pytest.approx(np.diff([0, *explained]), abs=1e-3)
    assert session.heads.label(layer, 1) is not None
    assert len(session.heads.summaries()) == len(session.images.codes.layers) * model.n_heads
    assert session.heads.variance().sum() == pytest.approx(1, abs=1e-5)


def test_ablation_equals_subtracted_effects(session):
    model, task = session.model, session.ablation.typed("a dog, a car, a letter")
    layer = session.images.codes.layers[-1]
    desk = session.ablation.desk(task, 2)
    chosen = Ablation(heads=frozenset({(layer, 0), (layer, 2)}), how="zero")
    found = desk.probabilities(chosen)
    trace = model.trace(session.images[2])
    left = trace.embedding[0] - trace.head_effects([layer])[0, 0, [0, 2]].sum(0)
    texts = torch.nn.functional.normalize(
        torch.stack([model.encode_texts(list(p)).mean(0) for p in task.prompts]), dim=-1
    )
    cosines = torch.nn.functional.normalize(left, dim=0) @ texts.T
    assert found == pytest.approx(model.probabilities(cosines).numpy(), abs=1e-4)
    assert (model.logit_bias is None) == (abs(float(found.sum()) - 1) < 1e-4)
    assert session.ablation.presets("a dog", 2, task)
    rest = dataclasses.replace(session.ablation.everything_else(), how="zero")
    heads = trace.head_effects()[0].sum((0, 1))  # the MLP after a pool is gone with the others
    cosines = torch.nn.functional.normalize(heads, dim=0) @ texts.T
    assert desk.probabilities(session.ablation.on_desk(rest)) == pytest.approx(
        model.probabilities(cosines).numpy(), abs=1e-4
    )
    terms = ablate.terms_of(trace)
    every = dataclasses.replace(ablate.all_mlps(model.weights.n_mlp_terms), how="zero")
    assert torch.allclose(ablate.embedding_after(terms, every)[0], heads, atol=1e-4 * float(heads.norm()))


def test_retrieval_and_atlas_answer(session):
    layer = session.images.codes.layers[-1]
    assert len(session.images.search("a dog", 5)) == 5
    assert len(session.images.neighbours(2, k=5)) == 5
    assert len(session.images.neighbours(2, layer, 1, 5)) == 5
    assert session.images.atlas(layer, 1).places.shape[0] == N_IMAGES
    assert session.images.atlas().places.shape[0] == N_IMAGES


def test_neurons_answer(session):
    known = session.neurons.layer(0)
    assert known.n_neurons == session.model.weights.n_neurons
    assert len(session.neurons.describe(0, [0, 5], 3)) == 2
    assert session.neurons.concepts(2, 0, 3)
    assert (
        session.maps.joint(session.model.n_layers - 1, 1, 2, 1).maps.shape[1:] == session.model.weights.grid
    )


def test_baselines_answer_or_say_why_not(session):
    maps = session.maps.compare("a dog", 2)
    rows, cols = session.model.weights.grid
    assert tuple(maps) == session.maps.baselines
    assert "LRP" not in session.maps.baselines
    assert all(np.isfinite(m).all() and m.shape == (rows, cols) for m in maps.values())


def test_the_dashboard_opens_without_an_error(session):
    board = clipviz.Dashboard(session)
    session.selection = session.selection.replace(
        image=1, text="a dog", layer=session.model.n_layers - 1, head=0
    )
    session.wait()
    for panel in board.panels.values() if hasattr(board.panels, "values") else board.panels:
        assert not getattr(panel, "error", None), panel
    receipts = session.receipts()
    assert receipts["readout"].startswith(session.model.weights.readout.kind)
    board.close()


def test_an_index_of_a_pooled_tower_has_the_same_numbers(session, tmp_path):
    model = session.model
    clipviz.Index.build(model, session.images, tmp_path / "index")
    index = clipviz.Index.open(tmp_path / "index")
    codes = index.codes()
    assert codes.codes.shape[-1] == model.weights.d_code
    trace = model.trace(session.images[2]).to_codes(index.layers)
    assert np.abs(codes[2].codes - trace.codes.numpy()).max() < 1e-2 * np.abs(trace.codes.numpy()).max()
    on_index = clipviz.Session(model, index=index, texts=TEXTS, background=False)
    on_index.wait()
    d_code, n_heads = model.weights.d_code, model.weights.n_heads
    numbers = 2 * (len(index.layers) * n_heads * d_code + model.weights.d_embed) + 8
    assert numbers <= index.bytes_per_image < numbers + 400  # and a few texts
    assert on_index.receipts()["index_bytes"] == round(index.bytes_per_image)
    assert f"{index.bytes_per_image:,.0f} bytes per image" in repr(index)
    layer = index.layers[-1]
    stored, fresh = on_index.heads.textspan(layer, 1, n_texts=3), session.heads.textspan(layer, 1, n_texts=3)
    assert stored.order[0] == fresh.order[0]
    assert stored.gains == pytest.approx(fresh.gains, abs=2e-2)
    on_index.close()


def test_a_session_of_a_model_with_registers_says_so(model):
    registered = model.with_registers([(0, 1), (2, 7)])
    session = clipviz.Session(registered, clipviz.demo.images().subset(range(3)), ["a dog", "a cat"])
    assert session.receipts()["readout"].endswith("2 register neurons moved to an added token")
    session.close()
