"""The data of chapter 2: images with classification tasks, texts, groups and masks.

On the demo world everything comes from the embedded collection. With a folder of images (a subfolder per class,
or a table of labels) there is one task, its classes. Groups and masks come from Waterbirds and a segmentation set
if the user has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipviz import demo
from clipviz.analysis.collection import classifiers, reading
from clipviz.analysis.collection.tasks import class_labels, waterbird_task
from clipviz.data import images as image_data
from clipviz.data import segmentation
from clipviz.data.images import Images
from clipviz.data.segmentation import MaskedImages
from clipviz.data.texts import Texts, class_texts, open_texts
from clipviz.data.waterbirds import waterbirds
from clipviz.demo.tasks import world_tasks
from clipviz.lens import ablate, zeroshot
from clipviz.lens.ablate import Terms
from clipviz.models.clip import ClipModel
from clipviz.models.opening import imagenet_prompts
from clipviz.reproduce import published
from clipviz.reproduce.report import Steps
from clipviz.values import Codes, Task

DEMO_IMAGES, DEMO_MASKS, DEMO_BIRDS = 600, 100, 240
WATERBIRD_EXAMPLES = 1000
CHUNK, BATCH = 96, 32


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All data of the chapter; birds and masks may be missing.

    tasks: of the images, each with a classifier. birds: pictures in groups of class and background, and their
    task with the classifiers of its names and of examples (Table 2.3); shortcut: the directions whose difference
    is the background. masks: pictures with the mask of their class. pairs: pictures of two classes, once for each
    class with its mask alone. published: which data sets of the thesis these are.
    """

    name: str
    images: Images
    tasks: list[Task]
    pools: dict[str, Texts]
    birds: tuple[Images, Task] | None = None
    shortcut: Tensor | None = None
    masks: MaskedImages | None = None
    pairs: MaskedImages | None = None
    class_prompts: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    published: frozenset[str] = frozenset()


def in_demo_world(model: ClipModel) -> bool:
    """Return whether the demo world is the one that the model was trained on."""
    return model.bundle is demo.bundle()


def demo_evaluation(model: ClipModel, limit: int | None = None, with_birds: bool = True) -> Evaluation:
    """Return the embedded collection: objects, colours and backgrounds, birds on two backgrounds, true masks.

    An even sample of `limit` images (default 600) keeps the run under a few minutes on two cores. with_birds:
    include the birds, whose classes are learnt from many pictures; chapter 3 does not need them. Raises
    ValueError for a model of another world.
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
    tasks = [classifiers.by_name(model, world[name]) for name in ("objects", "colours", "backgrounds")]
    prompts = {
        name: list(texts)
        for name, texts in zip(world["objects"].classes, world["objects"].prompts, strict=True)
    }
    pool, birds = demo.texts(), _demo_birds(model, everything) if with_birds else None
    return Evaluation(
        name="the demo world",
        images=images,
        tasks=tasks,
        pools={
            "descriptions": pool,
            "common words": single_words(pool),
            "class names": _flat(list(prompts.values())),
        },
        birds=birds,
        shortcut=None if birds is None else classifiers.of_shortcut(model, birds[1]),
        masks=_demo_masks(everything, min(DEMO_MASKS, limit or DEMO_MASKS)),
        pairs=_demo_pairs(everything, min(DEMO_MASKS, limit or DEMO_MASKS)),
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
    """Return a folder of images with one subfolder per class, or with a table that names their classes.

    Classes are found as in a session (analysis.collection.tasks.class_labels). ImageNet's folders are recognised
    by their WordNet ids. Images without a class are excluded.
    """
    everything = image_data.open_images(data)
    folders, said = class_folders(everything, data), class_labels(everything)
    labelled = [i for i, label in enumerate(said) if label is not None]
    chosen = [labelled[i] for i in spaced(len(labelled), limit or 2_000)]
    images = everything.subset(chosen)
    names, templates = class_names(folders)
    prompts = class_texts(names, templates)
    labels = tuple(folders.index(str(said[i])) for i in chosen)
    task = Task("classes", tuple(folders), tuple(map(tuple, prompts)), labels)
    found = None if birds is None else _waterbirds(model, birds, limit)
    pool = open_texts("general")
    return Evaluation(
        name=Path(data).name,
        images=images,
        tasks=[classifiers.by_name(model, task)],
        pools={"descriptions": pool, "common words": single_words(pool), "class names": _flat(prompts)},
        birds=found,
        shortcut=None if found is None else classifiers.of_shortcut(model, found[1]),
        masks=None if masks is None else _masks(masks, limit),
        class_prompts=dict(zip(folders, prompts, strict=True)),
        notes=[
            f"{len(images):,} of {len(everything):,} images, {len(everything.skipped)} skipped as unreadable"
        ],
        published=frozenset(name for name, same in the_published(folders, masks, found).items() if same),
    )


def class_folders(images: Images, data: str) -> list[str]:
    """Return the classes of a folder of images, from subfolders or a table. Raises ValueError for fewer than two."""
    folders = sorted({label for label in class_labels(images) if label is not None})
    if len(folders) < 2:
        raise ValueError(
            f"expected a folder with a subfolder for each class, got {len(folders)} classes in {data!r}; "
            "arrange the images as class/name.jpg, or add a table labels.csv with the columns filename and label"
        )
    return folders


def the_published(
    folders: Sequence[str], masks: str | None, birds: tuple[Images, Task] | None
) -> dict[str, bool]:
    """Return which data are the thesis's: ImageNet by its classes, masks by their file, Waterbirds by its size."""
    return {
        published.IMAGENET: is_imagenet(folders),
        published.SEGMENTATION: masks is not None and masks.endswith(".mat"),
        published.WATERBIRDS: birds is not None and len(birds[0]) == published.N_WATERBIRDS,
    }


