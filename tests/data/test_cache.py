"""The folder of kept answers: whole or not at all, bounded, never in the way."""

from __future__ import annotations

import os

import numpy as np
import pytest

from clipviz.data.cache import Cache, default

ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.array([True, False]),
    "e": np.zeros((0, 2)),
}


def test_what_was_kept_comes_back_with_its_notes(tmp_path):
    cache = Cache(tmp_path / "new")
    assert cache.read("texts", "key") is None
    assert cache.write("texts", "key", arrays=ARRAYS, about="three texts", notes={"broken": {"2": "why"}})
    arrays, notes = cache.read("texts", "key")
    assert notes == {"broken": {"2": "why"}}
    assert {name: array.tolist() for name, array in arrays.items()} == {
        n: a.tolist() for n, a in ARRAYS.items()
    }
    assert cache.read("texts", "key2") is None
    assert cache.read("textskey") is None
    assert [entry.about for entry in cache.entries()] == ["three texts"]
    assert cache.clear() > 0
    assert cache.entries() == []


def test_any_changed_byte_is_noticed(tmp_path, caplog):
    cache = Cache(tmp_path)
    cache.write("key", arrays=ARRAYS, about="x")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        found = cache.read("key")
        if found is not None:  # a letter of the words beside it, which nothing is computed from
            assert all((found[0][name] == ARRAYS[name]).all() for name in ARRAYS)
        path.write_bytes(whole)
    path.write_bytes(whole[:40])
    assert cache.read("key") is None
    assert not path.exists()
    assert "ignoring" in caplog.text


def test_the_least_recently_used_go_first(tmp_path):
    cache = Cache(tmp_path, limit=30_000)
    block = {"a": np.zeros(2_500, np.float32)}
    for at, name in enumerate("abc"):
        if at == 2:
            assert cache.read("a") is not None  # used now, so that b is the oldest
        cache.write(name, arrays=block, about=name)
        for path in tmp_path.iterdir():
            state = path.stat()
            os.utime(path, (state.st_atime - 10, state.st_mtime - 10))
    assert cache.read("b") is None
    assert cache.read("a") is not None
    assert cache.read("c") is not None
    assert not cache.write(
        "d", arrays={"a": np.zeros(5_000, np.float32)}, about="more than half of the bound"
    )


def test_off_elsewhere_and_unwritable(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CLIPVIZ_CACHE", "off")
    assert default().folder is None
    assert not default().write("key", arrays=ARRAYS, about="x")
    monkeypatch.setenv("CLIPVIZ_CACHE", str(tmp_path))
    monkeypatch.setenv("CLIPVIZ_CACHE_GB", "0.5")
    assert default().folder == tmp_path
    assert default().limit == 5e8
    monkeypatch.setenv("CLIPVIZ_CACHE_GB", "much")
    with pytest.raises(ValueError, match="number of gigabytes, got 'much'"):
        default()
    (tmp_path / "file").write_bytes(b"")
    assert not Cache(tmp_path / "file" / "below").write("key", arrays=ARRAYS, about="x")
    assert "could not write to the cache" in caplog.text


def test_the_bound_is_a_number_of_gigabytes_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPVIZ_CACHE", str(tmp_path))
    monkeypatch.setenv("CLIPVIZ_CACHE_GB", "inf")
    assert default().write("texts", "key", arrays=ARRAYS, about="three texts")
    assert default().read("texts", "key") is not None
    monkeypatch.setenv("CLIPVIZ_CACHE_GB", "1e-5")
    assert default().limit == 1e4
    for wrong in ("nan", "-1", "much"):
        monkeypatch.setenv("CLIPVIZ_CACHE_GB", wrong)
        with pytest.raises(ValueError, match=rf"CLIPVIZ_CACHE_GB to be a number of gigabytes, got '{wrong}'"):
            default()


def test_users_who_share_a_folder_leave_each_other_alone(tmp_path, monkeypatch):
    me = os.geteuid()
    mine, theirs = Cache(tmp_path, limit=30_000), Cache(tmp_path, limit=30_000)
    assert mine.write("key", arrays=ARRAYS, about="mine")
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)  # the second user
    assert theirs.read("key") is None
    assert theirs.entries() == []
    assert theirs.clear() == 0
    for name in "abc":  # more than the bound, so that the oldest go
        theirs.write(name, arrays={"a": np.zeros(2_500, np.float32)}, about=name)
    assert path.exists()
    monkeypatch.undo()
    assert mine.read("key") is not None


def test_an_entry_of_another_user_under_the_right_name_is_not_trusted(tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    cache.write("key", arrays=ARRAYS, about="x")
    (path,) = tmp_path.iterdir()
    real = os.stat(path)
    monkeypatch.setattr(
        type(path), "lstat", lambda self: os.stat_result((*real[:4], real.st_uid + 1, *real[5:]))
    )
    assert cache.read("key") is None
    assert path.exists()


def test_an_entry_moved_to_another_name_is_not_taken_for_it(tmp_path):
    cache = Cache(tmp_path)
    cache.write("one", arrays={"a": np.zeros(3)}, about="x")
    (one,) = tmp_path.iterdir()
    cache.write("two", arrays={"a": np.ones(3)}, about="x")
    (two,) = set(tmp_path.iterdir()) - {one}
    os.replace(one, two)
    assert cache.read("two") is None


def test_a_folder_in_which_nothing_may_be_touched_is_only_read(tmp_path, monkeypatch, caplog):
    cache = Cache(tmp_path, limit=100)
    Cache(tmp_path).write("key", arrays=ARRAYS, about="x")
    (path,) = tmp_path.iterdir()

    def refused(*_, **__):
        raise PermissionError(13, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(type(path), "unlink", refused)
    assert cache.read("key") is not None
    path.write_bytes(path.read_bytes()[:40])
    assert cache.read("key") is None
    assert cache.clear() == 0
    cache._shrink()
    assert path.exists()
