"""A bundle is all that makes a world at home: the demo's, and one of a user's own around a network."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import clipviz
from clipviz import demo
from clipviz.analysis.collection.tasks import named_task
from clipviz.analysis.cues import attacks, pairs
from clipviz.data.images import open_images
from clipviz.data.texts import open_texts
from clipviz.models.bundle import Bundle, BundledPartner, FirstView, Studio
from clipviz.session import opening

NAMES = ("a cat", "a dog", "a red ball", "a tree")
PICTURES = open_images([np.full((32, 32, 3), 40 * k, np.uint8) for k in range(6)])
PICTURES.captions = [f"picture {k}" for k in range(6)]
TEXTS = open_texts(list(NAMES))


def stripes(images):
    return {
        "stripes": named_task(
            "stripes", NAMES[:2], [[n] for n in NAMES[:2]], NAMES[:2] * 3, NAMES[:2] * 3, ""
        )
    }


@pytest.fixture
def toy():
    """A world of a user's own."""
    studio = Studio(
        ("cat", "dog"),
        writer=lambda avoid, rng, recolour: lambda words, name: [f"a {name} and {word}" for word in words],
        drawer=lambda seed: lambda sentence: Image.new("RGB", (32, 32), (seed % 255, len(sentence), 9)),
        can_draw=lambda word, avoid: word != "a tree",
        prompt=lambda name: f"one {name}",
        pair=("cat", "dog"),
    )
    return Bundle(
        "toys",
        images=lambda: PICTURES,
        texts=lambda: TEXTS,
        examples=("a cat",),
        first=FirstView("a dog", "a red ball", lambda images: 4),
        tasks=stripes,
        studio=studio,
    )


@pytest.fixture
def session(toy, model, monkeypatch):
    monkeypatch.setattr(model, "bundle", toy)
    session = clipviz.Session(model, background=False)
    yield session
    session.close()


def test_a_session_opens_what_the_bundle_brings(session, toy):
    assert session.images.opened is PICTURES
    assert session.texts.opened is TEXTS
    assert session.texts.examples == ("a cat",)
    assert session.selection.image == 4
    assert session.selection.text == "a dog"
    effects = session.heads.effects("a red ball", 4).heads
    assert effects[session.selection.layer, session.selection.head] == effects.max()
    assert list(session.ablation.tasks()) == ["stripes"]
    named = clipviz.Session(session.model, PICTURES, "toys", background=False)
    assert named.texts.opened is TEXTS
    named.close()


def test_a_bundle_of_ones_own_writes_and_draws(session):
    assert session.cues.classes == ("cat", "dog")
    assert pairs.prompt(session.model, "cat") == "one cat"
    assert pairs.drawable(session.cues.studio, ["a ball", "a tree"], ("cat", "dog")) == [True, False]
    attack = attacks.attempt(session.model, ["fog", "sea"], "cat", "dog", n_sentences=2, n_images=1)
    assert set(attack.sentences) == {"a cat and fog", "a cat and sea"}
    assert attack.images[0].size == (32, 32)
    with pytest.raises(
        ValueError, match=r"expected a class that can be drawn \(cat, dog, \.\.\.\), got 'horse'"
    ):
        attacks.attempt(session.model, ["fog"], "horse", "dog")


def test_what_a_bundle_leaves_out_is_asked_for(model, monkeypatch):
    monkeypatch.setattr(model, "bundle", Bundle("empty"))
    with pytest.raises(ValueError, match="needs images"):
        clipviz.Session(model)
    with pytest.raises(ValueError, match="no bundle that writes and draws"):
        attacks.attempt(model, ["fog"], "cat", "dog")
    session = clipviz.Session(model, PICTURES, TEXTS, background=False)
    assert len(session.texts.examples) > 3
    with pytest.raises(ValueError, match="no dictionary of shared units"):
        session.rosetta.units()
    session.close()


def test_an_index_in_a_bundle_is_read_only_for_its_own_model_and_images(toy, model, monkeypatch, tmp_path):
    clipviz.Index.build(
        model, PICTURES, tmp_path / "index", layers=range(model.n_layers), workers=0, progress=False
    )
    monkeypatch.setattr(model, "bundle", replace(toy, index=tmp_path / "index"))
    assert len(opening.bundled_index(model, PICTURES)) == 6
    assert opening.bundled_index(model, PICTURES.subset(range(6))) is None
    monkeypatch.setattr(model, "fingerprint", "another")
    assert opening.bundled_index(model, PICTURES) is None


def test_the_demo_carries_its_bundle(model):
    assert model.bundle is demo.bundle()
    assert clipviz.load is clipviz.loading.load
    assert model.bundle.images() is demo.images()
    for name, partner in model.bundle.partners.items():
        assert partner.digest == hashlib.sha256(partner.weights.read_bytes()).hexdigest()[:16]
        assert clipviz.load_partner(name).name == name


def test_the_demo_knows_which_texts_are_true_of_its_pictures(model):
    images = demo.images()
    flamingo = model.bundle.first.image(images)
    texts = ["a flamingo", "a waterbird", "a cat", "something pink", "a unicorn"]
    assert model.bundle.truths(texts, images, flamingo) == [True, True, False, True, None]
    assert model.bundle.truths(texts, PICTURES, 0) is None
    with_one_more = images.subset([flamingo]).with_image(PICTURES[0], "a stranger")
    assert model.bundle.truths(texts, with_one_more, 1) is None


def test_a_missing_partner_has_no_digest_and_another_file_another(tmp_path):
    missing = BundledPartner(tmp_path / "none.safetensors", lambda weights, device: None)
    assert missing.digest == ""
    (tmp_path / "some.safetensors").write_bytes(b"some")
    assert (
        replace(missing, weights=tmp_path / "some.safetensors").digest
        == hashlib.sha256(b"some").hexdigest()[:16]
    )


def test_unknown_partners_are_refused_with_both_lists():
    with pytest.raises(ValueError, match=r"expected a partner among cnn, vit, resnet50.* got 'vgg'"):
        clipviz.load_partner("vgg")
