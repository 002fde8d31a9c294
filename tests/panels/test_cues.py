"""The Cues panel without a browser: classes in, words, neurons and pictures out; a click selects everywhere."""

from __future__ import annotations

import functools
import gc
import re
import weakref

import numpy as np
import pytest
from PIL import Image

import clipviz
from clipviz.analysis.cues import attacks, words
from clipviz.lens import intervals
from clipviz.lens.cues import Attack
from clipviz.models.bundle import Studio
from clipviz.panels.cues.drawing import verdict
from clipviz.panels.cues.panel import Cues
from clipviz.session import Board
from panels import asking

ask = functools.partial(asking.ask, background=True)
TEXTS = [
    "a red circle",
    "a panda",
    "in the sea",
    "two apples",
    "a letter",
    "in the forest",
    "a car",
    "a blue star",
    "a zebra",
    "a chair",
]
PAIR = ("horse", "zebra")
N_IMAGES = 12


@pytest.fixture
def session(lend, model):
    """The module's: its neurons are read and coded from the first test on."""
    with lend(model, clipviz.demo.images().subset(range(N_IMAGES)), TEXTS) as session:
        yield session


@pytest.fixture
def panel(session):
    panel = Cues(session, drawn=PAIR[0], mistaken=PAIR[1], n_sentences=1, n_pictures=2)
    session.wait(120, background=True)
    session.wait(60)
    return panel


def test_it_shows_the_words_of_the_pair_and_who_is_behind_them(panel, session):
    shown = panel.data()
    expected = words.cues(session.model, session.cues.source(shown["layers"]), *PAIR, n_words=14)
    assert [word["text"] for word in shown["words"]] == [cue.text for cue in expected]
    assert [word["score"] for word in shown["words"]] == pytest.approx(
        [cue.score for cue in expected], rel=1e-4
    )
    assert "a zebra" not in [word["text"] for word in shown["words"]]
    first = shown["words"][0]["neurons"]
    assert [(one["layer"], one["neuron"]) for one in first] == [one[:2] for one in expected[0].neurons]
    assert shown["layers"] == [2, 3, 4]
    assert shown["complete"]
    assert shown["n_read"] == N_IMAGES
    assert panel.progress == (3, 3)  # methods whose pictures are drawn, the last of what was waited for


def test_every_wait_says_how_far_it_is(model):
    """Reading neurons, coding them, drawing pictures: each step in the same words."""
    session = clipviz.Session(model, clipviz.demo.images().subset(range(18)), TEXTS, background=False)
    said = []
    panel = Cues(session, drawn=PAIR[0], mistaken=PAIR[1], layers=[3], n_sentences=1, n_pictures=1)
    panel.observe(lambda change: said.append(change["new"]), "work")
    session.wait(120, background=True)
    lines = [re.sub(r"\d+", "N", line) for line in said if line]
    for what in ("Reading the neurons of layer N", "Coding the neurons in texts"):
        assert f"{what}: N of N, about N s left" in lines
    assert "Drawing pictures, one method at a time: N of N, about N s left" in lines
    assert panel.work == ""
    session.close()


def test_pictures_are_drawn_and_judged_a_method_at_a_time(panel, session):
    shown = panel.data()
    assert [row["method"] for row in shown["attempts"]] == list(attacks.SHOWN)
    assert not shown["drawing"]
    assert bytes(shown["sprite"][:2]) == b"\xff\xd8"
    results = panel.results()
    for row in shown["attempts"]:
        attack = results[row["method"]][1]
        assert row["margins"] == pytest.approx(list(attack.margins))
        assert row["fooled"] == sum(margin > 0 for margin in attack.margins)
        share = intervals.share(row["fooled"], len(attack.margins))
        assert row["interval"] == (share.low, share.high)
    unit = session.model.encode_images(list(results["second order"][1].images))
    unit = unit / unit.norm(dim=1, keepdim=True)
    texts = session.model.encode_texts(["a horse", "a zebra"])
    margins = (unit @ (texts[1] - texts[0])).tolist()
    assert margins == pytest.approx(list(results["second order"][1].margins), abs=1e-5)
    look = shown["look"]
    assert look["method"] == "second order"
    assert look["margin"] == pytest.approx(max(margins), abs=1e-5)
    assert shown["map"].shape == (12, 12)


def test_a_request_changes_the_classes(panel):
    ask(panel, options={"drawn": "cat", "mistaken": "dog"})
    shown = panel.data()
    assert (shown["drawn"], shown["mistaken"]) == panel.pair() == ("cat", "dog")
    assert len(shown["attempts"]) == 3
    assert all("cat" in sentence and "dog" not in sentence for sentence in shown["attempts"][2]["sentences"])


