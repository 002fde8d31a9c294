"""Chapter 3, reproduced: neurons through the second-order lens, on the demo world or on the user's model and images.

This module measures which layers matter and how (Figures 3.3, 3.4, B.2-B.5, Table 3.1). Uses of neurons are in
neuron_texts (Tables 3.2, B.1), attacks (Table 3.3) and neuron_segmenting (Table 3.4).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipviz import demo
from clipviz.analysis.collection import classifiers
from clipviz.analysis.neurons.replacement import CONDITIONS
from clipviz.data import images as image_data
from clipviz.data.images import Images
from clipviz.data.texts import Texts
from clipviz.demo.tasks import world_tasks
from clipviz.demo.world.scenes import render
from clipviz.figures import chapter2 as chapter2_figures
from clipviz.figures import chapter3 as figures
from clipviz.indexing import Index
from clipviz.lens import ablate
from clipviz.lens.sparse import CODE_SIZES, prepare_dictionary, reconstruct, sparse_codes
from clipviz.loading import load
from clipviz.models import captioners
from clipviz.models.bundle import Studio
from clipviz.models.captioners import Painter, Writer
from clipviz.models.clip import ClipModel
from clipviz.reproduce import published
from clipviz.reproduce.chapter3 import attacks, neuron_segmenting, neuron_texts
from clipviz.reproduce.chapter3.attack_tasks import pairs_of
from clipviz.reproduce.chapter3.layers import (
    QUICK_ATOMS,
    Layer,
    Study,
    component_share,
    intervened,
    layer_embeddings,
)
from clipviz.reproduce.evaluation import (
    DEMO_IMAGES,
    class_folders,
    demo_evaluation,
    folder_evaluation,
    in_demo_world,
    said_of_chance,
    spaced,
    trace_terms,
    traced_steps,
)
from clipviz.reproduce.pools import (
    CLASSES,
    MOST_COMMON,
    Added,
    DescribeClass,
    encoded_pools,
    open_pools,
    say_what_is_missing,
    text_pools,
)
from clipviz.reproduce.report import Report, Steps
from clipviz.values import Ablation, Task

N_REFERENCE, N_UNSEEN = 800, 300
COMPARED = (64, 64)  # images and neurons whose indirect and second-order effects are compared individually
QUICK_LIMIT, QUICK_COMPARED = 90, (12, 8)


def run(
    model: ClipModel | str = "demo",
    out: str | Path = "reproduction",
    pretrained: str | None = None,
    data: str | None = None,
    segmentation: str | None = None,
    limit: int | None = None,
    index: str | None = None,
    repeats: int = 3,
    pool: Added = None,
    describe_classes: DescribeClass | str | None = None,
    quick: bool = False,
    quiet: bool = False,
    summed: str = "late",
    describe: Writer | str | None = None,
    draw: Painter | str | None = None,
    pairs: str | Sequence[tuple[str, str]] | None = None,
    shifted: str | None = None,
) -> Path:
    """Reproduce Tables 3.1-3.4 and Figures 3.3-3.7 and B.1-B.5; return the report's path.

    data: a folder with one subfolder per class or a table of labels; without it the demo world. limit: at most
    this many images, and as many others as reference. index: an index of other images, whose statistics of
    neurons (clipviz index --neurons) replace the reference images; the report then covers the layers that it
    contains. repeats: number of repeats of the adversarial experiment. pool, describe_classes: further pools of
    texts (reproduce.pools). quick: a small version of everything, for a first look. summed: layers of the token
    decomposition's maps, "late" or "all" (as in the thesis). describe, draw: the writer and drawer of adversarial
    scenes, as callables or names of models (models.captioners); pairs: "cifar10", "traffic", "cat/dog,
    ship/truck" or pairs, by default those of the task whose classes the data have. shifted: a folder of the same
    classes in another style, such as ImageNet-R. Finished layers are stored in out/steps, from which an
    interrupted run continues.
    """
    started = time.monotonic()
    pool = open_pools(pool)
    model = load(model, pretrained) if isinstance(model, str) else model
    few = limit or QUICK_LIMIT if quick else limit
    opened = open_study(model, Path(out), data, segmentation, few, quiet, quick, index)
    study = replace(opened, studio=studio_of(describe, draw), pairs=pairs, shifted=shifted)
    pairs_of(pairs, ())  # unreadable data are reported before anything is measured
    if shifted is not None:
        class_folders(image_data.open_images(shifted), shifted)
    report = Report(
        Path(out),
        "Chapter 3: what the neurons of a CLIP image encoder write",
        _lead(study, quick),
        model.device,
        started=started,
    )
    peak = layers_section(report, study)
    first_order_section(report, study, peak)
    indirect_section(report, study, peak, QUICK_COMPARED if quick else COMPARED)
    words = () if quick else MOST_COMMON
    chosen = text_pools(study.model, study.evaluation, pool, describe_classes, study.steps, words)
    sparse_section(report, study, peak, chosen)
    described = study.layer(study.late[len(study.late) // 2])  # layer 9 of 12, as in the thesis
    neuron_texts.gallery_section(report, study, described, chosen)
    neuron_texts.concepts_section(report, study, described)
    attacks.attack_section(report, study, 1 if quick else repeats, quick)
    neuron_segmenting.segmentation_section(report, study, summed)
    return report.write("chapter3")


def studio_of(describe: Writer | str | None, draw: Painter | str | None) -> Studio | None:
    """Return the writer and the drawer, loaded if given by name; both or neither."""
    if (describe is None) != (draw is None):
        raise ValueError("expected describe and draw together, got one of them; pass both or neither")
    if describe is None or draw is None:
        return None
    writer = captioners.load_writer(describe) if isinstance(describe, str) else describe
    return Studio.of(writer, captioners.load_painter(draw) if isinstance(draw, str) else draw)


def open_study(
    model: ClipModel,
    out: Path,
    data: str | None = None,
    segmentation: str | None = None,
    limit: int | None = None,
    quiet: bool = False,
    quick: bool = False,
    index: str | None = None,
) -> Study:
    """Return the data of the chapter: images with tasks, other images as reference (the thesis's D), finished steps."""
    if data is None:
        evaluation, everything = demo_evaluation(model, limit, with_birds=False), demo.images()
        n_evaluated, n_reference = limit or DEMO_IMAGES, limit or N_REFERENCE
    else:
        evaluation, everything = (
            folder_evaluation(model, data, limit, segmentation),
            image_data.open_images(data),
        )
        n_evaluated = n_reference = limit or 2_000
    opened = None if index is None else Index.open(index)
    if opened is None:
        reference = others(everything, n_evaluated, n_reference)
    else:
        opened.check_model(model)
        reference = opened.images()
    key = {**model.identity(), "images": evaluation.images.fingerprint, "reference": reference.fingerprint}
    study = Study(model, evaluation, reference, Steps(out / "steps", key), quiet, quick, index=opened)
    if not study.layers:
        raise ValueError(
            f"expected an index with statistics of neurons, got {str(index)!r} without usable ones; "
            "build it with clipviz index --neurons LAYERS"
        )
    return study


def others(everything: Images, n_evaluated: int, n_wanted: int) -> Images:
    """Return an even sample of the images that the evaluation does not use, or of all images if fewer than 8 remain."""
    used = set(spaced(len(everything), n_evaluated))
    left = [i for i in range(len(everything)) if i not in used]
    left = left if len(left) >= 8 else list(range(len(everything)))
    return everything.subset([left[i] for i in spaced(len(left), n_wanted)])


def layers_section(report: Report, study: Study) -> int:
    """Figures 3.3, B.2 and B.3; returns the layer whose neurons matter most to the first task."""
    curves: dict[str, dict[str, dict[int, float]]] = {}
    baseline: dict[str, float] = {}
    rows, found_rows = [], []
    for known, found in _replaced(study):
        layer, found_rows = known.stats.layer, found["rows"]
        baseline = study.accuracy(found["baseline"], found["rows"])
        for condition in CONDITIONS:
            for task, top1 in study.accuracy(found[condition], found["rows"]).items():
                curves.setdefault(task, {}).setdefault(condition, {})[layer] = top1
        change = _change(found["baseline"], found[CONDITIONS[0]])
        straight = found.get("variance of PC 1", None) or float(known.line.share.mean())
        rows.append([layer, change, known.concentration(), straight, float(np.mean(found["share of large"]))])
    main = next(iter(curves))
    everything = curves[main][CONDITIONS[0]]
    peak = min(everything, key=lambda layer: (everything[layer], -layer))
    report.section(
        "Second-order effects by layer (Figures 3.3, B.2, B.3)",
        "The second-order effects of all neurons of one layer are replaced: by their means over the "
        "reference images (w/o all neurons), only where a neuron's norm is below the 98th percentile "
        "of its norms over the reference images (w/o small norm), only where it is above (w/o large "
        "norm), or by x r + b, their projection on one direction (reconstruction from PC 1, from the "
        "reference images of largest norm).",
    )
    for task, found in curves.items():
        report.figure(
            f"neurons-layers-{task}",
            figures.layer_ablation(found, baseline[task], task),
            f"Figure 3.3: {task}, accuracy after each replacement, one layer at a time",
        )
        report.table(
            ["layer", "nothing changed", *CONDITIONS],
            [[layer, baseline[task], *(found[name][layer] for name in CONDITIONS)] for layer in study.layers],
        )
    for one in study.evaluation.tasks:
        n_images = sum(one.labels[row] >= 0 for row in found_rows)
        chance = said_of_chance(one.name, baseline[one.name], n_images, len(one.classes))
        if chance:
            report.text(chance)
    where = (
        f"for {main} the largest drop is in layer {peak} of 0..{study.model.n_layers - 1} "
        f"({baseline[main]:.3f} to {everything[peak]:.3f})"
        if everything[peak] < baseline[main]
        else f"no layer's replacement lowers {main}; the following sections use layer {peak}"
    )
    report.text(
        f"**Where**: {where}; the thesis finds it moderately late, in layers 8-10 of 0..11. The last "
        'layer has no later attention. "Change" is the mean squared shift of the unit embeddings '
        "when all neurons are mean-ablated, relative to their variance over images. **Sparsity and "
        "rank**: the table shows means over neurons, on the reference images, of the share of the "
        "summed squared norm that falls on the 2% of images above the threshold, and of the share "
        "of variance of the first component over the images of largest norm. It also shows how many "
        "effects of the evaluated images are large."
    )
    report.table(
        ["layer", "change w/o all", "norm on 2% of the images", "variance of PC 1", "large effects"], rows
    )
    left_out = [n for n in range(study.model.n_layers - 1) if n not in study.layers]
    if left_out:
        report.text(f"The index does not contain layers {', '.join(map(str, left_out))}.")
    _unseen(report, study)
    return peak


def _replaced(study: Study) -> Iterator[tuple[Layer, dict[str, Any]]]:
    """Yield every layer with the embeddings of the evaluated images after its replacements."""
    for group in study.groups:
        known = study.of_layers(group)
        found = layer_embeddings(study.model, study.evaluation.images, known, study.steps, study.quiet)
        yield from zip(known, found, strict=True)


def _change(before: np.ndarray, after: np.ndarray) -> float:
    """Return the mean squared distance of embeddings before and after, relative to their summed variance before."""
    return float(np.square(after - before).sum(1).mean() / np.var(before, axis=0).sum())


def _unseen(report: Report, study: Study) -> None:
    """Figure B.3 (ImageNet-R in the thesis): the same measurement on images of another kind."""
    n_images = min(60, len(study.evaluation.images)) if study.quick else N_UNSEEN
    if study.shifted is not None:
        images, tasks = shifted_views(study, n_images if study.quick else 2_000)
        about, title = f"of {Path(study.shifted).name}", Path(study.shifted).name
    elif in_demo_world(study.model):
        images, tasks = unseen_views(study.model, n_images)
        about = (
            "drawn with a style, tilts and background tiles that do not occur in training (in place of "
            "ImageNet-R)"
        )
        title = "unseen views"
    else:
        report.needs(
            "--shifted", "a folder of the same classes in another style, such as ImageNet-R", "Figure B.3"
        )
        return
    curves: dict[str, dict[int, float]] = {}
    baseline = 0.0
    unseen = layer_embeddings(
        study.model,
        images,
        study.of_layers(study.late),
        study.steps,
        study.quiet,
        name=f"unseen-{images.fingerprint[:6]}",
    )
    for layer, found in zip(study.late, unseen, strict=True):
        accuracies = {
            name: study.accuracy(found[name], found["rows"], tasks) for name in ("baseline", *CONDITIONS)
        }
        baseline = accuracies["baseline"][tasks[0].name]
        for name in CONDITIONS:
            curves.setdefault(name, {})[layer] = accuracies[name][tasks[0].name]
    report.text(f"On {len(images)} pictures {about}, statistics from the same reference images:")
    report.figure(
        "neurons-layers-unseen",
        figures.layer_ablation(curves, baseline, title),
        f"Figure B.3: {tasks[0].name}, {title}, late layers",
    )


def shifted_views(study: Study, limit: int) -> tuple[Images, list[Task]]:
    """Return images of the evaluation's classes in another style, and their task with the classes that occur.

    A class folder uses the texts of the evaluation's folder with the same name (the folders of ImageNet-R have
    ids of ImageNet).
    """
    assert study.shifted is not None
    found = folder_evaluation(study.model, study.shifted, limit)
    known, task = study.evaluation.class_prompts, found.tasks[0]
    if not set(task.classes) <= set(known):
        return found.images, found.tasks
    prompts = tuple(tuple(known[name]) for name in task.classes)
    named = Task(task.name, task.classes, prompts, task.labels)
    return found.images, [classifiers.by_name(study.model, named)]


def unseen_views(model: ClipModel, n_images: int) -> tuple[Images, list[Task]]:
    """Return scenes of the demo world in views that do not occur in training, and the objects task on them."""
    scenes = render(n_images, 31, unseen_views=True)
    images = image_data.open_images([Image.fromarray(pixels) for pixels in scenes.images])
    images.attributes = {column: scenes.words(column) for column in scenes.columns}  # type: ignore[misc]
    return images, [classifiers.by_name(model, world_tasks(images)["objects"])]


def first_order_section(report: Report, study: Study, peak: int) -> None:
    """Figures B.4 and B.5: the attention layers' direct effects, to check that they come after those of the neurons."""
    model, images = study.model, study.evaluation.images
    terms, kept, _ = trace_terms(
        model, images, traced_steps(study.steps.folder, model, images), "images", study.quiet
    )
    means = ablate.means_of(terms)
    curves: dict[str, dict[int, float]] = {}
    for count, step in enumerate(ablate.accumulated(range(study.model.n_layers))):
        embeddings = ablate.embedding_after(terms, step, means)
        for task, top1 in study.accuracy(embeddings, kept).items():
            curves.setdefault(task, {})[count] = top1
    main = next(iter(curves))
    drops = {n: curves[main][n] - curves[main][n + 1] for n in range(study.model.n_layers)}
    steepest = max(drops, key=lambda n: drops[n])
    report.section(
        "First-order effects of the attention layers (Figures B.4, B.5)",
        "Attention layers are mean-ablated one after the other, from the first. "
        + (
            f"The steepest loss of {main} comes with attention layer {steepest}; the most important "
            f"neurons are in MLP layer {peak}, "
            + ("before it." if peak < steepest else "not before it, unlike in the thesis.")
            if drops[steepest] > 0
            else f"No layer lowers {main}."
        ),
    )
    own = ablate.embedding_after(terms, Ablation(mlps=frozenset({peak + 1})), means)
    report.text(
        f"The first-order effects of the neurons of layer {peak} (Eq. 3.1) add up to its MLP's direct effect: "
        "mean-ablated together they leave "
        + "; ".join(
            f"{task} {top1:.3f} of {curves[task][0]:.3f}" for task, top1 in study.accuracy(own, kept).items()
        )
        + "."
    )
    report.figure(
        "neurons-first-order",
        chapter2_figures.accumulated_ablation(curves, late=min(4, study.model.n_layers - 1)),
        "Figure B.4: accuracy when the attention of the first n layers is mean-ablated",
    )


def indirect_section(report: Report, study: Study, peak: int, compared: Sequence[int]) -> None:
    """Table 3.1."""
    model, images = study.model, study.evaluation.images
    n_compared = (compared[0], compared[1])
    found = intervened(model, images, study.sample, peak, study.steps, n_compared, study.quiet)
    (second,) = layer_embeddings(model, images, [study.layer(peak)], study.steps, study.quiet)
    base = study.accuracy(second["baseline"], second["rows"])
    after = {
        "indirect": study.accuracy(found["embeddings"], found["rows"]),
        "second-order": study.accuracy(second[CONDITIONS[0]], second["rows"]),
    }
    shares = {
        "indirect": component_share(found["indirect"]),
        "second-order": component_share(found["second order"]),
    }
    report.section(
        "Against the indirect effect (Table 3.1)",
        f"All neurons of layer {peak} are ablated at once. For indirect effects the model runs again "
        "with the layer's activations at their per-token means, so that later layers can compensate "
        "for the loss. The variance of the first component is measured over the quarter of "
        f"{n_compared[0]} reference images with the largest effects and averaged over "
        f"{n_compared[1]} random neurons, centred by the mean over all of them.",
    )
    names = list(base)
    known = published.chapter_3_model(model.name, model.pretrained)
    rows = [["nothing changed", *base.values(), None]]
    rows += [[name, *found.values(), shares[name]] for name, found in after.items()]
    if known:
        said = published.heading(published.IMAGENET, published.IMAGENET in study.evaluation.published)
        rows += [[f"{said}: {n}", top1, *[None] * (len(names) - 1), share]
                 for n, (top1, share) in published.TABLE_3_1.items()]  # fmt: skip
    report.table(["effects mean-ablated", *names, "variance of PC 1"], rows)
    indirect, ours = after["indirect"][names[0]], after["second-order"][names[0]]
    report.text(
        f"Mean-ablating the second-order effects costs {_compare(indirect, ours)} of {names[0]} than "
        f"the intervention ({'as' if ours < indirect else 'unlike'} in the thesis, where later "
        "layers compensate for the loss); their first component explains "
        f"{_compare(shares['second-order'], shares['indirect'])} of the variance."
    )
    report.figure(
        "neurons-indirect",
        figures.effect_comparison({name: (after[name][names[0]], shares[name]) for name in after}),
        f"Table 3.1: {names[0]} after mean-ablation, and the share of variance of the first component",
    )


def _compare(left: float, right: float) -> str:
    return "more" if left > right else "less" if left < right else "as much"


def sparse_section(report: Report, study: Study, layer: int, pools: Mapping[str, Texts]) -> None:
    """Figure 3.4."""
    model, known = study.model, study.layer(layer)
    (found,) = layer_embeddings(model, study.evaluation.images, [known], study.steps, study.quiet, codes=True)
    left, coefficients = (torch.from_numpy(found[name]) for name in ("left", "coefficients"))
    curves: dict[str, dict[str, dict[int, float]]] = {}
    for pool, encoded in encoded_pools(model, pools).items():
        dictionary = prepare_dictionary(encoded)
        most = min(*dictionary.shape, QUICK_ATOMS if study.quick else max(CODE_SIZES))
        sizes = [m for m in CODE_SIZES if m <= most]
        for size, code in sparse_codes(known.line.directions, dictionary, sizes).items():
            rebuilt = reconstruct(code, dictionary).cpu()
            for task, top1 in study.accuracy(left + coefficients @ rebuilt, found["rows"]).items():
                curves.setdefault(task, {}).setdefault(pool, {})[size] = top1
    levels = {
        "nothing changed": study.accuracy(found["baseline"], found["rows"]),
        "rank 1": study.accuracy(found[CONDITIONS[3]], found["rows"]),
        "mean-ablated": study.accuracy(found[CONDITIONS[0]], found["rows"]),
    }
    report.section(
        "Sparse text codes (Figure 3.4)",
        f"Every direction r of layer {layer} is replaced by m texts of a pool (orthogonal matching "
        "pursuit, pool centred, unit rows); effects are x r + b. Random vectors are the control. "
        f"With m = {model.weights.d_embed}, the width of the embedding, any pool that spans it "
        "reconstructs r exactly.",
    )
    for task, by_pool in curves.items():
        shown = {name: values[task] for name, values in levels.items()}
        report.figure(
            f"neurons-sparse-{task}",
            figures.sparse_accuracy(by_pool, shown),
            f"Figure 3.4: {task}, accuracy by texts per neuron and pool",
        )
        sizes = sorted({m for curve in by_pool.values() for m in curve})
        report.table(
            ["pool", "texts", *(f"m = {m}" for m in sizes), *shown],
            [
                [pool, len(pools[pool]) if pool in pools else None, *map(curve.get, sizes), *shown.values()]
                for pool, curve in by_pool.items()
            ],
        )
    say_what_is_missing(report, model, CLASSES in pools, "Figure 3.4")


def _lead(study: Study, quick: bool) -> str:
    model, evaluation = study.model, study.evaluation
    tag = f", {model.pretrained}" if model.pretrained else ""
    n_neurons = model.neuron_basis(0).n_neurons
    note = " This is the quick version: few images, one repeat." if quick else ""
    return (
        f"Model {model.name}{tag} (fingerprint {model.fingerprint}, {model.n_layers} layers of {n_neurons:,} "
        f"neurons), measured on {evaluation.name}: {'; '.join(evaluation.notes)}. "
        f"{_reference(study)} Layers are counted from 0.{note}"
    )


def _reference(study: Study) -> str:
    """Return a sentence on where means, directions and thresholds come from."""
    n_images = len(study.reference)
    if study.index is None:
        return f"Means, directions and thresholds come from {n_images:,} other images."
    shared = len(set(study.reference.names) & set(study.evaluation.images.names))
    return (
        f"Means and directions come from the {n_images:,} images of an index ({shared:,} of them have the name of an "
        f"evaluated one), thresholds from {len(study.sample):,} of these."
    )
