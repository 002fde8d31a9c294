"""The saved Rosetta dictionary: what is written comes back, whole or not at all."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from threads import together

from clipviz.data import dictionary
from clipviz.data.checksums import digest, with_checksum
from clipviz.files import write_whole
from clipviz.values import Concepts, UnitThumbnails

ARRAYS = ("units", "correlation", "heldout", "cluster", "examples", "n_pairs", "n_chance", "threshold")


def concepts(n=3, seed=0):
    draw = np.random.default_rng(seed)
    units = np.concatenate([draw.integers(0, 7, (n, 1)), draw.integers(-1, 5, (n, 2))], 1)
    return Concepts(
        models=("clip", "cnn", "été"),
        layers=((("early", 4), ("late", 3)), (("stage", 5),), (("block", 5),)),
        units=units,
        correlation=draw.random((n, 3), np.float32),
        heldout=draw.random((n, 3), np.float32),
        cluster=np.arange(n),
        examples=draw.integers(0, 100, (n, 12)),
        n_pairs=np.array([0, 9, 8]),
        n_chance=np.array([0, 1, 0]),
        threshold=np.array([0, 0.5, 0.25], np.float32),
        labels=tuple(f"name {i}" for i in range(n)),
    )


def test_round_trip(tmp_path):
    written = concepts()
    dictionary.save(written, tmp_path / "a", about={"images": "f00d"})
    read = dictionary.load(tmp_path / "a")
    assert (read.models, read.layers, read.k, read.labels) == (
        written.models,
        written.layers,
        5,
        written.labels,
    )
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert dictionary.read_head(tmp_path / "a")["about"] == {"images": "f00d"}


def test_a_new_save_replaces_the_old_and_leaves_two_files(tmp_path):
    dictionary.save(concepts(3), tmp_path)
    dictionary.save(concepts(5, seed=1), tmp_path)
    assert len(dictionary.load(tmp_path)) == 5
    assert len(list(tmp_path.iterdir())) == 2


def test_a_save_that_dies_leaves_the_former_dictionary(tmp_path, monkeypatch):
    dictionary.save(concepts(3), tmp_path)
    write = dictionary.write_whole

    def dies(path, content):
        if path.suffix == ".json":
            raise OSError("disk full")
        write(path, content)

    monkeypatch.setattr(dictionary, "write_whole", dies)
    with pytest.raises(OSError, match="disk full"):
        dictionary.save(concepts(5, seed=1), tmp_path)
    assert len(dictionary.load(tmp_path)) == 3


def test_a_unit_is_found_in_its_layer():
    value = concepts()
    value.units[0] = [5, -1, 4]
    assert value.where(0, 0) == ("late", 1)
    assert value.where(0, 1) is None
    assert value.where(0, 2) == ("block", 4)


def with_looks(n=40):
    """Concepts with pictures of where their units act: blobs, as smooth as maps are."""
    y, x = np.mgrid[:24, :24]
    places = np.random.default_rng(1).integers(4, 20, (2, n, 3, 12, 1, 1))
    maps = (255 * np.exp(-((y - places[0]) ** 2 + (x - places[1]) ** 2) / 18)).astype(np.uint8)
    looks = UnitThumbnails(maps, np.zeros((n, 3), np.float32), np.ones((n, 3), np.float32))
    return replace(concepts(n), thumbnails=looks)


def arrays_file(folder):
    return folder / dictionary.read_head(folder)["arrays"]["file"]


def test_a_small_dictionary_holds_the_same_in_fewer_bytes(tmp_path):
    dictionary.save(with_looks(), tmp_path / "quick")
    dictionary.save(with_looks(), tmp_path / "small", small=True)
    quick, small = (dictionary.open_folder(tmp_path / name) for name in ("quick", "small"))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(small.concepts, name), getattr(quick.concepts, name))
    for name in ("maps", "floor", "peak"):
        np.testing.assert_array_equal(
            getattr(small.concepts.thumbnails, name), getattr(quick.concepts.thumbnails, name)
        )
    sizes = [arrays_file(tmp_path / name).stat().st_size for name in ("quick", "small")]
    assert sizes[1] < 0.9 * sizes[0]
    again = quick.save(tmp_path / "again", small=True)
    assert arrays_file(again.folder).read_bytes() == arrays_file(tmp_path / "small").read_bytes()


@pytest.mark.parametrize("keep", [0.5, 1.0], ids=["truncated", "overwritten"])
@pytest.mark.parametrize("small", [False, True])
def test_arrays_that_cannot_be_unpacked_are_named(tmp_path, small, keep):
    dictionary.save(with_looks(), tmp_path, small=small)
    file = arrays_file(tmp_path)
    content = file.read_bytes()
    content = content[: int(len(content) * keep)]
    if keep == 1:  # the stream of the largest member, its place and length as they were
        content = content[:3000] + b"\xff" * 2000 + content[5000:]
    head = json.loads((tmp_path / "dictionary.json").read_text())
    head["arrays"] = {**head["arrays"], "bytes": len(content), "checksum": digest(content)}
    head.pop("checksum")
    file.write_bytes(content)
    (tmp_path / "dictionary.json").write_bytes(with_checksum(head))
    with pytest.raises(ValueError, match=r"is damaged \(.*\); mine and save it again"):
        dictionary.open_folder(tmp_path)


def test_the_summary_counts_rows_concepts_and_pairs():
    value = concepts()
    value.units[:, 1] = [2, -1, 3]
    value.heldout[:, 1] = [0.5, 0, 0.25]
    lines = dictionary.summary(value).splitlines()
    assert lines[0] == "3 units of clip in 3 concepts"
    assert (
        lines[1]
        == "cnn: 9 best buddies 0.50 above chance (1 with shuffled images), 2 rows, held-out mean correlation 0.38"
    )


def test_damage_and_disagreement_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"dictionary\.json is missing"):
        dictionary.load(tmp_path / "nowhere")
    dictionary.save(concepts(), tmp_path / "a")
    head = tmp_path / "a" / "dictionary.json"
    good = json.loads(head.read_text())
    head.write_text(json.dumps({**good, "format": 99}))
    with pytest.raises(ValueError, match="format 3, got 99"):
        dictionary.load(tmp_path / "a")
    head.write_text("{")
    with pytest.raises(ValueError, match="is not a dictionary"):
        dictionary.load(tmp_path / "a")
    head.write_bytes(with_checksum(good))
    (tmp_path / "a" / good["arrays"]["file"]).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"the checksum of .* does not match"):
        dictionary.load(tmp_path / "a")
    (tmp_path / "a" / good["arrays"]["file"]).unlink()
    with pytest.raises(ValueError, match="is missing"):
        dictionary.load(tmp_path / "a")
    wrong = concepts()
    object.__setattr__(wrong, "cluster", np.arange(2))
    with pytest.raises(ValueError, match="expected cluster of shape"):
        dictionary.save(wrong, tmp_path / "b")
    (tmp_path / "c").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        dictionary.save(concepts(), tmp_path / "c")


def pictures(n=3):
    return {i: Image.new("RGB", (20, 30), (40 * i, 9, 9)) for i in range(n)}


def test_no_changed_byte_is_served(tmp_path):
    dictionary.save(concepts(), tmp_path, {"model": "f00"}, pictures())
    draw = np.random.default_rng(0)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for place in draw.integers(0, len(content), 40):
            path.write_bytes(
                content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]
            )
            with pytest.raises(ValueError, match=r"damaged|is not a dictionary|expected"):
                dictionary.open_folder(tmp_path)
        path.write_bytes(content)
    assert len(dictionary.load(tmp_path)) == 3


DROPPED = "dropped from the head"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, DROPPED)
            for key in ("models", "layers", "k", "labels", "hints", "arrays", "pictures", "about")
        ),
        ("models", []),
        ("models", [1, 2, 3]),
        ("layers", [[["early", 4], ["late", 3]], [["stage", 5]], [["block", 0]]]),
        ("layers", [[["early", 4], ["late", 3]], [["stage", "5"]], [["block", 5]]]),
        ("layers", [[["early", 1]], [["stage", 5]], [["block", 5]]]),
        ("layers", 7),
        ("k", 0),
        ("k", "5"),
        ("labels", ["one"]),
        ("labels", [1, 2, 3]),
        ("hints", [["a", 0.5]]),
        ("hints", [["a", "b"]] * 3),
        ("about", []),
        ("arrays", "arrays.npz"),
        ("pictures", {"file": "../../secret.jpg", "ids": [0], "columns": 1, "bytes": 1, "checksum": ""}),
        ("pictures", {"file": "/etc/passwd", "ids": [0], "columns": 1, "bytes": 1, "checksum": ""}),
        ("pictures", {"columns": 0}),
    ],
    ids=str,
)
def test_a_head_that_no_dictionary_has_is_refused(tmp_path, key, value):
    dictionary.save(concepts(), tmp_path, {"model": "f00"}, pictures())
    head = json.loads((tmp_path / "dictionary.json").read_text())
    if value == DROPPED:
        del head[key]
    elif key == "pictures":
        head[key] |= value
    else:
        head[key] = value
    (tmp_path / "dictionary.json").write_bytes(with_checksum(head))
    with pytest.raises(ValueError, match="expected"):
        dictionary.open_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("correlation", (0, 1), np.nan),
        ("heldout", (0, 1), np.inf),
        ("threshold", (1,), np.nan),
        ("correlation", (0, 1), 7),
        ("units", (0, 0), -1),
        ("units", (0, 1), 5),
        ("examples", (0, 0), -3),
        ("n_pairs", (1,), -1),
    ],
)
def test_numbers_that_no_dictionary_has_are_refused(tmp_path, name, place, value):
    wrong = concepts()
    getattr(wrong, name)[place] = value
    with pytest.raises(ValueError, match="expected"):
        dictionary.save(wrong, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_naming_a_concept_keeps_the_pictures_to_the_byte(tmp_path):
    dictionary.save(concepts(), tmp_path, None, pictures())
    opened = dictionary.open_folder(tmp_path)
    opened.named(1, "mine").save(tmp_path)
    again = dictionary.open_folder(tmp_path)
    assert again.concepts.labels[1] == "mine"
    assert again.sprite == opened.sprite
    assert len(list(tmp_path.iterdir())) == 3


def test_two_savers_and_a_reader_of_one_folder_tear_nothing(tmp_path):
    dictionary.save(concepts(3), tmp_path)
    wrong, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                assert len(dictionary.load(tmp_path)) in (3, 5, 7)
            except Exception as error:
                wrong.append(error)

    def write(n):
        for seed in range(12):
            dictionary.save(concepts(n, seed), tmp_path)

    reader = threading.Thread(target=read)
    reader.start()
    together(partial(write, 5), partial(write, 7))
    stop.set()
    reader.join()
    assert not wrong
    assert len(list(tmp_path.iterdir())) == 2


def test_two_writers_of_one_file_tear_nothing(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(4)]
    write_whole(path, contents[0])
    wrong = []

    def write(content):
        for _ in range(10):
            write_whole(path, content)
            if path.read_bytes() not in contents:
                wrong.append(content[0])

    together(*(partial(write, content) for content in contents))
    assert not wrong
    assert [child.name for child in tmp_path.iterdir()] == ["file"]
