"""The demo as one value: everything that the demo model brings along, by name."""

from __future__ import annotations

import functools

from clipviz.data.images import Images
from clipviz.data.texts import with_article
from clipviz.demo import shipped
from clipviz.demo.generator.demo_generator import open_demo_generator
from clipviz.demo.partners.reading import PARTNERS
from clipviz.demo.tasks import world_tasks
from clipviz.demo.world import writing
from clipviz.demo.world.vocabulary import OBJECT_NAMES, PLURAL_ONLY
from clipviz.models.bundle import Bundle, FirstView, Studio

NAME = "demo"
EXAMPLES = (
    "a flamingo",
    "a red circle",
    "in the forest",
    "two objects",
    "a letter",
    "a grayscale photo",
)
FIRST = {"class": "flamingo", "size": "large", "treatment": "none", "second class": None}


@functools.cache
def bundle() -> Bundle:
    """The demo world, its model's index and dictionary, its partners, and who writes and draws in it."""
    return Bundle(
        NAME,
        images=shipped.images,
        texts=shipped.texts,
        examples=EXAMPLES,
        first=FirstView("a flamingo", "something pink", large_flamingo),
        tasks=world_tasks,
        index=shipped.ASSETS / "index",
        dictionary=shipped.ASSETS / "rosetta",
        partners=PARTNERS,
        generator=lambda device: open_demo_generator(device=device),
        guides=shipped.ASSETS / "guides.safetensors",
        studio=Studio(
            OBJECT_NAMES, writing.writer, writing.drawer, writing.can_draw, prompt, pair=("car", "bus")
        ),
    )


def large_flamingo(images: Images) -> int:
    """A large pink flamingo without a treatment of the whole picture, else the first image."""
    table = images.attributes or {}
    if not {*FIRST, "colour"} <= set(table):
        return 0
    fits = (
        i
        for i in range(len(images))
        if table["colour"][i] in (None, "pink")
        and all(table[column][i] == value for column, value in FIRST.items())
    )
    return next(fits, 0)


def prompt(name: str) -> str:
    """The text that stands for a class: "a horse", "grapes"."""
    return name if name in PLURAL_ONLY else with_article(name)
