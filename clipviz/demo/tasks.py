"""The classification tasks of the demo world: objects, colours, backgrounds, and birds in unusual places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clipviz.analysis.collection.tasks import by_example, named_task, rows_of
from clipviz.data.images import Images
from clipviz.data.texts import class_texts
from clipviz.demo.world import vocabulary as words
from clipviz.values import Task

COLUMNS = frozenset({"kind", "class", "colour", "background", "treatment", "second kind"})


def world_tasks(images: Images) -> dict[str, Task]:
    """Return the demo world's tasks: objects, colours, backgrounds, and birds in groups of class and background, by
    their names and by example.

    The result is empty for other images. Objects are judged on scenes with one kind of object and without a
    treatment, colours on scenes without a second object.
    """
    table = images.attributes or {}
    if not table.keys() >= COLUMNS:
        return {}
    untreated = [treatment in (None, "none") for treatment in table["treatment"]]
    plain = [ok and second is None for ok, second in zip(untreated, table["second kind"], strict=True)]
    objects = [ok and kind == "object" for ok, kind in zip(plain, table["kind"], strict=True)]
    colours = [[f"something {c}", f"{words.with_article(c)} object"] for c in words.COLOURS]
    places = [list(words.BACKGROUND_PHRASES[name]) for name in words.BACKGROUNDS]
    grounds = table["background"]
    tasks = {
        "objects": named_task(
            "objects",
            words.OBJECT_NAMES,
            class_texts(words.OBJECT_NAMES),
            _where(table["class"], objects),
            grounds,
            "background",
        ),
        "colours": named_task(
            "colours", words.COLOURS, colours, _where(table["colour"], plain), grounds, "background"
        ),
        "backgrounds": named_task(
            "backgrounds",
            words.BACKGROUNDS,
            places,
            _where(grounds, untreated),
            table["kind"],
            "what is shown",
        ),
    }
    birds = table.get("bird group") or [None] * len(images)
    if any(birds):
        names = ["waterbird", "landbird"]
        labels = [group and group.split("/")[0] for group in birds]
        phrases = dict(zip(words.BIRD_GROUPS, words.BIRD_GROUP_PHRASES, strict=True))
        groups = [group and phrases[group] for group in birds]
        task = named_task("birds", names, class_texts(names), labels, groups, "bird and background")
        shortcut = tuple((place, words.BACKGROUND_PHRASES[place]) for place in ("water", "forest"))
        tasks["birds"] = replace(task, shortcut=shortcut)
        tasks |= _birds_by_example(tasks["birds"])
    return tasks


def _birds_by_example(birds: Task) -> dict[str, Task]:
    """Return the birds task with each class learnt from pictures of which 80% show it in its usual habitat.

    Up to two in five of a class in its habitat are examples, and a quarter as many elsewhere, for both classes
    alike. Returns nothing if the images have too few birds.
    """
    rows = rows_of(birds.groups)
    wet, misplaced, odd, wooded = (rows[name] for name in words.BIRD_GROUP_PHRASES)
    n_away = min(len(wet) // 10, len(misplaced) // 2, len(odd) // 2, len(wooded) // 10)
    examples = [(*home[: 4 * n_away], *away[:n_away]) for home, away in ((wet, misplaced), (wooded, odd))]
    return by_example(birds, examples, "of which 80% show the bird in its usual habitat")


def _where(column: Sequence[str | None], use: Sequence[bool]) -> list[str | None]:
    return [word if ok else None for word, ok in zip(column, use, strict=True)]
