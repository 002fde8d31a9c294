"""The index's files, without a model: layout, commits, damage, speed of opening, any sequence of writes."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipviz.data.checksums import with_checksum
from clipviz.data.store.layout import BLOBS, Column, Shard, columns, header
from clipviz.data.store.writer import Writer, discard, staged
from clipviz.indexing import Index

DIMS = {"n_layers": 2, "n_heads": 3, "d_head": 4, "d_embed": 5}


def plan(shards: int, mark: str = "a", count: int = 10) -> dict:
    return {
        "model": {"name": "tiny", "pretrained": "", "fingerprint": "f00"},
        "layers": [4, 5],
        "dims": DIMS,
        "settings": {"shard": 4, "neurons": []},
        "images": [{"fingerprint": mark, "count": count}],
        "shards": shards,
        "library": "0",
    }


def fold(total, part, rows):
    """Means weighted by counts, as the real one does."""
    if not total:
        return part
    a, b = float(total["count"]), float(part["count"])
    merged = {
        name: (total[name] * a + part[name] * b) / (a + b)
        for name in ("code_mean", "embedding_mean", "mlp_mean")
    }
    gap = part["code_mean"] - total["code_mean"]
    outer = gap[..., :, None] * gap[..., None, :] * a * b / (a + b)
    return {
        **merged,
        "count": np.array(int(a + b)),
        "code_scatter": total["code_scatter"] + part["code_scatter"] + outer,
    }


def shard(seed: int, rows: int) -> Shard:
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(rows, 2, 3, 4)).astype(np.float16)
    embedding = rng.normal(size=(rows, 5)).astype(np.float16)
    mean, std = rng.normal(size=rows).astype(np.float32), 1 + rng.random(rows).astype(np.float32)
    ones = np.ones((rows, 2, 3, 1)) / std.astype(np.float64)[:, None, None, None]
    samples = np.concatenate([codes * ones, ones, mean[:, None, None, None] * ones], -1)
    statistics = {}
    if rows:
        gaps = np.moveaxis(samples - samples.mean(0), 0, -2)
        statistics = {
            "count": np.array(rows),
            "code_mean": samples.mean(0),
            "code_scatter": np.swapaxes(gaps, -1, -2) @ gaps,
            "embedding_mean": embedding.astype(np.float64).mean(0),
            "mlp_mean": rng.normal(size=(7, 5)),
        }
    blobs = {name: [f"{name}-{seed}-{row}".encode() * (row % 3) for row in range(rows)] for name in BLOBS}
    blobs["attributes"] = [b'{"colour":"red"}' if row % 2 else b"" for row in range(rows)]
    arrays = {"codes.npy": codes, "embedding.npy": embedding, "mean.npy": mean, "std.npy": std}
    return Shard(arrays, blobs, statistics, [(f"broken-{seed}", "why")] if seed % 2 else [], 1e-7 * seed)


def write(path, sizes, mark="a", append=False) -> Index:
    with Writer(path, plan(len(sizes), mark), fold, append) as writer:
        for seed, rows in enumerate(sizes):
            writer.commit(shard(seed + 100 * ord(mark[0]), rows))
        writer.finish()
    return Index.open(path)


@pytest.fixture
def index(tmp_path):
    return write(tmp_path / "index", [4, 0, 3, 2])


def test_headers_are_numpys(index):
    for file in ("codes.npy", "embedding.npy", "mean.npy", "std.npy", "ends.npy"):
        loaded = np.load(index.path / file, mmap_mode="r")
        assert len(loaded) == 9
    np.testing.assert_array_equal(np.load(index.path / "codes.npy"), index.codes().codes)
    assert len(header(Column("", "<f2", (1, 2, 3)), 10**9)) == 128


def test_rows_and_texts_come_back_in_order(index):
    shards = [shard(seed + 9700, rows) for seed, rows in enumerate([4, 0, 3, 2])]
    expected = np.concatenate([part.arrays["codes.npy"] for part in shards])
    np.testing.assert_array_equal(index.codes().codes, expected)
    names = [text.decode() for part in shards for text in part.blobs["name"]]
    assert index.names == names
    assert index.texts("name", [5, 1]) == [names[5], names[1]]
    assert index.skipped == [("broken-9701", "why"), ("broken-9703", "why")]
    assert index.layers == (4, 5)
    assert index.attributes["colour"] == [None, "red", None, "red", None, "red", None, None, "red"]


def test_blocks_cover_every_row_once(index):
    blocks = list(index.blocks(4))
    assert [len(block.mean) for block in blocks] == [4, 4, 1]
    np.testing.assert_array_equal(np.concatenate([block.mean for block in blocks]), index.codes().mean)


def test_subset_of_all_rows_equals_the_streamed_statistics(index):
    streamed, computed = index.statistics(), index.statistics(np.ones(9, bool))
    np.testing.assert_allclose(computed.mean, streamed.mean, rtol=1e-12)
    np.testing.assert_allclose(computed.covariance, streamed.covariance, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(computed.embedding_mean, streamed.embedding_mean, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "choose at least one image"),
        ([9], r"image indices in 0\.\.8, got 9\.\.9"),
        ([-1], r"got -1\.\.-1"),
        ([0.5], "indices or a mask of 9, got float64"),
        (np.zeros(9, bool), "choose at least one image"),
    ],
)
def test_wrong_subsets_are_refused(index, rows, message):
    with pytest.raises(ValueError, match=message):
        index.statistics(rows)


def test_a_corrupted_byte_in_any_file_is_named(index):
    assert Index.verify(index.path) == []
    for file in sorted(path for path in index.path.iterdir() if path.stat().st_size):
        content = file.read_bytes()
        for place in {0, len(content) // 2, len(content) - 1}:
            file.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
            problems = Index.verify(index.path)
            assert problems, (file.name, place)
            assert file.name in problems[0]
        file.write_bytes(content)
    assert Index.verify(index.path) == []


def test_verify_names_the_images_behind_a_corrupted_byte(index):
    path = index.path / "codes.npy"
    content = bytearray(path.read_bytes())
    content[128 + 5 * 48 + 3] ^= 1
    path.write_bytes(content)
    assert Index.verify(index.path) == ["codes.npy: the checksum of images 4..6 does not match"]


def test_opening_a_damaged_index_says_what_to_do(index, tmp_path):
    for file in [path.name for path in index.path.iterdir() if path.stat().st_size]:
        copy = tmp_path / "copy"
        shutil.copytree(index.path, copy)
        (copy / file).unlink()
        with pytest.raises(ValueError, match="build"):
            Index.open(copy)
        shutil.rmtree(copy)
    codes = index.path / "codes.npy"
    codes.write_bytes(codes.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"codes\.npy holds 559 bytes of 560.*clipviz index --verify"):
        Index.open(index.path)


def test_damaged_statistics_and_manifest_are_told(index):
    path = index.path / "statistics-000004.npz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"statistics-000004\.npz' is missing or damaged"):
        Index.open(index.path).statistics()
    manifest = index.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 9', '"rows": 8'))
    with pytest.raises(ValueError, match="is damaged or was not written by clipviz"):
        Index.open(index.path)
    newer = {**index.manifest, "version": 99}
    manifest.write_bytes(with_checksum(newer))
    with pytest.raises(ValueError, match=r"format version 99, this clipviz reads up to 1; update clipviz"):
        Index.open(index.path)


def test_no_index_and_an_unfinished_one_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="expected a folder with a finished index, got"):
        Index.open(tmp_path / "nothing")
    with Writer(tmp_path / "i", plan(3), fold) as writer:
        writer.commit(shard(0, 2))
    with pytest.raises(
        ValueError, match=r"is unfinished: 1 of 3 shards of 10 images are finished; run the same"
    ):
        Index.open(tmp_path / "i")
    assert "is unfinished" in Index.verify(tmp_path / "i")[0]


def test_an_open_index_keeps_its_rows_while_others_are_appended(index):
    before = np.array(index.codes().codes)
    with Writer(index.path, plan(1, "b"), fold, append=True) as writer:
        writer.commit(shard(7, 3))
        assert len(Index.open(index.path)) == 9  # not yet finished
        assert Index.verify(index.path) == []
        writer.finish()
    assert len(Index.open(index.path)) == 12
    np.testing.assert_array_equal(index.codes().codes, before)
    with pytest.raises(ValueError, match=r"has grown since it was opened; open it again with Index\.open"):
        index.statistics()


@pytest.mark.parametrize("sizes", [[4, 3], [2]])
def test_a_kill_between_the_manifest_and_the_headers_is_no_damage(tmp_path, monkeypatch, sizes):
    write(tmp_path / "i", [4, 3])
    with (
        monkeypatch.context() as patch,
        Writer(tmp_path / "i", plan(len(sizes), "b"), fold, append=True) as writer,
    ):
        for seed, rows in enumerate(sizes):
            writer.commit(shard(seed, rows))
        patch.setattr(writer, "_tidy", lambda: None)
        writer.finish()
    assert Index.verify(tmp_path / "i") == []
    assert len(Index.open(tmp_path / "i")) == 7 + sum(sizes)
    for wrong in (header(Column("mean.npy", "<f4", ()), 10**6), b"\0" * 128):
        content = (tmp_path / "i" / "mean.npy").read_bytes()
        (tmp_path / "i" / "mean.npy").write_bytes(wrong + content[128:])
        assert Index.verify(tmp_path / "i") == ["mean.npy: its first 128 bytes differ from what was written"]
        (tmp_path / "i" / "mean.npy").write_bytes(content)
    with Writer(tmp_path / "i", plan(len(sizes), "b"), fold, append=True) as writer:
        writer.finish()
    assert len(np.load(tmp_path / "i" / "mean.npy")) == 7 + sum(sizes)


@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.codes(),
        lambda index: index.names,
        lambda index: index.skipped,
        lambda index: index.statistics(),
        lambda index: index.thumbnail(0),
        lambda index: index.statistics([0, 1]),
    ],
)
def test_an_index_that_was_moved_says_so(index, ask):
    """Whatever was not read before the folder went; what was read goes on."""
    other = Index.open(index.path)
    before = other.codes().embedding.copy()
    shutil.move(index.path, index.path.with_name("moved"))
    with pytest.raises(
        ValueError, match=r"was moved or deleted after it was opened; open it again with Index\.open"
    ):
        ask(index)
    np.testing.assert_array_equal(other.codes().embedding, before)
    assert Index.open(index.path.with_name("moved")).names


def test_an_open_index_does_not_depend_on_the_working_folder(index, monkeypatch, tmp_path):
    monkeypatch.chdir(index.path.parent)
    opened = Index.open(index.path.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(opened.names) == len(opened.codes().mean) == 9


def test_a_second_writer_is_refused(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(__file__).rpartition('/')[0]!r})\n"
        "import test_index as t\n"
        f"t.Writer({str(tmp_path / 'i')!r}, t.plan(2), t.fold)\n"
    )
    with Writer(tmp_path / "i", plan(2), fold):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process is writing the index" in done.stderr
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_index_that_has_grown_since_it_was_compared_is_not_appended_to(index):
    before = sorted(path.name for path in index.path.iterdir())
    with pytest.raises(ValueError, match=r"another process has appended .*; run the same command again"):
        Writer(index.path, plan(1, "b"), fold, append=True, after=len(index) - 1)
    assert sorted(path.name for path in index.path.iterdir()) == before


def test_the_codes_of_a_million_images_stay_on_disk(tmp_path, index):
    rows = 1_000_000
    manifest = json.loads(json.dumps(index.manifest))
    manifest["dims"] = {"n_layers": 4, "n_heads": 16, "d_head": 64, "d_embed": 768}
    manifest["rows"] = rows
    shutil.copytree(index.path, tmp_path / "big")
    for file, column in columns(manifest["dims"]).items():
        size = column.header + rows * column.row_bytes
        with open(tmp_path / "big" / file, "wb") as stream:  # sparse: no disk is used
            stream.write(header(column, rows))
            stream.truncate(size)
        manifest["columns"][file] = {"dtype": column.dtype, "shape": list(column.shape), "bytes": size}
    (tmp_path / "big" / "manifest.json").write_bytes(with_checksum(manifest))
    codes = Index.open(tmp_path / "big").codes()
    assert codes.codes.shape == (rows, 4, 16, 64)
    assert isinstance(codes.codes, np.memmap)
    assert not codes.codes[777_777].any()


def test_importing_the_index_needs_no_torch():
    code = "import sys, clipviz; clipviz.Index; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_staged_shards_come_back_whole(tmp_path):
    with Writer(tmp_path / "i", plan(2), fold) as writer:
        for k, rows in enumerate((3, 0)):
            part = shard(k, rows)
            path = staged(writer.folder, k)
            part.save(path)
            again = Shard.load(path)
            assert again.blobs == part.blobs
            assert (again.skipped, again.sum_check) == (part.skipped, part.sum_check)
            for file, array in part.arrays.items():
                np.testing.assert_array_equal(again.arrays[file], array)
            assert again.statistics.keys() == part.statistics.keys()


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(
    first=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    second=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    stop=st.integers(0, 6),
)
def test_stopping_anywhere_and_resuming_writes_the_same_bytes(tmp_path_factory, first, second, stop):
    first, second = [*first, 1], [*second, 2]
    root = tmp_path_factory.mktemp("resume")
    write(root / "whole", first)
    write(root / "whole", second, "b", append=True)
    for sizes, mark, append in ((first, "a", False), (second, "b", True)):
        with Writer(root / "torn", plan(len(sizes), mark), fold, append) as writer:
            for seed, rows in itertools.islice(enumerate(sizes), stop):
                writer.commit(shard(seed + 100 * ord(mark), rows))
        tear(root / "torn")
        with Writer(root / "torn", plan(len(sizes), mark), fold, append) as writer:
            for seed in range(writer.committed, len(sizes)):
                writer.commit(shard(seed + 100 * ord(mark), sizes[seed]))
            writer.finish()
    names = sorted(path.name for path in (root / "whole").iterdir())
    assert names == sorted(path.name for path in (root / "torn").iterdir())
    for name in names:
        assert (root / "whole" / name).read_bytes() == (root / "torn" / name).read_bytes(), name


def tear(folder) -> None:
    """What a kill in the middle of a commit leaves: longer columns, half a line, a temporary file."""
    for path in folder.iterdir():
        if path.suffix in (".npy", ".bin", ".jsonl"):
            with open(path, "ab") as stream:
                stream.write(b'{"rows":3' if path.suffix == ".jsonl" else b"torn")
    (folder / ".manifest.json.tmp").write_text("{")
    (folder / "statistics-000099.npz").write_text("")


def test_discarding_an_unfinished_first_build_leaves_nothing(tmp_path):
    with Writer(tmp_path / "i", plan(3), fold) as writer:
        writer.commit(shard(0, 2))
    discard(tmp_path / "i")
    assert not (tmp_path / "i").exists()
