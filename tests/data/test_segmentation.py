"""Loaders of masks and groups, on small files written here; the MATLAB reader where h5py is installed."""

import numpy as np
import pytest
from PIL import Image

from clipviz.data import segmentation, waterbirds
from clipviz.demo import images as demo


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_folder_pairs_masks_by_name_and_takes_classes_from_subfolders(tmp_path):
    for name in ("cat/a", "dog/b", "dog/lonely"):
        write(tmp_path / f"images/{name}.png", np.full((4, 6, 3), 90, np.uint8))
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = 255
    write(tmp_path / "masks/cat/a.png", mask)
    write(tmp_path / "masks/dog/b.png", mask[::-1])
    found = segmentation.folder(tmp_path)
    assert found.names == ["cat/a.png", "dog/b.png"]
    assert found.labels == ["cat", "dog"]
    assert found.skipped[0][0] == "dog/lonely.png"
    picture, truth = found[1]
    assert picture.size == (6, 4)
    assert truth.dtype == bool
    assert np.argwhere(truth).tolist() == [[2, 2]]
    assert found.subset([1]).labels == ["dog"]
    assert len(found[0:2]) == 2


def test_folder_errors(tmp_path):
    with pytest.raises(ValueError, match="name both folders"):
        segmentation.folder(tmp_path)
    write(tmp_path / "images/a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "masks").mkdir()
    with pytest.raises(ValueError, match="masks of the same name"):
        segmentation.folder(tmp_path)
    write(tmp_path / "masks/a.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"mask of 4 x 4 pixels for .a\.png., got 2 x 2"):
        segmentation.folder(tmp_path)[0]


def test_the_demo_collection_has_masks_and_classes():
    found = segmentation.from_collection(demo(), "class")
    picture, mask = found[0]
    assert mask.shape == (picture.height, picture.width)
    assert mask.any()
    assert found.labels[0] in demo().attributes["class"]
    with pytest.raises(ValueError, match="attribute column"):
        segmentation.from_collection(demo(), "nonsense")
    with pytest.raises(IndexError, match="image index"):
        found[len(found)]


def test_imagenet_segmentation_reads_the_matlab_file(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is optional: only gtsegs_ijcv.mat needs it")
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    mask = np.zeros((4, 5), np.uint8)
    mask[0, 3] = 1
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "w") as file:
        reference = h5py.special_dtype(ref=h5py.Reference)
        file["store/img"], file["store/gt"] = pixels.transpose(2, 1, 0), mask.T
        file["store/id"] = np.array([[ord(c)] for c in "n02099601_7304"], np.uint16)
        cell = file.create_dataset("store/cell", (1, 1), reference)
        cell[0, 0] = file["store/gt"].ref
        for key, target in (("img", "store/img"), ("gt", "store/cell"), ("id", "store/id")):
            table = file.create_dataset(f"value/{key}", (1, 1), reference)
            table[0, 0] = file[target].ref
    found = segmentation.imagenet_segmentation(tmp_path / "gtsegs_ijcv.mat")
    picture, truth = found[0]
    assert np.array_equal(np.asarray(picture), pixels)
    assert np.argwhere(truth).tolist() == [[0, 3]]
    assert (found.names, found.labels) == (["n02099601_7304"], ["n02099601"])
    with pytest.raises(ValueError, match="does not exist"):
        segmentation.imagenet_segmentation(tmp_path / "none.mat")


def test_waterbirds_reads_labels_and_groups(tmp_path):
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i, (label, split, place) in enumerate([(0, 2, 1), (1, 2, 1), (1, 0, 0), (0, 2, 0)]):
        write(tmp_path / f"bird/{i}.png", np.full((8, 8, 3), 40 * i, np.uint8))
        lines.append(f"{i},bird/{i}.png,{label},{split},{place},x")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    (tmp_path / "bird/3.png").write_bytes(b"broken")
    found = waterbirds.waterbirds(tmp_path)
    assert found.attributes == {
        "label": ["landbird", "waterbird"],
        "group": ["landbird on water", "waterbird on water"],
    }
    assert [name for name, _ in found.skipped] == ["3.png"]
    assert waterbirds.waterbirds(tmp_path, "train").attributes["label"] == ["waterbird"]
    with pytest.raises(ValueError, match="split one of train, val, test"):
        waterbirds.waterbirds(tmp_path, "all")
    with pytest.raises(ValueError, match=r"metadata\.csv"):
        waterbirds.waterbirds(tmp_path / "bird")
    with pytest.raises(ValueError, match="val split"):
        waterbirds.waterbirds(tmp_path, "val")


def test_255_means_ignore_only_beside_smaller_labels(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    labelled = np.zeros((4, 4), np.uint8)
    labelled[0], labelled[1, :2] = 15, 255
    plain = np.where(labelled == 15, 255, 0).astype(np.uint8)
    for name, mask in (("a", labelled), ("b", plain)):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    (_, first), (_, second) = segmentation.folder(tmp_path)
    assert first.dtype == np.uint8
    assert np.array_equal(first, np.where(labelled == 15, 1, labelled))
    assert second.dtype == bool
    assert np.array_equal(second, plain > 0)
