"""Classification tasks from a collection's own labels: class names, prompts, and one label and group per image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from clipviz.data.images import Images
from clipviz.data.texts import class_texts
from clipviz.values import Task


def labelled_tasks(images: Images) -> dict[str, Task]:
    """Return the tasks of a data set's labels or class folders, by name and by example, with groups if they are
    known.

    Groups come from the attribute "group" (for instance from a table beside the pictures: data.tables), else they
    are the classes. By example, classes are learnt from the images whose attribute "split" is "train", or from
    two in five of each class if every class has five. The result is empty if the images have no classes.
    """
    table, labels = images.attributes or {}, class_labels(images)
    names = sorted({label for label in labels if label is not None})
    if len(names) < 2:
        return {}
    grouped = any(table.get("group") or ())
    if grouped and set(table["group"]) <= WATERBIRD_GROUPS:
        task = waterbird_task(images)
    else:
        by = "group" if grouped else "class"
        task = named_task(
            "classes", names, class_texts(names), labels, table["group"] if grouped else labels, by
        )
    return {task.name: task, **_classes_by_example(task, table.get("split") or ())}


def typed_task(classes: Sequence[str], known: Sequence[Task] = ()) -> Task:
    """Return a task with typed class names; labels come from the first known task that has a class for every name."""
    names = list(dict.fromkeys(_bare(name.strip()) for name in classes if name.strip()))
    if len(names) < 2:
        raise ValueError(
            f"expected at least two class names, got {names or 'none'}; separate them by commas: a swan, an owl"
        )
    prompts = class_texts(names)
    for task in known:
        index = {name.lower(): i for i, name in enumerate(task.classes)}
        if all(name.lower() in index for name in names):
            place = {index[name.lower()]: i for i, name in enumerate(names)}
            labels = tuple(place.get(label, -1) for label in task.labels)
            groups = tuple(g if k >= 0 else "" for g, k in zip(task.groups, labels, strict=False))
            chosen = tuple(task.prompts[index[name.lower()]] for name in names)
            return Task("typed", tuple(names), chosen, labels, groups, task.by)
    return Task("typed", tuple(names), tuple(map(tuple, prompts)), ())


def _classes_by_example(task: Task, split: Sequence[str | None]) -> dict[str, Task]:
    """Return a task's variant learnt from training images, or two in five; none if there are too few."""
    rows = rows_of(task.labels)
    chosen = [rows[label] for label in range(len(task.classes))]
    trained = [tuple(i for i in images if split[i] == "train") for images in chosen] if split else [()]
    n_left = sum(map(len, chosen)) - sum(map(len, trained))
    if min(map(len, trained)) and n_left:
        return by_example(task, trained, "the training part")
    if min(map(len, chosen)) < 5:
        return {}
    return by_example(task, [(*images[::5], *images[2::5]) for images in chosen], "two in five of each class")


def by_example(task: Task, examples: Sequence[tuple[int, ...]], which: str) -> dict[str, Task]:
    """Return the task learnt from examples and tested on the other images; none if a class has no examples."""
    if not all(examples):
        return {}
    used = {i for chosen in examples for i in chosen}
    name = f"{task.name} by example"
    return {
        name: replace(
            task,
            name=name,
            labels=tuple(-1 if i in used else label for i, label in enumerate(task.labels)),
            groups=tuple("" if i in used else group for i, group in enumerate(task.groups)),
            examples=tuple(examples),
            note=f"learnt from {len(used):,} other pictures, {which}",
        )
    }


def rows_of(values: Sequence[Any]) -> dict[Any, list[int]]:
    """Return value -> its positions; an empty list for values that do not occur."""
    rows: dict[Any, list[int]] = defaultdict(list)
    for i, value in enumerate(values):
        rows[value].append(i)
    return rows


WATERBIRD_SHORTCUT = (
    ("water", ("a photo of water", "the sea", "a lake")),
    ("land", ("a photo of land", "a forest", "a bamboo forest")),
)

WATERBIRD_GROUPS = {
    None,
    *(f"{bird} on {place}" for bird in ("landbird", "waterbird") for place in ("land", "water")),
}


def waterbird_task(images: Images) -> Task:
    """Return the task of data.waterbirds: landbird (0) or waterbird (1), in groups of class and background."""
    table, classes = images.attributes or {}, ("landbird", "waterbird")
    task = named_task(
        "birds", classes, class_texts(classes), table["label"], table["group"], "bird and background"
    )
    return replace(task, shortcut=WATERBIRD_SHORTCUT)


def class_labels(images: Images) -> list[str | None]:
    """Return the class of every image: its label (from a table or a data set), else the name of its folder."""
    said = (images.attributes or {}).get("label")
    return list(said) if said else [class_folder(name) or None for name in images.names]


def class_folder(name: str) -> str:
    """Return the name of the folder of an image, as its class; "" if there is none."""
    parts = name.replace("\\", "/").split("/")
    return parts[-2] if len(parts) > 1 else ""


def named_task(
    name: str,
    classes: Sequence[str],
    prompts: Sequence[Sequence[str]],
    labels: Sequence[str | None],
    groups: Sequence[str | None],
    by: str,
) -> Task:
    index = {word: i for i, word in enumerate(classes)}
    numbers = tuple(-1 if label is None else index.get(label, -1) for label in labels)
    named = tuple(str(g) if k >= 0 and g else "" for g, k in zip(groups, numbers, strict=True))
    return Task(name, tuple(classes), tuple(map(tuple, prompts)), numbers, named, by)


def _bare(name: str) -> str:
    """Return a class name without its article."""
    for article in ("a ", "an ", "the "):
        if name.lower().startswith(article):
            return name[len(article) :].strip()
    return name
