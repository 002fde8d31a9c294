"""What chapter 2 is measured on: images with classification tasks, texts, groups and masks.

On the demo world everything comes from the embedded collection. With a folder of images (a subfolder a class)
there is one task, its classes; groups and masks come from Waterbirds and a segmentation set where the user has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipviz import demo
from clipviz.analysis.tasks import class_folder
from clipviz.data import images as image_data
from clipviz.data import segmentation
from clipviz.data.images import Images
from clipviz.data.segmentation import MaskedImages
from clipviz.data.texts import Texts, class_texts, open_texts
from clipviz.data.waterbirds import waterbirds
from clipviz.demo.tasks import world_tasks
from clipviz.demo.world import vocabulary as words
from clipviz.lens import ablate, zeroshot
from clipviz.lens.ablate import Terms
from clipviz.models.clip import ClipModel, imagenet_prompts
from clipviz.reproduce.report import Steps
from clipviz.values import Codes

DEMO_IMAGES, DEMO_MASKS, DEMO_BIRDS = 600, 100, 240
WATERBIRD_EXAMPLES = 1000
CHUNK, BATCH = 96, 32


@dataclass(frozen=True, eq=False)
class Task:
    """One classification: class directions [class, d_embed], and a label an image (-1: not part of the task)."""

    name: str
    directions: Tensor
    labels: list[int]


@dataclass(frozen=True, eq=False)
class Groups:
    """Images in groups of class and background.

    classifiers: what the classes are made of ("names", "examples") -> their directions [class, d_embed]; cue: the
    directions whose difference is the spurious cue. examples: what the examples are, in words.
    """

    images: Sequence[Image.Image]
    classifiers: dict[str, Tensor]
    labels: list[int]
    groups: list[str]
    cue: Tensor
    examples: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that the chapter is measured on; groups and masks may be missing.

    masks: pictures with the mask of their class. pairs: pictures of two classes, once for each with its mask alone.
    """

    name: str
    images: Images
    tasks: list[Task]
    pools: dict[str, Texts]
    groups: Groups | None = None
    masks: MaskedImages | None = None
    pairs: MaskedImages | None = None
    class_prompts: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def in_demo_world(model: ClipModel) -> bool:
    """Whether the demo world is the one that the model was trained on."""
    return model.bundle is demo.bundle()


def demo_evaluation(model: ClipModel, limit: int | None = None) -> Evaluation:
    """The embedded collection: objects, colours and backgrounds, birds on two backgrounds, true masks.

    An even sample of `limit` images (default 600) keeps it under a few minutes on two cores. ValueError for a model of
    another world.
    """
    if not in_demo_world(model):
        raise ValueError(
            f"model {model.name!r} was not trained on the demo world; pass data=FOLDER with a subfolder of images "
            "for each class"
        )
    everything = demo.images()
    chosen = spaced(len(everything), limit or DEMO_IMAGES)
    images = everything.subset(chosen)
    world = world_tasks(images)
    shown = {name: world[name] for name in ("objects", "colours", "backgrounds")}
    tasks = [
        Task(name, class_directions(model, task.prompts), list(task.labels)) for name, task in shown.items()
    ]
    prompts = {
        name: list(texts)
        for name, texts in zip(world["objects"].classes, world["objects"].prompts, strict=True)
    }
    pool = demo.texts()
    return Evaluation(
        name="the demo world",
        images=images,
        tasks=tasks,
        pools={
            "descriptions": pool,
            "common words": single_words(pool),
            "class names": _flat(list(prompts.values())),
        },
        groups=_demo_birds(model, everything),
        masks=_demo_masks(everything),
        pairs=_demo_pairs(everything),
        class_prompts=prompts,
        notes=[
            f"an even sample of {len(images)} of the {len(everything):,} embedded images",
            "objects: lone kinds of object without a treatment; colours: without a second thing",
        ],
    )


def folder_evaluation(
    model: ClipModel,
    data: str,
    limit: int | None = None,
    masks: str | None = None,
    birds: str | None = None,
) -> Evaluation:
    """A folder of images, one subfolder a class (ImageNet's folders are known by their WordNet ids)."""
    everything = image_data.open_images(data)
    chosen = spaced(len(everything), limit or 2_000)
    images = everything.subset(chosen)
    folders = sorted({class_folder(name) for name in everything.names} - {""})
    if len(folders) < 2:
        raise ValueError(
            f"expected a folder with a subfolder for each class, got {len(folders)} classes in {data!r}; "
            "arrange the images as class/name.jpg"
        )
    names, templates = class_names(folders)
    prompts = class_texts(names, templates)
    labels = [folders.index(class_folder(name)) for name in images.names]
    pool = open_texts("general")
    return Evaluation(
        name=Path(data).name,
        images=images,
        tasks=[Task("classes", class_directions(model, prompts), labels)],
        pools={"descriptions": pool, "common words": single_words(pool), "class names": _flat(prompts)},
        groups=None if birds is None else _waterbirds(model, birds, limit),
        masks=None if masks is None else _masks(masks, limit),
        class_prompts=dict(zip(folders, prompts, strict=True)),
        notes=[
            f"{len(images):,} of {len(everything):,} images, {len(everything.skipped)} skipped as unreadable"
        ],
    )


