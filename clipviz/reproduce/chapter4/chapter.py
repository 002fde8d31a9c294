"""Chapter 4: the units that CLIP shares with other models, against chance, on images that were not used for mining.

On the demo world the embedded partners are used; for a folder of images the public ones of the thesis, if their
weights are available. The dictionary is saved beside the report, in `rosetta`, and can be opened in the panel.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipviz import demo
from clipviz.analysis.collection.text_pool import open_pool
from clipviz.analysis.generation.guides import fingerprint, guides_between
from clipviz.analysis.rosetta.dictionaries import about, mined
from clipviz.analysis.rosetta.mining import pairs_above
from clipviz.analysis.rosetta.unit_maps import KeptMaps, places
from clipviz.data import dictionary
from clipviz.data.images import Images, open_images
from clipviz.demo import world
from clipviz.demo.generator.measure import Names
from clipviz.figures import chapter4 as figures
from clipviz.loading import load, load_generator, load_partner
from clipviz.models.clip import ClipModel
from clipviz.models.generator import Generator
from clipviz.models.untrained import untrained_copy
from clipviz.models.zoo import Partner, clip_partner
from clipviz.reproduce.chapter4.any_generator import generator_sections, identity_of
from clipviz.reproduce.chapter4.concept_pages import NONE_SHARED, class_pages, page_of, painted_section
from clipviz.reproduce.chapter4.editing import editing_section, search_for
from clipviz.reproduce.chapter4.inverting import FEW, TargetSizes, inversion_section
from clipviz.reproduce.evaluation import spaced
from clipviz.reproduce.report import Needed, Report, Steps
from clipviz.reproduce.world.held_out import encoder_of
from clipviz.session import SharedUnits
from clipviz.values import Concepts

N_MINED, N_HELDOUT, K, BATCH = 256, 128, 5, 64
THESIS = ("resnet50", "dino_resnet50", "dino_vit_b16", "mae_vit_b16", "clip_resnet50")
"""The partners that read images (Table 4.2)."""
N_LISTED, N_PAGE, N_PAGES = 20, 8, 3


@dataclass(frozen=True, eq=False)
class Mining:
    """The input of mining: a CLIP and its pictures, the partners, other pictures for validation, a generator matched
    on its own samples, and the number of pictures available (0 if unknown).
    """

    model: ClipModel
    images: Images
    partners: list[Partner]
    heldout: Any
    notes: list[str]
    generator: Any = None
    n_all: int = 0

    @property
    def company(self) -> list[Any]:
        """All models that the CLIP is matched with."""
        return [*self.partners, *([] if self.generator is None else [self.generator])]


def run(
    model: ClipModel | str = "demo",
    out: str | Path = "reproduction",
    pretrained: str | None = None,
    data: str | None = None,
    partners: Sequence[str | Partner] | None = None,
    limit: int | None = None,
    generator: str | Path | Generator | None = None,
    generator_class: int | None = None,
    quiet: bool = False,
) -> Path:
    """Reproduce Tables 4.1 and 4.2 and Figures 4.1-4.8 and C.1-C.13; return the report's path.

    data: a folder of images, half of them for mining and half held out; without it the demo world. partners:
    names for load_partner, or Partners; default the embedded ones on the demo world and those of the thesis on a
    folder. limit: at most this many images for mining; fewer than 256 also mean fewer and shorter inversions and
    edits, as the report says. generator: "demo" (the default on the demo world; since its scenes are known, it
    allows all measurements of chapter 4 on other images too), a file for load_generator, or a generator;
    generator_class: the class that it paints. A finished dictionary and finished steps in `out` are reused.
    """
    started = time.monotonic()
    model = load(model, pretrained) if isinstance(model, str) else model
    painter, folder = _painter(model, generator, generator_class), Path(out)
    embedded = load_generator("demo", device=model.device) if data is None or generator == "demo" else None
    mining = _mining(model, data, partners, limit, embedded)
    concepts = mine_into(folder / "rosetta", mining)
    key = {**_key(mining), "rows": len(concepts)}
    steps = Steps(folder / "steps", key)
    sizes = TargetSizes.within(len(mining.images))
    report = Report(
        folder,
        "Chapter 4: Rosetta neurons, the units that models share",
        _lead(mining, sizes),
        model.device,
        "rosetta-",
        started,
    )
    models_section(report, mining)
    pairs_section(report, mining, concepts, steps)
    book = SharedUnits(mining, dictionary.open_folder(folder / "rosetta"), _named(mining.partners))
    dictionary_section(report, book, mining.images)
    image_section(report, mining, book)
    if painter is not None:
        own = Steps(folder / "steps", {**key, "generator": identity_of(painter), "class": generator_class})
        readers = _named(mining.partners)
        texts = list(open_pool(mining.model, None))
        painted_section(report, mining, book, painter)
        generator_sections(report, own, model, painter, readers, sizes, texts, mining.images)
    elif embedded is not None:
        bundle = demo.bundle()
        readers = {name: bundle.partners[name].load(model.device) for name in ("cnn", "vit")}
        painted_section(report, mining, book, embedded)
        names = functools.cache(lambda: Names(encoder_of(model)))
        inversion_section(report, model, steps, embedded, readers, names, sizes)
        guides = guides_between(embedded, readers, bundle.guides, model.device)
        editing_section(report, steps, embedded, guides, names, model.logit_scale, sizes.edited)
    else:
        report.section("Inversion and editing (Table 4.1, Figures 4.4-4.8, C.1-C.3, C.7-C.13)")
        report.needs("--generator FILE", "a generator of such images for inversion and edits, or demo")
    return report.write("chapter4")


def _painter(model: ClipModel, generator: str | Path | Generator | None, label: int | None) -> Any:
    """Return a generator other than the embedded one, or None. It is opened early, since a file may be invalid."""
    if generator is None or generator == "demo":
        if label is not None:
            raise ValueError(
                "expected a class for a generator given as a file, got one alone; leave generator_class out"
            )
        return None
    if not isinstance(generator, str | Path):
        return generator
    if not Path(generator).is_file():
        raise ValueError(
            f"expected 'demo' or a file of a generator's weights, got {str(generator)!r}; pass a .safetensors file"
        )
    options: dict[str, Any] = {} if label is None else {"class_index": label}
    return load_generator(generator, device=model.device, **options)


def mine_into(folder: Path, mining: Mining) -> Concepts:
    """Return the dictionary in a folder; it is mined now unless the same one is there."""
    key = _key(mining)
    try:
        if dictionary.read_head(folder)["about"].get("key") == key:
            return dictionary.load(folder)
    except ValueError:
        pass
    concepts = mined(
        mining.model,
        mining.partners,
        mining.images,
        mining.heldout,
        list(open_pool(mining.model, None)),
        mining.generator,
        k=K,
        batch=BATCH,
        at_least=min(2, len(mining.company)),
    )
    examples = sorted({int(i) for i in np.unique(np.asarray(concepts.examples))})
    hashes = {
        name: partner.digest for name, partner in demo.bundle().partners.items() if name in concepts.models
    }
    if mining.generator is not None:
        hashes[mining.generator.name] = fingerprint(mining.generator.module)
    dictionary.save(
        concepts,
        folder,
        {**about(mining.model, mining.company, mining.images), "partners": hashes, "key": key},
        {i: mining.images.thumbnail(i, dictionary.SIDE) for i in examples},
    )
    return dictionary.load(folder)


def models_section(report: Report, mining: Mining) -> None:
    """Table 4.2."""
    report.section("Models (Table 4.2)", "Units are read after the non-linearity, as maps over the image.")
    rows = []
    for partner in [clip_partner(mining.model, "clip"), *mining.company]:
        seen = [mining.images[0]] if partner is not mining.generator else partner.sample(1)
        maps = partner.maps(seen)
        sizes = sorted({tuple(found.shape[2:]) for found in maps.values()}, reverse=True)
        n_units = sum(found.shape[1] for found in maps.values())
        rows.append(
            [partner.name, partner.loss, len(maps), f"{n_units:,}", ", ".join(f"{r} x {c}" for r, c in sizes)]
        )
    report.table(["model", "taught by", "layers", "units", "maps"], rows)


def pairs_section(report: Report, mining: Mining, concepts: Concepts, steps: Steps) -> None:
    """Pairs of Eq. 4.3 with every model, beside those given by chance and by an untrained network."""
    untrained = steps.get(
        "untrained", lambda: {"pairs": _untrained_pairs(mining, np.asarray(concepts.threshold).tolist())}
    )["pairs"]
    report.section(
        "Best buddies, and how many arise by chance",
        f"Pairs among each other's {K} nearest neighbours (Eq. 4.3). Units may correlate by position "
        "alone, so a pair's correlation must exceed that on shuffled images by a threshold, the 99% "
        'quantile of this excess for best buddies of shuffled images. "Shuffled" counts the latter '
        "above the threshold. An untrained copy of the network sees the same pictures through "
        "random weights: its pairs are those that any local filter shares.",
    )
    units, counts, points, rows = np.asarray(concepts.units), {}, {}, []
    for i, name in enumerate(concepts.models[1:], start=1):
        there = units[:, i] >= 0
        mined_r, other_r = (
            np.asarray(values)[there, i] for values in (concepts.correlation, concepts.heldout)
        )
        # an untrained generator paints no picture
        copied = int(untrained[i - 1]) if i <= len(untrained) else None
        counts[name] = (int(concepts.n_pairs[i]), int(concepts.n_chance[i]), copied)
        points[name] = (mined_r, other_r)
        means = [float(r.mean()) if len(r) else None for r in (mined_r, other_r)]
        rows.append([name, *counts[name], float(concepts.threshold[i]), int(there.sum()), *means])
    head = ["model", "pairs", "shuffled", "untrained", "threshold", "rows of the dictionary"]
    report.table([*head, "mean r, mined", "mean r, other images"], rows)
    alike = [
        name for name, (pairs, _, copied) in counts.items() if copied is not None and copied > 0.8 * pairs
    ]
    if alike:
        report.text(
            f"Untrained copies of {' and '.join(alike)} have about as many pairs or more: there the "
            "number of pairs is no evidence of learning."
        )
    report.figure("pairs", figures.pairs_against_chance(counts, K), "Pairs against chance")
    report.figure(
        "held-out", figures.held_out(points), "The dictionary's pairs on images that were not mined"
    )
    tables = {
        name: _meeting(concepts, i)
        for i, name in enumerate(concepts.models[1:], 1)
        if (units[:, i] >= 0).any()
    }
    if tables:
        pivots = [_short(layer) for layer, _ in concepts.layers[0]]
        report.figure(
            "layers", figures.where_units_meet(tables, pivots), "Which layers hold the dictionary's pairs"
        )


def dictionary_section(report: Report, book: SharedUnits, images: Images) -> None:
    """Figures 4.2 and C.4-C.6, and the strongest concepts in words and numbers."""
    concepts, partners = book.concepts, book.concepts.models[1:]
    everywhere = book.listed(models=partners)
    n_models = (np.asarray(concepts.units) >= 0).sum(1)
    if not len(concepts):
        report.section("The dictionary (Figures 4.2, C.4-C.6)", NONE_SHARED)
        return
    report.section(
        "The dictionary (Figures 4.2, C.4-C.6)",
        f"{len(concepts)} CLIP units in {len(set(np.asarray(concepts.cluster).tolist()))} concepts; "
        + ", ".join(
            f"{int((n_models == n).sum())} units in {n} models" for n in sorted(set(n_models.tolist()))
        )
        + f". {len(everywhere)} concepts are shared by all {len(concepts.models)} models. A concept is "
        "named by the text that fits most of the images on which the CLIP unit is strongest, if it "
        "also does on held-out images.",
    )
    listed = everywhere or sorted(book.listed(), key=lambda row: -n_models[row])
    rows = []
    for concept in listed[:N_LISTED]:
        cells = book.cells(concept)
        where = [f"{_short(cell.layer)} · {cell.unit}" if cell else "–" for cell in cells]
        others = [cell.heldout for cell in cells[1:] if cell]
        rows.append([concept, book.title(concept), *where, int(book.sizes[concept]), float(np.mean(others))])
    report.table(["row", "concept", *concepts.models, "CLIP units", "held out"], rows)
    for page in range(N_PAGES):
        shown = listed[page * N_PAGE :][:N_PAGE]
        if shown:
            report.figure(
                f"dictionary-{page + 1}", page_of(book, shown), f"Figure 4.2: the dictionary, page {page + 1}"
            )
    class_pages(report, book, images)


def image_section(report: Report, mining: Mining, book: SharedUnits) -> None:
    """Figure 4.1: all concepts on one image."""
    if not len(book.concepts):
        report.section("All concepts of one image (Figure 4.1)", NONE_SHARED)
        return
    examples = np.asarray(book.concepts.examples)[:, 0]
    image = int(np.bincount(examples).argmax())  # the image that is most often the best example
    report.section(
        "All concepts of one image (Figure 4.1)", "CLIP's unit of every concept, the strongest first."
    )
    found = book.strongest(image, book.listed(), book.concepts.models[0])[:47]
    picture = mining.model.shown_sharp(mining.images[image])
    tiles = [(one.title, one.map) for one in found]
    report.figure(
        "one-image", figures.all_concepts(picture, tiles, "CLIP"), "Figure 4.1: all concepts on one image"
    )


def _untrained_pairs(mining: Mining, thresholds: list[float]) -> list[int]:
    pivot = clip_partner(mining.model, "clip")
    kept = KeptMaps(mining.images)
    return [
        len(pairs_above(pivot, untrained_copy(partner), mining.images, threshold, K, BATCH, kept).pairs)
        for partner, threshold in zip(mining.partners, thresholds[1:], strict=False)
    ]


def _meeting(concepts: Concepts, i: int) -> tuple[list[str], np.ndarray]:
    """Return the names of a model's layers, and the dictionary's pairs [pivot layer, layer]."""
    units = torch.as_tensor(np.asarray(concepts.units))
    units = units[units[:, i] >= 0]
    pivot, other = places(units[:, 0], concepts.layers[0])[0], places(units[:, i], concepts.layers[i])[0]
    table = np.zeros((len(concepts.layers[0]), len(concepts.layers[i])), int)
    np.add.at(table, (pivot.numpy(), other.numpy()), 1)
    return [_short(layer) for layer, _ in concepts.layers[i]], table


def _mining(
    model: ClipModel,
    data: str | None,
    partners: Sequence[str | Partner] | None,
    limit: int | None,
    generator: Any,
) -> Mining:
    everything = demo.images() if data is None else open_images(data)
    heldout: Any
    if data is None:
        n_mined = min(limit or N_MINED, len(everything))
        chosen, heldout = (
            spaced(len(everything), n_mined),
            world.render(min(N_HELDOUT, n_mined), seed=2024).images,
        )
    else:
        n_mined = min(limit or 1600, len(everything) // 2)
        both = spaced(len(everything), 2 * n_mined)
        chosen, heldout = both[::2], everything.subset(both[1::2])
    wanted = partners or (tuple(demo.bundle().partners) if data is None else THESIS)
    found, notes = [], []
    for partner in wanted:
        try:
            found.append(load_partner(partner) if isinstance(partner, str) else partner)
        except ValueError as error:
            if partners is not None:
                raise
            notes.append(str(error))
    if not found:
        raise Needed(
            "--partners NAMES",
            "models to match with, such as the embedded cnn and vit; expected at least one partner, got none: "
            + "; ".join(notes),
        )
    return Mining(model, everything.subset(chosen), found, heldout, notes, generator, len(everything))


def _key(mining: Mining) -> dict[str, Any]:
    embedded = demo.bundle().partners
    painter = {} if mining.generator is None else {"generator": fingerprint(mining.generator.module)}
    return {
        **painter,
        "model": mining.model.fingerprint,
        "images": mining.images.fingerprint,
        "partners": {
            p.name: embedded[p.name].digest if p.name in embedded else p.loss for p in mining.partners
        },
        "n_heldout": len(mining.heldout),
    }


def _lead(mining: Mining, sizes: TargetSizes) -> str:
    names = ", ".join(partner.name for partner in mining.partners)
    painter = "" if mining.generator is None else f", {mining.generator.name} on as many of its own pictures"
    lead = (
        f"{mining.model.name} ({mining.model.fingerprint[:8]}) and {names} on {len(mining.images):,} "
        f"of {mining.n_all:,} images; {len(mining.heldout):,} other images for validation{painter}. "
        "One Pearson correlation over images and positions per pair (Eq. 4.2)."
    )
    if sizes != TargetSizes():
        whole = TargetSizes()
        lead += (
            f" With fewer than {FEW} images for mining this is a small version for a first look: "
            f"{sizes.targets} inversions of {sizes.steps} steps and {sizes.edited} edits of "
            f"{search_for(sizes.edited).n_steps}, where the full version has {whole.targets} of "
            f"{whole.steps} and {whole.edited} of {search_for(whole.edited).n_steps}. It does not "
            "show how good inversions and edits are."
        )
    return " ".join([lead, *(f"Left out: {note}" for note in mining.notes)])


def _named(partners: Sequence[Partner]) -> dict[str, Partner]:
    return {partner.name: partner for partner in partners}


def _short(layer: str) -> str:
    dull = {"transformer", "encoder", "mlp", "act", "gelu"}
    parts = [part for part in layer.split(".") if part not in dull]
    return ".".join(parts).replace("resblocks.", "L").replace("relu_out", "out")
