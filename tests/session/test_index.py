"""A session on an index: the same answers without the images at hand, and what is missing is said."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from few_texts import COMMON
from PIL import Image

import clipviz
from clipviz.demo import images as demo

pytestmark = pytest.mark.usefixtures("few_rotations")

TEXTS = [*COMMON, "a car", "a star"]
N = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in two labelled folders."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(N):
        place = root / ("first" if i < 12 else "second")
        place.mkdir(exist_ok=True)
        demo()[i].save(place / f"{i:03}.png")
    return root


@pytest.fixture(scope="module")
def index(model, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "pictures.index"
    return clipviz.Index.build(
        model, folder, path, layers=range(2, 6), workers=0, thumbnail=96, progress=False
    )


@pytest.fixture(scope="module")
def direct(model, folder):
    session = clipviz.Session(model, str(folder), TEXTS, layers=range(2, 6), background=False)
    yield session
    session.close()


@pytest.fixture(scope="module")
def indexed(model, index):
    session = clipviz.Session(model, texts=TEXTS, index=index)
    yield session
    session.close()


def test_an_index_is_complete_at_once(indexed):
    assert indexed.images.codes.complete
    assert indexed.images.progress == (N, N)
    assert indexed.receipts()["index"].startswith("pictures.index@")
    assert indexed.receipts()["stand_ins"] == (0, N)


def test_answers_are_those_of_the_images(indexed, direct):
    for one in range(2, 6):
        found, expected = (s.heads.textspan(one, 3, n_texts=5, n_draws=0) for s in (indexed, direct))
        assert found.gains == pytest.approx(expected.gains, abs=2e-3)
    assert indexed.heads.variance() == pytest.approx(direct.heads.variance(), rel=1e-2)
    for layer, head in ((None, None), (5, 2)):
        found, expected = (
            dict(s.images.neighbours(4, layer, head, N, by="product")) for s in (indexed, direct)
        )
        scale = max(map(abs, expected.values()))
        assert all(found[i] == pytest.approx(expected[i], abs=5e-3 * scale) for i in expected)
    found, expected = (dict(s.images.search("a dog", N)) for s in (indexed, direct))
    assert all(found[i] == pytest.approx(expected[i], abs=1e-3) for i in expected)


def test_a_label_is_described_in_one_call(indexed, direct):
    chosen = indexed.images.where("label", "first")
    assert chosen == tuple(range(12))
    found, expected = (s.heads.textspan(5, 1, 3, images=chosen, n_draws=0) for s in (indexed, direct))
    assert found.gains == pytest.approx(expected.gains, abs=2e-3)
    indexed.select(images=chosen)
    assert indexed.selection.images == chosen


def test_an_unknown_label_names_those_there_are(indexed):
    with pytest.raises(ValueError, match="no image has label = 'third'; values are: first, second"):
        indexed.images.where("label", "third")


def test_the_code_reopens_the_index(indexed):
    scope = {"my_texts": TEXTS}
    exec(indexed.to_code().replace("clipviz.Dashboard(session)", ""), scope)
    assert scope["session"].selection == indexed.selection
    assert len(scope["session"].images) == N
    scope["session"].close()


def test_thumbnails_suffice_and_missing_files_are_said(model, folder, tmp_path):
    lost = tmp_path / "lost"
    shutil.copytree(folder, lost)
    index = clipviz.Index.build(
        model, lost, tmp_path / "i", layers=(4, 5), workers=0, thumbnail=96, progress=False
    )
    before = clipviz.Session(model, texts=TEXTS, index=tmp_path / "i")
    expected = before.heads.textspan(5, 0, n_texts=3, n_draws=0), before.images.neighbours(2, k=5)
    before.close()
    (lost / "first" / "000.png").unlink()
    shutil.rmtree(lost / "second")
    session = clipviz.Session(model, texts=TEXTS, index=index.path)
    assert session.receipts()["stand_ins"] == (N - 11, N)
    assert session.heads.textspan(5, 0, n_texts=3, n_draws=0).gains == pytest.approx(expected[0].gains)
    assert session.images.neighbours(2, k=5) == expected[1]
    assert np.isfinite(session.maps.tokens("a dog", 20).scores).all()  # traced from its thumbnail
    session.images.add(Image.new("RGB", (8, 8)), "one more")
    assert session.receipts()["stand_ins"] == (N - 11, N)
    session.close()


def test_of_a_large_index_a_sample_of_the_files_is_looked_for(index, monkeypatch):
    from clipviz.data.store import images as collection

    monkeypatch.setattr(collection, "MOST_LOOKED_FOR", 7)
    assert index.images().stand_ins == (0, 6)  # every fifth of 30


def test_an_image_can_be_added_to_an_index_session(model, index):
    session = clipviz.Session(model, texts=TEXTS, index=index)
    added = session.images.add(Image.new("RGB", (50, 40), "red"), "red")
    assert added == N
    session.select(image=added)
    assert np.isfinite(session.heads.effects("a dog").cosine)
    assert len(session.images.neighbours(added, k=5)) == 5
    assert len(session.images.neighbours(added, 5, 1, 5)) == 5
    session.close()


def test_a_foreign_index_is_refused_by_name(index):
    from index_tools import tiny_model

    with pytest.raises(ValueError, match="demo"):
        clipviz.Session(tiny_model(), texts=TEXTS, index=index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": [Image.new("RGB", (8, 8))]}, "expected the 30 images of the index, got 1"),
        ({"layers": (0, 1)}, r"expected the index's layers \[2, 3, 4, 5\], got \[0, 1\]"),
        ({"index": "/nowhere/at/all"}, "nowhere"),
    ],
)
def test_what_does_not_fit_the_index_is_refused(model, index, arguments, message):
    with pytest.raises(ValueError, match=message):
        clipviz.Session(model, texts=TEXTS, **({"index": index} | arguments))


def test_a_session_opens_even_where_no_picture_can_be_shown(model, tmp_path):
    from clipviz.demo import bundle

    session = clipviz.Session(
        model, texts=TEXTS, index=bundle().index
    )  # it keeps captions, but no files and no thumbnails
    assert session.selection.text == "a flamingo"
    assert session.heads.textspan(5, 0, n_texts=2, n_draws=0).texts
    assert session.receipts()["stand_ins"] == (len(session.images), len(session.images))
    with pytest.raises(ValueError, match="no thumbnail"):
        session.images.trace()
    session.close()
