"""How much each deviation from the thesis's letter changes on the demo world: ours beside the literal form.

Not a budget: `python -m tools.demo fidelity` writes these tables into docs/fidelity.md. Shares have 95% intervals; n is
the number of images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.nn.functional import normalize

import clipviz
from clipviz.analysis.generation.editing import asked_maps
from clipviz.lens import ablate, intervals, projection, segment, textspan
from clipviz.lens.ablate import Terms
from clipviz.lens.baselines import all_maps, relevance
from clipviz.lens.invert import map_distance
from clipviz.lens.neuron_stats import ablated, large_norms, neuron_stats, rank_one, rebuilt
from clipviz.lens.sparse import code_size, prepare_dictionary, reconstruct, sparse_code
from clipviz.models.attribution import record
from clipviz.reproduce.chapter2.chapter import late_terms
from clipviz.reproduce.chapter2.pictures import neighbour_agreement
from clipviz.reproduce.chapter2.segmenting import fitted_mask
from clipviz.reproduce.chapter3.chapter import others
from clipviz.reproduce.chapter3.layers import component_share
from clipviz.reproduce.chapter4.editing import one_object
from clipviz.reproduce.evaluation import Evaluation, demo_evaluation
from clipviz.values import Ablation, late_layers

N_IMAGES, N_MASKS, LAYER, N_NEURONS, BATCH = 400, 60, 3, 48, 40
SIZES = (4, 8, 16, 24)
N_EDITED, N_REFERENCE = 64, 120


class Compared(NamedTuple):
    """The default form and the literal one: a section of docs/fidelity.md, the heads of the two columns (or of the
    one), and rows of a quantity and its values, "" where a form has none.
    """

    section: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def run() -> list[dict[str, Any]]:
    """Return a row for each number, without a budget."""
    return [
        {
            "what": f"{one.section}, {' / '.join(one.heads[1:])}: {what}",
            "measured": " and ".join(filter(None, values)),
            "budget": "none",
            "ok": True,
        }
        for one in compared()
        for what, *values in one.rows
    ]


def report() -> str:
    """Return all tables as Markdown, each below the name of its section."""
    parts = []
    for one in compared():
        lines = [one.heads, ("---",) * len(one.heads), *one.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |")
        parts.append(f"## {one.section}\n\n{table}\n")
    return "\n".join(parts)


@torch.no_grad()
def compared() -> Iterator[Compared]:
    """Yield every comparison."""
    model = clipviz.load("demo")
    evaluation = demo_evaluation(model, N_IMAGES)
    own, literal = traced_terms(model, evaluation)
    yield from heads(model, evaluation, own, literal)
    yield from projected(model, evaluation, own)
    yield from retrieved(evaluation, late_terms(model, own))
    yield from segmented(model, evaluation)
    yield from propagated(model, evaluation)
    yield from neurons(model, evaluation)
    yield from codes(model, evaluation)
    yield from edits(model)


def traced_terms(model: Any, evaluation: Evaluation) -> tuple[Terms, Terms]:
    """Return terms of the same passes with biases over all terms, and over attention terms alone."""
    thesis, parts = model.with_thesis_shares(), ([], [])
    for start in range(0, len(evaluation.images), BATCH):
        end = min(start + BATCH, len(evaluation.images))
        trace = model.trace([evaluation.images[i] for i in range(start, end)])
        for into, weights in zip(parts, (model.weights, thesis.weights), strict=True):
            into.append(ablate.terms_of(dataclasses.replace(trace, weights=weights)))
    return ablate.join(parts[0]), ablate.join(parts[1])


def right(evaluation: Evaluation, embeddings: torch.Tensor) -> torch.Tensor:
    """Return whether each labelled image is named, in the first task."""
    task = evaluation.tasks[0]
    labels = torch.tensor(task.labels)
    return ((embeddings @ task.directions.cpu().to(embeddings).T).argmax(1) == labels)[labels >= 0]


def both(evaluation: Evaluation, ours: torch.Tensor, literal: torch.Tensor) -> tuple[str, str]:
    """Return accuracies of two versions of the same embeddings; with the second, on how many images the answers
    differ in being right.
    """
    a, b = right(evaluation, ours), right(evaluation, literal)
    first, second = (said(intervals.share_of(one.numpy())) for one in (a, b))
    n_apart = int((a != b).sum())
    return first, f"{second}; {n_apart} {'differs' if n_apart == 1 else 'differ'}"


def said(estimate: intervals.Estimate, digits: int = 3) -> str:
    """Return a value with its interval; the section's introduction has n."""
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def heads(model: Any, evaluation: Evaluation, own: Terms, literal: Terms) -> Iterator[Compared]:
    mlps = ablate.all_mlps(model.weights.n_mlp_terms)
    after = [ablate.embedding_after(terms, mlps, ablate.means_of(terms)) for terms in (own, literal)]
    effects, orders = [], []
    texts = model.encode_texts(list(evaluation.pools["descriptions"]))
    for terms in (own, literal):
        late = late_terms(model, terms)
        effects.append(textspan_effects(late))
        orders.append(textspan.describe_heads(late.codes, late.basis, texts, 5).order)
    change = (effects[1] - effects[0]).norm(dim=-1) / effects[0].norm(dim=-1)
    spread = [one - one.mean(0) for one in effects]
    moved = (spread[1] - spread[0]).norm() / spread[0].norm()
    same = [len(set(a) & set(b)) / 5 for a, b in zip(*(order.tolist() for order in orders), strict=True)]
    yield Compared(
        "Shares of the biases, chapter 2",
        ("measured", "all terms", "attention alone"),
        [
            (
                "change of a late head's effect, median share of its length",
                "",
                f"{float(change.median()):.3f}",
            ),
            (
                "change of its deviation from its mean, which TextSpan and mean-ablation see",
                "",
                f"{float(moved):.4f}",
            ),
            (
                f"first five texts of a late head that stay, {len(same)} heads",
                "",
                f"{sum(same) / len(same):.3f}",
            ),
            ("accuracy with input and MLPs mean-ablated", *both(evaluation, *after)),
        ],
    )
    without_input = Ablation(mlps=frozenset(range(1, model.weights.n_mlp_terms)))
    kept = ablate.embedding_after(own, without_input, ablate.means_of(own))
    yield Compared(
        "The input term",
        ("measured", "with the input term", "MLPs alone"),
        [("accuracy", *both(evaluation, after[0], kept))],
    )


