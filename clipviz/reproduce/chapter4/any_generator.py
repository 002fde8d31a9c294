"""Chapter 4 for any generator: what can be measured without knowing the true scene of a picture.

This covers the units that it shares with other models, against chance (Eq. 4.3, 4.4); inversions of its own
held-out pictures (Table 4.1); inversions of a collection's images by pairs alone, compared with another image;
and how much of a requested change the maps reach, compared with a step of the same length in a random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipviz.analysis.generation import editing
from clipviz.analysis.generation.editing import asked_maps
from clipviz.analysis.generation.guides import Guides, find_guides, fingerprint
from clipviz.analysis.generation.inversion import N_STARTS
from clipviz.analysis.rosetta.dictionaries import about, mined_from_generator
from clipviz.data import dictionary
from clipviz.data.images import Images
from clipviz.data.texts import class_texts
from clipviz.lens import intervals, zeroshot
from clipviz.lens.invert import Schedule, map_distance
from clipviz.models.clip import ClipModel
from clipviz.models.generator import Generator
from clipviz.models.zoo import Partner, clip_partner
from clipviz.reproduce.chapter4.comparing import Perceptual, as_bytes, psnr
from clipviz.reproduce.chapter4.concept_pages import single_units_section
from clipviz.reproduce.chapter4.editing import CHUNK, QUARTER, SEED, ZOOM, search_for
from clipviz.reproduce.chapter4.inverting import (
    N_MORE,
    N_SHOWN,
    PAIRS,
    TargetSizes,
    by_pairs_alone,
    in_two,
    inversions,
    report_table,
)
from clipviz.reproduce.evaluation import spaced
from clipviz.reproduce.report import Report, Result, Steps
from clipviz.values import Concepts, numbers_of, with_numbers

EDITS = {
    "shift": (QUARTER, 1.0),
    "zoom": (0.0, ZOOM),
    "copy": (0.0, 1.0),
    "remove": (0.0, 1.0),
    "amplify": (0.0, 2.0),
}
"""The shift to the right, and the zoom factor."""
N_EDITED, SHARED = 24, 0.3
"""Number of samples to edit; correlation that a pair must exceed to be used as a guide."""


def identity_of(generator: Any) -> str:
    """Return what a generator's measurements depend on: its weights."""
    return fingerprint(generator.module) if hasattr(generator, "module") else str(generator.name)


def generator_sections(
    report: Report,
    steps: Steps,
    model: ClipModel,
    generator: Generator,
    partners: Mapping[str, Partner],
    sizes: TargetSizes,
    texts: list[str],
    images: Images,
) -> None:
    """Add all measurements of a generator. partners: models that read pictures; the first judges inversions, the
    model and the others guide them. images: pictures that it did not paint.
    """
    concepts = _mined(report.folder / "generator_rosetta", model, generator, partners, sizes, texts)
    units_section(report, generator, concepts)
    (judge, loss_network), *others = partners.items()
    readers = {"clip": clip_partner(model, "clip"), **dict(others)}
    guides = _guides(generator, readers, sizes)
    loss = Perceptual(loss_network)
    found = steps.get("table 4.1", lambda: inversions(generator, loss, readers, guides, sizes))
    own = " and their class" if hasattr(generator.sample(1), "label") else ""
    targets = (
        "of the generator's pictures, from latents that were not used for matching, are inverted from "
        f"the prior's mean{own}"
    )
    report_table(report, found, judge, sizes, targets)
    if guides is None:
        report.section(
            "Editing (Figures 4.7, 4.8, C.3, C.12)",
            f"No unit is shared at a correlation above {SHARED}, so there is nothing to edit.",
        )
    else:
        edits_section(report, steps, generator, guides, min(N_EDITED, sizes.edited))
    outside_section(report, steps, model, generator, readers, guides, images, loss, judge, sizes)


