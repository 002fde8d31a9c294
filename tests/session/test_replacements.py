"""What a session says of heads projected on texts (Figures 2.3, A.1) and of a layer's effects replaced (3.3, 3.4)."""

from __future__ import annotations

import pytest
import torch

import clipviz
from clipviz.analysis.collection import classifiers
from clipviz.analysis.neurons.replacement import CONDITIONS
from clipviz.lens.sparse import reconstruct, sparse_code

TEXTS = ["a red circle", "a dog", "in the sea", "two apples", "a letter", "in the forest", "a car", "a star"]
LAYER, N_IMAGES = 3, 24


@pytest.fixture(scope="module")
def session(model):
    table = clipviz.demo.images()
    lone = [i for i, kind in enumerate(table.attributes["kind"]) if kind == "object"][:N_IMAGES]
    session = clipviz.Session(model, table.subset(lone), texts=TEXTS, background=False)
    yield session
    session.close()


def top1(embeddings, task, model):
    classes = classifiers.from_prompts(model, task.prompts).double()
    hits = (embeddings.double() @ classes.T).argmax(1) == torch.tensor(task.labels)
    return float(hits[torch.tensor(task.labels) >= 0].double().mean())


def test_every_replacement_of_a_layers_effects_is_the_explicit_one(session, model):
    """From every phi formed: its mean, or x r + b, or x times what m texts rebuild of r, in its place."""
    task = session.ablation.tasks()["objects"]
    found = session.neurons.ablate(LAYER, "objects", m=4)
    assert list(found) == ["nothing changed", *CONDITIONS, "m = 4"]
    second = model.second_order(list(session.images), LAYER)
    unit = torch.nn.functional.normalize(second.embedding, dim=1).double()
    phi, known = second.effects().double(), session.neurons.layer(LAYER)
    mean, line = phi.mean(0), known.line
    large = second.norms() > known.thresholds
    gaps = phi - mean
    own = second.effects(shared=False).double()
    x = ((own - own.mean(0)) * line.directions.double()).sum(2)
    code = reconstruct(sparse_code(line.directions, known.dictionary, 4), known.dictionary).double()
    expected = {
        "nothing changed": unit,
        CONDITIONS[0]: unit - gaps.sum(1),
        CONDITIONS[1]: unit - (gaps * ~large[..., None]).sum(1),
        CONDITIONS[2]: unit - (gaps * large[..., None]).sum(1),
        CONDITIONS[3]: unit - gaps.sum(1) + x @ line.directions.double(),
        "m = 4": unit - gaps.sum(1) + x @ code,
    }
    for name, embeddings in expected.items():
        assert found[name].top1 == pytest.approx(top1(embeddings, task, model)), name
        assert found[name].n_images == sum(label >= 0 for label in task.labels)
    assert list(session.neurons.ablate(LAYER, "objects")) == ["nothing changed", *CONDITIONS]
    with pytest.raises(ValueError, match="expected a task of these images"):
        session.neurons.ablate(LAYER, "birds of prey")


def test_heads_on_their_first_texts_are_projected_explicitly(session, model):
    """Each late head's c minus its mean, projected on the span of the m texts that the greedy chooses."""
    task = session.ablation.tasks()["objects"]
    found = session.ablation.project_heads((2, 8), "objects")
    assert list(found) == [2, 8]
    late = list(session.images.codes.layers[-clipviz.values.N_LATE :])
    trace = model.trace(list(session.images))
    effects, mean = trace.head_effects().double(), trace.embedding.double().mean(0)
    pool = model.encode_texts(TEXTS).double()
    for size, accuracy in found.items():
        total = mean.expand(N_IMAGES, -1).clone()
        for layer in late:
            for head in range(model.n_heads):
                gaps = effects[:, layer, head] - effects[:, layer, head].mean(0)
                total += gaps @ _span(gaps, pool, size)
        assert accuracy.top1 == pytest.approx(top1(total, task, model)), size
    random = torch.randn(8, model.weights.d_embed, generator=torch.Generator().manual_seed(0))
    assert session.ablation.project_heads(2, "objects", random)[2].n_images == found[2].n_images
    assert session.ablation.project_heads(2, "objects", TEXTS)[2].top1 == found[2].top1
    with pytest.raises(ValueError, match=r"expected at most 8 texts per head .*, got 9; ask for fewer"):
        session.ablation.project_heads(9, "objects")


def _span(gaps, pool, size):
    """The projection on the first texts of Alg. 1, literally, [d_embed, d_embed]."""
    outputs, texts, chosen = gaps.clone(), pool.clone(), []
    basis = torch.linalg.svd(gaps, full_matrices=False)[2][: torch.linalg.matrix_rank(gaps, rtol=1e-5)]
    texts = texts @ basis.T @ basis
    for _ in range(size):
        best = int((outputs @ texts.T).var(0).argmax())
        direction = texts[best] / texts[best].norm()
        chosen.append(direction)
        outputs = outputs - (outputs @ direction)[:, None] * direction
        texts = texts - (texts @ direction)[:, None] * direction
    stack = torch.stack(chosen)
    return stack.T @ stack
