"""Collections an index is built from: folders with labels, lists, tars, parquet files, patterns."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from clipviz.data import openers
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
    (tmp_path / "2.jpg").write_bytes(jpeg(2))
    assert open_images(tmp_path).attributes is None


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
    assert [tuple(member) for member in tar_members(path)] == expected


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
    reason = "it is not an image that Pillow reads; convert it to JPEG, PNG or WebP"
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