def textspan_effects(late: Terms) -> torch.Tensor:
    from clipviz.lens.decompose import effects_from_codes

    codes = late.codes
    return effects_from_codes(codes.codes.float(), codes.mean, codes.std, late.basis)


def projected(model: Any, evaluation: Evaluation, own: Terms) -> Iterator[Compared]:
    late = late_terms(model, own)
    texts = model.encode_texts(list(evaluation.pools["descriptions"]))
    chosen = textspan.describe_heads(late.codes, late.basis, texts, max(SIZES))
    ours, literal = (
        projection.project_heads(late.codes, late.basis, chosen, SIZES, centred=centred)
        for centred in (True, False)
    )
    named = {max(SIZES): f"m = {max(SIZES)}, the width of a head"}
    yield Compared(
        "Projection",
        ("accuracy with m texts per head", "c minus its mean", "c"),
        [(named.get(m, f"m = {m}"), *both(evaluation, ours[m], literal[m])) for m in SIZES],
    )


def retrieved(evaluation: Evaluation, late: Terms) -> Iterator[Compared]:
    every = list(range(len(evaluation.images)))
    yield Compared(
        "Neighbours",
        (
            "share of the seven nearest with the query's label, the best head by cosine",
            "cosine",
            "inner product",
        ),
        [
            (f"{task}, layer {layer} head {head}", f"{cosine:.3f}", f"{inner:.3f}")
            for task, _, (layer, head), cosine, inner in neighbour_agreement(evaluation, late, every)
        ],
    )


def segmented(model: Any, evaluation: Evaluation) -> Iterator[Compared]:
    data = evaluation.masks.subset(range(min(N_MASKS, len(evaluation.masks))))
    names = list(evaluation.class_prompts)
    classes = torch.stack(
        [normalize(model.encode_texts(p).mean(0), dim=0) for p in evaluation.class_prompts.values()]
    )
    maps: dict[str, list] = {"late": [], "all": []}
    masks = []
    for i in range(len(data)):
        picture, mask = data[i]
        trace = model.trace([picture])
        one = classes[names.index(str(data.labels[i]))][None]
        for name, layers in (("late", late_layers(model.n_layers)), ("all", None)):
            maps[name].append(segment.token_maps(trace, one, classes, layers=layers)[0].cpu())
        masks.append(fitted_mask(mask, model.image_size))
    scores = [segment.score(maps[name], masks) for name in ("late", "all")]
    early, every = (f"{s.pixel_accuracy:.3f}, {s.miou:.3f}, {s.map:.3f}" for s in scores)
    yield Compared(
        "Segmentation",
        (f"{len(masks)} masks", "late layers", "all layers"),
        [("pixel accuracy, mIoU, mAP", early, every)],
    )


