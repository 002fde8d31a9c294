"""The demo as one value: everything that comes with the demo model, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from clipviz.data.images import Images
from clipviz.demo import shipped
from clipviz.demo.generator.demo_generator import open_demo_generator
from clipviz.demo.partners.reading import PARTNERS
from clipviz.demo.tasks import world_tasks
from clipviz.demo.world import writing
from clipviz.demo.world.scene import ATTRIBUTE_COLUMNS
from clipviz.demo.world.truth import known_of
from clipviz.demo.world.vocabulary import OBJECT_NAMES, with_article
from clipviz.models.bundle import Bundle, FirstView, Studio, TourStep
from clipviz.values import Ablation

if TYPE_CHECKING:
    from torch import Tensor

    from clipviz.demo.generator.locator import Located

NAME = "demo"
EXAMPLES = ("a flamingo", "a red circle", "in a forest", "two things", "a letter", "a grayscale photo")
BIRDS = "birds by example"
FIRST = {"class": "flamingo", "size": "large", "treatment": "none", "second class": None}


def _locate(images: Tensor) -> Located:
    """Locate objects on pictures; the locator's network is opened on first use."""
    from clipviz.demo.generator.locator import locate

    return locate(images)


@functools.cache
def bundle() -> Bundle:
    """Return the demo world, its model's index and dictionary, its partners, and its writer and drawer."""
    return Bundle(
        NAME,
        images=shipped.images,
        texts=shipped.texts,
        examples=EXAMPLES,
        first=FirstView(
            "a flamingo", shipped.chosen()["quality"], _chosen(shipped.chosen()["image"], large_flamingo)
        ),
        tour=tour(),
        tasks=world_tasks,
        index=shipped.ASSETS / "index",
        dictionary=shipped.ASSETS / "rosetta",
        features=shipped.features,
        partners=PARTNERS,
        generator=lambda device: open_demo_generator(device=device),
        guides=shipped.ASSETS / "guides.safetensors",
        generator_concepts=shipped.ASSETS / "generator_concepts.json",
        generator_dictionary=shipped.ASSETS / "generator_rosetta",
        locate=_locate,
        truths=truths,
        studio=Studio(
            OBJECT_NAMES,
            writing.writer,
            writing.drawer,
            writing.can_draw,
            with_article,
            pair=("horse", "zebra"),
        ),
    )


def tour() -> tuple[TourStep, ...]:
    """Return the tour: from a heatmap to a head, its texts and its neighbours, and to a corrected mistake.

    Each step names one thing to do and tells one surprise. A step selects everything it needs, so that what a reader
    does in one step does not change the next.
    """
    told = shipped.chosen()["tour"]
    bird, text, written = told["bird"], told["text"], told["written"]
    image = _chosen(told["image"], forest_flamingo)
    plain = {"text_b": "", "token": None, "images": (), "ablation": Ablation()}
    return (
        TourStep(
            f"Where the model sees {with_article(bird)}",
            f"The map splits the cosine of this image and the text “{with_article(bird)}” over the image's patches: "
            "orange patches raise it, blue ones lower it. Most of the orange lies on the bird, although training used "
            "no maps. Click an orange patch: below the map are the heads that write there.",
            "heatmap",
            {**plain, "text": with_article(bird)},
            {"heatmap": {"scope": "all"}, "images": {"order": "text", "page": 0}},
            image=image,
        ),
        TourStep(
            "The head that sees the forest",
            f"The text is now “{text}”. Each cell is one attention head, coloured by what it adds to the cosine "
            "with the text. The strongest is selected, and the map shows what it alone adds. Click another cell: most "
            "heads add little.",
            "heads",
            {**plain, "text": text},
            {"heatmap": {"scope": "head"}, "heads": {"quantity": "effect"}},
            image=image,
            quality=text,
        ),
        TourStep(
            "What this head is about",
            "TextSpan lists the texts along which the head varies the most over all images. Nobody chose them for it, "
            f"and yet more are about backgrounds than chance allows. One of these, “{written}”, is now the text of the "
            "whole board. Click another bar; a grey one explains no more than chance of what the bars above it leave.",
            "textspan",
            {**plain, "text": written},
            image=image,
            quality=text,
        ),
        TourStep(
            "What looks alike to it",
            "On the left are the images nearest to this one for the whole model, on the right those nearest for this "
            "head alone: other forests, whatever stands in them. Click one on the right and compare both lists again.",
            "images",
            {**plain, "text": written},
            {"images": {"order": "near", "page": 0}},
            image=image,
            quality=text,
        ),
        TourStep(
            "A mistake corrected",
            "The two classes are learnt from pictures in which most birds in a forest are landbirds, so the model "
            f"takes this {bird} for one. Now the heads that tell water from forest are removed, and it is taken for a "
            "waterbird. Click a head to put it back.",
            "ablate",
            {**plain, "text": with_article(bird)},
            {"ablate": {"task": BIRDS}},
            image=image,
            without_shortcut=BIRDS,
        ),
    )


def _chosen(name: str, otherwise: Callable[[Images], int]) -> Callable[[Images], int]:
    """Return a function that finds the image of this name among images, or what `otherwise` finds if it is missing."""
    return lambda images: images.names.index(name) if name in images.names else otherwise(images)


def forest_flamingo(images: Images) -> int:
    """Return a large untreated pink flamingo in a forest, else any flamingo in a forest, else the first image."""
    table = images.attributes or {}
    if not {*FIRST, "colour", "background"} <= set(table):
        return 0
    forest = [
        i
        for i in range(len(images))
        if table["class"][i] == FIRST["class"] and table["background"][i] == "forest"
    ]
    large = (
        i
        for i in forest
        if table["colour"][i] == "pink" and all(table[column][i] == value for column, value in FIRST.items())
    )
    return next(large, next(iter(forest), 0))


def large_flamingo(images: Images) -> int:
    """Return a large pink flamingo without a treatment of the whole picture, else the first image."""
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


def truths(texts: Sequence[str], images: Images, image: int) -> list[bool | None] | None:
    """Return for each text whether it is true of an image of the world; None for images whose truth is unknown."""
    table = images.attributes or {}
    if not set(ATTRIBUTE_COLUMNS) <= set(table) or table["kind"][image] is None:
        return None
    return known_of(texts, {column: table[column][image] for column in ATTRIBUTE_COLUMNS})
