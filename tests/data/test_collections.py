"""Collections an index is built from: folders with labels, lists, tars, parquet files, patterns."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading

import numpy as np
import pytest
from hostile.files import banded, sparse_tar
from PIL import Image

from clipviz.data import archives, openers, tars
from clipviz.data.decode import BrokenImage
from clipviz.data.images import open_images
from clipviz.data.openers import expand
from clipviz.data.tars import tar_members


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((24, 16)).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path, members, kind=tarfile.USTAR_FORMAT, mode="w"):
    with tarfile.open(path, mode, format=kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


SAMPLES = [
    ("000/a.jpg", jpeg(0)),
    ("000/a.txt", b"a red square\n"),
    ("000/a.cls", b"3"),
    ("000/b.json", json.dumps({"caption": "two", "colour": "blue", "width": 24, "source": "x"}).encode()),
    ("000/b.jpg", jpeg(1)),
    ("000/c.txt", b"no image here"),
]


def test_a_folder_of_folders_gives_labels(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(jpeg(1))
    images = open_images(tmp_path)
    assert images.names == ["cat/1.jpg", "dog/1.jpg"]
    assert images.attributes == {"label": ["cat", "dog"]}
    (tmp_path / "2.jpg").write_bytes(jpeg(2))  # no label of its own, so that nothing is a label
    assert open_images(tmp_path).attributes == {"folder": [tmp_path.name, "cat", "dog"]}


def test_folders_are_an_attribute_however_they_are_opened(tmp_path):
    for place in ("train/cat", "train/dog", "val/cat"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.jpg").write_bytes(jpeg(len(place)))
    places = ["train/cat", "train/dog", "val/cat"]
    assert open_images(tmp_path).attributes == {"label": ["cat", "dog", "cat"], "folder": places}
    apart = open_images([tmp_path / "train/dog", tmp_path / "val"])
    assert apart.attributes["folder"] == ["train/dog", "val/cat"]
    assert open_images(str(tmp_path / "train/*/*.jpg")).attributes == {"folder": ["cat", "dog"]}
    assert open_images([tmp_path / "train/dog", tmp_path / "train/dog/1.jpg"]).attributes is None
    mixed = open_images([tmp_path / "train/dog", np.zeros((8, 8, 3), np.uint8), tmp_path / "val/cat"])
    assert mixed.attributes["folder"] == ["train/dog", None, "val/cat"]


def test_a_list_file_gives_paths_labels_and_captions(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
    (tmp_path / "list.txt").write_text("# mine\n0.jpg\tcat\ta cat\n\n1.jpg\tdog\n2.jpg\n")
    images = open_images(tmp_path / "list.txt")
    assert images.names == ["0.jpg", "1.jpg", "2.jpg"]
    assert images.attributes == {"label": ["cat", "dog", None]}
    assert images.captions == ["a cat", "", ""]
    assert images.paths == [tmp_path / f"{i}.jpg" for i in range(3)]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="expected at least one image, got none in"):
        open_images(tmp_path / "empty.txt")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_are_those_of_the_standard_library(tmp_path, kind):
    long = f"{'d' * 60}/{'e' * 60}/{'f' * 60}.jpg"
    members = [("a.jpg", jpeg(0)), (long, jpeg(1)), ("empty.txt", b""), ("ö.jpg", b"x" * 1024)]
    path = write_tar(tmp_path / "t.tar", members, kind)
    with tarfile.open(path) as archive:
        expected = [(member.name, member.offset_data, member.size) for member in archive]
    assert [tuple(member[:3]) for member in tar_members(path)] == expected


def test_a_tar_gives_images_captions_labels_and_words(tmp_path):
    images = open_images(write_tar(tmp_path / "shard.tar", SAMPLES))
    assert images.names == ["shard.tar/000/a.jpg", "shard.tar/000/b.jpg"]
    assert images.captions == ["a red square", "two"]
    assert images.attributes == {
        "label": ["3", None],
        "colour": [None, "blue"],
        "width": [None, "24"],
        "source": [None, "x"],
    }
    assert images[1].size == (24, 16)
    assert images.skipped == [("shard.tar/000/c.txt", "the sample has no image")]


def test_the_fingerprint_follows_the_tars(tmp_path):
    path = write_tar(tmp_path / "shard.tar", SAMPLES)
    first = open_images(path).fingerprint
    assert open_images(str(path)).fingerprint == first
    write_tar(path, [*SAMPLES, ("000/d.jpg", jpeg(4))])
    assert open_images(path).fingerprint != first


def test_a_cut_tar_gives_what_comes_before_and_is_listed(tmp_path):
    path = write_tar(tmp_path / "cut.tar", SAMPLES)
    path.write_bytes(path.read_bytes()[: 512 * 8])
    images = open_images(path)
    assert images.names == ["cut.tar/000/a.jpg"]
    assert "copy it again" in images.skipped[0][1]
    packed = write_tar(tmp_path / "packed.tar", SAMPLES, mode="w:gz")
    with pytest.raises(ValueError, match=r"got 1 unusable in .*is not a plain tar or is damaged"):
        open_images(packed)


def test_a_damaged_picture_in_a_tar_is_a_broken_image(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "t.tar", [("a.jpg", jpeg(0)), ("b.jpg", b"nothing")])
    reason = "it is not an image format that Pillow reads; convert it to JPEG, PNG or WebP"
    assert open_images(path).skipped == [("t.tar/b.jpg", reason)]
    monkeypatch.setattr(openers, "EAGER", 0)
    images = open_images(path)
    with pytest.raises(BrokenImage, match=r"t\.tar/b\.jpg"):
        images[1]


def test_patterns_and_folders_of_tars_and_lists_of_sources_join(tmp_path):
    for i in range(3):
        write_tar(tmp_path / f"s-{i:03d}.tar", [(f"{i}.jpg", jpeg(i))])
    names = [f"s-{i:03d}.tar/{i}.jpg" for i in range(3)]
    assert open_images(f"{tmp_path}/s-{{000..002}}.tar").names == names
    assert open_images(f"{tmp_path}/s-*.tar").names == names
    assert open_images(tmp_path).names == names
    (tmp_path / "more" / "cat").mkdir(parents=True)
    (tmp_path / "more" / "cat" / "x.jpg").write_bytes(jpeg(9))
    both = open_images([tmp_path / "s-000.tar", tmp_path / "more"])
    assert both.names == [names[0], "cat/x.jpg"]
    assert both.attributes == {"label": [None, "cat"]}
    with pytest.raises(ValueError, match=r"paths that match .* got none; check the pattern"):
        open_images(f"{tmp_path}/none-*.tar")


def test_ranges_keep_their_zeros():
    assert expand("x/{08..11}-{1..2}.tar") == [
        f"x/{a}-{b}.tar" for a in ("08", "09", "10", "11") for b in (1, 2)
    ]


@pytest.mark.parametrize("pattern", ["x{0..99999999999}", "{9..0}{0..99999999999}", "{0..9999}{0..9999}"])
def test_a_range_of_too_many_names_is_refused_at_once(pattern):
    with pytest.raises(ValueError, match=r"expected at most 1,000,000 paths, got more from .*; shorten it"):
        expand(pattern)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        (tmp_path / "x.parquet").write_bytes(b"PAR1")
        with pytest.raises(ValueError, match="parquet files need pyarrow, which is not installed"):
            open_images(tmp_path / "x.parquet")


def test_a_parquet_file_gives_images_captions_and_class_names(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pyarrow.table(
        {
            "image": [{"bytes": jpeg(i), "path": f"{i}.jpg"} for i in range(5)],
            "label": [0, 1, 1, 0, None],
            "text": [f"caption {i}" for i in range(5)],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    images = open_images(tmp_path / "x.parquet")
    assert len(images) == 5
    assert images.captions[3] == "caption 3"
    assert images.attributes == {"label": ["cat", "dog", "dog", "cat", None]}
    assert images[4].size == (24, 16)
    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "y.parquet")
    with pytest.raises(
        ValueError, match=r"expected an image column .* got columns a; choose a file with images"
    ):
        open_images(tmp_path / "y.parquet")


# what is read, skipped and named is what is there


def add(archive, name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def test_names_with_dots_are_pictures_of_their_own(tmp_path):
    members = [(f"IMG.2024.{i}.png", jpeg(i)) for i in range(20)]
    members += [
        ("IMG.2024.3.txt", b"the third"),
        ("x.jpg", jpeg(1)),
        ("x.seg.png", jpeg(2)),
        ("x.png", jpeg(3)),
    ]
    images = open_images(write_tar(tmp_path / "t.tar", members))
    assert images.names == [f"t.tar/IMG.2024.{i}.png" for i in range(20)] + ["t.tar/x.jpg"]
    assert images.captions[3] == "the third"
    assert images.captions[4] == ""
    assert images.skipped == [
        ("t.tar/x.png", "the image of this sample is x.jpg"),
        ("t.tar/x.seg.png", "the image of this sample is x.jpg"),
    ]


def test_loose_pictures_beside_tars_and_folders_named_like_them_are_read(tmp_path):
    write_tar(tmp_path / "stray.tar", [("in.jpg", jpeg(0))])
    (tmp_path / "x.tar").mkdir()
    for place in ("a.jpg", "x.tar/b.jpg"):
        (tmp_path / place).write_bytes(jpeg(1))
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    images = open_images(tmp_path)
    assert images.names == ["a.jpg", "stray.tar/in.jpg", "x.tar/b.jpg"]
    assert [name for name, _ in images.skipped] == ["bad.tar"]


def test_names_that_come_twice_are_both_read(tmp_path):
    members = [
        ("a.jpg", jpeg(0)),
        ("a.txt", b"one"),
        ("b.jpg", jpeg(1)),
        ("a.jpg", jpeg(2)),
        ("a.txt", b"two"),
    ]
    images = open_images(write_tar(tmp_path / "t.tar", members))
    assert images.names == ["t.tar/a.jpg", "t.tar/b.jpg", "t.tar/a.jpg"]
    assert images.captions == ["one", "", "two"]
    assert images[0].tobytes() != images[2].tobytes()


def test_links_devices_and_sparse_files_are_read_or_named(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        add(archive, "d", type=tarfile.DIRTYPE)
        add(archive, "d/a.jpg", jpeg(0))
        add(archive, "hard.jpg", type=tarfile.LNKTYPE, linkname="d/a.jpg")
        add(archive, "d/soft.jpg", type=tarfile.SYMTYPE, linkname="../d/a.jpg")
        add(archive, "lost.jpg", type=tarfile.LNKTYPE, linkname="nowhere.jpg")
        add(archive, "pipe.jpg", type=tarfile.FIFOTYPE)
    images = open_images(tmp_path / "t.tar")
    assert images.names == ["t.tar/d/a.jpg", "t.tar/hard.jpg", "t.tar/d/soft.jpg"]
    assert images.skipped == [
        ("t.tar/lost.jpg", "it is a link to nowhere.jpg, which is not an earlier member of the tar"),
        ("t.tar/pipe.jpg", "it is not a regular file"),
    ]


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_files_with_holes_are_read_whole_and_so_is_what_is_behind_them(tmp_path, kind):
    originals = [banded(0), banded(1), banded(2)]
    content, starts = sparse_tar(originals, kind)
    (tmp_path / "t.tar").write_bytes(content)
    assert starts[1] < 40 * 40 * 3  # the first picture's bytes, of which the holes are left out
    images = open_images(tmp_path / "t.tar")
    assert not images.skipped
    assert [image.tobytes() for image in images] == [image.tobytes() for image in originals]


def test_a_map_of_holes_that_does_not_fit_is_named_and_the_rest_is_read(tmp_path):
    content, _ = sparse_tar([banded(0), banded(1)], "gnu")
    damaged = bytearray(content)
    damaged[386:397] = b"%011o" % 4096  # the first piece begins behind the next
    damaged[148:156] = b" " * 8
    damaged[148:156] = b"%06o\0 " % sum(damaged[:512])
    (tmp_path / "t.tar").write_bytes(damaged)
    images = open_images(tmp_path / "t.tar")
    assert images.names == ["t.tar/1.png"]
    assert images.skipped == [
        ("t.tar/0.png", "it is a sparse file with a damaged map; write the tar without --sparse")
    ]


def test_tars_written_one_behind_the_other_are_all_read(tmp_path):
    for i in range(3):
        write_tar(tmp_path / f"{i}.tar", [(f"{i}.jpg", jpeg(i)), ("same.jpg", jpeg(10 + i))])
    whole = b"".join((tmp_path / f"{i}.tar").read_bytes() for i in range(3))
    (tmp_path / "all.tar").write_bytes(whole)
    images = open_images(tmp_path / "all.tar")
    assert sorted(images.names) == sorted([f"all.tar/{i}.jpg" for i in range(3)] + ["all.tar/same.jpg"] * 3)
    assert len({image.tobytes() for image in images}) == 6
    (tmp_path / "all.tar").write_bytes(whole + b"something else" * 100)
    again = open_images(tmp_path / "all.tar")
    assert len(again) == 6
    assert "is damaged at byte" in again.skipped[0][1]


def test_a_damaged_header_inside_a_tar_is_told(tmp_path):
    path = write_tar(tmp_path / "t.tar", [(f"{i}.jpg", jpeg(0)) for i in range(4)])
    with tarfile.open(path) as archive:
        at = archive.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[at + 10] ^= 255
    path.write_bytes(content)
    images = open_images(path)
    assert images.names == ["t.tar/0.jpg", "t.tar/1.jpg"]
    assert images.skipped[0][0] == "t.tar"
    assert f"is damaged at byte {at:,}" in images.skipped[0][1]


def raw_header(name, size, kind=b"0"):
    """A tar header with whatever size field, its checksum right."""
    head = bytearray(512)
    head[:100] = name.ljust(100, b"\0")
    head[100:124] = b"0000644\0" + b"0000000\0" * 2
    head[124:136] = size
    head[136:148] = b"00000000000\0"
    head[148:156] = b" " * 8
    head[156:157] = kind
    head[257:265] = b"ustar\x0000"
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return bytes(head)


GIANT = b"".join(b"%d a=%s\n" % (14, b"x" * 8) for _ in range(280_000))
HOSTILE = {
    "negative size": raw_header(b"x.jpg", b"\xff" * 10 + b"\xfc\x00"),
    "negative pax size": raw_header(b"p", b"00000000016\0", b"x") + b"14 size=-1536\n".ljust(512, b"\0"),
    "record of length 0": raw_header(b"p", b"00000000015\0", b"x") + b"0 path=a.jpg\n".ljust(512, b"\0"),
    "giant pax header": raw_header(b"p", b"%011o\0" % len(GIANT), b"x") + GIANT + bytes(-len(GIANT) % 512),
    "endless long name": raw_header(b"p", b"77777777777\0", b"L"),
    "size beyond the file": raw_header(b"x.jpg", b"77777777777\0"),
    "size of 2^80": raw_header(b"x.jpg", b"\x80" + b"\xff" * 11),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_tars_end_soon_and_are_named(tmp_path, hostile):
    content = jpeg(0)
    good = raw_header(b"good.jpg", b"%011o\0" % len(content)) + content + bytes(-len(content) % 512)
    tail = raw_header(b"y.jpg", b"%011o\0" % 3) + b"abc".ljust(512, b"\0") + bytes(1024)
    (tmp_path / "t.tar").write_bytes(good + hostile + tail)
    answer = []
    thread = threading.Thread(target=lambda: answer.append(open_images(tmp_path)), daemon=True)
    thread.start()
    thread.join(20)
    assert answer, "it hangs"
    assert answer[0].names == ["t.tar/good.jpg"]
    assert answer[0].skipped


def test_members_with_latin1_names_are_read_shown_and_fingerprinted(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        add(archive, "caf\xe9.jpg", jpeg(0))
        add(archive, "caf\xe9.txt", "gar\xe7on".encode("latin-1"))
    images = open_images(tmp_path / "t.tar")
    assert images.names == ["t.tar/caf\\xe9.jpg"]
    assert images.captions == ["gar\\xe7on"]
    assert len(images.fingerprint) == 12


def test_a_list_file_may_name_files_that_are_not_utf8(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as stream:
        stream.write(jpeg(0))
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\tcaf\xe9\n~nouser/x.jpg\n" + b"a" * 5000)
    images = open_images(tmp_path / "list.txt")
    assert (images.names, images.attributes) == (["caf\\xe9.jpg"], {"label": ["caf\\xe9"]})
    assert len(images.skipped) == 2


def test_parquet_damage_names_the_file_and_the_others_are_used(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("a", "b", "c"):
        table = pyarrow.table(
            {"image": [jpeg(i) for i in range(4)], "text": [f"{name}{i}" for i in range(4)]}
        )
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=2, compression="snappy")
    content = bytearray((tmp_path / "b.parquet").read_bytes())
    content[-20:-8] = b"\xff" * 12
    (tmp_path / "b.parquet").write_bytes(content)
    content = bytearray((tmp_path / "c.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    (tmp_path / "c.parquet").write_bytes(content)
    images = open_images(tmp_path)
    assert images.names[:4] == [f"a.parquet/{i // 2}/{i % 2}" for i in range(4)]
    assert "b.parquet" in [name for name, _ in images.skipped]
    assert {name.split("/")[0] for name in images.names} == {"a.parquet", "c.parquet"}
    assert len(images) + sum(name.startswith("c.") for name, _ in images.skipped) == 8


def test_members_too_large_to_hold_are_named(tmp_path, monkeypatch):
    path = write_tar(
        tmp_path / "t.tar", [("a.jpg", jpeg(0)), ("b.jpg", jpeg(1) + bytes(9_000)), ("a.txt", b"x" * 99)]
    )
    monkeypatch.setattr(tars, "MOST_BYTES", 5_000)
    monkeypatch.setattr(archives, "_NOTE_BYTES", 50)
    images = open_images(path)
    assert (images.names, images.captions) == (["t.tar/a.jpg"], None)
    assert images.skipped[0][0] == "t.tar/b.jpg"
    assert "over the limit of 5,000" in images.skipped[0][1]


@pytest.mark.parametrize("kind", [*"xXgLK", "padding", "shorter"])
def test_a_header_that_hides_a_picture_is_told(tmp_path, kind):
    pictures = [(f"{i}.jpg", jpeg(i)) for i in range(4)]
    path = write_tar(tmp_path / "t.tar", pictures)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    info, content = members[1], bytearray(path.read_bytes())
    if kind == "padding":
        content[info.offset_data + info.size + 2] = 7
    else:
        size, flag = (info.size - 3, b"0") if kind == "shorter" else (info.size, kind.encode())
        content[info.offset : info.offset + 512] = raw_header(b"1.jpg", b"%011o\0" % size, flag)
    path.write_bytes(content)
    images = open_images(path)
    assert images.skipped[0][0] == "t.tar"
    if kind in ("padding", "shorter"):
        assert len(images) + len(images.skipped) - 1 == 4
        assert "belong to no member" in images.skipped[0][1]
    else:
        assert images.names == ["t.tar/0.jpg"]
        assert f"damaged at byte {info.offset:,}" in images.skipped[0][1]
