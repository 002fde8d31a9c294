"""The tasks that the demo world poses."""

import numpy as np
import pytest

from clipviz import demo
from clipviz.data.images import open_images
from clipviz.demo.tasks import world_tasks


def test_the_demo_world_poses_five_tasks():
    images = demo.images()
    found = world_tasks(images)
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
    images = demo.images()
    found = world_tasks(images)
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
    assert "birds by example" not in world_tasks(alone)  # 80% could not be kept
    few = images.subset([i for i, group in enumerate(whole.groups) if group][:12])
    assert "birds by example" not in world_tasks(few)


def test_images_of_another_kind_pose_none_of_them():
    assert world_tasks(open_images([np.zeros((8, 8, 3), np.uint8)] * 3)) == {}
