"""Half precision, of the model or by autocast: every lens answers, in float32, near what it answers otherwise."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from few_texts import COMMON

import clipviz
from clipviz import Ablation, panels
from clipviz.analysis.generation import guides

pytestmark = pytest.mark.usefixtures("few_rotations")
TEXTS = [*COMMON, "a car", "a star"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
N_IMAGES = 6
FEW = {"Cues": {"n_sentences": 1, "n_pictures": 1, "layers": [3]}}  # the layer that `asked` reads


def opened(model):
    made = clipviz.Session(model, clipviz.demo.images().subset(range(N_IMAGES)), TEXTS, background=False)
    made.select(image=3, layer=5, head=1, text="a dog")
    return made


@pytest.fixture(scope="module")
def plain(model):
    session = opened(model)
    yield asked(session)
    session.close()


def asked(session):
    """Numbers of every lens."""
    maps = session.maps.compare("a dog", 3)
    line = session.neurons.layer(3).line
    return {
        "cosine": session.heads.effects("a dog", 3).cosine,
        "head scores": session.heads.effects("a dog", 3).heads,
        "token scores": session.maps.tokens("a dog", 3).scores,
        "variance": session.heads.variance(),
        "explained": session.heads.textspan(5, 1, 4, n_draws=5).gains.cumsum(),
        "without heads": session.heads.effects("a dog", 3, ablation=Ablation(heads={(5, 1)})).cosine,
        "neurons": line.directions,
        "attention": session.maps.attention(3),
        **{name: map_ / max(np.abs(map_).max(), 1e-9) for name, map_ in maps.items()},
    }


@pytest.fixture(scope="module", params=HALVES)
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def halved(precision):
    """A session of a model of half precision."""
    session = opened(clipviz.load("demo", device="cpu", precision=precision))
    yield session
    session.close()


@pytest.mark.parametrize("how", ["a model of it", "autocast"])
def test_every_lens_answers_in_half_precision(model, plain, precision, halved, how):
    half = how == "a model of it"
    with nullcontext() if half else torch.autocast("cpu", HALVES[precision]):
        session = halved if half else opened(model)
        found = asked(session)
    for what, values in found.items():
        values, expected = np.asarray(values), np.asarray(plain[what])
        assert values.dtype in (np.float32, np.float64), what
        assert np.isfinite(values).all(), what
        scale = np.abs(expected).max()
        assert np.median(np.abs(values - expected)) <= 0.05 * scale, what
    if not half:
        session.close()


def test_every_panel_shows_a_model_of_half_precision(halved, monkeypatch):
    session = halved
    monkeypatch.setattr(guides, "N_SAMPLES", 4)  # pictures that name the generator's concepts, found anew
    shown = [
        getattr(panels, name)(session, **FEW.get(name, {})) for name in panels.__all__ if name != "Dashboard"
    ]
    session.wait(300, background=True)
    session.wait(300)
    assert {panel.name: panel.error for panel in shown if panel.error} == {}
    assert all(panel.view for panel in shown)
