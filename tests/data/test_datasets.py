"""Data sets of the package datasets, data frames and addresses: images, class names, groups, captions and words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from index_tools import tiny_model
from PIL import Image

import clipviz
from clipviz.data import datasets as reading
from clipviz.data import streams
from clipviz.data.images import open_images


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8))


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    noise(seed).save(stream, "PNG")
    return stream.getvalue()


class ClassLabel:
    """As datasets.ClassLabel says what numbers stand for."""

    names = ("plane", "car", "bird")


Image_ = type("Image", (), {})
Value = type("Value", (), {})


class Standing:
    """As much of datasets.Dataset as is read, where that package is not installed."""

    def __init__(self, columns, features):
        self.columns, self.features = columns, features
        self.column_names, self.format = list(columns), {"type": None}

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i):
        return {name: values[i] for name, values in self.columns.items()}

    def with_format(self, _):
        return self

    def select_columns(self, names):
        return Standing({name: self.columns[name] for name in names}, self.features)


def cifar(n: int = 9):
    """CIFAR-10's layout, with a caption and a word beside: columns, and a maker of the data set of them."""
    columns = {
        "img": [noise(i) for i in range(n)],
        "label": [i % 3 if i else -1 for i in range(n)],
        "caption": [f"picture {i}" for i in range(n)],
        "place": ["sea" if i % 2 else None for i in range(n)],
    }
    try:
        import datasets
    except ImportError:
        kinds = {"img": Image_(), "label": ClassLabel(), "caption": Value(), "place": Value()}
        return Standing(columns, kinds)
    datasets.disable_progress_bars()
    kinds = {"img": datasets.Image(), "label": datasets.ClassLabel(names=list(ClassLabel.names))}
    kinds |= {"caption": datasets.Value("string"), "place": datasets.Value("string")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


@pytest.mark.parametrize("eager", [2_000, 4], ids=["decoded when opened", "sampled"])
def test_the_image_column_and_class_names_are_found_by_their_types(monkeypatch, eager):
    monkeypatch.setattr(reading, "EAGER", eager)
    images = open_images(cifar())
    assert images.attributes["label"] == [None, "car", "bird", *3 * ["plane", "car", "bird"]][:9]
    assert images.attributes["place"] == [None, "sea"] * 4 + [None]
    assert images.captions == [f"picture {i}" for i in range(9)]
    assert images[5].tobytes() == noise(5).tobytes()
    assert open_images(cifar()).keys != open_images(cifar(8)).keys


def test_a_dictionary_of_splits_asks_for_one():
    with pytest.raises(
        ValueError, match=r"one split of a data set, got a dict with train, test.*data\['train'\]"
    ):
        open_images({"train": cifar(), "test": cifar(3)})
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict({"train": cifar(), "test": cifar(3)})
    with pytest.raises(ValueError, match=r"got a DatasetDict with train, test"):
        open_images(splits)
    assert open_images(splits["test"]).attributes["label"] == [None, "car", "bird"]


def test_a_data_set_without_images_names_its_columns():
    with pytest.raises(
        ValueError, match=r"a column of the type Image in Standing, got columns text \(Value\)"
    ):
        open_images(Standing({"text": ["a"]}, {"text": Value()}))


def test_samples_of_tars_that_another_reader_gives_are_understood():
    """As webdataset gives them undecoded: bytes by the ends of their files' names."""
    samples = [
        {"__key__": f"{i}", "jpg": png(i), "cls": str(i % 2).encode(), "txt": b"a text"} for i in range(3)
    ]
    (part,) = streams.parts(type("Reader", (), {"__iter__": lambda _: iter(samples)})(), 8)
    assert part.attributes == {"label": ["0", "1", "0"]}
    assert part.captions == ["a text"] * 3
    assert part[2].tobytes() == noise(2).tobytes()


def test_a_stream_is_sent_to_the_index():
    class Stream:
        def __iter__(self):
            return iter([(noise(0), 1)])

    with pytest.raises(ValueError, match=r"got Stream, which can only be iterated.*Index\.build"):
        open_images(Stream())


class Column(list):
    def tolist(self):
        return list(self)

    to_list = tolist


def pandas_like(columns):
    kind = type("DataFrame", (), {"__module__": "pandas"})
    frame, names = kind(), list(columns)
    frame.columns = names
    frame.iloc = type("At", (), {"__getitem__": lambda _, at: Column(columns[names[at[1]]])})()
    return frame


def polars_like(columns):
    kind = type(
        "DataFrame", (), {"__module__": "polars", "__getitem__": lambda _, name: Column(columns[name])}
    )
    frame = kind()
    frame.columns = list(columns)
    return frame


def installed(package):
    def made(columns):
        return pytest.importorskip(package).DataFrame(columns)

    return made


FRAMES = {"like pandas": pandas_like, "like polars": polars_like, "pandas": installed("pandas")}
FRAMES["polars"] = installed("polars")


@pytest.mark.parametrize("kind", FRAMES)
def test_rows_of_a_data_frame_bring_label_group_caption_and_words(tmp_path, kind):
    paths = []
    for i in range(4):
        paths.append(str(tmp_path / f"{i}.png"))
        noise(i).save(paths[-1])
    columns = {
        "where it is": [*paths[:3], str(tmp_path / "gone.png")],
        "label": ["owl", "cat", "owl", "cat"],
        "place": ["sea", "land", "land", "sea"],
        "caption": ["one", "two", None, "four"],
        "views": [1.0, 2.0, None, 2.5],
    }
    images = open_images(FRAMES[kind](columns))
    assert images.names == ["0.png", "1.png", "2.png"]
    assert images.attributes["label"] == ["owl", "cat", "owl"]
    assert images.attributes["group"] == ["owl, sea", "cat, land", "owl, land"]
    assert images.attributes["views"] == ["1", "2", None]
    assert images.captions == ["one", "two", ""]
    assert images.skipped == [("gone.png", "the file does not exist")]
    assert images.paths == [tmp_path / f"{i}.png" for i in range(3)]


@pytest.mark.parametrize("kind", FRAMES)
def test_a_column_of_images_or_of_their_bytes_is_taken(kind):
    images = open_images(FRAMES[kind]({"y": [0, 1], "jpeg": [png(0), png(1)]}))
    assert images.attributes == {"label": ["0", "1"]}
    assert images[1].tobytes() == noise(1).tobytes()
    if kind.endswith("pandas"):
        images = open_images(FRAMES[kind]({"seen": [noise(3), noise(4)], "group": ["a", "b"]}))
        assert images.attributes == {"group": ["a", "b"]}
        assert images.names == ["row 0", "row 1"]
        assert images.fingerprint == open_images([noise(3), noise(4)]).fingerprint


@pytest.mark.parametrize("kind", FRAMES)
def test_a_data_frame_without_images_says_what_it_has(kind):
    with pytest.raises(
        ValueError, match=r"images or of their paths in the data frame of \w+, got columns a, b"
    ):
        open_images(FRAMES[kind]({"a": ["x", "y"], "b": [1, 2]}))


def test_addresses_are_read_where_fsspec_is_installed():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for i in range(4):
        memory.pipe(f"/kept/{'ab'[i % 2]}/{i}.png", png(i))
    memory.pipe("/kept/a/notes.txt", b"no image")
    images = open_images("memory://kept")
    assert images.names == ["a/0.png", "a/2.png", "b/1.png", "b/3.png"]
    assert images.attributes == {"label": ["a", "a", "b", "b"]}
    assert images.skipped == [
        ("/kept/a/notes.txt", "this file type is not supported; convert it to JPEG, PNG or WebP")
    ]
    assert images[2].tobytes() == noise(1).tobytes()
    assert open_images("memory://kept/b/1.png")[0].tobytes() == noise(1).tobytes()
    before = images.fingerprint
    memory.pipe("/kept/a/0.png", png(9))
    assert open_images("memory://kept").fingerprint != before
    with pytest.raises(ValueError, match=r"at least one usable image.*the file does not exist"):
        open_images("memory://kept/gone.png")
    memory.rm("/kept", recursive=True)


def test_names_and_words_are_on_screen():
    """What a panel shows of each way in: titles, classes and groups to choose by, and a task of the classes."""
    model = tiny_model()
    rows = {
        "image": [noise(i) for i in range(6)],
        "label": ["owl", "cat"] * 3,
        "place": ["sea", "land", "land"] * 2,
    }
    for data, classes, groups in (
        (cifar(9), {"car": 3, "bird": 3, "plane": 2}, None),
        ({"test": cifar(6)}["test"], {"car": 2, "bird": 2, "plane": 1}, None),
        (
            pandas_like(rows),
            {"owl": 3, "cat": 3},
            {"owl, land": 2, "cat, land": 2, "owl, sea": 1, "cat, sea": 1},
        ),
    ):
        session = clipviz.Session(model, images=data, texts=["a", "b"], background=False)
        panel = clipviz.panels.ImageGallery(session)
        session.wait()
        shown = panel.view["attributes"]
        assert shown["label"] == classes
        assert groups is None or shown["group"] == groups
        assert all(panel.view["names"])
        assert session.images.where("label", next(iter(classes)))
        assert session.ablation.tasks()
        session.close()