def test_a_neuron_and_a_word_are_selected_everywhere(panel, session):
    behind = panel.data()["words"][0]["neurons"][0]
    layer, neuron = behind["layer"], behind["neuron"]
    before = panel.results()
    ask(panel, {"layer": layer, "neuron": neuron})
    assert (session.selection.layer, session.selection.neuron) == (layer, neuron)
    assert panel.data()["selection"]["neuron"] == neuron
    ask(panel, {"text": panel.data()["words"][0]["text"]})
    assert session.selection.text == panel.data()["words"][0]["text"]
    assert panel.results() == before  # nothing is drawn again


def test_layers_and_code_sizes_are_chosen(panel, session):
    ask(panel, options={"layers": [3, 1], "m": 4})
    shown = panel.data()
    assert (shown["layers"], shown["m"]) == ([1, 3], 4)
    assert [m for m, fits in shown["sizes"] if fits] == [4, 8]  # the pool has ten texts
    expected = session.cues.find(PAIR, [1, 3], 14, m=4)
    assert [word["text"] for word in shown["words"]] == [cue.text for cue in expected]
    assert {one["layer"] for word in shown["words"] for one in word["neurons"]} <= {1, 3}
    together = session.cues.source([1, 3], 4)
    rows = [session.neurons.layer(layer).line.directions for layer in (1, 3)]
    assert together.directions.shape == (len(rows[0]) + len(rows[1]), 128)
    assert together.place(len(rows[0]) + 5) == (3, 5)
    assert np.array_equal(together.directions[len(rows[0]) + 5], rows[1][5])
    assert together.codes.atoms.shape[1] == 4
    assert len(shown["attempts"]) == 3
    ask(panel, options={"layers": [99], "m": None})  # no such layer
    assert panel.data()["layers"] == [2, 3, 4]


def test_new_pictures_when_asked(panel):
    before = panel.results()["second order"][1].images
    ask(panel, action="draw")
    after = panel.results()["second order"][1].images
    assert len(panel.data()["attempts"]) == 3
    assert any(not np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(before, after, strict=False))


def test_classes_that_cannot_be_drawn_keep_their_words(panel):
    ask(panel, options={"drawn": "unicorn", "mistaken": "zebra"})
    shown = panel.data()
    assert shown["words"]
    assert not shown["attempts"]
    assert "“unicorn” cannot be drawn" in shown["note"]


def test_two_equal_classes_are_an_error_in_the_panel(panel):
    ask(panel, options={"drawn": "horse", "mistaken": "Horse"})
    assert "expected two different classes" in panel.error["message"]
    ask(panel, options={"drawn": "horse", "mistaken": "cow"})
    assert not panel.error
    assert panel.data()["attempts"]


def test_other_models_have_words_but_no_pictures(model):
    other = clipviz.wrap(model.network, tokenizer=model.tokenizer, preprocess=model.preprocess, name="mine")
    images = clipviz.demo.images().subset(range(6))
    session = clipviz.Session(other, images, texts=TEXTS, background=False)
    panel = Cues(session)
    session.wait(60, background=True)
    assert "Name the class" in panel.data()["message"]
    ask(panel, options={"drawn": "horse", "mistaken": "zebra"})
    shown = panel.data()
    assert shown["words"]
    assert not shown["classes"]
    assert not shown["attempts"]
    assert "clipviz.models.captioners" in shown["note"]
    session.close()


def test_a_studio_of_ones_own_draws_any_class(panel, session):
    panel.n_sentences = 2
    ask(panel, options={"drawn": "unicorn"})
    shown = panel.data()
    assert "“unicorn” cannot be drawn" in shown["note"]
    assert not shown["draws"]
    colours = {"a unicorn": 40}
    session.cues.studio = Studio.of(
        lambda words, name, avoid: [f"a {name} with {word}" for word in words[:2]],
        lambda sentence, seed: Image.new("RGB", (96, 96), (colours.get(sentence, 200), seed % 256, 0)),
    )
    session.wait(60, background=True)
    session.wait(60)
    after = panel.data()
    assert after["draws"]
    assert not after["note"]
    assert [row["method"] for row in after["attempts"]] == list(attacks.SHOWN)
    words, ours = panel.results()["second order"]
    assert set(ours.sentences) == {f"a unicorn with {word}" for word in words[:2]}
    assert all(word["drawable"] for word in after["words"])
    with pytest.raises(ValueError, match="expected a studio, got str"):
        session.cues.studio = "llama"
    session.cues.studio = None
    session.wait(60)
    assert not session.cues.can_draw("unicorn")


