"""Tasks from a collection's own labels: data sets, class folders, typed class names."""

import numpy as np
import pytest
from PIL import Image

from clipviz import demo
from clipviz.analysis.collection import tasks
from clipviz.data import images as image_data
from clipviz.demo.tasks import world_tasks


def test_class_folders_and_data_sets_pose_one(tmp_path):
    for name in ("owl", "swan"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (8, 8), (40 * i, 90, 9)).save(tmp_path / name / f"{i}.png")
    task = tasks.labelled_tasks(image_data.open_images(tmp_path))["classes"]
    assert task.classes == ("owl", "swan")
    assert sorted(task.labels) == [0, 0, 1, 1]
    assert tasks.labelled_tasks(image_data.open_images([np.zeros((8, 8, 3), np.uint8)] * 3)) == {}


def test_classes_of_five_images_are_also_learnt_from_examples(tmp_path):
    for name, n in (("owl", 5), ("swan", 11)):
        (tmp_path / name).mkdir()
        for i in range(n):
            Image.new("RGB", (8, 8), (20 * i, 90, 9)).save(tmp_path / name / f"{i:02d}.png")
    found = tasks.labelled_tasks(image_data.open_images(tmp_path))
    assert list(found) == ["classes", "classes by example"]
    whole, task = found["classes"].labels, found["classes by example"]
    assert [sorted(chosen) for chosen in task.examples] == [[0, 2], [5, 7, 10, 12, 15]]
    used = set(sum(task.examples, ()))
    assert task.labels == tuple(-1 if i in used else whole[i] for i in range(16))
    assert task.note == "learnt from 7 other pictures, two in five of each class"
    (tmp_path / "owl" / "00.png").unlink()
    assert list(tasks.labelled_tasks(image_data.open_images(tmp_path))) == ["classes"]


def test_typed_classes_take_labels_where_every_name_is_known():
    world = world_tasks(demo.images())
    task = tasks.typed_task(["a swan", "an owl", "swan ", ""], list(world.values()))
    assert task.classes == ("swan", "owl")
    objects = world["objects"]
    expected = [
        {objects.classes.index("swan"): 0, objects.classes.index("owl"): 1}.get(k, -1) for k in objects.labels
    ]
    assert list(task.labels) == expected
    assert task.by == "background"
    unknown = tasks.typed_task(["swan", "a saxophone player"], list(world.values()))
    assert unknown.n_labelled == 0
    assert "a saxophone player" in " ".join(unknown.prompts[1])
    with pytest.raises(
        ValueError, match="at least two class names, got \\['owl'\\]; separate them by commas"
    ):
        tasks.typed_task(["owl", " "])
