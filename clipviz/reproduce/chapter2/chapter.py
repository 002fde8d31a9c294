"""Chapter 2, reproduced: what heads and tokens write, on the demo world or on the user's model and images.

Each function below reproduces one table or figure of the thesis: it computes it and adds a section to the report.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.heads import labels
from clipviz.data.texts import Texts
from clipviz.figures import chapter2 as figures
from clipviz.figures import chapter2_interactive as interactive
from clipviz.lens import ablate, headset, projection, textspan, zeroshot
from clipviz.lens.ablate import Terms
from clipviz.lens.covariance import code_moments
from clipviz.lens.roles import Role
from clipviz.lens.zeroshot import Accuracy
from clipviz.loading import load
from clipviz.models.clip import ClipModel
from clipviz.reproduce import published
from clipviz.reproduce.chapter2 import spurious
from clipviz.reproduce.chapter2.pictures import (
    check_neighbours,
    joint_section,
    maps_section,
    name_of,
    retrieval_section,
    sizes_of,
)
from clipviz.reproduce.chapter2.segmenting import segmentation_section
from clipviz.reproduce.evaluation import (
    Evaluation,
    demo_evaluation,
    folder_evaluation,
    said_of_chance,
    trace_terms,
    traced_steps,
)
from clipviz.reproduce.pools import (
    CLASSES,
    GENERAL,
    Added,
    DescribeClass,
    encoded_pool,
    encoded_pools,
    open_pools,
    say_what_is_missing,
    text_pools,
)
from clipviz.reproduce.report import Report, Steps
from clipviz.values import N_LATE, Ablation, Head, late_layers


def run(
    model: ClipModel | str = "demo",
    out: str | Path = "reproduction",
    pretrained: str | None = None,
    data: str | None = None,
    segmentation: str | None = None,
    waterbirds: str | None = None,
    limit: int | None = None,
    pool: Added = None,
    describe_classes: DescribeClass | str | None = None,
    quiet: bool = False,
    summed: str = "late",
    neighbours: str = "cosine",
) -> Path:
    """Reproduce Tables 2.1-2.4 and A.1, A.7-A.10, and Figures 2.2-2.6 and A.1, A.4-A.6; return the report's path.

    data: a folder with one subfolder per class or a table of labels; without it the demo world. limit: at most
    this many images. pool, describe_classes: further pools of texts (reproduce.pools). summed: layers whose token
    effects a segmentation sums, the "late" ones or "all", as in the thesis. neighbours: how neighbours of an
    image under a head are ranked (Figures 2.5, A.6), by the "cosine" of the head's effects or by their "product",
    as in the thesis. Traced images are stored in out/steps, from which an interrupted run continues.
    """
    started = time.monotonic()
    pool = open_pools(pool)
    check_neighbours(neighbours)
    model = load(model, pretrained) if isinstance(model, str) else model
    evaluation = _evaluation(model, data, segmentation, waterbirds, limit)
    folder = Path(out)
    steps = traced_steps(folder / "steps", model, evaluation.images)
    terms, kept, broken = trace_terms(model, evaluation.images, steps, "images", quiet)
    if len(kept) <= labels.N_FIRST:
        raise ValueError(
            f"expected more than {labels.N_FIRST} images that can be read, got {len(kept)}; add more images"
        )
    report = Report(
        folder,
        "Chapter 2: what the heads and tokens of a CLIP image encoder write",
        _lead(model, evaluation, broken),
        model.device,
        started=started,
    )
    accuracies = Measured(evaluation, terms, kept)
    terms_section(report, model, evaluation, accuracies)
    layers_section(report, model, accuracies)
    late = late_terms(model, terms)
    chosen = text_pools(model, evaluation, pool, describe_classes, steps, n_words=(0,))
    roles, texts_of = textspan_section(report, model, evaluation, accuracies, late, chosen)
    retrieval_section(report, model, evaluation, late, kept, roles, texts_of, neighbours)
    spurious_section(report, model, evaluation, terms, roles, steps, quiet)
    segmentation_section(report, model, evaluation, quiet, summed, steps)
    maps_section(report, model, evaluation)
    joint_section(report, model, evaluation, late, kept, roles)
    return report.write("chapter2")


class Measured:
    """Accuracy of every task under any ablation of the traced images."""

    def __init__(self, evaluation: Evaluation, terms: Terms, kept: Sequence[int]) -> None:
        self.terms, self.means = terms, ablate.means_of(terms)
        self.tasks = [
            (task.name, task.directions.cpu(), [task.labels[i] for i in kept]) for task in evaluation.tasks
        ]

    def after(self, ablation: Ablation) -> dict[str, Accuracy]:
        return self.of(ablate.embedding_after(self.terms, ablation, self.means))

    def of(self, embeddings: Float[Tensor, "image d_embed"]) -> dict[str, Accuracy]:
        return {
            name: zeroshot.accuracy(embeddings, directions, labels) for name, directions, labels in self.tasks
        }

    def top1(self, ablation: Ablation) -> dict[str, float]:
        return {name: found.top1 for name, found in self.after(ablation).items()}


def terms_section(report: Report, model: ClipModel, evaluation: Evaluation, measured: Measured) -> None:
    """Tables 2.1 and A.1."""
    cases = {
        "nothing": Ablation(),
        "class token": Ablation(tokens=frozenset({0})),
        "MLPs": ablate.all_mlps(model.weights.n_mlp_terms),
        "both": ablate.all_mlps(model.weights.n_mlp_terms, tokens=[0]),
    }
    found = {case: measured.after(ablation) for case, ablation in cases.items()}
    names = list(found["nothing"])
    report.section(
        "MLPs and the class token (Tables 2.1, A.1)",
        "Direct effects are replaced by their mean over the images: those of the class token "
        "attending to itself, those of the input term and all MLPs, and both.",
    )
    rows = [
        [name, found["nothing"][name].n_images, *(found[case][name].top1 for case in cases)] for name in names
    ]
    thesis = published.for_model(published.TABLE_A_1, model.name, model.pretrained)
    mlps = published.for_model(published.TABLE_2_1, model.name, model.pretrained)
    if thesis and mlps:
        said = published.heading(published.IMAGENET, published.IMAGENET in evaluation.published)
        rows.append([said, None, thesis[0], thesis[1], mlps[1], thesis[2]])
    report.table(["task", "images", *cases], rows)
    for name in names:
        whole = found["nothing"][name]
        chance = said_of_chance(name, whole.top1, whole.n_images, whole.n_classes)
        for warning in [f"**{name}**: {one}" for one in whole.warnings] or ([chance] if chance else []):
            report.text(warning)
    shown = {name: {case: found[case][name].top1 for case in cases} for name in names}
    report.figure(
        "terms", figures.term_ablation(shown), "Tables 2.1 and A.1: accuracy when terms are mean-ablated"
    )
    report.interactive("terms", interactive.term_ablation(shown), "the same, interactive")


def layers_section(report: Report, model: ClipModel, measured: Measured) -> None:
    """Figure 2.2, and the thesis's summary of it: only the attention of the last layers is kept."""
    steps = ablate.accumulated(range(model.n_layers))
    curves: dict[str, dict[int, float]] = {}
    for count, step in enumerate(steps):
        for name, top1 in measured.top1(step).items():
            curves.setdefault(name, {})[count] = top1
    base, early = measured.top1(Ablation()), range(late_layers(model.n_layers).start)
    late = measured.top1(Ablation(layers=frozenset(early), mlps=frozenset(range(model.n_layers + 1))))
    report.section(
        "Attention layers (Figure 2.2)",
        "The attention of the first layers is mean-ablated, layer after layer.",
    )
    report.figure(
        "layers",
        figures.accumulated_ablation(curves, late=N_LATE),
        "Figure 2.2: accuracy when the attention of the first n layers is mean-ablated",
    )
    report.interactive("layers", interactive.accumulated_ablation(curves), "the same, interactive")
    report.text(
        f"Mean-ablating all MLPs, the input term and all but the last {N_LATE} attention layers leaves: "
        + "; ".join(f"**{name} {late[name]:.3f}** of {base[name]:.3f}" for name in base)
        + "."
    )
    report.table(
        ["layers ablated", *curves],
        [[count, *(c[count] for c in curves.values())] for count in range(len(steps))],
    )


