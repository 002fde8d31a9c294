"""How much each deviation from the thesis's letter changes on the demo world: ours beside the literal form.

Not a budget: docs/fidelity.md keeps what is printed here. Shares have 95% intervals; n is the number of images.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

import clipviz
from clipviz.analysis.generation.editing import asked_maps
from clipviz.lens import ablate, intervals, projection, segment, textspan
from clipviz.lens.ablate import Terms
from clipviz.lens.invert import map_distance
from clipviz.lens.neuron_stats import ablated, large_norms, neuron_stats, rank_one, rebuilt
from clipviz.lens.sparse import code_size, prepare_dictionary, reconstruct, sparse_code
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


def run() -> list[dict[str, Any]]:
    """Return a row for each number, without a budget."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            {"what": what, "measured": measured, "budget": "none", "ok": True}
            for what, measured in rows(Path(folder))
        ]


@torch.no_grad()
def rows(folder: Path) -> Iterator[tuple[str, str]]:
    """(what, the default and the literal form in words)."""
    model = clipviz.load("demo")
    evaluation = demo_evaluation(model, N_IMAGES)
    own, literal = traced_terms(model, evaluation)
    yield from heads(model, evaluation, own, literal)
    yield from projected(model, evaluation, own)
    yield from retrieved(evaluation, late_terms(model, own))
    yield from segmented(model, evaluation)
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


def both(evaluation: Evaluation, ours: torch.Tensor, literal: torch.Tensor) -> str:
    """Return accuracies of two versions of the same embeddings, and on how many images the answers differ in being
    right.
    """
    a, b = right(evaluation, ours), right(evaluation, literal)
    shares = " and ".join(str(intervals.share_of(one.numpy()).in_full) for one in (a, b))
    return f"{shares}; {int((a != b).sum())} of {len(a)} differ"


def heads(model: Any, evaluation: Evaluation, own: Terms, literal: Terms) -> Iterator[tuple[str, str]]:
    mlps = ablate.all_mlps(model.weights.n_mlp_terms)
    after = [ablate.embedding_after(terms, mlps, ablate.means_of(terms)) for terms in (own, literal)]
    yield "biases over all terms / attention alone: accuracy without MLPs", both(evaluation, *after)
    effects, orders = [], []
    texts = model.encode_texts(list(evaluation.pools["descriptions"]))
    for terms in (own, literal):
        late = late_terms(model, terms)
        effects.append(textspan_effects(late))
        orders.append(textspan.describe_heads(late.codes, late.basis, texts, 5).order)
    change = (effects[1] - effects[0]).norm(dim=-1) / effects[0].norm(dim=-1)
    yield (
        "the same: change of a late head's effect, share of its length",
        f"median {float(change.median()):.3f}",
    )
    spread = [one - one.mean(0) for one in effects]
    moved = (spread[1] - spread[0]).norm() / spread[0].norm()
    yield "the same: change of its deviation from its mean, which TextSpan sees", f"{float(moved):.4f}"
    same = [len(set(a) & set(b)) / 5 for a, b in zip(*(order.tolist() for order in orders), strict=True)]
    yield (
        "the same: first 5 texts of a late head that stay",
        f"{sum(same) / len(same):.3f} of {len(same)} heads",
    )
    without_input = Ablation(mlps=frozenset(range(1, model.weights.n_mlp_terms)))
    kept = ablate.embedding_after(own, without_input, ablate.means_of(own))
    yield "MLPs and input term / MLPs alone mean-ablated: accuracy", both(evaluation, after[0], kept)


def textspan_effects(late: Terms) -> torch.Tensor:
    from clipviz.lens.decompose import effects_from_codes

    codes = late.codes
    return effects_from_codes(codes.codes.float(), codes.mean, codes.std, late.basis)


def projected(model: Any, evaluation: Evaluation, own: Terms) -> Iterator[tuple[str, str]]:
    late = late_terms(model, own)
    texts = model.encode_texts(list(evaluation.pools["descriptions"]))
    chosen = textspan.describe_heads(late.codes, late.basis, texts, max(SIZES))
    ours, literal = (
        projection.project_heads(late.codes, late.basis, chosen, SIZES, centred=centred)
        for centred in (True, False)
    )
    for m in SIZES:
        yield (
            f"projection of c minus its mean / of c, m = {m}: accuracy",
            both(evaluation, ours[m], literal[m]),
        )


