"""An index holds the images that it was built from, and says so where they, or its own files, are others by now."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from index_tools import folder_of, picture, tiny_model
from PIL import Image

import clipviz
from clipviz.data.checksums import with_checksum
from clipviz.data.images import open_images
from clipviz.indexing import Index, building

QUICK = {"progress": False, "workers": 0, "thumbnail": 16}


class Drawn:
    """A data set that draws its items."""

    def __init__(self, seed: int, n: int = 12) -> None:
        self.seed, self.n = seed, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return picture(1000 * self.seed + i), i % 2


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def index(model, tmp_path):
    return Index.build(model, Drawn(0), tmp_path / "index", **QUICK)


def test_an_index_of_one_data_set_is_not_given_for_another(model, index):
    with pytest.raises(
        ValueError, match=r"with other settings: images 12 of set \w+ there, 12 of set \w+ here"
    ):
        Index.build(model, Drawn(1), index.path, **QUICK)
    assert len(Index.build(model, Drawn(0), index.path, **QUICK)) == 12
    grown = index.append(model, Drawn(1), progress=False, workers=0)
    assert len(grown) == 24
    assert not np.array_equal(grown.codes().embedding[:12], grown.codes().embedding[12:])


def test_a_build_is_not_resumed_with_other_images(model, tmp_path):
    def stop(done, _):
        if done >= 8:
            raise Stopped

    small = {**QUICK, "shard": 4, "batch": 4}
    with pytest.raises(Stopped):
        Index.build(model, Drawn(0), tmp_path / "i", **{**small, "progress": stop})
    with pytest.raises(ValueError, match="unfinished index with other settings: images"):
        Index.build(model, Drawn(1), tmp_path / "i", **small)
    assert len(Index.build(model, Drawn(0), tmp_path / "i", **small)) == 12


def test_a_session_refuses_the_index_of_other_images_by_name(model, index, tmp_path):
    for images in (Drawn(1), open_images(Drawn(0)).subset([1, 0, *range(2, 12)])):
        with pytest.raises(
            ValueError, match=r"built from other images: image 0 of the index is 'item 0'.*omit images"
        ):
            clipviz.Session(model, images=images, index=index, texts=["a", "b"])
    clipviz.Session(model, images=Drawn(0), index=index, texts=["a", "b"]).close()
    folder = folder_of(tmp_path / "photographs", 3)
    grown = Index.build(model, folder_of(tmp_path / "first", 2, start=5), tmp_path / "both", **QUICK).append(
        model, folder, progress=False, workers=0
    )
    files = [*sorted((tmp_path / "first").iterdir()), *sorted(folder.iterdir())]
    grown.check_images(open_images(files))  # of several parts, each image by its content
    with pytest.raises(
        ValueError, match=r"image 3 of the index is '00001\.jpg', image 3 of these is '00002\.jpg'"
    ):
        grown.check_images(open_images([*files[:3], files[4], files[3]]))


def test_a_preprocessing_with_another_crop_is_refused_by_an_index(model, index):
    import torchvision.transforms as steps

    last = model.preprocess.transforms[-1]
    crop = steps.Compose([steps.Resize(48), steps.CenterCrop(32), steps.ToTensor(), last])
    other = clipviz.wrap(model.network, model.tokenizer, crop, name=model.name)
    assert other.identity()["normalization"] == model.identity()["normalization"]
    with pytest.raises(ValueError, match=r"was built by model 'tiny'.*preprocess"):
        index.check_model(other)
    index.check_model(model)


def test_files_replaced_during_a_build_are_left_out_and_listed(model, tmp_path):
    folder = folder_of(tmp_path / "images", 9)

    def replace(done, _):
        if done == 3:
            picture(77).save(folder / "00007.jpg")

    index = Index.build(model, folder, tmp_path / "i", **{**QUICK, "progress": replace}, batch=3, shard=3)
    assert len(index) == 8
    assert index.skipped == [("00007.jpg", "it has been replaced since the collection was opened")]


def test_a_file_replaced_after_indexing_is_noticed(model, tmp_path):
    folder = folder_of(tmp_path / "images", 4)
    index = Index.build(model, folder, tmp_path / "i", **QUICK)
    stored = index.codes([2]).embedding
    for file in folder.iterdir():
        os.utime(file)  # another time, the same content
    session = clipviz.Session(model, index=index, texts=["a", "b"])
    assert session.receipts()["stand_ins"] == (0, 4)
    picture(78).save(folder / "00002.jpg")
    session.select(image=2)
    assert session.images[2].size == (16, 16), "the thumbnail stands in"
    assert session.receipts()["notes"] == ["the file of '00002.jpg' has been replaced since it was read"]
    assert index.images().stand_ins == (1, 4)
    assert np.array_equal(index.codes([2]).embedding, stored)
    session.close()


def test_a_file_of_an_open_session_that_is_replaced_is_said(model, tmp_path):
    folder = folder_of(tmp_path / "images", 3)
    session = clipviz.Session(model, images=folder, texts=["a", "b"], background=False)
    picture(79).save(folder / "00001.jpg")
    session.select(image=1)
    with pytest.raises(
        ValueError, match=r"'00001\.jpg': it has been replaced since the collection was opened"
    ):
        session.images.trace(1)
    assert "has been replaced" in session.receipts()["notes"][0]
    session.close()


def test_an_index_that_was_deleted_or_built_again_says_so(model, index):
    opened = Index.open(index.path)
    assert opened.names[0] == "item 0"
    index.append(model, Drawn(2), progress=False, workers=0)
    assert not opened.replaced
    assert opened.codes().codes.shape[0] == 12
    codes = opened.codes().codes
    shutil.rmtree(index.path)
    assert opened.codes().codes is codes, "what was read goes on"
    with pytest.raises(ValueError, match=r"moved or deleted after it was opened; open it again"):
        opened.texts("caption")
    (index.path / "caption.bin").parent.mkdir()
    (index.path / "caption.bin").write_bytes(b"another build has begun")
    with pytest.raises(ValueError, match=r"moved or deleted after it was opened"):
        opened.texts("caption")
    shutil.rmtree(index.path)
    Index.build(model, Drawn(1), index.path, **QUICK)
    assert opened.replaced
    for ask in (opened.codes, lambda: opened.texts("caption")):
        with pytest.raises(ValueError, match=r"was built again after it was opened; open it again"):
            ask()


def old(index) -> Index:
    """The index as versions wrote it that kept no marks and said less of the preprocessing."""
    manifest = json.loads((index.path / "manifest.json").read_bytes())
    del manifest["dims"]["marks"], manifest["columns"]["marks.npy"], manifest["model"]["preprocess"]
    manifest["sources"][0]["fingerprint"] = "0123456789ab"
    journal = index.path / "segments.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        del line["files"]["marks.npy"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    from clipviz.data.checksums import file_digest

    manifest["segments"] |= {"bytes": journal.stat().st_size, "checksum": file_digest(journal)}
    (index.path / "marks.npy").unlink()
    (index.path / "manifest.json").write_bytes(
        with_checksum({k: v for k, v in manifest.items() if k != "checksum"})
    )
    return Index.open(index.path)


def test_an_index_of_an_earlier_version_still_serves(model, index, tmp_path):
    fresh = Index.build(model, Drawn(1), tmp_path / "fresh", **QUICK)
    before = old(index)
    assert Index.verify(before.path) == []
    assert before.marks is None
    session = clipviz.Session(model, index=before, texts=["a", "b"])
    assert session.images.codes.complete
    session.close()
    before.check_images(open_images(Drawn(0)))  # by name, more is not known
    with pytest.raises(ValueError, match=r"of an earlier version, clipviz .* Open it with Index\.open"):
        Index.build(model, Drawn(0), before.path, **QUICK)
    with pytest.raises(ValueError, match=r"an earlier version of clipviz built without the images' marks"):
        Index.merge([fresh.path, before.path], tmp_path / "merged")
    grown = before.append(model, Drawn(2), progress=False, workers=0)
    assert len(grown) == 24
    assert Index.verify(grown.path) == []
    assert grown.marks is None


def test_thumbnails_of_a_replaced_file_without_one_are_told(model, tmp_path):
    folder = folder_of(tmp_path / "images", 2)
    index = Index.build(model, folder, tmp_path / "i", **{**QUICK, "thumbnail": 0})
    Image.new("RGB", (40, 40)).save(folder / "00000.jpg")
    with pytest.raises(ValueError, match="its file has been replaced since and the index has no thumbnail"):
        index.images()[0]


class Stream:
    """Items in order, as an IterableDataset gives them."""

    def __init__(self, items) -> None:
        self.items, self.read = items, 0

    def __iter__(self):
        for item in self.items:
            self.read += 1
            yield item


def test_a_stream_is_indexed_part_by_part_and_passed_over_when_it_is_there(
    model, index, tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "STREAMED", 5)
    data = Drawn(0)
    items = [{"image": data[i][0], "label": "ab"[i % 2], "text": f"item {i}"} for i in range(12)]
    seen = []
    options = {**QUICK, "progress": lambda done, total: seen.append((done, total))}
    streamed = Index.build(model, Stream(items), tmp_path / "s", **options)
    assert len(streamed) == 12
    assert streamed.names == [f"item {i}" for i in range(12)]
    assert streamed.labels == ["a", "b"] * 6
    assert streamed.captions[3] == "item 3"
    assert np.array_equal(streamed.codes().embedding, index.codes().embedding)
    assert seen[-1] == (12, 12)
    assert Index.verify(streamed.path) == []
    monkeypatch.setattr(model, "trace", None)
    assert len(Index.build(model, Stream(items), tmp_path / "s", **QUICK)) == 12
    with pytest.raises(
        ValueError, match=r"index of other images: 'item 5' of the stream begins a part that differs"
    ):
        Index.build(model, Stream([*items[:7], items[0], *items[8:]]), tmp_path / "s", **QUICK)


def test_a_stream_goes_on_where_it_was_stopped(model, index, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "STREAMED", 4)
    data, counted = Drawn(0), []

    def stop(done, _):
        if done >= 8:
            raise Stopped

    with pytest.raises(Stopped):
        Index.build(
            model, Stream([data[i] for i in range(12)]), tmp_path / "s", **{**QUICK, "progress": stop}
        )
    assert len(Index.open(tmp_path / "s")) in (4, 8)
    options = {**QUICK, "progress": lambda done, _: counted.append(done)}
    again = Index.build(model, Stream([data[i] for i in range(12)]), tmp_path / "s", **options)
    assert np.array_equal(again.codes().embedding, index.codes().embedding)
    assert counted[0] > 4, "what was there is not traced again"


def test_iterable_data_sets_of_the_packages_are_streams(model, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from tests.data.test_datasets import cifar

    monkeypatch.setattr(building, "STREAMED", 4)
    whole = cifar()
    streamed = Index.build(model, whole.to_iterable_dataset(), tmp_path / "s", **QUICK)
    plain = Index.build(model, whole, tmp_path / "p", **QUICK)
    assert isinstance(whole, datasets.Dataset)
    assert np.array_equal(streamed.codes().embedding, plain.codes().embedding)
    assert streamed.labels == plain.labels
    assert streamed.captions == plain.captions
    assert streamed.attributes == plain.attributes
