"""The demo world's report card: what a model has learnt about a world whose true answers are known.

    clipviz reproduce world
It uses held-out scenes and views that do not occur in training, and measures the findings of chapters 2 and 3 of
the thesis.
"""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from clipviz.analysis.heads.labels import N_DRAWS, N_FIRST, RULE
from clipviz.demo.world.scenes import Scenes
from clipviz.demo.world.truth import TRUE, truths
from clipviz.figures import chapter2 as thesis_figures
from clipviz.figures import world as figures
from clipviz.lens.intervals import Estimate, share
from clipviz.lens.spurious import ShortcutRemoval
from clipviz.loading import load
from clipviz.models.clip import ClipModel
from clipviz.reproduce.chapter2 import spurious
from clipviz.reproduce.chapter2.chapter import Measured, late_terms
from clipviz.reproduce.chapter2.pictures import name_of
from clipviz.reproduce.chapter2.segmenting import segmentation_section
from clipviz.reproduce.chapter2.spurious import Way
from clipviz.reproduce.evaluation import Evaluation, spaced, trace_terms
from clipviz.reproduce.report import Report, Steps
from clipviz.reproduce.world import bounds, measures, stage
from clipviz.reproduce.world.generating import generator_section
from clipviz.reproduce.world.generating import measured as measured_generator
from clipviz.reproduce.world.held_out import HeldOutSizes, encoder_of, held_out
from clipviz.reproduce.world.measures import FamilyScore, HeadTable, MapScore, NeuronLayer
from clipviz.reproduce.world.summary import summary_section
from clipviz.values import N_LATE


def run(
    model: ClipModel | str = "demo",
    out: str | Path = "reproduction",
    pretrained: str | None = None,
    limit: int | None = None,
    quiet: bool = False,
    **other: Any,
) -> Path:
    """Measure the report card of a model on the demo world; return the report's path.

    model: the demo model or any other (a model that was not trained on this world is judged by the same
    sentences). limit: at most this many held-out scenes of all seeds together (default 10,000; the other
    measurements shrink with it). Finished steps are stored in out/steps. Raises ValueError for options of other
    chapters: the world brings its own images.
    """
    given = sorted(name for name, value in other.items() if value is not None)
    if given:
        raise ValueError(
            f"expected no images of the user's own for the demo world, got {', '.join(given)}; leave them out, or "
            "reproduce chapter2 with them"
        )
    model = load(model, pretrained) if isinstance(model, str) else model
    sizes = HeldOutSizes.within(limit)
    folder = Path(out)
    steps = Steps(folder / "steps", {**model.identity(), **vars(sizes), "seeds": sizes.seeds})
    encoder = encoder_of(model)
    evaluation, scenes = held_out(model, encoder, sizes)
    terms, kept, _ = trace_terms(model, evaluation.images, steps, "world-scenes", quiet)
    measured = Measured(evaluation, terms, kept)
    families = measures.families(encoder, sizes, steps)
    pool = evaluation.pools["descriptions"]
    table = measures.head_table(model, pool, late_terms(model, terms), scenes, sizes.n_seeds)
    nearest = measures.nearest_texts(encoder, sizes, steps)
    birds = measures.background_ablation(model, evaluation, terms, table, steps, quiet)
    backgrounds = measures.backgrounds(model, evaluation)
    depths = measures.token_map_scores(model, evaluation, backgrounds)
    pairs = measures.pair_scores(model, scenes, evaluation, backgrounds, N_LATE)
    neurons = _neurons(model, evaluation, scenes, sizes, steps, quiet)
    study = stage.study_of(model, evaluation, sizes, steps, quiet)
    right = {layer: stage.named_right(study, layer) for layer in study.layers}
    peak, n_attacked = stage.peak_of(right), sizes.attacked
    late, at_peak = (stage.attacks(study, layers, n_attacked) for layers in (study.late, [peak]))
    report = Report(folder, "The demo world: a report card", _lead(model, sizes), model.device, "world-")
    summary_section(report, families, nearest, table, birds, depths, pairs, neurons, sizes)
    families_section(report, families)
    terms_section(report, measures.ablations(model, measured))
    heads_section(report, table)
    segmentation_section(report, model, evaluation, quiet, steps=steps)
    depths_section(report, depths, pairs)
    birds_section(report, birds, evaluation)
    neurons_section(report, neurons)
    generator_section(report, measured_generator(encoder, steps, sizes.generated))
    stage.stage_section(
        report,
        [
            stage.sum_finding(model, evaluation, sizes),
            *stage.head_findings(table, birds),
            *stage.map_findings(model, evaluation, pairs, steps, quiet),
            *stage.text_findings(nearest),
            *stage.neuron_findings(right, neurons),
            *stage.attack_findings(late),
        ],
    )
    bounds.bounds_section(
        report,
        [
            *bounds.recognition_bounds(bounds.probes(encoder, sizes, steps)),
            bounds.head_bound(table),
            *bounds.neuron_bounds(neurons),
            *bounds.path_bounds(study, {layer: found[stage.WITHOUT] for layer, found in right.items()}),
            bounds.attack_bound(peak, at_peak, late),
        ],
    )
    return report.write("world")


