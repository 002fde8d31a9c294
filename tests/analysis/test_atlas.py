"""The plane of a head is that of its raw effects; points are images; too few are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import clipviz
from clipviz.analysis import atlas as room
from clipviz.demo import images as demo


@pytest.fixture(scope="module")
def session():
    images = demo().subset(range(40))
    made = clipviz.Session(clipviz.load("demo", device="cpu"), images, "demo", background=False)
    yield made
    made.close()


def plane(data: torch.Tensor) -> tuple[np.ndarray, float]:
    """Principal components by a float64 SVD of the centred rows."""
    data = data.double() - data.double().mean(0)
    left, singular, _ = torch.linalg.svd(data, full_matrices=False)
    return (left[:, :2] * singular[:2]).numpy(), float(singular[:2].square().sum() / singular.square().sum())


def assert_same_plane(found, expected):
    for i in range(2):  # an axis has no sign
        sign = np.sign((found[:, i] * expected[:, i]).sum())
        assert found[:, i] == pytest.approx(sign * expected[:, i], abs=2e-3 * np.abs(expected).max())


def test_a_heads_plane_is_that_of_its_raw_effects(session):
    pixels = session.model.prepare([session.images[i] for i in range(40)])
    effects = session.model.trace(pixels).head_effects()[:, 4, 3]
    expected, share = plane(effects)
    found = session.atlas(4, 3)
    assert found.ids.tolist() == list(range(40))
    assert_same_plane(found.places, expected)
    assert found.share == pytest.approx(share, abs=1e-3)


def test_the_models_plane_is_that_of_its_unit_embeddings(session):
    units = torch.nn.functional.normalize(session.collection.embedding, dim=-1)
    expected, share = plane(units)
    found = session.atlas()
    assert_same_plane(found.places, expected)
    assert found.share == pytest.approx(share, abs=1e-4)


def test_a_large_collection_is_sampled_evenly_and_that_is_said(session, monkeypatch):
    monkeypatch.setattr(room, "MOST_POINTS", 10)
    found = room.of_model(session.collection)
    assert found.ids.tolist() == [0, 4, 9, 13, 17, 22, 26, 30, 35, 39]
    assert found.n_images == 40


def test_too_few_images_are_refused():
    images = demo().subset(range(2))
    made = clipviz.Session(clipviz.load("demo", device="cpu"), images, "demo", background=False)
    with pytest.raises(ValueError, match="expected at least 3 images that have been read, got 2"):
        made.atlas()
    made.close()
