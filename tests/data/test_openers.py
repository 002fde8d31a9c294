"""What is opened, skipped, named and refused: broken files, odd names, links, pipes and deep folders."""

from __future__ import annotations

import io
import os
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image

from clipviz.data import openers
from clipviz.data.images import BrokenImage, Images, open_images
from tests.data.pictures import RED, broken_files, encoded, near, plain


def test_broken_files_are_skipped_counted_and_listed(folder):
    broken_files(folder)
    images = open_images(folder)
    assert images.names == ["b/two.png", "one.jpg"]
    reasons = dict(images.skipped)
    assert "truncated" in reasons["cut.jpg"]
    assert "damaged" in reasons["cut.png"]
    assert reasons["empty.png"] == "the file is empty (0 bytes)"
    assert (
        reasons["text.jpg"] == "it is not an image format that Pillow reads; convert it to JPEG, PNG or WebP"
    )
    assert "a .txt file is not a supported image type" in reasons["notes.txt"]
    assert "5 skipped" in repr(images)


def test_nothing_usable_lists_the_reasons(tmp_path):
    broken_files(tmp_path)
    (tmp_path / "also.md").write_text("")
    with pytest.raises(
        ValueError, match=r"at least one usable image, got 6 unusable in .*cut.jpg: .*and 1 more"
    ):
        open_images(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", "got 'no/such/folder', which does not exist; check the path"),
        ("", "got an empty path"),
        ("nope://example.org/cat.jpg", "got the address .*, or download it first"),
        ("a\0b", "check the path"),
        ([], "at least one image, got none in list"),
        (["no-such.png"], "no-such.png: the file does not exist"),
        ([3], "expected an array of shape"),
        ([None], "got 1 unusable in list"),
        (None, "expected a folder, files, .* got NoneType"),
        (7, "got int"),
        ({"a": 1}, "got dict"),
        ((x for x in "ab"), r"got generator; wrap a generator in list\(...\)"),
        (b"", "the file is empty"),
        (b"hello", "it is not an image format that Pillow reads"),
        (np.array(["a.png"]), r"pass list\(array\)"),
    ],
)
def test_what_is_not_images_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        open_images(source)


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"at least one image, got none in '.*'; choose another folder"):
        open_images(tmp_path)


def test_a_folder_in_a_list_of_files_is_opened(folder):
    images = open_images([folder / "b", folder / "one.jpg", folder / "no.jpg"])
    assert images.names == ["two.png", "one.jpg"]
    assert images.skipped == [(str(folder / "no.jpg"), "the file does not exist")]


def test_big_collections_are_checked_when_used(folder, monkeypatch):
    monkeypatch.setattr(openers, "EAGER", 1)
    broken_files(folder)
    images = open_images(folder)
    assert len(images) == 6
    place = images.names.index("cut.jpg")
    with pytest.raises(
        BrokenImage, match=r"readable image, got 'cut.jpg': .*truncated.*open the images again"
    ):
        images[place]
    assert ("cut.jpg", dict(images.skipped)["cut.jpg"]) in images.skipped
    sheet, _ = images.sprite(range(len(images)), 16)
    assert Image.open(io.BytesIO(sheet)).size == (48, 32)


def test_file_deleted_after_opening(folder):
    images = open_images(folder)
    (folder / "one.jpg").unlink()
    with pytest.raises(ValueError, match="the file does not exist"):
        images[1]
    assert isinstance(images, Images)
    assert near(images[0].getpixel((0, 0)), RED)


def within(seconds, work):
    """What `work` returns, in a thread that may not take longer."""
    answer = []
    thread = threading.Thread(target=lambda: answer.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it took longer than {seconds} s"
    return answer[0]


def test_a_pipe_with_a_pictures_name_is_named_and_not_waited_for(folder):
    os.mkfifo(folder / "x.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    images = within(20, lambda: open_images(folder))
    assert len(images) == 2
    assert images.skipped == [
        ("gone.jpg", "it is a link to a file that does not exist"),
        ("x.jpg", "it is not a regular file"),
    ]
    listed = within(20, lambda: open_images([folder / "x.jpg", folder / "one.jpg"]))
    assert listed.skipped == [("x.jpg", "it is not a regular file")]


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    real = os.scandir

    def refusing(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert open_images(folder).skipped == [("b", "the folder cannot be read: permission denied")]


def test_a_folder_linked_twice_is_named(folder):
    (folder / "again").symlink_to(folder / "b")
    images = open_images(folder)
    assert images.names == ["b/two.png", "one.jpg"]
    assert images.skipped == [("again", "this folder has already been read under another name")]


def test_a_very_deep_folder_is_read(tmp_path):
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    plain().save(tmp_path / "d" / "one.png")
    try:
        assert open_images(tmp_path).names == ["d/one.png"]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # too deep for shutil


def test_names_that_are_not_utf8_are_read_shown_and_fingerprinted(folder):
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as stream:
        stream.write(encoded(plain()))
    with open(os.fsencode(folder) + b"/br\xfcch.png", "wb") as stream:
        stream.write(b"")
    images = open_images(folder)
    assert images.names == ["b/two.png", "caf\\xe9.png", "one.jpg"]
    assert images.skipped == [("br\\xfcch.png", "the file is empty (0 bytes)")]
    assert len(images.fingerprint) == 12
    assert images.paths[1].exists()
    assert "3" in repr(images)


def test_one_broken_thing_in_a_mixed_list_does_not_refuse_the_list(folder):
    (folder / "bad.tar").write_bytes(b"x" * 2000)
    (folder / "bad.parquet").write_bytes(b"PAR1 no")
    odd = ["~nouser/x.jpg", "", "a" * 5000, 7]
    images = open_images([folder / "bad.tar", folder / "one.jpg", folder / "bad.parquet", *odd, plain()])
    assert images.names == ["one.jpg", "image 7"]
    assert len(images.skipped) == 6


@pytest.mark.parametrize(
    "source", ["", "  ", "~nouser-here", "a" * 5_000, "a/" * 5_000, "x-{0..999999999}", "\0"]
)
def test_paths_that_cannot_be_are_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="expected"):
        open_images(source)
