"""The dictionary in a session: opened, sorted, filtered, named, and every unit shown on any image."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_dictionary import TEXTS, tiny_book, tiny_dictionary, tiny_images, tiny_pair
from torch import nn

import clipviz
from clipviz.analysis.rosetta import on_image, order
from clipviz.data import dictionary as saved
from clipviz.data.checksums import with_checksum
from clipviz.lens.unit_thumbnails import drawn
from clipviz.models.hooks import activation_maps


@pytest.fixture(scope="module")
def partners():
    return tiny_pair()


@pytest.fixture(scope="module")
def images():
    return tiny_images()


@pytest.fixture(scope="module")
def concepts(model):
    return tiny_dictionary(model)


@pytest.fixture
def folder(model, tmp_path):
    return tiny_book(model, tmp_path)


@pytest.fixture
def session(lend, model, images):
    with lend(model, images, TEXTS, as_new=True) as session:
        yield session


@pytest.fixture
def book(session, folder, partners):
    return session.rosetta.units(folder, partners)


def test_a_concept_and_its_neuron_find_each_other(book):
    assert len(book.concepts) > 10
    for concept in range(len(book.concepts)):
        layer, neuron = book.neuron(concept)
        assert layer * 768 + neuron == book.concepts.units[concept, 0]
        assert book.concept_of(layer, neuron) == concept
        assert order.pivot_layers(book.concepts)[concept] == layer
    assert book.concept_of(None, 3) is None
    absent = next(n for n in range(768) if n not in book.concepts.units[:, 0])
    assert book.concept_of(0, absent) is None


@pytest.mark.parametrize("sort", order.SORTS)
def test_sorting_equals_sorting_rows_one_by_one(book, sort):
    def mean(values, row):
        found = [values[row, i] for i in (1, 2) if book.concepts.units[row, i] >= 0]
        return float(np.mean(found))

    def key(row):
        concepts = book.concepts
        size = sum(concepts.cluster == concepts.cluster[row])
        layer = int(concepts.units[row, 0]) // 768
        held, mined = mean(concepts.heldout, row), mean(concepts.correlation, row)
        return {
            "named": (not (book.label(row) or book.hint(row)[0]), -held),
            "heldout": (-held,),
            "correlation": (-mined,),
            "size": (-size, -held),
            "layer": (layer, -held),
        }[sort]

    expected = sorted(range(len(book.concepts)), key=key)
    shown = book.listed(sort, every_unit=True)
    assert [pytest.approx(key(row), abs=1e-6) for row in expected] == [key(row) for row in shown]
    first = book.listed(sort)
    clusters = [book.concepts.cluster[row] for row in first]
    assert sorted(clusters) == sorted(set(book.concepts.cluster.tolist()))
    assert first == [
        row
        for i, row in enumerate(shown)
        if book.concepts.cluster[row] not in {book.concepts.cluster[r] for r in shown[:i]}
    ]


def test_filters_keep_what_fits(book):
    units = book.concepts.units
    both = book.listed(models=["one", "two"], every_unit=True)
    assert both
    assert set(both) == {row for row in range(len(units)) if (units[row, 1:] >= 0).all()}
    book.name(both[0], "My  <b>grass</b>")
    assert book.listed(words="MY grass") == [both[0]]
    assert book.title(both[0]) == "My <b>grass</b>"
    assert book.listed(words="nothing has this name") == []


def test_wrong_questions_say_what_there_is(book, session, tmp_path, model):
    with pytest.raises(
        ValueError, match="a sort among named, heldout, correlation, size, layer, got 'colour'"
    ):
        book.listed("colour")
    with pytest.raises(ValueError, match="models among clip, one, two, got 'dino'"):
        book.listed(models=["dino"])
    with pytest.raises(ValueError, match="expected a concept within"):
        book.name(10_000, "x")
    with pytest.raises(ValueError, match=r"an image within 0..19"):
        book.on_image(20)
    with pytest.raises(ValueError, match="no dictionary in"):
        session.rosetta.units(tmp_path / "nothing")


def test_another_models_dictionary_is_refused(session, folder):
    head = json.loads((folder / "dictionary.json").read_text())
    head["about"]["model"] = "another"
    (folder / "dictionary.json").write_bytes(with_checksum(head))
    with pytest.raises(ValueError, match="was mined for model another, not for"):
        session.rosetta.units(folder)


def test_units_on_an_image_equal_reading_them_one_by_one(book, session, partners):
    seen, concepts = book.on_image(5), book.concepts
    visual, images = session.model.visual, session.model.prepare(session.images[5])
    with torch.no_grad(), activation_maps(visual, "transformer.resblocks.*.mlp.gelu") as clip:
        visual(images)
    maps = [clip, partners["one"].maps([session.images[5]]), partners["two"].maps([session.images[5]])]
    assert seen.maps.shape == (len(concepts), 3, on_image.SIDE, on_image.SIDE)
    for concept in range(0, len(concepts), 5):
        for i in range(3):
            place = concepts.where(concept, i)
            if place is None:
                assert seen.maps[concept, i].max() == seen.strength[concept, i] == 0
                continue
            used = {concepts.where(c, i)[0] for c in range(len(concepts)) if concepts.where(c, i)}
            # a model's maps are read at its largest size
            size = max(maps[i][layer].shape[2] for layer in used)
            own = maps[i][place[0]][:, [place[1]]]
            own = nn.functional.interpolate(own, (size, size), mode="bilinear", align_corners=False)
            floor, peak = (
                torch.tensor([getattr(concepts.thumbnails, p)[concept, i]]) for p in ("floor", "peak")
            )
            share = float((own.max() - floor) / (peak - floor))
            assert seen.strength[concept, i] == pytest.approx(min(max(share, 0), 9), abs=1e-3)
            expected = drawn(own, floor, peak, on_image.SIDE)[0, 0].numpy().astype(int)
            assert np.abs(seen.maps[concept, i].astype(int) - expected).max() <= 1
    assert book.on_image(5) is seen


def test_the_strongest_come_first(book):
    """Each tile is the concept's own map on the image, read from the model and drawn by itself."""
    found, concepts = book.strongest(3, book.listed(), "two"), book.concepts
    assert [one.strength for one in found] == sorted((one.strength for one in found), reverse=True)
    assert all(concepts.units[one.concept, 2] >= 0 for one in found)
    maps = book.networks["two"].maps([book.source.images[3]])
    size = max(one.shape[2] for one in maps.values())
    assert len({one.map.tobytes() for one in found}) > 4
    for one in found:
        layer, unit = concepts.where(one.concept, 2)
        own = nn.functional.interpolate(
            maps[layer][:, [unit]], (size, size), mode="bilinear", align_corners=False
        )
        floor, peak = (
            torch.tensor([getattr(concepts.thumbnails, end)[one.concept, 2]]) for end in ("floor", "peak")
        )
        expected = drawn(own, floor, peak, on_image.SIDE)[0, 0].numpy().astype(int)
        assert np.abs(one.map.astype(int) - expected).max() <= 1
        assert one.title == book.title(one.concept)
    silent = {*book.listed()} - {one.concept for one in found}
    assert all(book.on_image(3).strength[row, 2] == 0 for row in silent)