def batches(
    images: Sequence[Image.Image], name: str, quiet: bool
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Yield (rows, pictures) of the readable images, with a progress bar of that name."""
    return reading.batches(images, bar="" if quiet else name)


def class_names(folders: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Return names and templates for class folders: ImageNet's (open_clip's) for its 1,000 ids, else the folders'."""
    if is_imagenet(folders):
        names, templates = imagenet_prompts()
        return names, [template("{}") for template in templates]
    return [folder.replace("_", " ") for folder in folders], None


def is_imagenet(folders: Sequence[str]) -> bool:
    """Return whether class folders are ImageNet's 1,000 WordNet ids."""
    return len(folders) == 1000 and all(re.fullmatch(r"n\d{8}", folder) for folder in folders)


def said_of_chance(name: str, top1: float, n_images: int, n_classes: int) -> str:
    """Return a warning that a task is not solved, so that its changes are not interpreted; "" if it is solved."""
    if zeroshot.above_chance(top1, n_images, n_classes):
        return ""
    return (
        f"**{name}**: accuracy {top1:.3f} on {n_images:,} images is no better than chance "
        f"({1 / n_classes:.3f} for {n_classes} classes), so that changes by a replacement have no "
        "meaning here; use more images, or classes that the model knows."
    )


def traced_steps(folder: Path, model: ClipModel, images: Images) -> Steps:
    """Return where traced images are stored, so that chapters with the same images share them."""
    return Steps(folder, {**model.identity(), "images": images.fingerprint})


def trace_terms(
    model: ClipModel, images: Sequence[Image.Image], steps: Steps, name: str, quiet: bool = False
) -> tuple[Terms, list[int], list[tuple[int, str]]]:
    """Return ablation terms of a collection, including the class token; chunks are stored, so that the run can be
    resumed.

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
    """Return n_chosen indices spread evenly over n_all, or all of them if there are fewer."""
    return sorted(set(np.linspace(0, n_all - 1, min(n_chosen, n_all)).round().astype(int).tolist()))


def single_words(pool: Texts) -> Texts:
    """Return the distinct words of a pool as texts of one word, the thesis's baseline of the most common words."""
    found = sorted({word.strip(".,'\"").lower() for text in pool for word in text.split()})
    return Texts([word for word in found if word.isalpha()], None, "single words")


def _trace_chunk(model: ClipModel, images: Sequence[Image.Image], rows: range) -> dict[str, Any]:
    parts, kept, broken = [], [], []
    for start in range(rows.start, rows.stop, BATCH):
        found = reading.read(images, range(start, min(start + BATCH, rows.stop)))
        kept += found.rows
        broken += [[row, reason] for row, reason in found.broken.items()]
        if found.pictures:
            parts.append(ablate.terms_of(model.trace(found.pictures), tokens=[0]))
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


def _demo_birds(model: ClipModel, images: Images) -> tuple[Images, Task] | None:
    birds = world_tasks(images).get("birds by example")
    if birds is None:
        return None
    names = sorted(set(birds.groups) - {""})
    per_group = [[i for i, g in enumerate(birds.groups) if g == name] for name in names]
    rows = sorted(i for group in per_group for i in group[: DEMO_BIRDS // len(names)])
    learnt = classifiers.from_pictures(model, images, birds.examples)
    known = classifiers.by_name(model, birds)
    return images.subset(rows), replace(known, classifiers={**known.classifiers, "examples": learnt}).of(rows)


def _waterbirds(model: ClipModel, folder: str, limit: int | None) -> tuple[Images, Task]:
    images = waterbirds(folder)
    rows = spaced(len(images), limit or len(images))
    examples, note = _waterbird_examples(model, folder, limit)
    task = classifiers.by_name(model, replace(waterbird_task(images), note=note))
    return images.subset(rows), replace(task, classifiers={**task.classifiers, **examples}).of(rows)


def _waterbird_examples(model: ClipModel, folder: str, limit: int | None) -> tuple[dict[str, Tensor], str]:
    """Return examples from the data set's training part (95% in the usual habitat), or none without it."""
    try:
        seen = waterbirds(folder, "train")
        task = waterbird_task(seen)
        rows = spaced(len(seen), limit or WATERBIRD_EXAMPLES)
        examples = [[i for i in rows if task.labels[i] == label] for label in range(len(task.classes))]
        directions = classifiers.from_pictures(model, seen, examples)
    except ValueError as error:
        return {}, f"which need the data set's training part: {error}"
    return {
        "examples": directions
    }, f"learnt from {len(rows)} pictures of the data set's biased training part"


def _demo_masks(images: Images, n: int) -> MaskedImages:
    """Return up to n lone objects without a treatment, each of which has a mask, so that no other mask is read."""
    table = images.attributes or {}
    columns = zip(table["kind"], table["second kind"], table["treatment"], strict=True)
    rows = [
        i
        for i, (kind, second, treatment) in enumerate(columns)
        if kind == "object" and second is None and treatment in (None, "none")
    ]
    return segmentation.from_collection(images.subset(rows[i] for i in spaced(len(rows), n)), "class")


def _demo_pairs(images: Images, n: int) -> MaskedImages | None:
    """Return untreated scenes of two different objects, once for each object."""
    table = images.attributes or {}
    columns = zip(table["kind"], table["second kind"], table["treatment"], strict=True)
    rows = [
        i
        for i, (kind, second, treatment) in enumerate(columns)
        if kind == second == "object" and treatment in (None, "none")
    ]
    chosen = [rows[i] for i in spaced(len(rows), n // 2)]

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