def _neurons(
    model: ClipModel, evaluation: Evaluation, scenes: Scenes, sizes: HeldOutSizes, steps: Steps, quiet: bool
) -> list[NeuronLayer]:
    """Return every layer's neurons; a finished measurement is read from its step."""

    def make() -> dict[str, Any]:
        rows = spaced(len(evaluation.images), sizes.neurons * sizes.n_seeds)
        pool = measures.naming_pool(model, evaluation.pools["descriptions"])
        known = truths(list(pool), scenes.attributes[rows]) == TRUE
        found = measures.neuron_layers(model, evaluation.images.subset(rows), pool, quiet, known)
        return {"layers": [asdict(layer) for layer in found]}

    return [NeuronLayer(**layer) for layer in steps.get("world-neurons", make)["layers"]]


def families_section(report: Report, families: dict[str, dict[str, FamilyScore]]) -> None:
    """Zero-shot accuracy by family of attributes."""
    seen, unseen = families["held out"], families["unseen views"]
    report.section(
        "What it tells apart",
        "Zero-shot accuracy by family of attributes. Unseen views: a drawing style, a font, tilts and background "
        "tiles that training never shows. Every family but treatment is judged on untreated scenes with one kind of "
        "thing; count on 2 to 6 copies; large and plain: one solid shape or glyph in the middle.",
    )
    report.table(
        ["family", "chance", *("held out", "95%", "scenes"), *("unseen views", "95%", "scenes")],
        [
            [name, seen[name].chance, *_cells(seen[name].accuracy), *_cells(unseen[name].accuracy)]
            for name in seen
        ],
    )
    rows = {
        name: (held.accuracy.value if held.accuracy.n else 0.0, _value(unseen[name].accuracy), held.chance)
        for name, held in seen.items()
    }
    report.figure("families", figures.families(rows), "Accuracy by family, held out and unseen views")


def terms_section(report: Report, found: dict[str, dict[str, float]]) -> None:
    """Mean-ablation by layer and MLP (thesis 2.3)."""
    report.section(
        "Where it is computed (Table 2.1, Figure 2.2)",
        "Accuracy by family when direct effects are replaced by their mean: the input term, each MLP, each layer's "
        "attention alone, and the attention of the first layers together.",
    )
    names = list(found["nothing"])
    report.table(
        ["mean-ablated", *names], [[what, *(row[name] for name in names)] for what, row in found.items()]
    )
    report.figure(
        "terms", figures.grid(found, "Accuracy when a term is mean-ablated"), "The same, as a picture"
    )


