"""The plane of a head is that of its raw effects; points are images; too few are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import clipviz
from clipviz.analysis.collection import atlas as room
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
    found = session.images.atlas(4, 3)
    assert found.ids.tolist() == list(range(40))
    assert_same_plane(found.places, expected)
    assert found.share == pytest.approx(share, abs=1e-3)


def test_the_models_plane_is_that_of_its_unit_embeddings(session):
    units = torch.nn.functional.normalize(session.images.codes.embedding, dim=-1)
    expected, share = plane(units)
    found = session.images.atlas()
    assert_same_plane(found.places, expected)
    assert found.share == pytest.approx(share, abs=1e-4)


def test_a_head_that_varies_along_one_direction_has_a_plane_with_one_axis(session):
    pair = [session.images[0], session.images[1], session.images[0]]
    made = clipviz.Session(session.model, pair, "demo", background=False)
    found = made.images.atlas(4, 3)
    effects = session.model.trace(pair).head_effects()[:, 4, 3]
    assert found.places[:, 1].tolist() == [0, 0, 0]
    assert_same_plane(found.places[:, :1].repeat(2, 1), plane(effects)[0][:, :1].repeat(2, 1))
    assert [len(texts) > 0 for texts in made.images.atlas_words(4, 3).ends] == [True, True, False, False]
    made.close()


def cosines_with(axis, pool) -> np.ndarray:
    """Of every text, less the texts' mean, with a direction; one by one in float64."""
    mean = pool.double().mean(0)
    return np.array(
        [float(torch.nn.functional.cosine_similarity(t.double() - mean, axis, dim=0)) for t in pool]
    )


@pytest.mark.parametrize("head", [(4, 3), ()])
def test_ends_of_axes_are_named_by_the_texts_that_they_point_to(session, head):
    found, said = session.images.atlas(*head), session.images.atlas_words(*head)
    for axis in (0, 1):
        along = torch.as_tensor(found.axes[axis]).double()
        cosines = cosines_with(along, session.texts.pool())
        low, high = said.ends[2 * axis][0], said.ends[2 * axis + 1][0]
        assert cosines[list(session.texts).index(low)] == pytest.approx(cosines.min(), abs=1e-5)
        assert cosines[list(session.texts).index(high)] == pytest.approx(cosines.max(), abs=1e-5)
        assert len(set(said.ends[2 * axis + 1])) == 2


def test_an_axis_turns_with_its_places(session):
    """The image's place is its effect along the axis, whichever way the axis was turned."""
    pixels = session.model.prepare([session.images[i] for i in range(40)])
    effects = session.model.trace(pixels).head_effects()[:, 4, 3].double()
    found = session.images.atlas(4, 3)
    along = (effects - effects.mean(0)) @ torch.as_tensor(found.axes).double().T
    assert found.places == pytest.approx(along.numpy(), abs=2e-3 * float(along.abs().max()))


def test_dense_places_are_the_clusters_and_their_members():
    generator = np.random.default_rng(0)
    middles, sizes = np.array([[0.0, 0.0], [9.0, 1.0], [4.0, 7.0]]), [300, 200, 100]
    places = np.concatenate(
        [m + 0.15 * generator.standard_normal((n, 2)) for m, n in zip(middles, sizes, strict=True)]
    )
    found = room.dense_places(places.astype(np.float32))
    assert len(found) == 3
    owner = np.repeat([0, 1, 2], sizes)
    for k, (place, members) in enumerate(found):  # the densest first
        assert np.linalg.norm(place - middles[k]) < 0.1
        assert set(owner[members]) == {k}
        assert len(members) > 0.8 * sizes[k]


def test_a_dense_place_is_named_by_what_its_images_have_beyond_the_others(session):
    found, said = session.images.atlas(), session.images.atlas_words()
    units = torch.nn.functional.normalize(session.images.codes.embedding, dim=-1).double()
    members = [found.ids[rows] for _, rows in room.dense_places(found.places)]
    best = []
    for rows in members:
        cosines = cosines_with(units[rows].mean(0) - units.mean(0), session.texts.pool())
        best.append(session.texts[int(cosines.argmax())])
    assert said.regions
    shown = {one.text for one in said.regions}
    assert [one.text for one in said.regions] == [text for text in dict.fromkeys(best) if text in shown]
    assert said.regions[0].text == best[0]
    assert said.regions[0].n_points == len(members[0])


def test_a_large_collection_is_sampled_evenly_and_that_is_said(session, monkeypatch):
    monkeypatch.setattr(room, "MOST_POINTS", 10)
    found = room.of_model(session.images.codes)
    assert found.ids.tolist() == [0, 4, 9, 13, 17, 22, 26, 30, 35, 39]
    assert found.n_images == 40


def test_too_few_images_are_refused():
    images = demo().subset(range(2))
    made = clipviz.Session(clipviz.load("demo", device="cpu"), images, "demo", background=False)
    with pytest.raises(ValueError, match="expected at least 3 images that have been read, got 2"):
        made.images.atlas()
    made.close()