def late_terms(model: ClipModel, terms: Terms) -> Terms:
    """Return the codes of the last layers alone."""
    layers = late_layers(model.n_layers)
    return Terms(terms.codes.select(layers), terms.basis.select(layers))


def textspan_section(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    measured: Measured,
    late: Terms,
    pools: Mapping[str, Texts],
) -> tuple[dict[Head, Role], dict[Head, list[str]]]:
    """Figures 2.3 and A.1, Tables 2.2 and A.3-A.6; also returns every head's texts in the order of Alg. 1."""
    widest = min(60, late.codes.codes.shape[3], model.weights.d_embed, len(late.embedding) - 1)
    sizes = [m for m in (10, 20, 30, 40, 50, 60) if m <= widest] if widest >= 60 else sizes_of(widest)
    curves: dict[str, dict[str, dict[int, float]]] = {}
    literal: list[list[int]] = []
    for pool, directions in encoded_pools(model, pools).items():
        directions = directions.cpu()
        chosen = textspan.describe_heads(late.codes, late.basis, directions, min(widest, len(directions)))
        possible = [size for size in sizes if size <= len(directions)]
        literal = chosen.order.tolist() if pool == GENERAL else literal
        for size, embedding in projection.project_heads(late.codes, late.basis, chosen, possible).items():
            for task, found in measured.of(embedding).items():
                curves.setdefault(task, {}).setdefault(pool, {})[size] = found.top1
    report.section(
        "TextSpan, evaluated (Figures 2.3, A.1)",
        f"Every head of the last {N_LATE} layers is replaced by its projection on its first m texts "
        "(around its mean), everything else by its mean. The texts are chosen by the thesis's "
        "greedy algorithm on these images.",
    )
    base = measured.top1(Ablation())
    for task, by_pool in curves.items():
        report.figure(
            f"textspan-{task}",
            figures.textspan_accuracy(by_pool, base[task], f"Late heads projected on m texts: {task}"),
            f"Figures 2.3 and A.1: {task}, by pool of texts",
        )
        report.interactive(
            f"textspan-{task}", interactive.textspan_accuracy(by_pool, base[task]), "the same, interactive"
        )
        report.table(
            ["pool", "texts", *(f"m = {m}" for m in sizes)],
            [
                [pool, len(pools[pool]) if pool in pools else None, *(c.get(m) for m in sizes)]
                for pool, c in by_pool.items()
            ],
        )
    say_what_is_missing(report, model, CLASSES in pools, "Figures 2.3 and A.1")
    thesis = published.for_model(published.FIGURE_2_3, model.name, model.pretrained)
    if thesis:
        said = published.heading(published.IMAGENET, published.IMAGENET in evaluation.published)
        report.text(f"{said[0].upper()}{said[1:]}, general descriptions, m = {thesis[0]}: {thesis[1]:.3f}.")
    heads, general = headset.all_heads(late.codes), evaluation.pools[GENERAL]
    texts_of = {head: [general[i] for i in order] for head, order in zip(heads, literal, strict=True)}
    return roles_section(report, model, general, late, texts_of), texts_of