def heads_section(report: Report, table: HeadTable) -> None:
    """TextSpan of every late head, its null, and the supervised shares."""
    ks = range(1, N_FIRST + 1)
    null = {k: table.null_heads(k) for k in ks}
    report.section(
        "What the late heads are about (Table 2.2)",
        f"TextSpan (centred pool, length-normalised) of every head of the last {N_LATE} layers, beside random "
        f"rotations of it. {RULE} Supervised: the property between whose true values most of the head's variance lies "
        "(adjusted share).",
    )
    report.table(
        ["texts of one family", "heads", "null, mean", "null, range", "ratio"],
        [
            [
                f"{k} of {N_FIRST} or more",
                f"{table.n_heads(k)} of {len(table.heads)}",
                f"{float(null[k].mean()):.1f}",
                f"{int(null[k].min())}-{int(null[k].max())}",
                f"{table.ratio(k):.1f}x" if isfinite(table.ratio(k)) else "the null has none",
            ]
            for k in ks
        ],
    )
    report.figure(
        "head-counts",
        figures.head_counts(
            {k: table.n_heads(k) for k in ks}, {k: null[k].tolist() for k in ks}, len(table.heads)
        ),
        "Heads with k texts of one family, and the range of the null",
    )
    _head_table(report, table)
    _head_figures(report, table)


def _head_table(report: Report, table: HeadTable) -> None:
    rows = []
    for row, head in enumerate(table.heads):
        role, (name, share) = table.roles[head], table.supervised(row)
        null_mean = float(table.null_counts[:, row].double().mean())
        counts = f"{role.n_texts}/{role.n_first} (null {null_mean:.1f})"
        rows.append(
            [
                name_of(head),
                role.label,
                counts,
                role.p_value,
                f"{name} {share:.2f}",
                "; ".join(table.texts[head]),
            ]
        )
    report.table(["head", "role", "texts of one family", "p", "supervised", "first texts"], rows)


def _head_figures(report: Report, table: HeadTable) -> None:
    roles = table.roles.items()
    report.figure(
        "roles",
        thesis_figures.head_roles(
            {head: role.label for head, role in roles},
            {head: role.confidence for head, role in roles},
            table.texts,
        ),
        "The property of each late head; its first two texts",
    )
    shares = {
        name_of(head): {name: float(share[row]) for name, share in table.shares.items()}
        for row, head in enumerate(table.heads)
    }
    best = {name_of(head): table.supervised(row)[0] for row, head in enumerate(table.heads)}
    report.figure(
        "shares",
        figures.grid(shares, "Share of each head's variance between a property's values", marked=best),
        "The supervised half: adjusted share of variance, the largest framed",
    )


def depths_section(
    report: Report, depths: dict[str, dict[int, MapScore]], pairs: dict[str, dict[str, Estimate]]
) -> None:
    """Token maps against raw attention: by the number of late layers summed, and for one of two objects."""
    report.section(
        "Token maps against raw attention of the best layers",
        "Maps are summed over all heads of the last k layers. Token maps use the class text minus "
        "the mean of all descriptions, or of all class names. Images and protocol are those above, "
        "with the average precision of the foreground in addition. Raw attention does not depend on "
        "the text: where the requested object is the only salient thing, it is a strong baseline.",
    )
    measured = ("mIoU", "mAP", "foreground AP", "95%")
    report.table(
        ["layers", *(f"{name}: {measure}" for name in depths for measure in measured)],
        [
            [f"last {k}", *(cell for name in depths for cell in _map_cells(depths[name][k]))]
            for k in depths[measures.TOKENS]
        ],
    )
    curves = {
        name: {k: score.foreground_ap.value for k, score in found.items()} for name, found in depths.items()
    }
    report.figure(
        "maps", figures.map_depths(curves, "foreground AP"), "AP by the number of late layers summed"
    )
    report.text(
        f"Scenes of two different objects ({pairs[measures.RAW]['pointing'].n}, each asked for both "
        f"names), last {N_LATE} layers: the table shows how often the named object has the larger "
        "mean, and the average precision against its mask alone."
    )
    report.table(
        ["one of two", "points at it", "95%", "foreground AP", "95%"],
        [
            [name, *(cell for found in pairs[name].values() for cell in (found, found.interval))]
            for name in measures.MAPS
        ],
    )


