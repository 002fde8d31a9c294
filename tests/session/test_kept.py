"""What one session computed, the next one finds on disk; what was interrupted goes on where it was."""

from __future__ import annotations

import re
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

import clipviz
from clipviz import waits
from clipviz.analysis.collection import text_pool
from clipviz.analysis.collection.image_codes import ImageCodes, KeptCodes
from clipviz.analysis.collection.text_pool import TextPool
from clipviz.data import openers
from clipviz.data.cache import Cache
from clipviz.data.images import open_images
from clipviz.data.texts import open_texts
from clipviz.session import Board, reading
from clipviz.session.topics import labels
from clipviz.waits import Work
from clipviz.worker import Overtaken

pytestmark = pytest.mark.usefixtures("few_rotations")


@pytest.fixture(scope="module")
def model():
    return clipviz.load("demo")


@pytest.fixture
def eager(monkeypatch, tmp_path):
    """A cache of its own in which also quick answers are kept."""
    monkeypatch.setenv("CLIPVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_pool, "WORTH_KEEPING", 0.0)
    monkeypatch.setattr(reading, "WORTH_KEEPING", 0.0)
    return Cache(tmp_path / "cache")


def never(*_, **__):
    raise AssertionError("computed again")


def test_a_pool_is_encoded_once_and_goes_on_after_an_interruption(model, eager, monkeypatch):
    texts = open_texts([f"a picture of {i} things" for i in range(75)])
    pool, told = TextPool(model, texts, eager), []

    def interrupt(work):
        told.append((work.n_done, work.n_all, work.line))
        raise Overtaken

    with pytest.raises(Overtaken):
        pool.directions(interrupt)
    assert pool.n_ready == 32
    assert eager.entries() == []
    found = pool.directions(lambda work: told.append((work.n_done, work.n_all, work.line)))
    assert [progress[:2] for progress in told] == [(32, 75), (64, 75), (75, 75)]
    assert told[1][2] == "Encoding the texts: 64 of 75, about 1 s left"
    assert pool.work.line == ""
    torch.testing.assert_close(found, model.encode_texts(list(texts)), rtol=0, atol=1e-6)
    assert [entry.about for entry in eager.entries()] == ["75 texts of 'texts' encoded by demo"]
    monkeypatch.setattr(model, "encode_texts", never)
    assert torch.equal(TextPool(model, texts, eager).directions(), found)


def test_other_texts_or_any_other_weight_are_another_answer(model, eager):
    pool = TextPool(model, open_texts(["one", "two"]), eager)
    key = pool._key()
    assert TextPool(model, open_texts(["two", "one"]), eager)._key() != key
    weight = model.network.visual.transformer.resblocks[0].mlp.c_fc.weight
    at = (weight.shape[0] - 1, weight.shape[1] - 2)
    with torch.no_grad():
        before = weight[at].clone()
        weight[at] += 1e-3
        try:
            with pytest.raises(ValueError, match=r"weights of model 'demo' have changed.*c_fc\.weight"):
                pool._key()
            assert clipviz.wrap(model.network, model.tokenizer, model.preprocess).cache_key() != key[2:]
        finally:
            weight[at] = before
    assert pool._key() == key


def test_a_collection_is_read_once_and_its_broken_images_are_tried_again(model, eager, tmp_path, monkeypatch):
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(folder / f"{i}.png")
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:60])
    monkeypatch.setattr(openers, "EAGER", 0)  # it is found when it is read
    images = open_images(folder)
    first = clipviz.Session(model, images=images, texts=["a", "b"], background=False)
    assert first.images.codes.complete
    assert list(first.images.codes.broken) == [1]
    monkeypatch.setattr(model, "trace", never)
    second = ImageCodes(model, 3)
    assert KeptCodes(model, images, second.layers).fill(second)
    assert second.broken == {}
    assert list(second.read(model, images)) == []  # nothing is traced
    assert second.broken == first.images.codes.broken
    assert second.complete
    for name in ("codes", "mean", "std", "embedding", "ready"):
        assert torch.equal(getattr(second, name), getattr(first.images.codes, name))
    assert not KeptCodes(model, images, (4, 5)).fill(ImageCodes(model, 3, (4, 5)))
    (folder / "1.png").write_bytes(whole + b" ")
    assert not KeptCodes(model, open_images(folder), second.layers).fill(ImageCodes(model, 3))
    first.close()


