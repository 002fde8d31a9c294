"""The saved Rosetta dictionary: what is written comes back, quickly, whole or not at all."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from clipviz.data import dictionary
from clipviz.values import Concepts


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
    for name in (
        "units",
        "correlation",
        "heldout",
        "cluster",
        "examples",
        "n_pairs",
        "n_chance",
        "threshold",
    ):
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


def test_a_thousand_concepts_open_in_milliseconds(tmp_path):
    dictionary.save(concepts(1000), tmp_path)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        dictionary.load(tmp_path)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.03


def test_a_unit_is_found_in_its_layer():
    value = concepts()
    value.units[0] = [5, -1, 4]
    assert value.where(0, 0) == ("late", 1)
    assert value.where(0, 1) is None
    assert value.where(0, 2) == ("block", 4)


def test_the_summary_counts_rows_concepts_and_pairs():
    value = concepts()
    value.units[:, 1] = [2, -1, 3]
    value.heldout[:, 1] = [0.5, 0, 0.25]
    lines = dictionary.summary(value).splitlines()
    assert lines[0] == "3 units of clip in 3 concepts"
    assert (
        lines[1]
        == "cnn: 9 best buddies 0.50 above chance (1 with shuffled images), 2 rows, held-out mean 0.38"
    )


def test_damage_and_disagreement_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"dictionary\.json is not there"):
        dictionary.load(tmp_path / "nowhere")
    dictionary.save(concepts(), tmp_path / "a")
    head = tmp_path / "a" / "dictionary.json"
    good = json.loads(head.read_text())
    head.write_text(json.dumps({**good, "format": 99}))
    with pytest.raises(ValueError, match="format 2, got 99"):
        dictionary.load(tmp_path / "a")
    head.write_text("{")
    with pytest.raises(ValueError, match="is not a dictionary"):
        dictionary.load(tmp_path / "a")
    head.write_text(json.dumps(good))
    (tmp_path / "a" / good["arrays"]).write_bytes(b"half")
    with pytest.raises(ValueError, match="is damaged"):
        dictionary.load(tmp_path / "a")
    wrong = concepts()
    object.__setattr__(wrong, "cluster", np.arange(2))
    with pytest.raises(ValueError, match="expected cluster of shape"):
        dictionary.save(wrong, tmp_path / "b")
    (tmp_path / "c").write_text("")
    with pytest.raises(ValueError, match="expected a folder"):
        dictionary.save(concepts(), tmp_path / "c")