def propagated(model: Any, evaluation: Evaluation) -> Iterator[Compared]:
    """Maps of LRP with 1e-9 added to a sum away from 0, and with 1e-9 added to every sum as published."""
    data = evaluation.masks.subset(range(min(N_MASKS, len(evaluation.masks))))
    methods, masks = ("LRP", "partial LRP", "Chefer et al."), []
    forms: tuple[dict[str, list[torch.Tensor]], ...] = (
        {name: [] for name in methods},
        {name: [] for name in methods},
    )
    for i in range(len(data)):
        picture, mask = data[i]
        text = normalize(model.encode_texts(evaluation.class_prompts[str(data.labels[i])]).mean(0), dim=0)
        noted = record(model, model.prepare([picture]), text[None])
        masks.append(fitted_mask(mask, model.image_size))
        for form, divide in zip(forms, (relevance.divide, plainly_divided), strict=True):
            with patch.object(relevance, "divide", divide):
                for name, maps in all_maps(noted, model.weights.grid, methods).items():
                    form[name].append(maps[0])
    rows = []
    for name in methods:
        ours, literal = forms[0][name], forms[1][name]
        far = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(ours, literal, strict=True)]
        precision = [f"{segment.score(one, masks).map:.4f}" for one in (ours, literal)]
        rows.append((f"{name}: mAP", *precision))
        rows.append(
            (
                f"{name}: largest difference in a map as a share of its largest value, median and worst image",
                "",
                f"{torch.tensor(far).median():.0e}, {max(far):.0e}",
            )
        )
    yield Compared("The stabiliser of LRP", (f"{len(masks)} masks", "away from 0", "+ 1e-9 alone"), rows)


