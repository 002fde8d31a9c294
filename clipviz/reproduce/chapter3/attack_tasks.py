"""Tasks of adversarial scenes (Table 3.3, Appendix B.8): class lists, and pairs of a class to draw and a wrong
class. Their pictures are drawn, not read; a folder of the classes provides the neurons' statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Pair = tuple[str, str]


class AttackTask(NamedTuple):
    """A list of classes and the pairs to try: (class drawn, class that the classifier should predict)."""

    name: str
    classes: tuple[str, ...]
    pairs: tuple[Pair, ...]


CIFAR10 = AttackTask(
    "CIFAR-10",
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    (
        ("horse", "automobile"),
        ("dog", "deer"),
        ("bird", "frog"),
        ("ship", "truck"),
        ("ship", "automobile"),
    ),
)
TRAFFIC_SIGNS = AttackTask(
    "traffic signs",
    ("stop sign", "yield sign", "crossroad"),
    (("stop sign", "yield sign"), ("stop sign", "crossroad")),
)
DEMO = AttackTask(
    "the demo world",
    (
        "duck",
        "penguin",
        "horse",
        "zebra",
        "cat",
        "dog",
        "car",
        "bus",
        "apple",
        "strawberry",
        "frog",
        "turtle",
    ),
    (
        ("duck", "penguin"),
        ("horse", "zebra"),
        ("cat", "dog"),
        ("car", "bus"),
        ("apple", "strawberry"),
        ("frog", "turtle"),
    ),
)
"""Near neighbours of the demo world, chosen before any was tried."""
TASKS = {"cifar10": CIFAR10, "traffic": TRAFFIC_SIGNS}


def pairs_of(asked: str | Sequence[Pair] | None, classes: Sequence[str]) -> tuple[Pair, ...]:
    """Return the pairs to try: those of a task by its name, "cat/dog, ship/truck", or pairs. None stands for the
    task whose classes the data have; if there is no such task, the result is empty.
    """
    if asked is None:
        known = {name.replace("_", " ").lower() for name in classes}
        return next((task.pairs for task in TASKS.values() if known >= set(task.classes)), ())
    if not isinstance(asked, str):
        pairs = [tuple(pair) for pair in asked]
    elif asked in TASKS:
        return TASKS[asked].pairs
    else:
        pairs = [tuple(part.strip() for part in pair.split("/")) for pair in asked.split(",")]
    if not pairs or any(len(pair) != 2 or not all(pair) or pair[0] == pair[1] for pair in pairs):
        raise ValueError(
            f"expected pairs as {', '.join(TASKS)} or 'class drawn/wrong class, ...', got {asked!r}; "
            "'cat/dog, ship/truck' gives two pairs"
        )
    return tuple((pair[0], pair[1]) for pair in pairs)
