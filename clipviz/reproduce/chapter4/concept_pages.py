"""Pages about single concepts in chapter 4: concepts of one class (Figures C.4-C.6), all concepts on generated
pictures (C.7-C.11), and single units decreased and increased (4.8, C.12).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from clipviz.analysis.collection.tasks import class_labels
from clipviz.analysis.generation import editing
from clipviz.analysis.generation.guides import Guides
from clipviz.data.images import Images, open_images
from clipviz.figures import chapter4 as figures
from clipviz.figures import style
from clipviz.lens.invert import Schedule
from clipviz.reproduce.chapter4.comparing import as_bytes
from clipviz.reproduce.report import Report, Result, Steps
from clipviz.session import SharedUnits

N_CLASSES, N_BLOCKS = 3, 6
"""Number of classes with a page, and of concepts on it."""
NONE_SHARED = "There is no page: the dictionary is empty, since no unit of the CLIP has a match above chance."
ACROSS = 4  # concepts side by side on a page
N_PAINTED, N_TILES, N_SINGLE = 5, 31, 4
SEED = 5_000_011
LOUDER = 2.0  # factor of the heights of a unit that is increased


def class_pages(report: Report, book: SharedUnits, images: Images) -> None:
    """Figures C.4-C.6: for the classes with the most images, the concepts that are strongest on them."""
    classes = class_of(images)
    common = [name for name, _ in Counter(one for one in classes if one).most_common()]
    found = ((name, concepts_of_class(book, classes, name)[:N_BLOCKS]) for name in common)
    pages = list(itertools.islice(((name, shown) for name, shown in found if shown), N_CLASSES))
    if not pages:
        report.text(
            "Figures C.4-C.6: there is no class for them, since no example of a concept has a known class."
        )
    for place, (name, shown) in enumerate(pages, start=1):
        report.figure(
            f"dictionary-class-{place}",
            page_of(book, shown),
            f"Figures C.4-C.6: concepts that are strongest on images of the class {name}",
        )


def page_of(book: SharedUnits, concepts: Sequence[int]) -> Figure:
    """Return some concepts as a page of the dictionary, with the models that read pictures; few concepts use part of
    its width.

    A generator cannot read pictures: its maps are those of its own pictures, in Figures C.7-C.11.
    """
    blocks = [figures.ConceptBlock(*entry) for entry in book.entries(concepts)]
    width = style.PAGE * min(1.0, len(blocks) / ACROSS)
    return figures.dictionary_page(blocks, book.lookers, width, ACROSS)


def class_of(images: Images) -> list[str]:
    """Return the class of every image, from its attributes or its folder; "" for none."""
    column = (images.attributes or {}).get("class") or class_labels(images)
    return [str(one or "") for one in column]


def concepts_of_class(book: SharedUnits, classes: Sequence[str], name: str) -> list[int]:
    """Return concepts with examples of a class, those with the most examples first, then by held-out correlation."""
    examples = np.asarray(book.concepts.examples)
    hits = {row: sum(classes[i] == name for i in examples[row].tolist()) for row in book.listed()}
    return sorted((row for row, n in hits.items() if n), key=lambda row: -hits[row])


def painted_section(report: Report, mining: Any, book: SharedUnits, generator: Any) -> None:
    """Figures C.7-C.11: all concepts on pictures that a generator paints. mining: provides the model and partners."""
    if not len(book.concepts):
        report.section("All concepts on generated pictures (Figures C.7-C.11)", NONE_SHARED)
        return
    latents = generator.sample(N_PAINTED, seed=SEED)
    painted = as_bytes(generator.images(latents))
    source = dataclasses.replace(mining, images=open_images([Image.fromarray(one) for one in painted]))
    lookers = {name: one for name, one in book.networks.items() if book.networks.reads(name)}
    shown = SharedUnits(
        source,
        book.opened,
        lookers,
        None if book.networks.reads(generator.name) else lambda image: latents[image : image + 1],
    )
    report.section(
        "All concepts on generated pictures (Figures C.7-C.11)",
        f"{N_PAINTED} samples of {generator.name}; CLIP's unit of every concept, the strongest first.",
    )
    for place in range(N_PAINTED):
        found = shown.strongest(place, shown.listed(), book.concepts.models[0])[:N_TILES]
        report.figure(
            f"painted-{place + 1}",
            figures.all_concepts(
                mining.model.shown_sharp(source.images[place]),
                [(one.title, one.map) for one in found],
                "CLIP",
            ),
            f"Figure C.{7 + place}: all concepts on one generated picture",
        )


def single_units_section(
    report: Report, steps: Steps, generator: Any, guides: Guides, schedule: Schedule
) -> None:
    """Figures 4.8 and C.12: on each picture the shared unit that stands out most, decreased and increased by itself."""
    found = steps.get("single units", lambda: single_units(generator, guides, schedule))
    report.section(
        "Single units (Figures 4.8, C.12)",
        "For each picture the figure uses the shared unit whose map rises furthest above its mean. "
        "It shows the unit's map, and the pictures found by searching latents with the unit "
        f"removed, or with its values times {LOUDER:g}, while the other shared units stay.",
    )
    rows = [
        figures.UnitEdit(found["generated"][i], found["maps"][i], found["less"][i], found["more"][i], title)
        for i, title in enumerate(found["units"])
    ]
    report.figure(
        "single-units", figures.unit_edits(rows), "Figures 4.8 and C.12: single units turned down and up"
    )


def single_units(generator: Any, guides: Guides, schedule: Schedule, n: int = N_SINGLE) -> Result:
    """Return n samples, the unit that stands out on each, its map in 0..255, and pictures with less and more of it."""
    latents = generator.sample(n, seed=SEED + 1)
    units = standing_out(generator, latents, guides)
    maps = generator.maps(latents)
    result: Result = {
        "generated": as_bytes(generator.images(latents)),
        "units": [f"{layer} · {unit}" for layer, unit in units],
    }
    drawn: list[np.ndarray] = []
    less: list[np.ndarray] = []
    more: list[np.ndarray] = []
    for place, (layer, unit) in enumerate(units):
        one = maps[layer][place, unit]
        drawn.append(
            (255 * (one - one.min()) / (one.max() - one.min()).clamp_min(1e-12)).byte().cpu().numpy()
        )
        for change, factor, into in (("remove", 1.0, less), ("amplify", LOUDER, more)):
            part = latents[place : place + 1]
            edited = editing.edit(
                generator, part, guides, change, units=[(layer, unit)], factor=factor, schedule=schedule
            )
            into.append(as_bytes(edited.images)[0])
    return result | {"maps": _same_size(drawn), "less": np.stack(less), "more": np.stack(more)}


def standing_out(generator: Any, latents: Any, guides: Guides) -> list[tuple[str, int]]:
    """Return each picture's shared unit whose map rises furthest above its mean, in deviations; each is used once."""
    maps = generator.maps(latents)
    peaks, units = [], []
    for group in guides.own:
        own = maps[group.layer_a][:, group.units_a].amax((2, 3))
        peaks.append((own - group.mean_a) / group.std_a.clamp_min(1e-12))
        units += [(group.layer_a, unit) for unit in group.units_a.tolist()]
    heights = torch.cat(peaks, 1)
    chosen: list[int] = []
    for row in heights.tolist():
        order = sorted(range(len(row)), key=lambda i: -row[i])
        chosen.append(next((i for i in order if i not in chosen), order[0]))
    return [units[i] for i in chosen]


def _same_size(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return maps of different layers at the size of the largest."""
    side = max(one.shape[0] for one in maps), max(one.shape[1] for one in maps)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize(side[::-1], Image.Resampling.BILINEAR)) for one in maps]
    )
