"""A collection is known by its content: neither types and lengths nor names, sizes and times make two of them one."""

from __future__ import annotations

import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from clipviz.data import datasets
from clipviz.data.images import open_images
from clipviz.data.marks import WHOLE, mark_of_file
from tests.data.pictures import encoded


def noise(seed: int, side: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


class Drawn:
    """A data set that draws its items."""

    def __init__(self, n: int = 12, seed: int = 0, transform=None) -> None:
        self.n, self.seed, self.transform = n, seed, transform

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        picture = noise(1000 * self.seed + i)
        return (picture if self.transform is None else self.transform(picture)), i % 2


@pytest.fixture(params=["decoded when opened", "sampled"])
def opening(request, monkeypatch):
    if request.param == "sampled":
        monkeypatch.setattr(datasets, "EAGER", 2)


@pytest.mark.usefixtures("opening")
def test_subsets_other_items_and_other_transforms_are_other_collections():
    torch = pytest.importorskip("torch")
    whole = Drawn(24)
    subsets = [torch.utils.data.Subset(whole, part) for part in (range(12), range(12, 24), range(11, -1, -1))]
    sets = [*subsets, Drawn(12, seed=1), Drawn(12, transform=lambda p: p.rotate(90))]
    assert len({open_images(one).fingerprint for one in sets}) == 5
    again = torch.utils.data.Subset(Drawn(24), list(range(12)))
    assert open_images(again).keys == open_images(torch.utils.data.Subset(Drawn(24), list(range(12)))).keys


def test_any_item_of_a_small_data_set_counts():
    class One(Drawn):
        def __getitem__(self, i):
            return noise(99 if i == 7 else i)

    class Other(One):
        def __getitem__(self, i):
            return noise(i)

    Other.__name__ = "One"
    one, other = open_images(One()), open_images(Other())
    assert [a == b for a, b in zip(one.keys, other.keys, strict=True)] == [i != 7 for i in range(12)]


@pytest.mark.usefixtures("opening")
def test_random_transforms_are_refused():
    random = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match=r"same picture of an item each time, got Drawn.*remove random transforms"
    ):
        open_images(Drawn(transform=lambda picture: picture.rotate(int(random.integers(360)))))


@pytest.fixture
def folders(tmp_path):
    """Two folders whose files agree in name, size and time."""
    for place, seed in (("a", 0), ("b", 50)):
        (tmp_path / place).mkdir()
        for i in range(4):
            file = tmp_path / place / f"{i}.bmp"
            noise(seed + i).save(file)
            os.utime(file, (1_000_000_000, 1_000_000_000))
    return tmp_path / "a", tmp_path / "b"


def test_names_sizes_and_times_do_not_make_two_folders_one(folders, tmp_path):
    a, b = map(open_images, folders)
    assert a.fingerprint != b.fingerprint
    assert not set(a.keys) & set(b.keys)
    tars = []
    for folder in folders:
        tars.append(tmp_path / f"{folder.name}s" / "one.tar")
        tars[-1].parent.mkdir()
        with tarfile.open(tars[-1], "w") as tar:
            for file in sorted(folder.iterdir()):
                tar.add(file, file.name)
        os.utime(tars[-1], (1_000_000_000, 1_000_000_000))
    assert len({tar.stat().st_size for tar in tars}) == 1
    assert open_images(tars[0]).fingerprint != open_images(tars[1]).fingerprint


def test_a_copy_of_a_folder_is_the_same_collection(folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "copy", copy_function=shutil.copyfile)  # without their times
    assert open_images(tmp_path / "copy").fingerprint == open_images(folders[0]).fingerprint


def test_a_large_file_is_sampled_along_its_length(tmp_path):
    content = bytearray(np.random.default_rng(0).integers(0, 256, 40 * WHOLE, np.uint8))
    file = tmp_path / "large"
    marks = set()
    for place in (0, len(content) // 2 + 2000, len(content) - 1, None):
        changed = bytearray(content)
        for at in range(len(content) if place is None else 0, len(content), 997):
            changed[at] ^= 1
        if place is not None:
            changed[place] ^= 1
        file.write_bytes(changed)
        marks.add(mark_of_file(file))
    file.write_bytes(content)
    whole = mark_of_file(file)
    assert whole.startswith(f"?{len(content)}|")
    assert len(marks | {whole}) >= 3  # the first, the last, and what lies in a block


def test_a_replaced_file_is_not_shown_as_the_old_one(folders):
    images = open_images(folders[0])
    assert images.changed() == []
    before = images[1]
    (folders[0] / "1.bmp").write_bytes(encoded(noise(7), "BMP"))
    assert images.changed() == [1]
    with pytest.raises(ValueError, match=r"'1\.bmp'.*replaced since the collection was opened"):
        images[1]
    assert open_images(folders[0])[1].tobytes() != before.tobytes()
    assert images[2].size == (20, 20)
