"""Every chapter answers on the remaining families of towers, in one session each (see test_towers for the rest)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import clipviz
from clipviz.values import Ablation
from tests.models import hf_models
from tests.models.families import with_texts
from tests.session.test_towers import TEXTS

N_IMAGES = 12
WIDE = {"CoCa", "norm, GAP, registers", "EVA-02-E, post-norm"}


def opened(family):
    """A tiny model of the family, texts and all."""
    if family not in WIDE:
        network, processor = getattr(hf_models, family)()
        return clipviz.wrap(network, processor, name=family)
    return with_texts(family)


@pytest.mark.parametrize("family", [*sorted(WIDE), "clip", "siglip"])
def test_every_chapter_answers(family, tmp_path):
    model, images = opened(family), clipviz.demo.images().subset(range(N_IMAGES))
    session = clipviz.Session(model, images, texts=TEXTS, background=False)
    session.wait()
    layer, embeddings = (
        session.images.codes.layers[-1],
        model.encode_images([images[i] for i in range(N_IMAGES)]),
    )
    unit = torch.nn.functional.normalize(embeddings, dim=-1)
    text = model.encode_texts(["a dog"])[0]
    scores = session.heads.effects("a dog", 3)
    assert scores.cosine == pytest.approx(float(unit[3] @ text), abs=1e-5)
    assert scores.heads.sum() + scores.mlps.sum() == pytest.approx(scores.cosine, abs=1e-5)
    assert session.maps.tokens("a dog", 3).scores.sum(-1) == pytest.approx(scores.heads, abs=1e-5)
    gains = np.asarray(session.heads.textspan(layer, 1, n_texts=3).gains)
    assert 0 < gains.sum() <= 1
    found = [image for image, _ in session.images.search("a dog", 4)]
    assert found == (unit @ text).topk(4).indices.tolist()
    without = session.heads.effects("a dog", 3, ablation=Ablation(heads=frozenset({(layer, 0)}), how="zero"))
    effect = model.trace(images[3]).head_effects([layer])[0, 0, 0]
    left = embeddings[3] - effect
    assert without.cosine == pytest.approx(float(left @ text / left.norm()), abs=1e-4)
    assert session.neurons.layer(0).n_neurons == model.weights.n_neurons
    assert tuple(session.maps.compare("a dog", 2)) == session.maps.baselines
    clipviz.Index.build(model, images, tmp_path / "index", progress=False)
    on_index = clipviz.Session(
        model, index=clipviz.Index.open(tmp_path / "index"), texts=TEXTS, background=False
    )
    on_index.wait()
    assert on_index.heads.effects("a dog", 3).cosine == pytest.approx(scores.cosine, abs=2e-2)
    for one in (on_index, session):
        one.close()
