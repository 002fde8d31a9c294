"""What the demo shows first is significant for the model that ships, whichever it is (tools/demo/choices.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest

import clipviz
from clipviz.demo import contents
from clipviz.demo.contents import BIRDS
from clipviz.demo.shipped import ASSETS, chosen
from clipviz.lens.roles import NO_ROLE
from clipviz.session import Board
from tools.demo import choices

N_SHOWN = 14
"""Neighbours that the board shows beside those of the whole model."""


@pytest.fixture(scope="module")
def session(model):
    session = clipviz.Session(model, background=False)
    yield session
    session.close()


def above_their_ticks(session, layer, head):
    span = session.heads.textspan(layer, head, choices.N_FIRST)
    ticks = np.quantile(span.null_gains, 0.95, axis=0)
    return [text for text, gain, tick in zip(span.texts, span.gains, ticks, strict=True) if gain > tick]


def test_the_first_view_has_a_head_with_a_label_and_a_text_above_its_tick(session):
    selection, name = session.selection, chosen()["image"]
    assert session.images.names[selection.image] == name
    assert session.heads.label(selection.layer, selection.head).name != NO_ROLE
    assert above_their_ticks(session, selection.layer, selection.head)
    assert [selection.layer, selection.head] == chosen()["head"]


def test_the_tours_head_has_a_label_and_its_text_is_above_its_tick(session):
    told = chosen()["tour"]
    assert session.heads.label(told["layer"], told["head"]).name == "background"
    assert told["written"] in above_their_ticks(session, told["layer"], told["head"])


def test_the_tours_head_stands_out_and_its_map_lies_on_the_bird(session):
    first, second = Board.of(session).tour[:2]
    image = first.image(session.images.opened)
    effects = session.heads.effects(second.select["text"], image).heads
    assert np.median(np.abs(effects)) < effects.max() / 4
    bird = session.maps.tokens(first.select["text"], image).map("all").clip(0)
    mask = session.maps.truth(image)
    large = np.kron(bird, np.ones([n // k for n, k in zip(mask.shape, bird.shape, strict=True)]))
    assert large[mask].sum() > large.sum() / 2


def test_what_looks_alike_to_the_tours_head_are_other_forests(session):
    told, places = chosen()["tour"], session.images.opened.attributes["background"]
    image = session.images.names.index(told["image"])
    near = session.images.neighbours(image, told["layer"], told["head"], k=N_SHOWN)
    assert [places[one] for one, _ in near] == ["forest"] * N_SHOWN


def test_most_birds_in_a_forest_that_the_classes_are_learnt_from_are_landbirds(session):
    task, table = session.ablation.tasks()[BIRDS], session.images.opened.attributes
    learnt_from = [image for images in task.examples for image in images]
    places = [table["bird group"][image] for image in learnt_from]
    assert places.count("landbird/forest") > 2 * places.count("waterbird/forest") > 0


def test_what_a_reader_does_in_a_step_does_not_change_the_next(session):
    board, found = Board.of(session), session.selection
    wanted = [board.tour_selection(step) for step in board.tour]
    assert len({(one.text, one.ablation) for one in wanted}) >= 4
    removed = clipviz.Ablation(heads=frozenset({(5, 1)}))
    session.select(
        image=0, layer=2, head=3, token=7, text="a letter", text_b="a fox", images=(1, 2), ablation=removed
    )
    shown = [board.tour_selection(step) for step in board.tour]
    session.selection = found
    for step, plain, after in zip(board.tour, wanted, shown, strict=True):
        free = step.panel in ("heatmap", "ablate")  # about no head
        own = {"layer": found.layer, "head": found.head} if free else {}
        assert after.replace(**own) == plain


def test_the_tours_bird_is_a_waterbird_again_without_the_heads_of_the_shortcut(session):
    step, task = Board.of(session).tour[-1], session.ablation.tasks()[BIRDS]
    image = Board.of(session).tour[0].image(session.images.opened)
    assert session.images.opened.attributes["class"][image] == chosen()["tour"]["bird"]
    shortcut = next(preset for preset in session.ablation.presets(task=task) if preset.kind == "shortcut")
    desk = session.ablation.desk(step.without_shortcut, image)
    assert task.classes[desk.label] == "waterbird"
    assert task.classes[desk.probabilities(clipviz.Ablation()).argmax()] == "landbird"
    assert (
        task.classes[desk.probabilities(clipviz.Ablation(heads=frozenset(shortcut.heads))).argmax()]
        == "waterbird"
    )


def test_a_collection_without_the_chosen_images_shows_others_of_their_kind(model):
    images, left_out = clipviz.demo.images(), (chosen()["image"], chosen()["tour"]["image"])
    rest = images.subset([i for i in range(len(images)) if images.names[i] not in left_out])
    assert model.bundle.first.image(rest) == contents.large_flamingo(rest)
    bird = model.bundle.tour[0].image(rest)
    assert (rest.attributes["class"][bird], rest.attributes["background"][bird]) == ("flamingo", "forest")


def test_what_was_chosen_is_kept_as_it_is_written():
    kept = json.loads((ASSETS / "chosen.json").read_text("utf-8"))
    assert {"image", "quality", "head", "tour", "neuron"} <= set(kept)
