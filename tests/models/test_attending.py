"""Baselines of any readout: those of the class row for a class token; every attention is seen; nothing stays."""

from __future__ import annotations

import pytest
import torch

import clipviz
from clipviz.lens.baselines import chefer_generic, grad_cam, raw_attention, rollout
from clipviz.lens.baselines.readouts import POOLED_METHODS, pooled_maps
from clipviz.models.attending import attend
from clipviz.models.attribution import record
from tests.models.families import FAMILIES, images


def directions(model) -> torch.Tensor:
    drawn = torch.randn(2, model.weights.d_embed, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_a_class_tokens_maps_are_those_of_its_row():
    model = clipviz.wrap(FAMILIES["class token"]())
    pixels, texts = images(model), directions(model)
    stepped, found = record(model, pixels, texts), attend(model, pixels, texts)
    assert torch.allclose(found.score, stepped.score, atol=1e-5)
    assert torch.allclose(found.attention, stepped.attention, atol=1e-5)
    expected = (
        rollout(stepped.attention, start=1),
        raw_attention(stepped.attention),
        grad_cam(stepped.attention, stepped.gradients),
        chefer_generic(stepped.attention, stepped.gradients),
    )
    maps = pooled_maps(found, model.weights.grid)
    for name, tokens in zip(POOLED_METHODS, expected, strict=True):
        scale = tokens.abs().max()
        assert torch.allclose(maps[name].flatten(1) / scale, tokens / scale, atol=1e-4), name


@pytest.mark.parametrize(
    "family", ["SigLIP", "PE-Core", "EVA-02", "CLIPA", "CoCa", "GAP", "Hugging Face SigLIP"]
)
def test_every_family_has_them(family):
    model = clipviz.wrap(FAMILIES[family](), name=family)
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    pixels, texts = images(model), directions(model)
    found = attend(model, pixels, texts)
    unit = torch.nn.functional.normalize(model.encode_images(pixels), dim=-1)
    assert torch.allclose(found.score, (unit * texts).sum(-1), atol=1e-5)
    assert found.attention.shape[1:3] == (model.n_layers, model.n_heads)
    assert torch.allclose(found.attention.sum(-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(found.rows.sum(-1), torch.ones(()), atol=1e-5)
    maps = pooled_maps(found, model.weights.grid)
    assert all(m.shape == (2, *model.weights.grid) and m.isfinite().all() for m in maps.values())
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())
    assert all(parameter.grad is None for parameter in model.network.parameters())
    if model.weights.readout.kind == "attention pooling":
        weights = model.trace(pixels).paths  # the pool's attention is what the trace reads tokens with
        assert found.pool.shape[1] == weights.shape[3]


def test_gradients_are_those_of_the_score(monkeypatch):
    """A pooled tower's gradients by finite differences of the score, through the modules themselves."""
    model = clipviz.wrap(FAMILIES["SigLIP"]().double())
    pixels, texts = images(model, 1).double(), directions(model)[:1].double()
    found = attend(model, pixels, texts)
    pool = model.visual.trunk.attn_pool
    base, step = found.pool[0], 1e-5
    index = (1, 3)
    scores = []
    for sign in (1, -1):
        changed = base.double().clone()
        changed[index] += sign * step

        def shifted(query, key, value, changed=changed, **_):
            return changed[None, :, None] @ value

        with torch.no_grad():
            tokens = model.visual.trunk.forward_features(pixels)
            monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", shifted)
            embedding = pool(tokens)
            monkeypatch.undo()
        scores.append(torch.nn.functional.cosine_similarity(embedding, texts))
    expected = float((scores[0] - scores[1]) / (2 * step))
    assert float(found.pool_gradients[0][index]) == pytest.approx(expected, rel=1e-3, abs=1e-7)
