"""`clipviz index`: arguments, messages and exit codes."""

from __future__ import annotations

import argparse

import pytest
from index_tools import folder_of, tiny_model

import clipviz.loading
from clipviz.indexing import Index
from clipviz.indexing.command import add_arguments, run


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(clipviz.loading, "load", lambda *_, **__: tiny_model())


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([*map(str, arguments), "--quiet"]))


def test_build_append_merge_and_verify(tmp_path, capsys):
    folder_of(tmp_path / "f", 5, broken=(1,))
    folder_of(tmp_path / "g", 3, start=10)
    folder_of(tmp_path / "h", 2, start=20)
    assert call(tmp_path / "f", "--out", tmp_path / "a", "--layers", "last 2", "--shard", 2) == 0
    told = capsys.readouterr().out
    assert "4 images in" in told
    assert "layers [1, 2]" in told
    assert "1 skipped:\n  00001.jpg: " in told
    assert call(tmp_path / "g", "--out", tmp_path / "a", "--append") == 0
    assert call(tmp_path / "h", "--out", tmp_path / "b", "--layers", "1,2", "--neurons", "") == 0
    assert call(tmp_path / "a", tmp_path / "b", "--merge", "--out", tmp_path / "c") == 0
    assert len(Index.open(tmp_path / "c")) == 9
    capsys.readouterr()
    assert call(tmp_path / "c", "--verify") == 0
    assert "verified, no damage" in capsys.readouterr().out


def test_verify_names_a_damaged_file(tmp_path, capsys):
    call(folder_of(tmp_path / "f", 2), "--out", tmp_path / "a")
    path = tmp_path / "a" / "std.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert call("--verify", "--out", tmp_path / "a") == 1
    told = capsys.readouterr().out
    assert "std.npy: the checksum of images 0..1 does not match" in told
    assert "build the index again" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "expected IMAGES and --out PATH, got no --out PATH"),
        (["--out", "x"], "got no images"),
        (["--verify"], "expected an index to verify"),
        (["nowhere", "--out", "x"], "'nowhere', which does not exist"),
        (["nowhere", "--out", "x", "--append"], "expected a folder with a finished index"),
        (["x", "--out", "y", "--layers", "top"], 'expected layers like "last 4" or "8,9,10,11", got'),
    ],
)
def test_errors_are_told_without_a_traceback(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
