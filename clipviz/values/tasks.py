"""A classification task: class names, prompts, one label and group per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from clipviz.values.tables import Columns, Table

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, repr=False)
class Task(Table):
    """One task. classes: names; prompts: the texts of each class; labels: [image] class, -1 = none.

    groups: [image] a group's name, "" where there is no label; by: the attribute by which images are grouped. examples:
    [class] the images from which the classes are learnt, none of them labelled; empty if the classes are defined by
    their prompts. note: a description of the examples. shortcut: two names with their texts, for an attribute that is
    correlated with the classes without defining them. classifiers: the source of the directions ("names" or "examples")
    -> the classes' directions [class, d_embed], as far as analysis.collection.classifiers has computed them.
    """

    name: str
    classes: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    by: str = ""
    examples: tuple[tuple[int, ...], ...] = ()
    note: str = ""
    shortcut: tuple[tuple[str, tuple[str, ...]], ...] = ()
    classifiers: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def _columns(self) -> Columns:
        known = [image for image, label in enumerate(self.labels) if label >= 0]
        columns: dict[str, Sequence[Any]] = {
            "image": known,
            "class": [self.classes[self.labels[image]] for image in known],
        }
        return columns | ({"group": [self.groups[image] for image in known]} if any(self.groups) else {})

    def _row(self) -> dict[str, Any]:
        return {"classes": self.classes, "n_labelled": self.n_labelled, "groups": self.by}

    def _title(self) -> str:
        return f"Task “{self.name}”: {len(self.classes)} classes, {self.n_labelled:,} labelled images"

    @property
    def directions(self) -> Tensor:
        """The directions of the first classifier, [class, d_embed]. Raises ValueError if the task has no classifier."""
        if not self.classifiers:
            raise ValueError(
                f"expected task {self.name!r} with a classifier, got none; make one with "
                "clipviz.analysis.collection.classifiers.by_name(model, task)"
            )
        return next(iter(self.classifiers.values()))

    def of(self, images: Sequence[int]) -> Task:
        """Return the same task on some of its images, without examples."""
        labels = tuple(self.labels[i] for i in images)
        groups = tuple(self.groups[i] for i in images) if self.groups else ()
        return replace(self, labels=labels, groups=groups, examples=())

    def label(self, image: int) -> int:
        """Return an image's class, or -1 if it has none or was added later."""
        return self.labels[image] if image < len(self.labels) else -1

    @property
    def n_labelled(self) -> int:
        return sum(label >= 0 for label in self.labels)
