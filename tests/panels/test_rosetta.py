"""The Rosetta panel without a browser: a request changes the selection, a selection changes the buffers."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tiny_dictionary import TEXTS, tiny_book, tiny_images, tiny_pair

import clipviz
from clipviz.data import dictionary as saved
from clipviz.panels.core import pictures
from clipviz.panels.rosetta.panel import Rosetta
from panels.asking import ask


@pytest.fixture(scope="module")
def partners():
    return tiny_pair()


@pytest.fixture(scope="module")
def images():
    return tiny_images()


@pytest.fixture
def folder(model, tmp_path):
    return str(tiny_book(model, tmp_path))


@pytest.fixture
def session(lend, model, images):
    with lend(model, images, TEXTS, as_new=True) as session:
        yield session


@pytest.fixture
def panel(session, folder, partners):
    panel = Rosetta(session, folder=folder, partners=partners, n_rows=5)
    session.wait(60)
    return panel


def test_it_opens_on_a_grid_of_concepts_by_models(panel):
    shown, book = panel.data(), panel.dictionary()
    assert [row["concept"] for row in shown["rows"]] == book.listed("named")[:5]
    assert [column["name"] for column in shown["columns"]] == ["clip", "one", "two"]
    assert shown["maps"].shape == (5, 3, 3, 24, 24)
    concept = shown["rows"][0]["concept"]
    assert np.array_equal(shown["maps"][0], np.asarray(book.concepts.thumbnails.maps)[concept][:, :3])
    examples = np.asarray(book.concepts.examples)[concept][:3].tolist()
    assert [shown["pictures"][tile] for tile in shown["rows"][0]["tiles"]] == examples
    assert bytes(shown["sprite"][:2]) == b"\xff\xd8"
    assert shown["detail"]["concept"] == concept
    assert not shown["chosen"]
    assert len(panel.blob) < 1_000_000


def test_a_click_selects_the_clip_unit_and_its_partners_show_on_the_image(panel, session):
    row = panel.data()["rows"][2]
    layer, neuron = row["neuron"]
    ask(panel, {"concept": row["concept"], "layer": layer, "neuron": neuron, "image": 7})
    selection = session.selection
    assert (selection.concept, selection.layer, selection.neuron) == (row["concept"], layer, neuron)
    shown = panel.data()
    assert shown["chosen"]
    assert shown["detail"]["concept"] == row["concept"]
    assert shown["detail"]["image"] == 7
    assert np.array_equal(shown["now"], panel.dictionary().on_image(7).maps[row["concept"]])
    assert bytes(shown["picture"]) == pictures.picture(session.images, 7, 240)


def test_a_neuron_chosen_elsewhere_shows_its_concept_or_says_that_it_has_none(panel, session):
    book = panel.dictionary()
    layer, neuron = book.neuron(9)
    session.select(layer=layer, neuron=neuron)
    session.wait(60)
    assert panel.data()["detail"]["concept"] == 9
    assert panel.data()["chosen"]
    absent = next(n for n in range(768) if book.concept_of(2, n) is None)
    session.select(layer=2, neuron=absent)
    session.wait(60)
    assert not panel.data()["chosen"]
    assert panel.data()["missed"] == f"Neuron {absent} of layer 2 has no partner in this dictionary."


def test_sorting_filtering_and_pages(panel):
    book = panel.dictionary()
    panel.sort, panel.page = "layer", 1
    ask(panel)
    assert [row["concept"] for row in panel.data()["rows"]] == book.listed("layer")[5:10]
    panel.models, panel.every_unit, panel.page = ["one", "two"], True, 0
    ask(panel)
    both = book.listed("layer", ["one", "two"], every_unit=True)
    assert panel.data()["n_found"] == len(both)
    assert all(cell is not None for row in panel.data()["rows"] for cell in row["cells"])
    panel.page = 10_000
    ask(panel)
    assert panel.data()["page"] == panel.data()["n_pages"] - 1
    panel.words = "no such word"
    ask(panel)
    assert panel.data()["rows"] == []
    assert panel.data()["detail"] is None


def test_every_concept_on_one_image(panel, session):
    session.select(image=4)
    panel.show = "image"
    ask(panel)
    shown, book = panel.data(), panel.dictionary()
    found = book.strongest(4, book.listed("named"), "clip")
    assert [tile["concept"] for tile in shown["tiles"]] == [one.concept for one in found][:120]
    assert shown["here"].shape == (len(shown["tiles"]), 24, 24)
    panel.whose = "two"
    ask(panel)
    assert [tile["concept"] for tile in panel.data()["tiles"]] == [
        one.concept for one in book.strongest(4, book.listed("named"), "two")
    ]
    session.select(image=None)
    session.wait(60)
    assert panel.data()["tiles"] == []


def test_a_pair_of_models_side_by_side(panel):
    panel.show, panel.other = "pair", "two"
    ask(panel)
    shown, book = panel.data(), panel.dictionary()
    assert [shown["columns"][at]["name"] for at in shown["at"]] == ["clip", "two"]
    assert shown["maps"].shape[1:3] == (2, 6)
    assert [row["concept"] for row in shown["rows"]] == book.listed("named", models=["two"])[:5]


def test_a_name_is_text_and_is_kept(panel, session, folder, partners):
    other = Rosetta(session, folder=folder, partners=partners)
    label = "<img src=x onerror=alert(1)> & sky"
    ask(panel, action="name", concept=3, label=label)
    assert saved.load(folder).labels[3] == label
    session.select(concept=3, neuron=None)
    session.wait(60)
    assert panel.data()["detail"]["label"] == label
    assert other.data()["detail"]["label"] == label
    panel.words = "& sky"
    ask(panel)
    assert [row["name"] for row in panel.data()["rows"]] == [label]


def test_a_wrong_action_or_concept_is_an_error_in_the_panel(panel):
    ask(panel, action="name", concept=10_000, label="x")
    assert "expected a concept within 0.." in panel.error["message"]
    ask(panel, action="paint")
    assert "knows no action 'paint'" in panel.error["message"]


def test_no_dictionary_is_said(session, tmp_path):
    panel = Rosetta(session, folder=str(tmp_path))
    session.wait(60)
    assert "holds no dictionary for demo" in panel.data()["message"]
    assert "no dictionary in" in panel.data()["advice"]
    assert not panel.error


def test_a_hidden_panel_opens_nothing(session, folder):
    panel = Rosetta(session, folder=folder, visible=False)
    session.wait(60)
    assert panel.data()["waiting"]
    panel.visible = True
    ask(panel)
    assert panel.data()["rows"]
    assert [column["at_hand"] for column in panel.data()["columns"]] == [True, False, False]


@pytest.mark.parametrize("show", ["grid", "image", "pair"])
def test_a_figure_for_print(panel, show):
    panel.show = show
    ask(panel)
    assert panel.figure().artists  # its pictures


def test_unknown_options_are_refused(session):
    with pytest.raises(TypeError, match="Rosetta takes a session and"):
        Rosetta(session, colour="red")


def test_close_leaves_nothing(session, folder, partners):
    panel = Rosetta(session, folder=folder, partners=partners)
    session.wait(60)
    ask(panel, {"concept": 2})
    panel.close()
    gone = weakref.ref(panel)
    session.select(concept=3)
    session.wait(60)
    del panel
    gc.collect()
    assert gone() is None


def test_a_generator_is_the_pivot_on_its_own_samples(lend, model):
    with lend(model, clipviz.demo.images().subset(range(4)), TEXTS, as_new=True) as session:
        panel = Rosetta(session, pivot="generator", n_rows=4)
        session.select(image=0)
        session.wait(120)
        shown, book = panel.data(), panel.dictionary()
        assert [column["name"] for column in shown["columns"]] == ["demo generator", "clip", "cnn", "vit"]
        assert (np.asarray(book.concepts.units) >= 0).all()  # every partner is required (Eq. 4.4)
        assert shown["rows"][0]["unit"] == " · ".join(
            map(str, book.concepts.where(shown["rows"][0]["concept"], 0))
        )
        assert book.neuron(0) == (
            int(book.concepts.where(0, 1)[0].split(".")[2]),
            book.concepts.where(0, 1)[1],
        )
        assert shown["detail"]["shows"] == [False, True, True, True]  # a generator does not look at pictures
        assert not shown["now"][0].any()
        session.generator.workbench.random("car")
        image = session.generator.workbench.add_to_session()
        painted = book.on_image(image).strength[:, 0]
        assert painted.max() > 0.5  # but it has maps of what it painted
        ask(panel, options={"pivot": "clip"})
        assert panel.view["columns"][0]["name"] == "clip"


def test_the_view_is_written_though_networks_are_given(panel, session, partners):
    panel.words = "a"
    assert session.view.panels["rosetta"]["words"] == "a"
    assert "partners" not in session.view.panels["rosetta"]
    session.view = session.view
    assert panel.partners == partners
