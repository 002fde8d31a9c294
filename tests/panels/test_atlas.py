"""The Atlas panel: places of every image, pictures spread over the plane, a chosen set told to everyone."""

from __future__ import annotations

import numpy as np
import pytest

import clipviz
from clipviz.demo import images as demo
from clipviz.panels.atlas import ACROSS, DOWN, NO_COLOUR, Atlas, pictured


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(48)), "demo") as session:
        yield session


def test_the_panel_shows_the_selected_heads_plane(session):
    panel = Atlas(session)
    session.select(layer=3, head=2)
    session.wait(60)
    shown, expected = panel.data(), session.atlas(3, 2)
    assert shown["ids"].tolist() == list(range(48))
    assert shown["places"] == pytest.approx(expected.places)
    assert shown["share"] == expected.share
    session.select(layer=4, head=0)
    session.wait(60)
    assert panel.data()["places"] == pytest.approx(session.atlas(4, 0).places)
    panel.by = "model"
    session.refresh()
    session.wait(60)
    assert panel.data()["places"] == pytest.approx(session.atlas().places)


def test_points_are_coloured_by_an_attribute(session):
    panel = Atlas(session, column="kind")
    session.wait(60)
    shown, words = panel.data(), session.images.attributes["kind"]
    assert shown["column"] == "kind"
    for image, colour in zip(shown["ids"].tolist(), shown["colours"].tolist(), strict=True):
        assert colour == NO_COLOUR if words[image] is None else shown["values"][colour] == words[image]


def test_a_loop_in_the_browser_chooses_images_for_everyone(session):
    panel = Atlas(session)
    session.wait(60)
    panel.request = {"seq": 2, "changes": {"images": [3, 4, 9]}}
    session.wait(60)
    assert session.selection.images == (3, 4, 9)
    assert panel.view["n_chosen"] == 3


def test_pictures_are_one_a_cell_and_nearest_to_its_middle():
    places = np.random.default_rng(0).random((500, 2))
    chosen = pictured(places)
    low, high = places.min(0), places.max(0)
    scaled = (places - low) / (high - low) * (ACROSS, DOWN)
    cells = [tuple(np.minimum(scaled[i].astype(int), (ACROSS - 1, DOWN - 1))) for i in range(500)]
    assert len({cells[i] for i in chosen}) == len(chosen) == len(set(cells))
    for i in chosen:
        middle = np.array(cells[i]) + 0.5
        rivals = [np.linalg.norm(scaled[j] - middle) for j in range(500) if cells[j] == cells[i]]
        assert np.linalg.norm(scaled[i] - middle) == pytest.approx(min(rivals))


def test_places_that_coincide_are_one_picture():
    assert pictured(np.zeros((5, 2))).tolist() == [0]


def test_too_few_images_are_told():
    images = demo().subset(range(2))
    session = clipviz.Session(clipviz.load("demo", device="cpu"), images, "demo", background=False)
    panel = Atlas(session)
    session.wait(60)
    assert panel.view["message"] == "A plane needs at least 3 images. Open a folder with more."
    assert not panel.error
    session.close()


def test_the_figure_holds_every_point_and_picture(session):
    panel = Atlas(session, column="kind")
    session.wait(60)
    axes = panel.figure().axes[0]
    assert len(axes.collections[0].get_offsets()) == 48
    assert len(axes.artists) == len(panel.view["tiles"])
