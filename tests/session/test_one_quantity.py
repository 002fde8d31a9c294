"""One meaning per number: after an ablation, and with a second text, every answer is of the same quantity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz.data.recent import Recent
from clipviz.session.state import REMEMBERED
from clipviz.values import Ablation

TEXTS = COMMON
CASES = {
    "mean": Ablation(heads={(5, 1), (2, 3)}),
    "zero": Ablation(heads={(5, 1)}, layers={4}, how="zero"),
    "with the rest": Ablation(heads={(5, 7)}, mlps=range(7)),
}


@pytest.fixture
def session(lend, model):
    with lend(model, clipviz.demo.images().subset(range(24)), TEXTS) as session:
        yield session


@pytest.fixture(scope="module")
def trace(model):
    """Of the session's images at once."""
    return model.trace(list(clipviz.demo.images().subset(range(24))))


def naive(trace, image, ablation):
    """rep' from the trace's own effects, term by term, float64; means over every image's trace."""
    heads, rest = trace.head_effects().double(), trace.mlp_effects().sum(1).double()
    after = trace.embedding[image].double()
    gone = set(ablation.heads) | {(layer, head) for layer in ablation.layers for head in range(8)}
    for layer, head in gone:
        after = after - heads[image, layer, head]
        after = after + (heads[:, layer, head].mean(0) if ablation.how == "mean" else 0)
    if ablation.mlps:
        after = after - rest[image] + (rest.mean(0) if ablation.how == "mean" else 0)
    return after / after.norm()


@pytest.mark.parametrize("case", CASES)
def test_ablated_numbers_are_those_of_the_ablated_embedding(session, trace, case):
    ablation = CASES[case]
    after = naive(trace, 3, ablation)
    a, b = (session.texts.direction(text).double() for text in ("a dog", "a red circle"))
    session.select(ablation=ablation)  # asked without one, every method answers for the selection's
    for text_b, direction in (("", a), ("a red circle", a - b)):
        expected = float(after @ direction)
        scores, maps = session.heads.effects("a dog", 3, text_b), session.maps.tokens("a dog", 3, text_b)
        assert scores.cosine == pytest.approx(expected, abs=1e-5)
        assert scores.heads.sum() + scores.mlps.sum() == pytest.approx(expected, abs=1e-5)
        np.testing.assert_allclose(maps.scores.sum(-1), scores.heads, atol=1e-5)
        assert dict(session.images.search("a dog", 24, text_b))[3] == pytest.approx(expected, abs=1e-5)
    for layer, head in ablation.heads:
        assert not maps.scores[layer, head, 1:].any()
    pool = dict(session.texts.nearest(3, len(TEXTS)))
    assert pool["a dog"] == pytest.approx(session.heads.effects("a dog", 3).cosine, abs=1e-5)
    whole = session.heads.effects("a dog", 3, ablation=Ablation())
    assert whole.cosine != pytest.approx(session.heads.effects("a dog", 3).cosine, abs=1e-3)
    assert dict(session.images.search("a dog", 24, ablation=Ablation()))[3] == pytest.approx(
        whole.cosine, abs=1e-5
    )


def test_cosines_are_literally_those_of_the_models_two_encodings(session, model):
    """Eq. 2.1 from what the network itself makes of an image and of a text, number by number, in float64."""
    with torch.no_grad():
        pixels = torch.stack([model.preprocess(session.images[i]) for i in range(24)])
        images = model.network.encode_image(pixels).double().tolist()
        texts = model.network.encode_text(model.tokenizer(["a dog", "in the sea"])).double().tolist()

    def cosine(one, other):
        product = sum(a * b for a, b in zip(one, other, strict=True))
        return product / (sum(a * a for a in one) * sum(b * b for b in other)) ** 0.5

    expected = [[cosine(image, text) for image in images] for text in texts]
    lengths = [sum(a * a for a in image) ** 0.5 for image in images]
    assert max(lengths) > 1.05 * min(lengths)  # else what is not divided by them would look the same
    assert session.images.cosines("a dog").tolist() == pytest.approx(expected[0], abs=1e-5)
    both = [a - b for a, b in zip(*expected, strict=True)]
    assert session.images.cosines("a dog", "in the sea").tolist() == pytest.approx(both, abs=1e-5)


def test_means_need_images_and_only_what_can_stand_alone_is_removed(session):
    session.images.codes.ready[:] = False
    session._state._memory, session._state._works = Recent(REMEMBERED), Recent(REMEMBERED)
    with pytest.raises(ValueError, match="none has been read yet"):
        session.heads.effects("a dog", 3, ablation=CASES["mean"])
    session.images.codes.ready[:] = True
    with pytest.raises(ValueError, match="or all MLPs together"):
        session.heads.effects("a dog", 3, ablation=Ablation(tokens={0}))
