"""The pass over a collection: its numbers against one float64 batch, its errors, append and merge."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_tools import bytes_of, folder_of, picture, tiny_model
from PIL import Image

import clipviz
from clipviz.data.images import open_images
from clipviz.data.store.writer import discard
from clipviz.indexing import Index
from clipviz.lens.covariance import augmented_codes, effect_covariance, effect_mean
from clipviz.lens.decompose import effects_from_codes

QUICK = {"shard": 8, "batch": 3, "progress": False, "thumbnail": 16}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("images"), 21)


@pytest.fixture(scope="module")
def index(model, folder, tmp_path_factory):
    return Index.build(model, folder, tmp_path_factory.mktemp("index") / "a", layers=(1, 2), **QUICK)


@pytest.fixture(scope="module")
def exact(model, folder):
    """One batch in float64."""
    model64 = tiny_model(dtype=torch.float64)
    trace = model64.trace(torch.stack([model.preprocess(image) for image in open_images(folder)]))
    return trace


def test_a_table_of_arrow_has_a_row_for_each_image_and_the_numbers_of_the_files(index):
    pytest.importorskip("pyarrow")
    stored, table = index.codes(), index.to_arrow(codes=True)
    assert table.num_rows == len(index)
    assert table["image"].to_pylist() == list(range(len(index)))
    assert table["name"].to_pylist() == index.names
    assert table["path"].to_pylist() == index.paths
    for column, words in index.attributes.items():
        assert table[column].to_pylist() == words
    for column in ("embedding", "mean", "std", "codes"):
        found, expected = np.array(table[column].to_pylist()), getattr(stored, column)
        assert np.array_equal(found.reshape(expected.shape), expected), column
    about = json.loads(table.schema.metadata[b"clipviz"])
    assert about["model"]["fingerprint"] == index.identity["fingerprint"]
    assert (about["layers"], about["shape"]) == ([1, 2], list(stored.codes.shape[1:]))


def test_a_table_of_arrow_has_the_chosen_rows_in_their_order(index):
    pytest.importorskip("pyarrow")
    table = index.to_arrow([5, 2])
    assert table["image"].to_pylist() == [5, 2]
    assert table["name"].to_pylist() == [index.names[5], index.names[2]]
    assert np.array_equal(np.array(table["embedding"].to_pylist()), index.codes().embedding[[5, 2]])
    assert "codes" not in table.column_names
    with pytest.raises(ValueError, match="image"):
        index.to_arrow([999])


def relative(found, expected) -> float:
    found, expected = (np.asarray(value, np.float64) for value in (found, expected))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_rows_are_the_trace_within_half_precision(index, exact):
    codes = index.codes()
    assert codes.layers == (1, 2)
    assert isinstance(codes.codes, np.memmap)
    assert relative(codes.codes, exact.codes[:, [1, 2]]) < 1e-3
    assert relative(codes.embedding, exact.embedding) < 1e-3
    assert relative(codes.mean, exact.mean) < 1e-5
    assert relative(codes.std, exact.std) < 1e-5


def test_half_precision_keeps_embeddings_to_four_digits(index, exact):
    kept = torch.from_numpy(index.codes(range(len(index))).embedding).double()
    exact_units = exact.embedding.double() / exact.embedding.double().norm(dim=1, keepdim=True)
    cosines = (kept / kept.norm(dim=1, keepdim=True) * exact_units).sum(1)
    assert float((1 - cosines).max()) < 2e-7
    assert float((kept.norm(dim=1) / exact.embedding.norm(dim=1) - 1).abs().max()) < 5e-4


def test_statistics_equal_one_batch_in_float64(index, exact):
    found = index.statistics()
    samples = augmented_codes(*(t.double() for t in (exact.codes[:, [1, 2]], exact.mean, exact.std))).numpy()
    assert found.count == len(samples) == 21
    assert relative(found.mean, samples.mean(0)) < 1e-5
    for layer, head in itertools.product(range(2), range(2)):
        expected = np.cov(samples[:, layer, head].T, bias=True)
        assert relative(found.covariance[layer, head], expected) < 1e-5
    assert relative(found.embedding_mean, exact.embedding.mean(0)) < 1e-5
    assert relative(found.mlp_mean, exact.mlp_effects().mean(0)) < 1e-5


def test_statistics_give_the_moments_of_head_effects(index, model, exact):
    found, basis = index.statistics(), model.head_basis((1, 2))
    effects = exact.head_effects((1, 2)).double()
    mean = effect_mean(torch.from_numpy(found.mean), basis)
    assert relative(mean, effects.mean(0)) < 1e-5
    covariance = effect_covariance(torch.from_numpy(found.covariance), basis)
    assert relative(covariance[1, 0], torch.cov(effects[:, 1, 0].T, correction=0)) < 1e-5


def test_means_of_all_terms_sum_to_the_mean_embedding(model, folder, tmp_path):
    index = Index.build(model, folder, tmp_path / "i", layers=(0, 1, 2), **QUICK)
    found = index.statistics()
    heads = effect_mean(torch.from_numpy(found.mean), model.head_basis()).double().sum((0, 1)).numpy()
    assert relative(heads + found.mlp_mean.sum(0), found.embedding_mean) < 1e-5


def test_subset_statistics_are_those_of_its_rows(index, exact):
    rows = [2, 3, 5, 7, 11, 20]
    found = index.statistics(rows)
    samples = augmented_codes(*(t.double() for t in (exact.codes[:, [1, 2]], exact.mean, exact.std)))[rows]
    assert found.count == 6
    assert found.mlp_mean is None
    assert relative(found.mean, samples.mean(0)) < 1e-3
    assert relative(found.covariance[0, 1], np.cov(samples[:, 0, 1].numpy().T, bias=True)) < 2e-2
    mask = np.isin(np.arange(21), rows)
    np.testing.assert_array_equal(index.statistics(mask).covariance, found.covariance)


def test_effects_from_the_index_are_the_models(index, model, exact):
    codes = index.codes([4, 9])
    parts = [torch.from_numpy(part) for part in (codes.codes, codes.mean, codes.std)]
    effects = effects_from_codes(*parts, model.head_basis(codes.layers))
    assert relative(effects, exact.head_effects((1, 2))[[4, 9]]) < 2e-3


def test_names_paths_thumbnails_and_images_come_back(index, folder):
    assert index.names[:2] == ["00000.jpg", "00001.jpg"]
    assert index.paths[0] == str(folder / "00000.jpg")
    assert index.thumbnail(3).size == (16, 16)
    images = index.images()
    assert images.names == index.names
    assert images[0].size == (40, 40)


def test_thumbnails_stand_in_for_lost_files(model, tmp_path):
    folder = folder_of(tmp_path / "lost", 3)
    index = Index.build(model, folder, tmp_path / "i", **QUICK)
    shutil.rmtree(folder)
    assert index.images()[1].size == (16, 16)


def test_labels_groups_and_attributes_are_kept_and_searched(model, tmp_path):
    images = open_images([picture(i) for i in range(4)])
    images.attributes = {
        "label": ["cat", "dog", "cat", None],
        "group": ["0", "1", "1", "0"],
        "colour": ["red", None, "blue", "red"],
    }
    images.captions = ["a", "b", "ç", ""]
    index = Index.build(model, images, tmp_path / "i", **QUICK)
    assert index.where("label", "cat").tolist() == [0, 2]
    assert index.where("group", "1").tolist() == [1, 2]
    assert index.attributes["colour"] == ["red", None, "blue", "red"]
    assert index.captions == ["a", "b", "ç", ""]
    with pytest.raises(ValueError, match="no image of the index has label = 'cow'; values are: cat, dog"):
        index.where("label", "cow")
    with pytest.raises(ValueError, match="no column 'size'; columns with labels are: colour, label, group"):
        index.where("size", "1")


def test_broken_images_are_skipped_counted_and_listed(model, tmp_path):
    images = open_images(folder_of(tmp_path / "f", 9))
    (tmp_path / "f" / "00004.jpg").write_bytes(b"no picture")
    (tmp_path / "f" / "00007.jpg").unlink()
    index = Index.build(model, images, tmp_path / "i", **QUICK)
    assert len(index) == 7
    assert [name for name, _ in index.skipped] == ["00004.jpg", "00007.jpg"]
    assert "the file does not exist" in index.skipped[1][1]
    assert index.manifest["skipped"]["count"] == 2
    assert Index.verify(tmp_path / "i") == []


def test_images_refused_at_opening_are_listed_too(model, tmp_path):
    index = Index.build(model, folder_of(tmp_path / "f", 5, broken=(2,)), tmp_path / "i", **QUICK)
    assert len(index) == 4
    assert [name for name, _ in index.skipped] == ["00002.jpg"]


def test_an_image_on_which_the_model_fails_poisons_nothing(model, tmp_path):
    images = open_images([picture(i) for i in range(6)])
    broken = tiny_model()

    def preprocess(image: Image.Image) -> torch.Tensor:
        pixels = model.preprocess(image)
        return pixels * float("nan") if image.tobytes() == images[2].tobytes() else pixels

    broken.preprocess = preprocess
    index = Index.build(broken, images, tmp_path / "i", **QUICK)
    assert len(index) == 5
    assert "infinite or too large" in index.skipped[0][1]
    assert np.isfinite(index.statistics().covariance).all()


def test_no_usable_image_leaves_nothing(model, tmp_path):
    images = open_images(folder_of(tmp_path / "f", 3))
    for file in (tmp_path / "f").iterdir():
        file.write_bytes(b"?")
    with pytest.raises(
        ValueError, match=r"at least one usable image, got none of 3; the last one, '00002\.jpg'"
    ):
        Index.build(model, images, tmp_path / "i", **QUICK)
    assert not (tmp_path / "i").exists()


def test_a_vanished_folder_stops_the_build_and_it_resumes(model, tmp_path):
    folder = folder_of(tmp_path / "f", 20)
    whole = Index.build(model, folder, tmp_path / "whole", **QUICK)
    images = open_images(folder)

    def vanish(done: int, _: int) -> None:
        if done >= 12 and folder.exists():
            folder.rename(tmp_path / "away")

    with pytest.raises(FileNotFoundError, match="restore the folder and run the same command again"):
        Index.build(model, images, tmp_path / "i", **{**QUICK, "progress": vanish, "shard": 4, "batch": 4})
    with pytest.raises(ValueError, match=r"is unfinished: [34] of 5 shards of 20 images are finished"):
        Index.open(tmp_path / "i")
    (tmp_path / "away").rename(folder)
    index = Index.build(model, open_images(folder), tmp_path / "i", **{**QUICK, "shard": 4, "batch": 4})
    assert len(index) == len(whole)
    assert index.skipped == []


def test_a_finished_build_is_opened_again_without_a_pass(model, folder, index):
    before = bytes_of(index.path)
    steps = []
    again = Index.build(
        model, folder, index.path, layers=(1, 2), **{**QUICK, "progress": lambda *_: steps.append(1)}
    )
    assert len(again) == 21
    assert not steps
    assert bytes_of(index.path) == before


def test_other_arguments_for_the_same_folder_are_refused(model, folder, index, tmp_path):
    with pytest.raises(
        ValueError, match=r"holds an index with other settings: layers \[1, 2\] there, \[2\] here"
    ):
        Index.build(model, folder, index.path, layers=(2,), **QUICK)
    with pytest.raises(ValueError, match=r"model tiny .* there, other .* here"):
        Index.build(tiny_model(1, "other"), folder, index.path, layers=(1, 2), **QUICK)
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(ValueError, match=r"expected an empty or new folder .* with notes\.md"):
        Index.build(model, folder, tmp_path, **QUICK)


def test_another_model_is_refused_by_name(index, model):
    index.check_model(model)
    with pytest.raises(ValueError, match=r"built by model 'tiny', got model 'other' .*load that model"):
        index.check_model(tiny_model(1, "other"))
    with pytest.raises(ValueError, match="got model 'other'"):
        index.append(tiny_model(1, "other"), [picture(0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (7,)}, r"layers within 0\.\.2"),
        ({"batch": 0}, "batch to be a whole number of at least 1, got 0"),
        ({"shard": 2.5}, "shard to be a whole number"),
        ({"thumbnail": -1}, "thumbnail to be a whole number of at least 0"),
        ({"precision": "int8"}, "precision one of auto, fp32, fp16, bf16, got 'int8'"),
    ],
)
def test_wrong_options_are_refused(model, folder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Index.build(model, folder, tmp_path / "i", **{**QUICK, **options})
    assert not (tmp_path / "i").exists()


def test_an_unwritable_folder_is_told(model, folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write the index in .*choose a folder that can be written"):
        Index.build(model, folder, tmp_path / "file" / "i", **QUICK)


def test_a_full_disk_is_told_and_the_build_resumes(model, folder, tmp_path, monkeypatch):
    import resource

    whole = bytes_of(Index.build(model, folder, tmp_path / "whole", **QUICK).path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))
        with pytest.raises(
            OSError, match="the disk is full; free some space, then run the same command again"
        ):
            Index.build(model, folder, tmp_path / "i", **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    Index.build(model, folder, tmp_path / "i", **QUICK)
    assert bytes_of(tmp_path / "i") == whole
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(OSError, match="the disk is full"):
        Index.build(model, folder, tmp_path / "j", **QUICK)


def test_a_full_disk_leaves_an_appended_index_as_it_was(model, folder, tmp_path):
    import resource

    index = Index.build(model, folder, tmp_path / "i", **QUICK)
    before = {name: index.statistics().count for name in ("count",)}
    more = folder_of(tmp_path / "more", 6, start=50)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((index.path / "codes.npy").stat().st_size + 10, hard))
        with pytest.raises(OSError, match="the disk is full"):
            index.append(model, more, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(Index.open(index.path)) == 21
    assert Index.verify(index.path) == []
    assert {"count": Index.open(index.path).statistics().count} == before
    assert len(index.append(model, more, progress=False)) == 27


def test_append_equals_the_statistics_of_all(model, folder, tmp_path):
    first = Index.build(model, folder, tmp_path / "i", **QUICK)
    more = folder_of(tmp_path / "more", 10, start=30)
    both = first.append(model, more, progress=False)
    everything = open_images([*sorted(folder.iterdir()), *sorted(more.iterdir())])
    whole = Index.build(model, everything, tmp_path / "whole", **QUICK)
    assert len(first) == 21  # an open index keeps its rows
    assert len(both) == 31
    assert Index.verify(both.path) == []
    assert relative(both.statistics().covariance, whole.statistics().covariance) < 1e-5
    assert relative(both.codes().codes, whole.codes().codes) < 1e-3
    assert len(both.append(model, more, progress=False)) == 31  # the same images again change nothing
    assert len(first.append(model, more, progress=False)) == 31  # also to one that was opened before
    with pytest.raises(
        ValueError, match=r"expected disjoint images, got 1 files twice, such as .*00030\.jpg"
    ):
        both.append(model, [more / "00030.jpg"], progress=False)


def test_discard_forgets_an_unfinished_append(model, folder, tmp_path):
    index = Index.build(model, folder, tmp_path / "i", **QUICK)
    before = bytes_of(index.path)

    def stop(done: int, _: int) -> None:
        if done > 9:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        index.append(model, folder_of(tmp_path / "m", 12, start=40), progress=stop)
    assert bytes_of(index.path) != before
    with pytest.raises(ValueError, match="holds an unfinished index with other settings: images 12 of set"):
        index.append(model, folder_of(tmp_path / "n", 2, start=90), progress=False)
    discard(index.path)
    assert bytes_of(index.path) == before


@pytest.fixture(scope="module")
def parts(model, tmp_path_factory):
    """Three indexes of 3, 9 and 5 images, and one of all."""
    root = tmp_path_factory.mktemp("parts")
    sizes = {"a": (0, 3), "b": (3, 9), "c": (12, 5)}
    for name, (start, count) in sizes.items():
        images = folder_of(root / f"{name}.images", count, start)
        Index.build(model, images, root / name, **QUICK)
    files = [file for name in sizes for file in sorted((root / f"{name}.images").iterdir())]
    Index.build(model, files, root / "all", **{**QUICK, "shard": 32})
    return root


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_merging_in_any_order_gives_the_same_statistics(parts, tmp_path, order):
    merged = Index.merge([parts / name for name in order], tmp_path / "merged")
    whole = Index.open(parts / "all")
    assert Index.verify(merged.path) == []
    assert sorted(merged.names) == sorted(whole.names)
    for name in ("mean", "covariance", "embedding_mean", "mlp_mean"):
        found, expected = (getattr(index.statistics(), name) for index in (merged, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    row = merged.names.index("00005.jpg")
    np.testing.assert_allclose(
        merged.codes([row]).embedding, whole.codes([whole.names.index("00005.jpg")]).embedding, rtol=2e-3
    )
    assert merged.thumbnail_jpeg(row) == whole.thumbnail_jpeg(whole.names.index("00005.jpg"))


def test_merging_the_same_or_unlike_indexes_is_refused(parts, index, model, tmp_path):
    with pytest.raises(ValueError, match="got the same image set twice"):
        Index.merge([parts / "a", parts / "a"], tmp_path / "m")
    with pytest.raises(ValueError, match="one model and the same layers, got layers"):
        Index.merge([parts / "a", index.path], tmp_path / "m")
    with pytest.raises(ValueError, match="a new or empty folder to merge into"):
        Index.merge([parts / "a", parts / "b"], parts / "c")
    assert not (tmp_path / "m").exists()


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(1, 11), unique=True, max_size=3), shard=st.integers(1, 6), data=st.data())
def test_any_split_appended_or_merged_equals_one_build(model, tmp_path_factory, cuts, shard, data):
    root = tmp_path_factory.mktemp("split")
    pictures = [picture(i) for i in range(12)]
    bounds = [0, *sorted(cuts), 12]
    pieces = [pictures[a:b] for a, b in itertools.pairwise(bounds)]
    options = {**QUICK, "shard": shard, "thumbnail": 0}
    whole = Index.build(model, pictures, root / "whole", **options)
    if data.draw(st.booleans()):
        index = Index.build(model, pieces[0], root / "grown", **options)
        for piece in pieces[1:]:
            index = index.append(model, piece, progress=False)
    else:
        built = [Index.build(model, piece, root / f"p{i}", **options) for i, piece in enumerate(pieces)]
        index = Index.merge([part.path for part in built], root / "grown")
    assert len(index) == 12
    assert Index.verify(index.path) == []
    np.testing.assert_allclose(index.codes().mean, whole.codes().mean, rtol=1e-5)
    found, expected = index.statistics(), whole.statistics()
    assert found.count == expected.count
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-4, atol=1e-7)


def test_workers_change_nothing(model, folder, index, tmp_path):
    Index.build(model, folder, tmp_path / "i", layers=(1, 2), workers=2, **QUICK)
    assert bytes_of(tmp_path / "i") == bytes_of(index.path)


def test_mixed_precision_stays_near(model, folder, index, tmp_path):
    mixed = Index.build(model, folder, tmp_path / "i", layers=(1, 2), precision="bf16", **QUICK)
    assert mixed.manifest["settings"]["precision"] == "bf16"
    assert relative(mixed.codes().embedding, index.codes().embedding) < 5e-2


def test_clipviz_index_is_this_index():
    assert clipviz.Index is Index


ASCII = """
import json, sys
from clipviz.data.images import open_images
from clipviz.indexing import Index
index, images = Index.open(sys.argv[1]), open_images(sys.argv[2])
there = [path.exists() for path in images.paths] + [index.images().stand_ins[0]]
print(json.dumps([index.names, images.names, there, images.fingerprint, sys.getfilesystemencoding()]))
"""


def test_names_that_are_not_utf8_are_indexed_and_found_again_in_any_locale(model, tmp_path):
    folder = folder_of(tmp_path / "f", 2)
    for name in (b"caf\xe9.jpg", "\u00fcber.jpg".encode()):
        (folder / "00000.jpg").rename(os.fsdecode(os.fsencode(folder) + b"/" + name))
        folder_of(folder, 1)
    index = Index.build(model, folder, tmp_path / "i", **QUICK)
    assert index.names == ["00000.jpg", "00001.jpg", "caf\\xe9.jpg", "\u00fcber.jpg"]
    assert index.images().stand_ins == (0, 4)
    assert index.images()[2].size == (40, 40)
    assert Index.verify(index.path) == []
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", ASCII, str(index.path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **plain})
    assert done.returncode == 0, done.stderr
    names, opened, there, fingerprint, encoding = json.loads(done.stdout)
    assert encoding == "ascii"
    assert names == opened == index.names
    assert there == [True] * 4 + [0]
    assert fingerprint == index.fingerprint


def test_an_index_opened_while_an_append_ends_is_the_appended_one(model, tmp_path, monkeypatch):
    from clipviz.data.store import store

    images = clipviz.demo.images()
    index = clipviz.Index.build(model, images.subset(range(3)), tmp_path / "index", progress=False, workers=0)
    former, read = index.manifest, store.read_manifest
    index.append(model, images.subset(range(3, 5)), progress=False, workers=0)
    answers = [former]
    monkeypatch.setattr(store, "read_manifest", lambda path: answers.pop() if answers else read(path))
    assert len(clipviz.Index.open(tmp_path / "index")) == 5
    assert not answers