def roles_section(
    report: Report, model: ClipModel, pool: Texts, late: Terms, texts_of: Mapping[Head, Sequence[str]]
) -> dict[Head, Role]:
    """Table 2.2 with labels given by rule: the broad family of a head's first texts, beside its null; Tables A.3-A.6.

    texts_of: every head's texts in the order of Alg. 1.
    """
    covariance, span = textspan.head_span(late.basis, code_moments(late.codes).covariance)
    heads, directions = headset.all_heads(late.codes), encoded_pool(model, pool).cpu()
    labelled = labels.label_heads(heads, covariance, span, directions, pool)
    texts = {head: [pool[i] for i in role.first] for head, role in labelled.items()}
    n_clear = sum(role.clear for role in labelled.values())
    report.section(
        "What the late heads are about (Tables 2.2, A.3-A.6)",
        "The first texts by TextSpan with a centred pool and length-normalised scores. "
        f"{labels.RULE} {n_clear} of {len(heads)} heads {'has' if n_clear == 1 else 'have'} a clear "
        'role; the others have none. "By Alg. 1" lists the first texts of the '
        "thesis's greedy algorithm, which neither centres the pool nor divides by lengths.",
    )
    report.figure(
        "roles",
        figures.head_roles(
            {head: role.label for head, role in labelled.items()},
            {head: role.confidence for head, role in labelled.items()},
            texts,
        ),
        "Table 2.2: the property of each late head and its first two texts; a stronger colour means "
        "rarer under the null",
    )
    report.table(
        ["head", "role", "texts of it", "p", "first texts", "by Alg. 1"],
        [
            [
                name_of(head),
                role.label,
                f"{role.n_texts}/{role.n_first}",
                role.p_value,
                "; ".join(texts[head]),
                "; ".join(texts_of[head][: labels.N_FIRST]),
            ]
            for head, role in labelled.items()
        ],
    )
    return labelled