def birds_section(report: Report, birds: dict[Way, ShortcutRemoval], evaluation: Evaluation) -> None:
    """Worst group of birds and places before and after ablating the background heads (thesis 2.4)."""
    assert evaluation.birds is not None
    task = evaluation.birds[1]
    per_group = len(task.labels) // len(set(task.groups))
    report.section(
        "Spurious background (Table 2.3)",
        f"Waterbird or landbird, painted in a random colour, {per_group} scenes per group; in training about 80% of "
        "the birds are over their own place. Classes by their names, as in the thesis, and by the mean of examples, "
        f"{task.note}. Heads are mean-ablated (means over the held-out scenes); {N_DRAWS} "
        "draws take as many other heads of the same layers (the nearest, where a layer has too few); p is the share of "
        "draws whose worst group is at least as good.",
    )
    spurious.add_table(report, birds)
    for classes, best in spurious.best_of(birds).items():
        report.figure(
            f"birds-{classes}",
            thesis_figures.spurious_groups(*spurious.shown_groups(best), random=spurious.MEDIAN),
            f"Accuracy by group, before and after, classes by {classes}",
        )


def neurons_section(report: Report, neurons: list[NeuronLayer]) -> None:
    """Sparsity, rank and names of second-order effects (thesis 3.3)."""
    n_strongest = neurons[0].n_neurons
    report.section(
        "Neurons by their second-order effects (thesis 3.3)",
        f"The {n_strongest} strongest neurons of every layer with later attention. Sparse: the share of a neuron's "
        "summed squared effect on its top 10% images (0.10 if it were spread evenly). Rank 1: the share of variance "
        f"there that one direction explains. Named: directions with a text at cosine > {measures.COSINE} (texts "
        "without what they all share), and the same for directions turned by random rotations of the embedding "
        f"(mean of {measures.N_DRAWS}). A cosine of {measures.COSINE} is rarer the more dimensions the texts use; "
        f"so also those with a text closer than {measures.ABOVE:.0%} of the rotated directions have one. A fitting "
        "text: the share of all neurons with one among the five nearest that is true of at least "
        f"{measures.FITS:.0%} of the {measures.N_TOP} images where the neuron acts most, and with the five of another "
        "neuron.",
    )
    report.table(
        [
            "layer",
            "squared effect on top 10%",
            "first component",
            "named",
            "named, rotated",
            "above the null",
            "a fitting text",
            "of another neuron",
            "best names",
        ],
        [
            [
                layer.layer,
                layer.squared_share,
                layer.first_component,
                f"{layer.n_named} of {layer.n_neurons}",
                layer.n_named_null,
                f"{layer.n_above_null} of {layer.n_neurons}",
                share(layer.n_true, layer.n_judged).in_full,
                share(layer.n_true_shuffled, layer.n_judged),
                "; ".join(f"n{neuron} {text} ({cosine:.2f})" for neuron, text, cosine in layer.examples),
            ]
            for layer in neurons
        ],
    )
    curves = {
        "first component": {layer.layer: layer.first_component for layer in neurons},
        "named": {layer.layer: layer.n_named / layer.n_neurons for layer in neurons},
        "squared effect on top 10%": {layer.layer: layer.squared_share for layer in neurons},
    }
    report.figure("neurons", figures.neuron_curves(curves), "Rank, names and sparsity by layer")


def _lead(model: ClipModel, sizes: HeldOutSizes) -> str:
    tag = f", {model.pretrained}" if model.pretrained else ""
    return (
        f"Model {model.name}{tag} (fingerprint {model.fingerprint}, {model.n_layers} layers x {model.n_heads} heads) "
        f"on scenes rendered from {sizes.n_seeds} seeds ({', '.join(map(str, sizes.seeds))}), which training never "
        f"draws; of each seed {sizes.scenes} for zero-shot, {sizes.traced} traced, {sizes.neurons} for neurons, "
        f"{sizes.masks} with masks. The summed effects miss the "
        f"model's own output by {model.sum_check:.1e} (relative)."
    )


def _cells(found: Estimate) -> tuple[Estimate, str, int]:
    return found, found.interval, found.n


def _map_cells(score: MapScore) -> tuple[Any, ...]:
    return score.miou, score.map, score.foreground_ap, score.foreground_ap.interval


def _value(found: Estimate) -> float | None:
    return found.value if found.n else None
