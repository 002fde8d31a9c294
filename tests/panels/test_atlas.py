"""The Atlas panel: places of every image, pictures spread over the plane, a chosen set told to everyone."""

from __future__ import annotations

import numpy as np
import pytest

import clipviz
from clipviz.demo import images as demo
from clipviz.panels.atlas.panel import ACROSS, N_GROUPS, NONE, OTHER, Atlas, pictured, shaded
from clipviz.panels.images.panel import ImageGallery

N_IMAGES = 30


@pytest.fixture
def session(lend, model):
    with lend(model, demo().subset(range(N_IMAGES)), "demo") as session:
        yield session


def test_the_panel_shows_the_selected_heads_plane(session):
    panel = Atlas(session)
    session.select(layer=3, head=2)
    session.wait(60)
    shown, expected = panel.data(), session.images.atlas(3, 2)
    assert shown["ids"].tolist() == list(range(N_IMAGES))
    assert shown["places"] == pytest.approx(expected.places)
    assert shown["share"] == expected.share
    session.select(layer=4, head=0)
    session.wait(60)
    assert panel.data()["places"] == pytest.approx(session.images.atlas(4, 0).places)
    panel.by = "model"
    session._state.refresh()
    session.wait(60)
    assert panel.data()["places"] == pytest.approx(session.images.atlas().places)


def test_points_are_coloured_by_an_attribute(session):
    panel = Atlas(session, column="kind")
    session.wait(60)
    shown, words = panel.data(), session.images.opened.attributes["kind"]
    assert shown["column"] == "kind"
    named = {byte: word for byte, word, *_ in shown["groups"]}
    for image, byte in zip(shown["ids"].tolist(), shown["colours"].tolist(), strict=True):
        assert named[byte] == words[image] or (byte == NONE and words[image] is None)
    assert sum(n for _, _, n, _ in shown["groups"]) == N_IMAGES


def test_rare_values_are_other_and_missing_ones_none(session):
    panel = Atlas(session, column="class")
    session.wait(60)
    shown, words = panel.data(), session.images.opened.attributes["class"]
    first = list(session.images.columns()["class"])[:N_GROUPS]
    assert [word for _, word, *_ in shown["groups"]] == [*first, "other", "none"]
    for image, byte in zip(shown["ids"].tolist(), shown["colours"].tolist(), strict=True):
        word = words[image]
        assert byte == (NONE if word is None else first.index(word) if word in first else OTHER)


def test_names_of_colours_are_drawn_in_their_own_colour(session):
    panel = Atlas(session, column="colour")
    session.wait(60)
    drawn = {word: colour for _, word, _, colour in panel.view["groups"]}
    assert drawn["orange"] == "#ffa500"
    assert drawn["none"] == ""
    assert shaded(["orange", "dark green"])[1] == ["#ffa500", "#006400"]
    assert "#ffa500" not in shaded(["orange", "banana"])[1]  # fruits have no colour of their own
    assert "#ffa500" not in shaded(["bird", "orange"])[1]


def test_a_loop_in_the_browser_chooses_images_and_sends_no_array_again(session):
    panel = Atlas(session)
    session.wait(60)
    sent = []
    panel.observe(lambda change: sent.append(change.name), names=["blob"])
    panel.request = {"seq": 2, "changes": {"images": [3, 4, 9]}}
    session.wait(60)
    assert session.selection.images == (3, 4, 9)
    assert panel.view["selection"]["images"] == [3, 4, 9]
    assert panel.view["ack"] == 2
    session.select(image=7)
    session.wait(60)
    assert panel.view["selection"]["image"] == 7
    assert sent == []


def test_the_chosen_images_come_first_in_the_gallery(session):
    gallery, panel = ImageGallery(session), Atlas(session)
    session.select(images=(3, 4, 9), text="a flamingo")
    session.wait(60)
    assert gallery.view["order"] == "text"
    panel.request = {"seq": 2, "changes": {}, "action": "gallery"}
    session.wait(60)
    assert gallery.view["order"] == "chosen"
    cosines = session.images.cosines("a flamingo")
    assert gallery.view["ids"] == sorted((3, 4, 9), key=lambda i: -float(cosines[i]))
    session.select(images=())
    session.wait(60)
    assert gallery.view["order"] == "text"  # there is nothing to show


def test_the_view_says_what_the_plane_is_about(session):
    panel = Atlas(session, by="model")
    session.wait(60)
    said = session.images.atlas_words()
    assert panel.view["ends"] == [list(texts) for texts in said.ends]
    assert panel.view["regions"] == [(r.text, *r.place, r.n_points) for r in said.regions]


def test_thumbnails_are_answered_in_one_message(session):
    panel, sent = Atlas(session), []
    session.wait(60)
    panel.send = lambda content, buffers=None: sent.append((content, buffers))
    panel._asked_thumbnails(panel, {"thumbnails": [5, 2]}, [])
    (content, (sheet,)), columns = sent[0], 2
    assert content["thumbnails"] == [5, 2]
    assert content["columns"] == columns
    assert sheet == session.images.opened.sprite([5, 2], 44, columns=8)[0]
    for wrong in ([], [N_IMAGES], [-1], ["1"], [True], list(range(N_IMAGES)) * 4, None):
        panel._asked_thumbnails(panel, {"thumbnails": wrong}, [])
    assert len(sent) == 1


def test_pictures_are_one_a_cell_and_nearest_to_its_middle():
    places = np.random.default_rng(0).random((500, 2)) * (1, 0.4)
    chosen = pictured(places)
    scaled = (places - places.min(0)) / np.ptp(places, axis=0).max() * ACROSS  # square cells
    cells = [tuple(np.minimum(scaled[i].astype(int), ACROSS - 1)) for i in range(500)]
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


def test_the_figure_holds_every_point_picture_and_word(session):
    panel = Atlas(session, column="colour")
    session.wait(60)
    axes = panel.figure(7).axes[0]
    assert len(axes.collections[0].get_offsets()) == N_IMAGES
    assert len(axes.artists) == len(panel.view["tiles"])
    assert axes.get_aspect() == 1
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"{word} ({n:,})" for _, word, n, _ in panel.view["groups"]]
    west, east = panel.view["ends"][0][0], panel.view["ends"][1][0]
    assert west[:12] in axes.get_xlabel()
    assert east[:12] in axes.get_xlabel()
    assert panel.view["regions"][0][0] in [text.get_text() for text in axes.texts]


def test_folders_are_groups_to_colour_by(tmp_path, model):
    for i, place in enumerate(("sea", "wood", "sea/deep")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for k in range(2):
            demo()[2 * i + k].save(tmp_path / place / f"{k}.png")
    session = clipviz.Session(model, tmp_path, "demo", background=False)
    panel = Atlas(session, column="folder")
    session.wait(60)
    assert panel.view["columns"] == ["label", "folder"]
    assert [(word, n) for _, word, n, _ in panel.view["groups"]] == [("sea", 2), ("sea/deep", 2), ("wood", 2)]
    session.close()