def test_memory_that_ran_out_is_not_remembered(model, eager, monkeypatch):
    """An image that was too large for the memory that was left is read by the next session."""
    real, images = model.trace, clipviz.demo.images().subset(range(5))

    def trace(pictures, *args, **options):
        listed = pictures if isinstance(pictures, list) else []
        if any(picture.tobytes() == images[3].tobytes() for picture in listed):
            raise MemoryError
        return real(pictures, *args, **options)

    monkeypatch.setattr(model, "trace", trace)
    first = clipviz.Session(model, images, ["a", "b"], background=False)
    assert list(first.images.codes.broken) == [3]
    monkeypatch.setattr(model, "trace", real)
    second = clipviz.Session(model, images, ["a", "b"], background=False)
    assert second.images.codes.n_ready == 5
    assert second.images.codes.broken == {}
    for session in (first, second):
        session.close()


def test_what_is_kept_is_the_same_whatever_autocast_the_caller_is_in(model, eager):
    images, texts = clipviz.demo.images().subset(range(5)), ["a dog", "a cat"]
    with torch.autocast("cpu", torch.bfloat16):
        made = clipviz.Session(model, images, texts, background=False)
        TextPool(model, open_texts(texts), eager).directions()
        added = made.images.add(images[0])
    plain = model.trace([images[i] for i in range(5)])
    torch.testing.assert_close(made.images.codes.embedding[added], plain.embedding[0], rtol=1e-4, atol=1e-5)
    made.close()
    found = clipviz.Session(model, images, texts, background=False)
    assert sorted(entry.about.split(" ")[0] for entry in eager.entries()) == ["2", "codes"]
    torch.testing.assert_close(found.images.codes.embedding, plain.embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.texts.pool(), model.encode_texts(texts), rtol=0, atol=1e-5)
    found.close()


def test_a_panel_says_what_it_waits_for(model, monkeypatch):
    monkeypatch.setattr(waits, "WORTH_SHOWING", 0.0)
    session = clipviz.Session(model, texts=[f"text {i}" for i in range(70)])
    said = []
    panel = clipviz.panels.TextSpan(session)
    panel.observe(lambda change: said.append(change["new"]), "doing")
    session.wait()
    assert [words.split(",")[0] for words in said] == [
        "Encoding the texts: 32 of 70",
        "Encoding the texts: 64 of 70",
        "",
    ]
    assert " left" in said[0]
    assert panel.view["rows"]
    session.close()


def test_what_is_done_behind_the_panels_says_how_far_it_is(model):
    """Images, texts, heads, one after the other, each with its estimate; then nothing."""
    texts = [f"text {i}" for i in range(70)]
    session = clipviz.Session(model, clipviz.demo.images().subset(range(8)), texts, background=False)
    assert Board.of(session).waiting == "Encoding the texts: 0 of 70"
    assert Board.of(session).reading.line == ""
    seen = []
    for _ in labels._labelling(weakref.ref(session._state)):
        seen.append(Board.of(session).waiting)
    assert re.fullmatch(r"Encoding the texts: 32 of 70, about \d+ s left", seen[0])
    assert re.fullmatch(r"Labelling the heads: 47 of 48, about \d+ s left", seen[-2])
    assert seen[-1] == Board.of(session).waiting == ""
    session.close()


def test_reading_images_says_how_far_it_is(model, monkeypatch):
    said, reached = [], Work.reached

    def noting(work, n_done):
        found = reached(work, n_done)
        if work.what == "Reading the images":
            said.append(work.line)
        return found

    monkeypatch.setattr(Work, "reached", noting)
    session = clipviz.Session(model, clipviz.demo.images().subset(range(48)), ["a dog", "a cat"])
    session.wait(60, background=True)
    assert session.images.progress == (48, 48)
    assert re.fullmatch(r"Reading the images: \d+ of 48, about \d+ s left", said[0])
    assert said[-1] == ""
    session.close()