def test_words_that_nobody_writes_about_are_left_out_with_the_reason(panel, session):
    """A writer that leaves the class out, or names the other one, leaves a method without pictures, not the desk."""
    session.cues.studio = Studio.of(
        lambda words, name, avoid: [f"a {avoid}" for _ in words],
        lambda sentence, seed: Image.new("RGB", (96, 96), (200, seed % 256, 0)),
    )
    session.wait(60, background=True)
    session.wait(60)
    shown = panel.data()
    assert [row["method"] for row in shown["attempts"]] == ["no words"]
    assert {row["method"] for row in shown["left_out"]} == {"similar words", "second order"}
    assert all("sentences that name 'horse' and not 'zebra'" in row["reason"] for row in shown["left_out"])
    (alone,) = shown["attempts"]
    share = f"{alone['fooled'] / len(alone['margins']):.0%}"
    assert shown["verdict"] == f"Taken for {session.cues.class_text('zebra')}: {share} with the class alone."
    assert shown["look"]["method"] == "no words"
    assert panel._drawing.work.line == ""  # nothing is still being drawn
    assert shown["words"]
    session.select(image=3)
    session.wait(60)
    assert panel.data()["verdict"] == shown["verdict"]
    session.cues.studio = Studio.of(
        lambda words, name, avoid: [f"a {name} with {word}" for word in words[:2]],
        lambda sentence, seed: Image.new("RGB", (96, 96), (200, seed % 256, 0)),
    )
    session.wait(60, background=True)
    session.wait(60)
    assert [row["method"] for row in panel.data()["attempts"]] == list(attacks.SHOWN)
    assert panel.data()["left_out"] == []


def test_a_hidden_panel_does_nothing(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(8)), TEXTS, background=False)
    panel = Cues(session, visible=False, n_sentences=1, n_pictures=1)
    session.wait(60, background=True)
    assert panel.data()["waiting"]
    assert Board.of(session).neuron_reading(session.neurons.default_layer).n_read == 0
    panel.visible = True
    ask(panel)
    assert len(panel.data()["attempts"]) == 3
    session.close()


def test_the_verdict_does_not_oversell():
    def attacks(ours, similar, alone):
        shares = {"second order": ours, "similar words": similar, "no words": alone}
        margins = {name: (1.0,) * n + (-1.0,) * (10 - n) for name, n in shares.items()}
        return {name: Attack(("",) * 10, (None,) * 10, found) for name, found in margins.items()}

    said = verdict(attacks(6, 3, 1), "a zebra")
    assert said.startswith(
        "Taken for a zebra: 60% with these words, 30% with words chosen without neurons, 10% with the class alone."
    )
    assert "50 points more (+8 to +75 points) than with the class alone" in said
    assert "no difference (−12 to +60 points) from words chosen without neurons" in said
    equal = verdict(attacks(2, 9, 2), "a zebra")
    assert "No difference (−34 to +34 points) from the class alone" in equal
    assert "70 points fewer" in equal


def test_a_figure_for_print(panel):
    axis, words = panel.figure().axes[0], panel.data()["words"]
    assert len(axis.patches) == len(words)
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([word["null"] for word in words])


def test_unknown_options_are_refused(session):
    with pytest.raises(TypeError, match="Cues takes a session and"):
        Cues(session, colour="red")


def test_close_leaves_nothing(session):
    panel = Cues(session, n_sentences=1, n_pictures=1)
    session.wait(120, background=True)
    panel.close()
    gone = weakref.ref(panel)
    session.select(neuron=None, text="a car")
    session.wait(60, background=True)
    del panel
    gc.collect()
    assert gone() is None


def test_a_picture_is_looked_at_and_opened(panel, session):
    """Last, since the module's session has a picture more from here on."""
    ask(panel, action="look", method="no words", place=1)
    shown = panel.data()
    assert (shown["look"]["method"], shown["look"]["place"]) == ("no words", 1)
    _, picture, margin = panel._drawing.picture("no words", 1)
    assert shown["look"]["margin"] == pytest.approx(margin)
    assert np.allclose(shown["map"], attacks.pair_map(session.model, picture, PAIR), atol=1e-6)
    ask(panel, action="open", method="no words", place=1)
    assert session.selection.image == N_IMAGES
    assert (session.selection.text, session.selection.text_b) == ("a zebra", "a horse")
    ask(panel, action="look", method="no words", place=999)
    assert "expected one of the pictures" in panel.error["message"]