def retrieved(evaluation: Evaluation, late: Terms) -> Iterator[tuple[str, str]]:
    for task, _, head, cosine, inner in neighbour_agreement(
        evaluation, late, list(range(len(evaluation.images)))
    ):
        yield (
            f"neighbours by cosine / inner product, {task}, head {head}: share of the 7 nearest with the query's label",
            f"{cosine:.3f} and {inner:.3f}",
        )


def segmented(model: Any, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
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
    yield (
        f"segmentation by late layers / all layers, {len(masks)} masks: accuracy, mIoU, mAP",
        " and ".join(f"{s.pixel_accuracy:.3f}, {s.miou:.3f}, {s.map:.3f}" for s in scores),
    )


def neurons(model: Any, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
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
    yield (
        "neurons: biases over all terms / the neurons before: change of phi, share of its length",
        (f"median {float(torch.cat(change).median()):.3f}"),
    )
    yield (
        f"the same: accuracy w/o all neurons of layer {LAYER}",
        both(evaluation, found["all"], found["all literal"]),
    )
    yield (
        "the same: variance of PC 1, mean over neurons",
        (f"{float(lines['ours'].share.mean()):.3f} and {float(lines['literal'].share.mean()):.3f}"),
    )
    yield (
        "rank 1, x signed about the mean / the norm of the projection: accuracy",
        both(evaluation, found["signed"], found["lengths"]),
    )
    yield (
        "the same: accuracy with nothing changed",
        str(intervals.share_of(right(evaluation, found["nothing"]).numpy()).in_full),
    )
    every = torch.cat(own_norms)
    tops = large_norms(every, round(0.02 * len(every)))
    parts = {name: [] for name in ("small", "large")}
    for place, second in enumerate(seconds):
        top = tops[place * BATCH : place * BATCH + len(second.embedding)]
        parts["small"].append(ablated(second, stats["ours"], ~top).cpu())
        parts["large"].append(ablated(second, stats["ours"], top).cpu())
    for name in ("small", "large"):
        yield (
            f"large: above the reference's 98th percentile / each neuron's top 2%: accuracy w/o {name} norm",
            both(evaluation, found[name], torch.cat(parts[name])),
        )
    effects = torch.cat(sampled).cpu().numpy()
    yield (
        f"variance of PC 1 over the top quarter of 64 images / the top 100 of {len(effects)}",
        (f"{component_share(effects[:64]):.3f} and {component_share(effects, n_top=100):.3f}"),
    )


def codes(model: Any, evaluation: Evaluation) -> Iterator[tuple[str, str]]:
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
    yield (
        f"sparse codes of {size} texts, texts minus their mean / as they are: cosine of a neuron with its code",
        f"{shares[0]:.3f} and {shares[1]:.3f}; the text of largest weight stays for {same:.2f} of {N_NEURONS}",
    )


def edits(model: Any) -> Iterator[tuple[str, str]]:
    """Yield the maps that edits ask for beside those of thesis 4.4, and how far either is from the picture's own."""
    session = clipviz.Session(model)
    latents, units = one_object(session.generator.model, N_EDITED), session.generator.guides.own
    maps = session.generator.model.maps(latents)
    for change, right in (("shift", 0.25), ("copy", 0.0), ("remove", 0.0)):
        ours, literal = (
            asked_maps(maps, units, change, right=right, literal=literally) for literally in (False, True)
        )
        moved = map_distance(maps, literal, units)
        apart = (map_distance(ours, literal, units) / moved).sqrt()
        yield (
            f"edits, {change}: distance of the maps asked from the literal ones, in lengths of the literal change",
            intervals.mean(apart.numpy()).in_full,
        )
    session.close()


def passes(models: dict[str, Any], pictures: list) -> dict[str, Any]:
    """Return second-order effects of one layer with both shares of biases."""
    return {name: model.second_order(pictures, LAYER) for name, model in models.items()}


if __name__ == "__main__":
    for one in run():
        print(f"{one['what']:110} {one['measured']}")
