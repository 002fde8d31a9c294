"""Tasks from a collection's own labels: the demo world, data sets, class folders, typed class names."""

import numpy as np
import pytest
from PIL import Image

from clipviz.analysis import tasks
from clipviz.data import images as image_data


def test_the_demo_world_poses_five_tasks():
    images = image_data.demo()
    found = tasks.labelled_tasks(images)
    assert list(found) == ["objects", "colours", "backgrounds", "birds", "birds by example"]
    for name, column in (("objects", "class"), ("colours", "colour"), ("backgrounds", "background")):
        task = found[name]
        assert task.n_labelled > 100
        for i, label in enumerate(task.labels):
            assert label == -1 or task.classes[label] == images.attributes[column][i]
            assert bool(task.groups[i]) == (label >= 0)
    birds = found["birds"]
    assert set(birds.groups) - {""} == {f"{b} {g}" for b in birds.classes for g in ("on water", "in forest")}
    for i in images.where("bird group", "landbird/water")[:5]:
        assert birds.classes[birds.labels[i]] == "landbird"
    assert all(
        images.attributes["second kind"][i] is None
        for i, label in enumerate(found["objects"].labels)
        if label >= 0
    )


def test_examples_are_mostly_at_home_and_no_part_of_the_test():
    images = image_data.demo()
    found = tasks.labelled_tasks(images)
    whole, task = found["birds"], found["birds by example"]
    homes = ("waterbird on water", "landbird in forest")
    for label, (chosen, home) in enumerate(zip(task.examples, homes, strict=True)):
        assert len(chosen) >= 30
        assert {whole.labels[i] for i in chosen} == {label}
        assert np.mean([whole.groups[i] == home for i in chosen]) == pytest.approx(0.8)
    used = set(sum(task.examples, ()))
    assert len(used) == sum(map(len, task.examples))
    for i, label in enumerate(task.labels):
        assert label == (-1 if i in used else whole.labels[i])
        assert bool(task.groups[i]) == (label >= 0)
    alone = images.subset([i for i, group in enumerate(whole.groups) if group in ("", *homes)])
    assert "birds by example" not in tasks.labelled_tasks(alone)  # 80% could not be kept
    few = images.subset([i for i, group in enumerate(whole.groups) if group][:12])
    assert "birds by example" not in tasks.labelled_tasks(few)


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
    world = tasks.labelled_tasks(image_data.demo())
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