def spurious_section(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    terms: Terms,
    roles: Mapping[Head, Role],
    steps: Steps,
    quiet: bool,
) -> None:
    """Tables 2.3 and A.7-A.10."""
    report.section("Spurious background (Tables 2.3, A.7-A.10)")
    if evaluation.birds is None or evaluation.shortcut is None:
        report.needs(
            "--waterbirds FOLDER", "the Waterbirds data, or images in that layout with a metadata.csv"
        )
        return
    images, task = evaluation.birds
    birds, kept, _ = trace_terms(model, images, steps, "birds", quiet)
    means = ablate.means_of(terms)
    late = late_terms(model, terms)
    found = spurious.shortcuts(task, evaluation.shortcut, kept, birds, late, roles, means)
    report.text(
        "Classes are defined by their names, as in the thesis, and by the mean of examples, "
        f"{task.note}. Means come from {means.n_images} general images."
    )
    spurious.add_table(report, found)
    for classes, best in spurious.best_of(found).items():
        groups, worst = spurious.shown_groups(best)
        name = f"spurious-{classes}"
        _groups_table(report, model, evaluation, groups, worst, (best.before.top1, best.after.top1), classes)
        report.figure(
            name,
            figures.spurious_groups(groups, worst, random=spurious.MEDIAN),
            f"Tables 2.3 and A.7-A.10: accuracy by group before and after, classes by {classes}",
        )
        report.interactive(
            name, interactive.spurious_groups(groups, worst, spurious.MEDIAN), "the same, interactive"
        )


def _groups_table(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    groups: Mapping[str, tuple[float, float, float]],
    worst: tuple[float, float, float],
    top1: tuple[float, float],
    classes: str,
) -> None:
    """Return a table of accuracy by group, of the worst group and of all images, beside the published numbers for
    classes by name.
    """
    known: dict[str, tuple[float, ...]] = {}
    by_group = published.for_model(published.TABLES_A_8_TO_10, model.name, model.pretrained)
    worst_known = published.for_model(published.TABLE_2_3, model.name, model.pretrained)
    overall = published.for_model(published.TABLE_A_7, model.name, model.pretrained)
    if classes == "names" and by_group and worst_known and overall:
        known = {**by_group, "worst group": (worst_known[0], worst_known[2]), "all": overall}  # type: ignore[dict-item]
    said = published.heading(published.WATERBIRDS, published.WATERBIRDS in evaluation.published)
    measured = {**groups, "worst group": worst, "all": (top1[0], None, top1[1])}
    report.table(
        [
            *(f"classes by {classes}", "model", spurious.MEDIAN, "ablated"),
            *((f"{said}: base", "token decomposition") if known else ()),
        ],
        [[name, *values, *known.get(name, ())] for name, values in measured.items()],
    )


def _evaluation(
    model: ClipModel, data: str | None, masks: str | None, birds: str | None, limit: int | None
) -> Evaluation:
    if data is not None:
        return folder_evaluation(model, data, limit, masks, birds)
    return demo_evaluation(model, limit)


def _lead(model: ClipModel, evaluation: Evaluation, broken: Sequence[Any]) -> str:
    tag = f", {model.pretrained}" if model.pretrained else ""
    notes = "; ".join(evaluation.notes)
    skipped = f"; {len(broken)} broken images were skipped" if broken else ""
    return (
        f"Model {model.name}{tag} (fingerprint {model.fingerprint}, {model.n_layers} layers x "
        f"{model.n_heads} heads), measured on {evaluation.name}: {notes}{skipped}. The summed "
        f"effects differ from the model's own output by {model.sum_check:.1e} (relative)."
    )