def class_directions(model: ClipModel, prompts: Sequence[Sequence[str]]) -> Float[Tensor, "class d_embed"]:
    """A classifier from the prompts of each class; classes may have different numbers of prompts."""
    encoded = model.encode_texts([text for texts in prompts for text in texts])
    return zeroshot.of_prompts(encoded, list(map(len, prompts)))


def learnt_directions(
    model: ClipModel, images: Sequence[Image.Image], examples: Sequence[Sequence[int]]
) -> Float[Tensor, "class d_embed"]:
    """A classifier from the example images of each class (zeroshot.prototypes), without those that cannot be read."""
    label_of = {i: label for label, chosen in enumerate(examples) for i in chosen}
    parts, labels = [], []
    for rows, pictures in batches(images, "examples", quiet=True, chosen=list(label_of)):
        parts.append(model.encode_images(pictures))
        labels += [label_of[i] for i in rows]
    if not parts:
        raise ValueError(f"expected examples that can be read, got none of {len(label_of)}; check the files")
    return zeroshot.prototypes(torch.cat(parts), labels, len(examples))


def batches(
    images: Sequence[Image.Image], name: str, quiet: bool, chosen: Sequence[int] | None = None
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """(rows, pictures) of the images, or the chosen of them, that can be read."""
    wanted = range(len(images)) if chosen is None else chosen
    for start in tqdm(range(0, len(wanted), BATCH), desc=name, unit="batch", disable=quiet):
        rows, pictures = [], []
        for row in wanted[start : start + BATCH]:
            try:
                pictures.append(images[row])
                rows.append(row)
            except (ValueError, OSError):
                continue
        if rows:
            yield rows, pictures


def class_names(folders: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Names and templates for class folders: ImageNet's own (from open_clip) for its 1,000 ids, else the names."""
    if len(folders) == 1000 and all(re.fullmatch(r"n\d{8}", folder) for folder in folders):
        names, templates = imagenet_prompts()
        return names, [template("{}") for template in templates]
    return [folder.replace("_", " ") for folder in folders], None


def trace_terms(
    model: ClipModel, images: Sequence[Image.Image], steps: Steps, name: str, quiet: bool = False
) -> tuple[Terms, list[int], list[tuple[int, str]]]:
    """Ablation terms of a collection, class token included; in chunks that are kept, so that it can be resumed.

    Returns the terms, the indices of the images that could be read, and (index, reason) of the others.
    """
    parts, kept, broken = [], [], []
    starts = range(0, len(images), CHUNK)
    for start in tqdm(starts, desc=f"tracing {name}", unit="chunk", disable=quiet):
        rows = range(start, min(start + CHUNK, len(images)))
        chunk = steps.get(f"{name}-{start:06d}", partial(_trace_chunk, model, images, rows))
        kept += chunk["rows"]
        broken += [(row, reason) for row, reason in chunk["broken"]]
        if chunk["rows"]:
            parts.append(_terms(model, chunk))
    if not parts:
        raise ValueError(f"expected images that can be read, got none of {len(images)}: {broken[:3]}")
    return ablate.join(parts), kept, broken


def spaced(n_all: int, n_chosen: int) -> list[int]:
    """n_chosen indices spread evenly over n_all; all of them where there are fewer."""
    return sorted(set(np.linspace(0, n_all - 1, min(n_chosen, n_all)).round().astype(int).tolist()))


def single_words(pool: Texts) -> Texts:
    """The different words of a pool as texts of one word, the thesis's "most common words" baseline."""
    found = sorted({word.strip(".,'\"").lower() for text in pool for word in text.split()})
    return Texts([word for word in found if word.isalpha()], None, "single words")


def _trace_chunk(model: ClipModel, images: Sequence[Image.Image], rows: range) -> dict[str, Any]:
    parts, kept, broken = [], [], []
    for start in range(rows.start, rows.stop, BATCH):
        pictures = []
        for row in range(start, min(start + BATCH, rows.stop)):
            try:
                pictures.append(images[row])
                kept.append(row)
            except (ValueError, OSError) as error:
                broken.append([row, str(error)])
        if pictures:
            parts.append(ablate.terms_of(model.trace(pictures), tokens=[0]))
    if not parts:
        return {"rows": [], "broken": broken}
    terms = ablate.join(parts)
    assert terms.mlp_effects is not None
    assert terms.token_codes is not None
    arrays = {
        "codes": terms.codes.codes,
        "mean": terms.codes.mean,
        "std": terms.codes.std,
        "embedding": terms.codes.embedding,
        "mlp_effects": terms.mlp_effects,
        "token_codes": terms.token_codes,
    }
    return {"rows": kept, "broken": broken, **{key: value.cpu().numpy() for key, value in arrays.items()}}


def _terms(model: ClipModel, chunk: dict[str, Any]) -> Terms:
    weights = model.weights
    arrays = {key: torch.from_numpy(value) for key, value in chunk.items() if isinstance(value, np.ndarray)}
    layers = tuple(range(weights.n_layers))
    codes = Codes(arrays["codes"], arrays["mean"], arrays["std"], arrays["embedding"], layers)
    return Terms(
        codes=codes,
        basis=model.head_basis().to("cpu"),
        mlp_effects=arrays["mlp_effects"],
        token_codes=arrays["token_codes"],
        tokens=frozenset({0}),
        n_tokens=weights.grid[0] * weights.grid[1] + 1,
    )


def _demo_birds(model: ClipModel, images: Images) -> Groups | None:
    birds = world_tasks(images).get("birds by example")
    if birds is None:
        return None
    names = sorted(set(birds.groups) - {""})
    per_group = [[i for i, g in enumerate(birds.groups) if g == name] for name in names]
    rows = sorted(i for group in per_group for i in group[: DEMO_BIRDS // len(names)])
    return Groups(
        images=images.subset(rows),
        classifiers={
            "names": class_directions(model, birds.prompts),
            "examples": learnt_directions(model, images, birds.examples),
        },
        labels=[birds.labels[i] for i in rows],
        groups=[birds.groups[i] for i in rows],
        cue=class_directions(
            model, [list(words.BACKGROUND_PHRASES["water"]), list(words.BACKGROUND_PHRASES["forest"])]
        ),
        examples=birds.note,
    )


def _waterbirds(model: ClipModel, folder: str, limit: int | None) -> Groups:
    found = waterbirds(folder)
    rows = spaced(len(found.images), limit or len(found.images))
    examples, note = _waterbird_examples(model, folder, limit)
    return Groups(
        images=found.images.subset(rows),
        classifiers={"names": class_directions(model, class_texts(list(found.classes))), **examples},
        labels=[found.labels[i] for i in rows],
        groups=[found.groups[i] for i in rows],
        cue=class_directions(
            model,
            [["a photo of water", "the sea", "a lake"], ["a photo of land", "a forest", "a bamboo forest"]],
        ),
        examples=note,
    )


def _waterbird_examples(model: ClipModel, folder: str, limit: int | None) -> tuple[dict[str, Tensor], str]:
    """Classes learnt from the data set's training part, 95% of it at home; nothing where it is not there."""
    try:
        seen = waterbirds(folder, "train")
        rows = spaced(len(seen.images), limit or WATERBIRD_EXAMPLES)
        examples = [[i for i in rows if seen.labels[i] == label] for label in range(len(seen.classes))]
        directions = learnt_directions(model, seen.images, examples)
    except ValueError as error:
        return {}, f"not measured: {error}"
    return {
        "examples": directions
    }, f"learnt from {len(rows)} pictures of the data set's biased training part"


def _demo_masks(images: Images) -> MaskedImages:
    masked = segmentation.from_collection(images, "class")
    table = images.attributes or {}
    number = {name: i for i, name in enumerate(images.names)}
    rows = [
        place
        for place, name in enumerate(masked.names)
        if table["kind"][number[name]] == "object"
        and table["second kind"][number[name]] is None
        and table["treatment"][number[name]] in (None, "none")
    ]
    return masked.subset([rows[i] for i in spaced(len(rows), DEMO_MASKS)])


def _demo_pairs(images: Images) -> MaskedImages | None:
    """Untreated scenes of two different objects, once for each of them."""
    table = images.attributes or {}
    columns = zip(table["kind"], table["second kind"], table["treatment"], strict=True)
    rows = [
        i
        for i, (kind, second, treatment) in enumerate(columns)
        if kind == second == "object" and treatment in (None, "none")
    ]
    chosen = [rows[i] for i in spaced(len(rows), DEMO_MASKS // 2)]

    def read(place: int) -> tuple[Image.Image, np.ndarray]:
        i, label = chosen[place // 2], 1 + place % 2
        mask = images.masks(i)
        assert mask is not None
        return images[i], mask == label

    named = [(images.names[i], table[column][i]) for i in chosen for column in ("class", "second class")]
    return MaskedImages([name for name, _ in named], [label for _, label in named], read) if named else None


def _masks(source: str, limit: int | None) -> MaskedImages:
    found = (
        segmentation.imagenet_segmentation(source) if source.endswith(".mat") else segmentation.folder(source)
    )
    labelled = [i for i, label in enumerate(found.labels) if label is not None]
    if not labelled:
        raise ValueError(
            f"expected masks whose images have a class, got none in {source!r}; use class subfolders"
        )
    return found.subset([labelled[i] for i in spaced(len(labelled), limit or len(labelled))])


def _flat(prompts: Sequence[Sequence[str]]) -> Texts:
    return Texts([text for texts in prompts for text in texts], None, "class names")
