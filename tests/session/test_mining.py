"""Shared units of a model of one's own, mined on one's own images: saved, shown, and refused where nothing is there."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from tiny_dictionary import TEXTS, tiny, tiny_pair

import clipviz
from clipviz.analysis.rosetta import dictionaries, mining
from clipviz.models.untrained import untrained_copy
from clipviz.models.zoo import clip_partner
from clipviz.panels.rosetta.panel import MINE, Rosetta
from tests.models.families import with_texts


@pytest.fixture(scope="module")
def session():
    made = clipviz.Session(
        with_texts("SigLIP"), clipviz.demo.images().subset(range(24)), TEXTS, background=False
    )
    yield made
    made.close()


def test_the_panel_shows_what_was_mined(session, tmp_path):
    panel = Rosetta(session)
    session.wait(60)
    assert panel.data()["advice"] == MINE
    first = {"one": tiny("one", 0), "two": tiny("two", 1)}
    book = session.rosetta.mine(tmp_path / "own", partners=[*first.values()], at_least=1, above=0.3)
    session.wait(60)
    assert panel.data()["message"] == ""
    assert panel.data()["n_units"] == len(book.concepts) > 0
    assert panel.data()["n_untrained"] == book.n_untrained
    assert book.concepts.models == ("clip", "one", "two")
    assert (book.opened.about["n_images"], book.opened.about["n_heldout"]) == (18, 6)
    examples = np.asarray(book.concepts.examples)
    assert set(np.unique(examples)) <= set(range(24))
    # The examples are images of the session: the pivot's unit is higher on the first than on the median image.
    seen = book.on_image(int(examples[0, 0])).strength[0, 0]
    others = [book.on_image(i).strength[0, 0] for i in range(24)]
    assert seen > np.median(others)
    again = session.rosetta.mine(
        tmp_path / "own", partners=[*tiny_pair().values()], at_least=1, above=0.5, control=False
    )
    assert again.n_untrained is None
    assert 0 < len(again.concepts) < len(book.concepts)
    assert session.rosetta.units() is again
    session.wait(60)
    earlier = [weakref.ref(partner) for partner in first.values()]
    del book, first
    gc.collect()
    assert not any(partner() for partner in earlier)  # those of the newest dictionary alone are kept
    other = clipviz.Session(session.model, clipviz.demo.images().subset([30, 31]), TEXTS, background=False)
    assert len(other.rosetta.units(tmp_path / "own").concepts) == len(again.concepts)
    other.close()
    panel.close()


def test_the_control_is_what_an_untrained_network_gives_when_it_is_mined(session):
    """The same rows as those of a whole mining with the untrained network as the pivot."""
    partners, images = [*tiny_pair().values()], session.images.opened.subset(range(16))
    found = dictionaries.untrained_rows(session.model, partners, images, at_least=1, above=0.3, same=0.5)
    untrained = untrained_copy(clip_partner(session.model, "clip"))
    mined = mining.mine(untrained, partners, images, heldout=images, how=mining.Mining(at_least=1, above=0.3))
    assert found == len(mined) > 0
    trained = mining.mine(
        session.model, partners, images, heldout=images, how=mining.Mining(at_least=1, above=0.3)
    )
    assert found != len(trained)


def test_nothing_shared_and_too_few_images_are_said(session, tmp_path):
    with pytest.raises(ValueError, match="found none on 18 images; try more images"):
        session.rosetta.mine(tmp_path / "none", partners=[*tiny_pair().values()], above=1.5)
    few = clipviz.Session(session.model, clipviz.demo.images().subset(range(5)), TEXTS, background=False)
    with pytest.raises(ValueError, match="at least 16 images to compare units on, got 5; open more images"):
        few.rosetta.mine(tmp_path / "few")
    few.close()
    assert not (tmp_path / "none").exists()
