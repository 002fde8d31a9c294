"""A session without any widget: lenses as values, a checked selection, history, added images, a clean end."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import numpy as np
import pytest
import torch
from few_texts import COMMON
from PIL import Image

import clipviz
from clipviz.session import Board
from clipviz.values import Ablation

TEXTS = [*COMMON, "a car", "a blue square"]


@pytest.fixture(scope="module")
def session(model):
    images = clipviz.demo.images().subset(range(40))
    session = clipviz.Session(model, images, texts=TEXTS, background=False)
    yield session
    session.close()


@pytest.fixture(scope="module")
def head_effects(session, model):
    """Of every image that the session begins with."""
    return model.trace([session.images[i] for i in range(40)]).head_effects()


def test_lenses_are_values(session):
    scores = session.heads.effects("a red circle", 3)
    assert scores.heads.shape == (6, 8)
    assert scores.mlps.shape == (7,)
    assert scores.heads.sum() + scores.mlps.sum() == pytest.approx(scores.cosine, abs=1e-5)
    maps = session.maps.tokens("a red circle", 3)
    assert maps.scores.sum(-1) == pytest.approx(scores.heads, abs=1e-5)


def test_cosine_is_the_models_own(session, model):
    image = model.encode_images(session.images[5])[0]
    text = model.encode_texts("a dog")[0]
    expected = float(torch.nn.functional.cosine_similarity(image, text, dim=0))
    assert session.heads.effects("a dog", 5).cosine == pytest.approx(expected, abs=1e-5)


def test_textspan_of_the_collection_equals_textspan_of_the_raw_effects(session, model, head_effects):
    described = session.heads.textspan(5, 2, n_texts=4, n_draws=0)
    raw = clipviz.lens.textspan.textspan(head_effects[:, 5, 2], model.encode_texts(TEXTS), 4)
    assert described.order.tolist() == raw.order.tolist()
    assert described.gains == pytest.approx(raw.gains.numpy(), abs=1e-4)
    assert described.texts == tuple(TEXTS[i] for i in raw.order)


def test_texts_of_which_nothing_is_left_are_counted(model):
    texts = [*TEXTS[:4], *(text.upper() for text in TEXTS[:4])]
    twice = clipviz.Session(model, clipviz.demo.images().subset(range(8)), texts, background=False)
    described = twice.heads.textspan(5, 2, n_texts=3, n_draws=0)
    assert described.n_used_up >= 3  # the tokenizer lowers letters: each text is there twice
    assert len({text.lower() for text in described.texts}) == 3
    twice.close()


def test_textspan_of_a_chosen_set_reads_that_set_alone(session, model):
    chosen = (1, 5, 8, 13, 21, 34)
    described = session.heads.textspan(4, 1, n_texts=3, images=chosen, n_draws=0)
    effects = torch.cat([model.trace(session.images[i]).head_effects()[:, 4, 1] for i in chosen])
    raw = clipviz.lens.textspan.textspan(effects, model.encode_texts(TEXTS), 3)
    assert described.order.tolist() == raw.order.tolist()


def test_two_images_vary_in_one_direction_and_one_text_explains_it(model):
    session = clipviz.Session(model, clipviz.demo.images().subset(range(2)), TEXTS, background=False)
    described = session.heads.textspan(5, 0, n_texts=8)
    assert len(described.texts) == 1
    assert described.gains == pytest.approx([1], abs=1e-4)
    assert described.null_gains == pytest.approx(np.ones((20, 1)), abs=1e-4)
    assert session.heads.label(5, 0).name == "no clear role"
    session.close()


def test_neighbours_under_a_head_are_ranked_by_its_inner_product(session, head_effects):
    effects = head_effects[:, 5, 3]
    expected = effects @ effects[7]
    found = session.images.neighbours(7, 5, 3, 40, by="product")
    assert [i for i, _ in found] == expected.argsort(descending=True).tolist()
    assert dict(found)[7] == pytest.approx(float(expected[7]), rel=1e-4)
    assert session.images.neighbours(7, k=3, by="product")[0][0] == 7


def test_search_ranks_by_cosine(session):
    found = session.images.search("in the sea", 40)
    assert len(found) == 40
    assert found == sorted(found, key=lambda pair: -pair[1])
    assert found[0][1] == pytest.approx(session.heads.effects("in the sea", found[0][0]).cosine, abs=1e-5)


def test_variance_shares_sum_to_one(session):
    shares = session.heads.variance()
    assert shares.shape == (6, 8)
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 6}, r"layer within 0\.\.5.*got 6"),
        ({"head": 8}, r"head within 0\.\.7.*got 8"),
        ({"image": 40}, r"image within 0\.\.39.*got 40"),
        ({"token": 145}, r"token within 0\.\.144"),
        ({"images": (1, 99)}, r"images within 0\.\.39, got \[99\]"),
        ({"ablation": Ablation(heads={(9, 9)})}, r"6 layers x 8 heads.*\(9, 9\)"),
    ],
)
def test_an_impossible_selection_is_refused_and_nothing_changes(session, changes, message):
    before = session.selection
    with pytest.raises(ValueError, match=message):
        session.select(**changes)
    assert session.selection == before


def test_a_selection_is_a_selection(session):
    with pytest.raises(Exception, match=r"Selection"):
        session.selection = {"layer": 1}


def test_undo_and_redo_walk_the_history(session):
    start = session.selection
    layer, head = (start.layer + 1) % session.model.n_layers, (start.head + 1) % session.model.n_heads
    session.select(text="a dog")
    session.select(layer=layer)
    assert session.undo().layer == start.layer
    assert session.selection.text == "a dog"
    assert session.undo() == start
    assert session.redo().text == "a dog"
    session.select(head=head)
    assert not Board.of(session).can_redo
    assert session.redo().head == head
    assert session.history[-1].head == head


@pytest.mark.parametrize("text", ["", "   ", None])
def test_an_empty_text_is_refused(session, text):
    with pytest.raises(ValueError, match="expected a text"):
        session.texts.direction(text)


def test_an_added_image_is_like_any_other(session):
    index = session.images.add(Image.new("RGB", (300, 200), (200, 20, 20)), "red")
    assert len(session.images) == len(session.images.codes) == index + 1
    assert session.images.names[index] == "red"
    assert any(i == index for i, _ in session.images.search("a red circle", 60))
    assert session.images.neighbours(index, k=2, by="product")[0][0] == index


@pytest.mark.parametrize("source", [b"not an image", np.zeros((5, 5, 7)), "/nowhere/at/all.jpg"])
def test_a_bad_image_is_refused_and_the_session_goes_on(session, source):
    n_images = len(session.images)
    with pytest.raises((ValueError, OSError)):
        session.images.add(source)
    assert len(session.images) == n_images
    assert session.images.search("a dog", 1)


def test_a_folder_is_no_image_and_is_not_listed(session, tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    for name in ("walk", "scandir", "listdir"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("the folder was listed"))
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match=r"expected one image, got a folder; open it as Session\(model"):
            session.images.add(folder)


def test_code_reopens_the_view(model, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "b.png")
    session = clipviz.Session(model, images=str(tmp_path), texts=TEXTS)
    session.select(text='say "hi" <b>', layer=3, ablation=Ablation(heads={(1, 2)}))
    scope = {"my_texts": TEXTS, "clipviz": clipviz}
    code = session.to_code().replace("clipviz.Dashboard(session)", "")
    exec(code, scope)
    assert scope["session"].selection == session.selection
    assert len(scope["session"].images) == 2
    for made in (session, scope["session"]):
        made.close()


def test_the_collection_is_read_in_the_background(model):
    images = clipviz.demo.images().subset(range(40))
    session = clipviz.Session(model, images, texts=TEXTS)
    session.wait(60, background=True)
    assert session.images.progress == (40, 40)
    assert session.images.codes.complete
    session.close()


def test_unknown_arguments_and_missing_images_are_told(model):
    with pytest.raises(TypeError, match="picture"):
        clipviz.Session(model, picture=3)
    other = clipviz.wrap(model.network, model.tokenizer, model.preprocess, name="other")
    with pytest.raises(ValueError, match="'other' needs images"):
        clipviz.Session(other)


def test_a_layer_not_kept_is_named(model):
    session = clipviz.Session(
        model, clipviz.demo.images().subset(range(4)), TEXTS, layers=[4, 5], background=False
    )
    with pytest.raises(ValueError, match=r"layer 1 is not among .*\[4, 5\]"):
        session.heads.textspan(1, 0)
    assert session.heads.textspan(5, 0, n_texts=2).texts
    session.close()


def test_closing_leaves_nothing_behind(model):
    before = set(threading.enumerate())
    session = clipviz.Session(model, clipviz.demo.images().subset(range(4)), TEXTS)
    session.wait(60, background=True)
    gone, worker = weakref.ref(session), session._state.worker
    session.close()
    session.close()
    assert not worker.alive
    del session
    gc.collect()
    assert gone() is None
    assert set(threading.enumerate()) <= before  # one of an earlier test may have ended meanwhile


def test_texts_may_be_an_array(model):
    """Also for a model whose bundle brings texts of its own, by their name."""
    session = clipviz.Session(model, clipviz.demo.images().subset(range(2)), np.array(["a dog", "a cat"]))
    assert list(session.texts) == ["a dog", "a cat"]
    session.close()


def test_a_forgotten_panel_may_be_collected_while_another_one_joins(session):
    """Closing it asks for the set of watchers, in the very thread that is changing it."""

    class Forgotten:
        def __init__(self):
            self.itself = self

        def __del__(self):
            Board.of(session).unwatch(self)

    class Joining:
        def __hash__(self):  # asked for when it is put into the set
            gc.collect()
            return 0

    Forgotten()
    joining = Joining()
    thread = threading.Thread(target=Board.of(session).watch, args=(joining,), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    Board.of(session).unwatch(joining)