def test_names_are_kept_where_the_dictionary_is_the_users(book, session, folder, partners):
    book.name(4, "  sky,\n above ")
    assert saved.load(folder).labels[4] == "sky, above"
    assert session.rosetta.units(folder, partners) is book
    assert book.version == 1


def test_the_dictionary_of_a_bundle_is_never_written(book, session, folder, monkeypatch, tmp_path):
    bundle = replace(session.model.bundle, dictionary=folder)
    monkeypatch.setattr(session.model, "bundle", bundle)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shipped = session.rosetta.units()
    shipped.name(2, "mine")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert session.rosetta.units().title(2) == "mine"
    shipped.save(tmp_path / "kept")
    shipped.name(3, "kept too")
    assert saved.load(tmp_path / "kept").labels[2:4] == ("mine", "kept too")


def test_a_saved_dictionary_carries_its_pictures(book, model, tmp_path, partners):
    book.save(tmp_path / "kept")
    elsewhere = clipviz.Session(model, clipviz.demo.images().subset([60, 61]), TEXTS, background=False)
    kept = elsewhere.rosetta.units(tmp_path / "kept", partners)
    assert book.linked
    assert not kept.linked
    image = int(book.concepts.examples[0, 0])
    difference = np.asarray(kept.picture(image, 96)).astype(int) - np.asarray(book.picture(image, 96))
    assert np.abs(difference).mean() < 6  # JPEG
    assert kept.on_image(1).strength.max() > 0.2
    elsewhere.close()


def test_a_model_that_is_not_at_hand_is_said(session, folder):
    alone = session.rosetta.units(folder)
    assert [column.at_hand for column in alone.columns] == [True, False, False]
    seen = alone.on_image(0)
    assert seen.strength[:, 0].max() > 0
    assert seen.strength[:, 1:].max() == 0


def test_columns_count_rows_and_pairs(book):
    concepts = book.concepts
    for i, column in enumerate(book.columns):
        there = concepts.units[:, i] >= 0
        assert (column.name, column.n_rows) == (concepts.models[i], there.sum())
        assert column.heldout == pytest.approx(float(concepts.heldout[there, i].mean()))
    assert [column.loss for column in book.columns] == ["text-supervised", "untrained 0", "untrained 1"]


def test_entries_are_a_page_of_the_dictionary(book):
    """Each picture is an example of the concept, and below it lies every model's map of that picture."""
    rows, concepts = book.listed()[:3], book.concepts
    entries = book.entries(rows, n_examples=2)
    for row, entry in zip(rows, entries, strict=True):
        examples = concepts.examples[row][:2].tolist()
        for picture, image in zip(entry.pictures, examples, strict=True):
            assert np.array_equal(picture, np.asarray(book.source.images.thumbnail(image, 96)))
        assert entry.maps.shape == (3, 2, 24, 24)
        assert entry.title == book.title(row)
        there = [i for i in (1, 2) if concepts.where(row, i) is not None]
        layer, neuron = book.neuron(row)
        held = sum(float(concepts.heldout[row, i]) for i in there) / len(there)
        assert entry.note == f"L{layer}.{neuron}, held out {held:.2f}"
        for i, name in enumerate(("clip", "one", "two")):
            if concepts.where(row, i) is None:
                assert entry.units[i] == ""
                assert not entry.maps[i].any()
                continue
            assert entry.units[i] == f"{concepts.heldout[row, i]:.2f}"
            used, unit = concepts.where(row, i)
            maps = book.networks[name].maps([book.source.images[image] for image in examples])[used][
                :, [unit]
            ]
            floor, peak = (
                torch.tensor([getattr(concepts.thumbnails, end)[row, i]]) for end in ("floor", "peak")
            )
            size = concepts.thumbnails.maps.shape[-1]
            expected = drawn(maps, floor, peak, size)[:, 0].numpy().astype(int)
            assert np.abs(entry.maps[i].astype(int) - expected).max() <= 1, (row, name)


def test_the_session_lets_go(model, images, folder, partners):
    import gc
    import weakref

    session = clipviz.Session(model, images, TEXTS, background=False)
    book = session.rosetta.units(folder, partners)
    book.on_image(0)
    session.close()
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    with pytest.raises(ValueError, match="session of this dictionary no longer exists"):
        _ = book.source