def outside_section(
    report: Report,
    steps: Steps,
    model: ClipModel,
    generator: Any,
    readers: Mapping[str, Partner],
    guides: Guides | None,
    images: Images,
    loss: Perceptual,
    judge: str,
    sizes: TargetSizes,
) -> None:
    """Figures 4.4, 4.5, C.1 and C.2: pictures of the collection, which the generator did not paint, inverted by
    pairs alone. loss: the distance used by the judging model, which guides nothing.
    """
    title = "Out of distribution, and across classes (Figures 4.4, 4.5, C.1, C.2)"
    if guides is None:
        report.section(
            title,
            f"No unit is shared at a correlation above {SHARED}, so there is nothing to guide an inversion.",
        )
        return
    found = steps.get("outside", lambda: outside(model, generator, readers, guides, images, loss, sizes))
    n, classes = len(found["images"]), getattr(generator, "classes", ())
    turned = (
        "with the class that the model names, and with the next one"
        if classes
        else "whatever class they show, into what the generator paints"
    )
    report.section(
        title,
        f"{n} images of the collection are inverted by pairs alone (Eq. 4.5, by the correlation of "
        f"maps, {sizes.steps} steps from the best of {N_STARTS} random latents), {turned}. "
        f'"Distance" is that between the result and the image in the maps of {judge}, which guides '
        "nothing, beside the distance to another of the images. The difference shows what the "
        "inversion captures of its own image. Means are given with 95% intervals. With `--generator "
        "demo`, whose true scenes are known, results are also judged by the true scene.",
    )
    rows = []
    for way in found["ways"]:
        own, other = found[f"{way} own"], found[f"{way} other"]
        cells = (intervals.mean(own), intervals.mean(other), intervals.mean(other - own))
        rows.append([way, *(cell.in_full for cell in cells)])
    report.table(["class", "distance to the image", "to another image", "difference"], rows)
    kept = min(n, N_SHOWN + N_MORE)
    pictures = [
        [(found["images"][i], ""), *((found[f"{way} images"][i], "") for way in found["ways"])]
        for i in range(kept)
    ]
    heads, said = ["image", *found["ways"]], "images found by Rosetta neurons alone"
    in_two(report, "translated", pictures, N_SHOWN, heads, ("4.4, 4.5", "C.1, C.2"), said, 4.2)


def outside(
    model: ClipModel,
    generator: Any,
    readers: Mapping[str, Partner],
    guides: Guides,
    images: Images,
    loss: Perceptual,
    sizes: TargetSizes,
) -> Result:
    """Invert evenly spaced images of a collection by the maps of pairs alone.

    Returns the pictures, and the judge's distances to the image itself ("own") and to the next image ("other").
    """
    chosen = spaced(len(images), max(2, sizes.crossed))
    shown = np.stack([model.shown(model.prepare(images[i]))[0] for i in chosen])
    targets = torch.from_numpy(shown).permute(0, 3, 1, 2).float().div(255).to(model.device)
    classes = tuple(getattr(generator, "classes", ()))
    ways: dict[str, list[int] | None] = {"the generator's": None}
    if classes:
        prompts = class_texts(list(classes))
        flat = [text for texts in prompts for text in texts]
        directions = zeroshot.of_prompts(model.encode_texts(flat), [len(texts) for texts in prompts])
        named = (model.encode_images([images[i] for i in chosen]) @ directions.T).argmax(1).tolist()
        ways = {"as named": named, "another": [(label + 1) % len(classes) for label in named]}
    size = generator.images(generator.sample(1)).shape[2:]
    small = F.interpolate(targets, size, mode="bilinear", antialias=True)
    result: Result = {"ways": list(ways), "images": as_bytes(small)}
    for way, labels in ways.items():
        pictures = by_pairs_alone(generator, readers, guides, targets, labels, sizes.steps)
        with torch.no_grad():
            own, other = loss(pictures, small), loss(pictures, small.roll(1, 0))
        result |= {
            f"{way} images": as_bytes(pictures),
            f"{way} own": own.cpu().numpy(),
            f"{way} other": other.cpu().numpy(),
        }
    return result