def plainly_divided(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Return numerator / (denominator + 1e-9), which a small negative sum brings closer to a division by 0."""
    return numerator / (denominator + relevance.EPSILON)


def neurons(model: Any, evaluation: Evaluation) -> Iterator[Compared]:
    """Layer 3 of 0..5: shares of biases, scores, large norms, images of the component."""
    import clipviz.demo as demo

    reference, models = (
        others(demo.images(), N_IMAGES, N_IMAGES),
        {"ours": model, "literal": model.with_thesis_shares()},
    )
    basis = {name: one.neuron_basis(LAYER) for name, one in models.items()}
    seconds: list[Any] = []
    stats: dict[str, Any] = {}
    norms = []
    for start in range(0, len(reference), BATCH):
        rows_ = range(start, min(start + BATCH, len(reference)))
        for name, second in passes(models, [reference[i] for i in rows_]).items():
            part = neuron_stats(second, rows_, n_top=16)
            stats[name] = part if name not in stats else stats[name].merge(part)
            if name == "ours":
                norms.append(second.norms())
    lines = {name: rank_one(stats[name], basis[name]) for name in basis}
    thresholds = torch.quantile(torch.cat(norms), 0.98, dim=0)
    kept: dict[str, list[torch.Tensor]] = {}
    own_norms, chosen = [], list(range(0, model.weights.n_neurons, model.weights.n_neurons // N_NEURONS))
    sampled, change = [], []
    for start in range(0, len(evaluation.images), BATCH):
        end = min(start + BATCH, len(evaluation.images))
        both_ = passes(models, [evaluation.images[i] for i in range(start, end)])
        ours, literal = both_["ours"], both_["literal"]
        large = ours.norms() > thresholds
        made = {
            "nothing": normalize(ours.embedding, dim=1),
            "all": ablated(ours, stats["ours"]),
            "all literal": ablated(literal, stats["literal"]),
            "signed": rebuilt(ours, lines["ours"], stats=stats["ours"]),
            "lengths": rebuilt(ours, lines["ours"], stats=stats["ours"], lengths=True),
            "small": ablated(ours, stats["ours"], ~large),
            "large": ablated(ours, stats["ours"], large),
        }
        for name, embeddings in made.items():
            kept.setdefault(name, []).append(embeddings.cpu())
        own_norms.append(ours.norms())
        sampled.append(ours.effects(chosen))
        change.append(
            (literal.effects(chosen) - ours.effects(chosen)).norm(dim=-1) / ours.effects(chosen).norm(dim=-1)
        )
        seconds.append(ours)
    found = {name: torch.cat(parts) for name, parts in kept.items()}
    first, second_ = (f"{float(lines[name].share.mean()):.3f}" for name in ("ours", "literal"))
    yield Compared(
        "Shares of the biases, chapter 3",
        (f"layer {LAYER} of 0 to {model.n_layers - 1}", "all terms", "the neurons before"),
        [
            ("change of phi, median share of its length", "", f"{float(torch.cat(change).median()):.3f}"),
            (
                "accuracy with all neurons mean-ablated",
                *both(evaluation, found["all"], found["all literal"]),
            ),
            ("variance of the first component, mean over neurons", first, second_),
        ],
    )
    unchanged = intervals.share_of(right(evaluation, found["nothing"]).numpy()).value
    yield Compared(
        "Signed scores",
        (f"accuracy, every neuron of layer {LAYER} replaced", "signed", "norm"),
        [
            (
                f"x r + b ({unchanged:.3f} with nothing changed)",
                *both(evaluation, found["signed"], found["lengths"]),
            )
        ],
    )
    every = torch.cat(own_norms)
    tops = large_norms(every, round(0.02 * len(every)))
    parts = {name: [] for name in ("small", "large")}
    for place, second in enumerate(seconds):
        top = tops[place * BATCH : place * BATCH + len(second.embedding)]
        parts["small"].append(ablated(second, stats["ours"], ~top).cpu())
        parts["large"].append(ablated(second, stats["ours"], top).cpu())
    yield Compared(
        "Large norms",
        (f"accuracy, layer {LAYER}", "percentile of the reference", "each neuron's top 2% here"),
        [
            (f"without {name} norms", *both(evaluation, found[name], torch.cat(parts[name])))
            for name in ("small", "large")
        ],
    )
    effects = torch.cat(sampled).cpu().numpy()
    yield Compared(
        "The first component",
        (
            f"variance of the first component, second order, {effects.shape[1]} neurons of layer {LAYER}",
            "top quarter of 64",
            f"top 100 of {len(effects)}",
        ),
        [
            (
                "mean over neurons",
                f"{component_share(effects[:64]):.3f}",
                f"{component_share(effects, n_top=100):.3f}",
            )
        ],
    )


def codes(model: Any, evaluation: Evaluation) -> Iterator[Compared]:
    """Yield sparse codes of neurons with texts minus their mean, and with texts as they are."""
    stats: Any = None
    for start in range(0, N_REFERENCE, BATCH):
        rows_ = range(start, start + BATCH)
        second = model.second_order([evaluation.images[i] for i in rows_], LAYER)
        part = neuron_stats(second, list(rows_), n_top=16)
        stats = part if stats is None else stats.merge(part)
    directions = rank_one(stats, model.neuron_basis(LAYER)).directions[:N_NEURONS].cpu()
    texts = model.encode_texts(list(evaluation.pools["descriptions"])).cpu()
    size, shares, first = code_size(texts.shape[1]), [], []
    for centre in (True, False):
        dictionary = prepare_dictionary(texts, centre=centre)
        found = sparse_code(directions, dictionary, size)
        rebuilt_ = reconstruct(found, dictionary)
        shares.append(float((normalize(rebuilt_, dim=1) * normalize(directions, dim=1)).sum(1).mean()))
        first.append(found.weights.abs().argmax(1))
        first[-1] = found.atoms.gather(1, first[-1][:, None])[:, 0]
    same = float((first[0] == first[1]).float().mean())
    yield Compared(
        "Sparse codes",
        (
            f"{N_NEURONS} neurons of layer {LAYER}, codes of {size} texts",
            "texts minus their mean",
            "texts as they are",
        ),
        [
            ("cosine of a neuron's direction with its code", f"{shares[0]:.3f}", f"{shares[1]:.3f}"),
            ("text of largest weight that stays, share of neurons", "", f"{same:.2f}"),
        ],
    )


def edits(model: Any) -> Iterator[Compared]:
    """Yield the maps that edits ask for beside those of thesis 4.4, and how far either is from the picture's own."""
    session = clipviz.Session(model)
    latents, units = one_object(session.generator.model, N_EDITED), session.generator.guides.own
    maps = session.generator.model.maps(latents)
    found = []
    for change, right, what in (
        ("shift", 0.25, "shift by a quarter"),
        ("copy", 0.0, "copy"),
        ("remove", 0.0, "remove"),
    ):
        ours, literal = (
            asked_maps(maps, units, change, right=right, literal=literally) for literally in (False, True)
        )
        moved = map_distance(maps, literal, units)
        apart = (map_distance(ours, literal, units) / moved).sqrt()
        found.append((what, said(intervals.mean(apart.numpy()), 2)))
    session.close()
    yield Compared(
        "Maps of edits",
        (
            f"{N_EDITED} pictures of one object, all shared units",
            "distance of the maps asked from the literal ones, in lengths of the literal change",
        ),
        found,
    )


def passes(models: dict[str, Any], pictures: list) -> dict[str, Any]:
    """Return second-order effects of one layer with both shares of biases."""
    return {name: model.second_order(pictures, LAYER) for name, model in models.items()}


if __name__ == "__main__":
    print(report())