def _mined(
    folder: Path,
    model: ClipModel,
    generator: Any,
    partners: Mapping[str, Partner],
    sizes: TargetSizes,
    texts: list[str],
) -> Concepts:
    """Return the dictionary with the generator as pivot from a folder; it is mined now unless the same one is there."""
    key = {
        "generator": identity_of(generator),
        "latents": sizes.matched,
        "partners": {name: fingerprint(partner.module) for name, partner in partners.items()},
    }
    try:
        head = dictionary.read_head(folder)["about"]
        if head.get("key") == key and head.get("model") == model.fingerprint:
            return dictionary.load(folder)
    except ValueError:
        pass
    readers = list(partners.values())
    n_heldout = max(8, sizes.matched // 2)
    concepts, pictures = mined_from_generator(generator, model, readers, sizes.matched, n_heldout, texts)
    source = {**about(model, readers, None), "n_images": sizes.matched, "n_heldout": n_heldout, "key": key}
    source["losses"][generator.name] = getattr(generator, "loss", "generative")
    dictionary.save(concepts, folder, source, pictures)
    return concepts


def _guides(generator: Any, readers: Mapping[str, Any], sizes: TargetSizes) -> Guides | None:
    """Return pairs with every reader, or None if there are none."""
    latents = generator.sample(sizes.matched, seed=7)
    try:
        return find_guides(generator, readers, latents, above=SHARED, most=10 * PAIRS)
    except ValueError:
        return None


def units_section(report: Report, generator: Any, concepts: Concepts) -> None:
    """Table 4.2's row for the generator, and its pairs against chance."""
    maps = generator.maps(generator.sample(1, seed=0))
    sizes = sorted({tuple(one.shape[2:]) for one in maps.values()})
    n_units = sum(one.shape[1] for one in maps.values())
    report.section(
        f"The units of {generator.name} that other models share (Table 4.2, Eq. 4.4)",
        f"{len(maps)} layers, {n_units:,} units, maps of "
        f"{', '.join(f'{r} x {c}' for r, c in sizes)}. Pairs are best buddies among each other's "
        f"{concepts.k} nearest neighbours over the generator's own samples. Their correlation "
        "exceeds that on shuffled pictures by a threshold, the 99% quantile of this excess for best "
        f"buddies of shuffled pictures. {len(concepts)} units are shared with every model; their "
        "dictionary is stored beside this report, in `generator_rosetta`.",
    )
    rows = []
    for i, name in enumerate(concepts.models[1:], 1):
        means = [
            float(np.mean(np.asarray(values)[:, i])) if len(concepts) else None
            for values in (concepts.correlation, concepts.heldout)
        ]
        pairs, chance = int(concepts.n_pairs[i]), int(concepts.n_chance[i])
        rows.append([name, pairs, chance, float(concepts.threshold[i]), *means])
    report.table(
        ["model", "pairs", "shuffled", "threshold", "mean r of the shared, matched", "other latents"], rows
    )


# -- edits, by the maps alone ----------------------------------------------------------------------------------------


def reached(
    generator: Any, guides: Guides, change: str, schedule: Schedule, latents: Any, seed: int = SEED
) -> dict[str, Tensor]:
    """Return for each latent how far an edit came towards the requested maps, and its picture.

    "edited": 1 - distance / distance of the unedited picture, 1 if the maps are as requested, 0 if nothing was
    gained; "random": the same after a step of the edit's length in a random direction. "images": the resulting
    pictures, 0..1.
    """
    right, factor = EDITS[change]
    found = editing.edit(generator, latents, guides, change, schedule=schedule, right=right, factor=factor)
    source, numbers = numbers_of(latents), numbers_of(found.latents)
    draw = torch.Generator().manual_seed(seed)
    direction = torch.randn(source.shape, generator=draw).to(source).flatten(1)
    length = (numbers - source).flatten(1).norm(dim=1, keepdim=True)
    step = (direction * length / direction.norm(dim=1, keepdim=True)).reshape(source.shape)
    before = generator.maps(latents)
    asked = asked_maps(before, guides.own, change, right=right, factor=factor)
    least = map_distance(before, asked, guides.own).clamp_min(1e-12)

    def share(at: Tensor) -> Tensor:
        return 1 - map_distance(generator.maps(with_numbers(latents, at)), asked, guides.own) / least

    return {"edited": share(numbers), "random": share(source + step), "images": found.images.clamp(0, 1)}


def edits_section(report: Report, steps: Steps, generator: Any, guides: Guides, n: int) -> None:
    """Figures 4.7, 4.8, C.3 and C.12 as numbers and pictures, judged by the maps."""
    latents = generator.sample(n, seed=SEED)
    found = steps.get("edits", lambda: _edited(generator, latents, guides))
    report.section(
        "Editing (Figures 4.7, C.3)",
        f"The maps of {guides.n_units} shared units of {n} samples are moved by a quarter of a side, "
        f"enlarged by {ZOOM:g}, copied, removed or doubled in height, and latents are searched that "
        'follow. "Reached" is one minus the '
        "maps' distance to the requested ones as a share of the unedited picture's distance, so "
        "that 1 means as requested. It is compared with a step of the same length in a random "
        "direction. Means are given with 95% intervals.",
    )
    rows = [
        [
            change,
            *(intervals.mean(found[f"{change} {way}"]).in_full for way in ("edited", "random")),
            f"{float(np.mean(found[f'{change} psnr'])):.1f}",
        ]
        for change in EDITS
    ]
    report.table(["edit", "reached", "random step", "PSNR to the source, dB"], rows)
    columns = ["generated", *EDITS]
    kept = range(len(found["generated images"]))
    shown = [[(found[f"{name} images"][i], "") for name in columns] for i in kept]
    in_two(report, "edits", shown, N_SHOWN, columns, ("4.7", "C.3"), "edits by shared units", 6.2)
    single_units_section(report, steps, generator, guides, search_for(n, N_EDITED))


def _edited(generator: Any, latents: Any, guides: Guides) -> Result:
    n = len(numbers_of(latents))
    schedule = search_for(n, N_EDITED)
    source = torch.cat(_chunks(latents, lambda part: generator.images(part).detach()))
    result: Result = {"generated images": as_bytes(source[: N_SHOWN + N_MORE])}
    for change in EDITS:
        parts = _chunks(latents, partial(reached, generator, guides, change, schedule))
        whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        result |= {f"{change} {way}": whole[way].cpu().numpy() for way in ("edited", "random")}
        result[f"{change} psnr"] = psnr(whole["images"], source).cpu().numpy()
        result[f"{change} images"] = as_bytes(whole["images"][: N_SHOWN + N_MORE])
    return result


def _chunks(latents: Any, compute: Callable[[Any], Any]) -> list[Any]:
    n = len(numbers_of(latents))
    return [compute(latents[first : first + CHUNK]) for first in range(0, n, CHUNK)]
