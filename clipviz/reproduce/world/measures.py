"""The measurements of the demo world's report card, as numbers from resumable steps.

Every function takes a model and held-out scenes, and returns plain values for the report and its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from clipviz import demo
from clipviz.analysis.heads import labels
from clipviz.analysis.heads.labels import AT_LEAST
from clipviz.analysis.neurons.sums import read_layers, read_together
from clipviz.data.images import Images
from clipviz.data.texts import Texts, broad
from clipviz.demo.model import evaluate
from clipviz.demo.model.evaluate import Encoder
from clipviz.demo.world.captions import FACTS
from clipviz.demo.world.scenes import Scenes, render
from clipviz.lens import ablate, headset, roles, segment, textspan
from clipviz.lens.ablate import Terms
from clipviz.lens.covariance import code_moments
from clipviz.lens.decompose import effects_from_codes
from clipviz.lens.intervals import Estimate, mean, share
from clipviz.lens.neuron_stats import NeuronStats, rank_one
from clipviz.lens.roles import Chosen, Role
from clipviz.lens.rotations import random_rotations
from clipviz.lens.sparse import prepare_dictionary
from clipviz.lens.spurious import ShortcutRemoval
from clipviz.lens.trace import Trace
from clipviz.models.clip import ClipModel
from clipviz.reproduce.chapter2 import spurious
from clipviz.reproduce.chapter2.chapter import Measured, late_terms
from clipviz.reproduce.chapter2.segmenting import fitted_mask
from clipviz.reproduce.chapter3.layers import usable_layers
from clipviz.reproduce.evaluation import Evaluation, trace_terms
from clipviz.reproduce.pools import encoded_pool
from clipviz.reproduce.report import Steps
from clipviz.reproduce.world.held_out import HeldOutSizes, two_objects
from clipviz.values import Ablation, Head, late_layers

N_DRAWS = 200
"""Number of random draws of every baseline."""
N_STRONGEST, TOP_SHARE, COSINE, ABOVE = 200, 0.10, 0.5, 0.99
N_TOP, FITS = 20, 0.5
"""Number of images where a neuron acts most, and the share of them that a fitting text must be true of."""
RARE = FITS / 4
"""The largest share of all images of which a text is true that says something special of a neuron's images."""
TOKENS, TOKENS_CLASSES, RAW = "token maps", "token maps minus classes", "raw attention"
MAPS = (TOKENS, TOKENS_CLASSES, RAW)
SUPERVISED = {
    "kind of thing": "kind",
    "object": "class",
    "shape": "class",
    "letter or number": "class",
    "colour": "colour",
    "background": "background",
    "background colour": "background colour",
    "treatment": "treatment",
    "count": "count",
    "size": "size",
    "column": "column",
    "row": "row",
}
"""Property -> the column of the attribute table that contains it, for the supervised half of the head table."""
_KINDS = {"object": "object", "shape": "shape", "letter or number": "glyph"}


@dataclass(frozen=True)
class FamilyScore:
    """Zero-shot accuracy of one family of attributes on the scenes to which it applies, and the level of chance."""

    accuracy: Estimate
    chance: float


def families(encoder: Encoder, sizes: HeldOutSizes, steps: Steps) -> dict[str, dict[str, FamilyScore]]:
    """Return zero-shot accuracy of every family, all seeds pooled: {"held out" or "unseen views": {family: score}}."""

    def measured(title: str, seed: int, unseen: bool) -> dict[str, dict[str, Any]]:
        make = partial(evaluate.report, encoder, sizes.scenes, seed, unseen, sizes.large)
        return steps.get(f"world-{title.replace(' ', '-')}-{seed}", make)

    return {
        title: pooled([measured(title, seed, unseen) for seed in sizes.seeds])
        for title, unseen in (("held out", False), ("unseen views", True))
    }


def pooled(parts: Sequence[Mapping[str, dict[str, Any]]]) -> dict[str, FamilyScore]:
    """Return several seeds' scores as if of one set; parts: family -> {accuracy, chance, n} of each seed."""
    scores = {}
    for family, first in parts[0].items():
        known = [part[family] for part in parts if part[family]["n"]]
        n_right = sum(round(one["accuracy"] * one["n"]) for one in known)
        scores[family] = FamilyScore(share(n_right, sum(one["n"] for one in known)), first["chance"])
    return scores


def nearest_texts(encoder: Encoder, sizes: HeldOutSizes, steps: Steps) -> dict[str, Estimate]:
    """Return how often the world's texts nearest to a picture are true of it, and of another picture.

    The counts of all seeds are added up.
    """
    pool = list(demo.texts())
    directions = encoder.texts(pool)

    def measured(seed: int) -> dict[str, list[int]]:
        scenes = render(sizes.traced, seed)
        return evaluate.nearest_texts(encoder.images(scenes.images), directions, pool, scenes)

    parts = [steps.get(f"world-nearest-texts-{seed}", partial(measured, seed)) for seed in sizes.seeds]
    totals = {what: np.sum([part[what] for part in parts], 0) for what in parts[0]}
    shares = np.arange(evaluate.N_NEAREST + 1) / evaluate.N_NEAREST
    return {
        what: mean(np.repeat(shares, total), 0.0, 1.0) if what.startswith("five") else share(*map(int, total))
        for what, total in totals.items()
    }


def ablations(model: ClipModel, measured: Measured) -> dict[str, dict[str, float]]:
    """Return the accuracy of every family when one or several terms are mean-ablated: {what: {family: accuracy}}."""
    n_layers = model.n_layers
    cases = {"nothing": Ablation(), "input": Ablation(mlps=frozenset({0}))}
    cases |= {f"MLP {layer}": Ablation(mlps=frozenset({1 + layer})) for layer in range(n_layers)}
    cases["input and all MLPs"] = ablate.all_mlps(model.weights.n_mlp_terms)
    cases |= {f"attention {k}": case for k, case in enumerate(ablate.isolated(range(n_layers)))}
    cumulative = ablate.accumulated(range(n_layers))[2:]
    cases |= {f"attention 0-{k}": case for k, case in enumerate(cumulative, 1)}
    return {name: measured.top1(case) for name, case in cases.items()}


@dataclass(frozen=True, eq=False)
class HeadTable:
    """The late heads by TextSpan and by supervision.

    roles, texts: of each head. null_counts: [draw, head] how many of the first texts share a broad family under
    random rotations. shares: property -> [head] share of a head's variance between the property's values. by_seed:
    heads with AT_LEAST texts of one family on the scenes of each seed alone.
    """

    heads: list[Head]
    roles: dict[Head, Role]
    texts: dict[Head, list[str]]
    null_counts: Int[Tensor, "draw head_all"]
    shares: dict[str, Float[Tensor, " head_all"]]
    by_seed: list[int]

    def n_heads(self, at_least: int = AT_LEAST) -> int:
        """Return the number of heads with so many of their first texts from one broad family."""
        return sum(role.n_texts >= at_least for role in self.roles.values())

    def null_heads(self, at_least: int = AT_LEAST) -> Float[Tensor, " draw"]:
        """Return the same count in every draw of the null."""
        return (self.null_counts >= at_least).sum(1).double()

    def ratio(self, at_least: int = AT_LEAST) -> float:
        """Return the ratio of heads found to heads expected under the null; infinite if no draw finds one."""
        expected = float(self.null_heads(at_least).mean())
        return self.n_heads(at_least) / expected if expected else float("inf")

    def supervised(self, row: int) -> tuple[str, float]:
        """Return the property that a head varies with most, and its share."""
        name = max(self.shares, key=lambda key: float(self.shares[key][row]))
        return name, float(self.shares[name][row])


def head_table(model: ClipModel, pool: Texts, late: Terms, scenes: Scenes, n_seeds: int = 1) -> HeadTable:
    """Run TextSpan on every late head (centred pool, length-normalised), with its null and the supervised shares."""
    covariance, span = textspan.head_span(late.basis, code_moments(late.codes).covariance)
    heads, directions = headset.all_heads(late.codes), encoded_pool(model, pool).cpu()
    found = labels.label_heads(heads, covariance, span, directions, pool)
    effects = effects_from_codes(late.codes.codes, late.codes.mean, late.codes.std, late.basis).flatten(1, 2)
    return HeadTable(
        heads=heads,
        roles=found,
        texts={head: [pool[i] for i in role.first] for head, role in found.items()},
        null_counts=torch.tensor([role.null_counts for role in found.values()]).T,
        by_seed=heads_by_seed(late, directions, [broad(family) for family in pool.families], n_seeds),
        shares={name: between_share(effects, known) for name, known in supervision(scenes).items()},
    )


def heads_by_seed(late: Terms, directions: Tensor, families: Sequence[str | None], n_seeds: int) -> list[int]:
    """Return how many heads have AT_LEAST first texts of one family, for n_seeds equal consecutive parts."""
    counts = []
    for rows in np.array_split(np.arange(len(late.codes)), n_seeds):
        part = late.codes[slice(int(rows[0]), int(rows[-1]) + 1)]
        basis = textspan.describe_heads(part, late.basis, directions, labels.N_FIRST, True, True)
        chosen = (Chosen(*one) for one in zip(basis.order.tolist(), basis.gains.tolist(), strict=True))
        counts.append(sum(roles.largest(one, families)[1].n_texts >= AT_LEAST for one in chosen))
    return counts


def supervision(scenes: Scenes) -> dict[str, list[int]]:
    """Return for each property of SUPERVISED the value of every scene, -1 where it does not apply."""
    kinds = scenes.words("kind")
    labels = {}
    for name, column in SUPERVISED.items():
        values, kind = scenes.attribute(column).tolist(), _KINDS.get(name)
        fits = [kind is None or found == kind for found in kinds]
        labels[name] = [value if fit else -1 for value, fit in zip(values, fits, strict=True)]
    return labels


def between_share(
    effects: Float[Tensor, "image head_all d_embed"], labels: Sequence[int]
) -> Float[Tensor, " head_all"]:
    """Return the share of each head's variance between the groups of a label, adjusted for the number of groups.

    eta^2 = between / total over the images with a label (>= 0), adjusted as 1 - (1 - eta^2)(n - 1)/(n - k) so
    that meaningless groups give 0 on average; 0 if there are no more images than groups.
    """
    labels_of = torch.as_tensor(labels)
    known = labels_of >= 0
    values, groups = torch.unique(labels_of[known], return_inverse=True)
    chosen, n_images, n_groups = effects[known].double(), int(known.sum()), len(values)
    if n_groups < 2 or n_images <= n_groups:
        return effects.new_zeros(effects.shape[1])
    centred = chosen - chosen.mean(0)
    sums = centred.new_zeros(n_groups, *centred.shape[1:]).index_add_(0, groups, centred)
    sizes = torch.bincount(groups, minlength=n_groups).double()
    between = (sums.square().sum(-1) / sizes[:, None]).sum(0)
    share = between / centred.square().sum((0, 2)).clamp_min(1e-30)
    return (1 - (1 - share) * (n_images - 1) / (n_images - n_groups)).to(effects)


def token_map_scores(
    model: ClipModel, evaluation: Evaluation, less: Mapping[str, Tensor]
) -> dict[str, dict[int, MapScore]]:
    """Return scores of token maps minus each of `backgrounds`, and of raw attention, summed over the last k layers:
    {map: {k: score}}.
    """
    data = evaluation.masks
    assert data is not None
    names = list(evaluation.class_prompts)
    classes = evaluation.tasks[0].directions
    depths = range(1, model.n_layers + 1)
    maps: dict[str, dict[int, list[Tensor]]] = {name: {k: [] for k in depths} for name in MAPS}
    masks = []
    for start in range(0, len(data), 16):
        pairs = [data[i] for i in range(start, min(start + 16, len(data)))]
        directions = classes[[names.index(str(data.labels[start + i])) for i in range(len(pairs))]]
        trace = model.trace(model.prepare([picture for picture, _ in pairs]))
        for k in depths:
            layers = range(model.n_layers - k, model.n_layers)
            for name, texts in less.items():
                found = segment.token_maps(
                    trace, directions.to(trace.embedding), texts.to(trace.embedding), layers
                )
                maps[name][k] += list(found.cpu())
            maps[RAW][k] += list(_raw_attention(trace, layers))
        masks += [fitted_mask(mask, model.image_size) for _, mask in pairs]
    return {name: {k: map_scores(found[k], masks) for k in depths} for name, found in maps.items()}


def backgrounds(model: ClipModel, evaluation: Evaluation) -> dict[str, Tensor]:
    """Return the texts whose mean token maps are subtracted: all descriptions, or the class names, as in the thesis."""
    pool = encoded_pool(model, evaluation.pools["descriptions"])
    return {TOKENS: pool, TOKENS_CLASSES: evaluation.tasks[0].directions}


def pair_scores(
    model: ClipModel, scenes: Scenes, evaluation: Evaluation, less: Mapping[str, Tensor], n_late: int
) -> dict[str, dict[str, Estimate]]:
    """Score maps on scenes with two objects: does the text select the object that it names?

    For every untreated scene of two different objects and each of the two names, on maps of the last n_late
    layers: "pointing", how often the named object has the larger mean, and "foreground AP" against its mask
    alone, for the maps of MAPS; raw attention does not depend on the text. A scene counts once, with the mean
    over its two names.
    """
    rows = two_objects(scenes)
    layers = late_layers(model.n_layers, n_late)
    found: dict[str, list[np.ndarray]] = {name: [] for name in MAPS}
    classes = evaluation.tasks[0].directions
    for start in range(0, len(rows), 16):
        some = rows[start : start + 16]
        trace = model.trace([Image.fromarray(scenes.images[i]) for i in some])
        raw = _raw_attention(trace, layers)
        named: dict[str, list[list[tuple[bool, float]]]] = {name: [] for name in MAPS}
        for label in (1, 2):
            things = [(scenes.scenes[i].subject, scenes.scenes[i].second)[label - 1] for i in some]
            chosen = classes[[thing.word for thing in things if thing is not None]].to(trace.embedding)
            maps_of = {
                name: segment.token_maps(trace, chosen, texts.to(trace.embedding), layers).cpu()
                for name, texts in less.items()
            }
            for name, maps in {**maps_of, RAW: raw}.items():
                named[name].append(
                    [
                        _pointing(one, torch.from_numpy(scenes.masks[i]), label)
                        for one, i in zip(maps, some, strict=True)
                    ]
                )
        for name, of_labels in named.items():
            found[name] += list(np.asarray(of_labels, float).mean(0))
    return {
        name: {
            "pointing": mean([hit for hit, _ in hits], 0.0, 1.0),
            "foreground AP": mean([ap for _, ap in hits], 0.0, 1.0),
        }
        for name, hits in found.items()
    }


def _raw_attention(trace: Trace, layers: Sequence[int]) -> Float[Tensor, "image rows cols"]:
    """Return the class token's attention to every image token, averaged over the heads of some layers."""
    assert trace.attention is not None
    weights = trace.weights
    found: Tensor = (
        trace.attention[:, list(layers), :, weights.prefix :].mean((1, 2)).unflatten(-1, weights.grid).cpu()
    )
    return found


def _pointing(heatmap: Tensor, mask: Tensor, label: int) -> tuple[bool, float]:
    """Return whether object `label` of the two has the larger mean, and the average precision against its mask."""
    grown = segment.to_pixels(heatmap, mask.shape)
    named, other = grown[mask == label].mean(), grown[mask == 3 - label].mean()
    return bool(named > other), segment.average_precision(grown.flatten(), (mask == label).flatten())


@dataclass(frozen=True)
class MapScore:
    """The thesis's scores of a set of maps, and the average precision of the foreground alone, averaged over images."""

    miou: float
    map: float
    foreground_ap: Estimate


def map_scores(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> MapScore:
    """Return the scores of maps, one per image, against the foreground of its mask."""
    found = segment.score(maps, masks)
    foreground = [
        segment.average_precision(segment.to_pixels(heatmap, mask.shape).flatten(), (mask > 0).flatten())
        for heatmap, mask in zip(maps, masks, strict=True)
    ]
    return MapScore(found.miou, found.map, mean(foreground, 0.0, 1.0))


def background_ablation(
    model: ClipModel,
    evaluation: Evaluation,
    terms: Terms,
    table: HeadTable,
    steps: Steps,
    quiet: bool = False,
    only_others: bool = True,
) -> dict[spurious.Way, ShortcutRemoval]:
    """Return accuracy of birds by group before and after ablating the background heads; means come from the held-out
    scenes.

    only_others: False lets the null draw background heads too, which is stricter.
    """
    assert evaluation.birds is not None
    assert evaluation.shortcut is not None
    images, task = evaluation.birds
    birds, kept, _ = trace_terms(model, images, steps, "world-birds", quiet)
    late, means = late_terms(model, terms), ablate.means_of(terms)
    found = table.roles
    return spurious.shortcuts(
        task, evaluation.shortcut, kept, birds, late, found, means, N_DRAWS, only_others
    )


@dataclass(frozen=True, eq=False)
class NeuronLayer:
    """Second-order effects of one layer: sparsity, rank, and texts.

    squared_share: share of the summed squared effect on the top 10% images, mean over the strongest neurons;
    components: share of variance of the first component there, of each of them. n_named: strongest neurons with a
    text at cosine > COSINE; n_named_null: the same for their directions under random rotations of the embedding, mean
    of N_DRAWS; n_above_null: with a text at a higher cosine than ABOVE of all the rotated ones, whatever the
    embedding's dimension. n_true: of all n_judged neurons of the layer, those with a text among the N_NEAREST along
    their direction that is true of at least FITS of the N_TOP images where they act most; n_true_shuffled: the same
    with the texts of another neuron. n_nameable: those with any such text that is true of at most RARE of all images.
    examples: (neuron, text, cosine) of the best-named neurons.
    """

    layer: int
    n_neurons: int
    squared_share: float
    components: list[float]
    n_named: int
    n_named_null: float
    n_above_null: int
    n_judged: int
    n_true: int
    n_true_shuffled: int
    n_nameable: int
    examples: list[tuple[int, str, float]]

    @property
    def first_component(self) -> float:
        return sum(self.components) / len(self.components)


def neuron_layers(
    model: ClipModel,
    images: Images,
    pool: Mapping[str, Tensor],
    quiet: bool = False,
    known: Bool[np.ndarray, "image text"] | None = None,
) -> list[NeuronLayer]:
    """Return sparsity, rank and names of every layer's second-order effects (thesis 3.3).

    pool: text -> unit direction; known: whether each of these texts is true of each image, None if unknown.
    """
    texts, directions = list(pool), torch.stack(list(pool.values()))
    n_top = max(2, round(TOP_SHARE * len(images)))
    rotations = random_rotations(N_DRAWS, directions.shape[1], torch.Generator().manual_seed(0))
    found = []
    for layers in read_together(model, usable_layers(model), len(images), n_top):
        bar = "" if quiet else f"neurons of layers {', '.join(map(str, layers))}"
        sums = read_layers(model, images, layers, n_top, shared=False, norms=False, bar=bar)
        found += [
            _neuron_layer(model, layer, own.stats, texts, directions, rotations, known)
            for layer, own in zip(layers, sums, strict=True)
        ]
    return found


def _neuron_layer(
    model: ClipModel,
    layer: int,
    stats: NeuronStats,
    texts: list[str],
    directions: Tensor,
    rotations: Float[Tensor, "rotation d_embed d_embed"],
    known: np.ndarray | None,
) -> NeuronLayer:
    line = rank_one(stats, model.neuron_basis(layer))
    strongest = stats.total.topk(min(N_STRONGEST, len(stats.total))).indices
    found = line.directions[strongest].cpu()
    cosines, best = (found @ directions.T).max(1)
    null = torch.cat([(found @ rotation.to(found) @ directions.T).amax(1) for rotation in rotations])
    order = cosines.topk(min(5, len(cosines))).indices.tolist()
    nearest, top = np.empty((0, 0), int), np.empty((0, 0), int)
    if known is not None:
        nearest = (line.directions.cpu() @ directions.T).topk(evaluate.N_NEAREST, 1).indices.numpy()
        top = stats.top_images[:, :N_TOP].cpu().numpy()
    another = np.random.default_rng(layer).permutation(len(nearest))
    return NeuronLayer(
        layer=layer,
        n_neurons=len(strongest),
        squared_share=float(stats.top_share()[strongest].mean()),
        components=line.share[strongest].tolist(),
        n_named=int((cosines > COSINE).sum()),
        n_named_null=float((null > COSINE).sum()) / len(rotations),
        n_above_null=int((cosines > null.quantile(ABOVE)).sum()),
        n_judged=len(nearest),
        n_true=n_fitting(nearest, top, known),
        n_true_shuffled=n_fitting(nearest[another], top, known),
        n_nameable=n_nameable(top, known),
        examples=[(int(strongest[i]), texts[int(best[i])], float(cosines[i])) for i in order],
    )


def n_fitting(
    texts: Int[np.ndarray, "neuron text"],
    images: Int[np.ndarray, "neuron image"],
    known: Bool[np.ndarray, "image_all text_all"] | None,
) -> int:
    """Return how many neurons have a text that is true of at least FITS of their images."""
    if known is None:
        return 0
    shares = [known[np.ix_(own, said)].mean(0).max() for own, said in zip(images, texts, strict=True)]
    return int((np.array(shares) >= FITS).sum())


def n_nameable(
    images: Int[np.ndarray, "neuron image"], known: Bool[np.ndarray, "image_all text_all"] | None
) -> int:
    """Return how many neurons have a fitting text anywhere in the pool, as `n_fitting` counts them, among the texts
    that are true of at most RARE of all images.
    """
    if known is None:
        return 0
    rare = np.flatnonzero(known.mean(0) <= RARE)
    return n_fitting(np.tile(rare, (len(images), 1)), images, known) if len(rare) else 0


def naming_pool(model: ClipModel, pool: Texts) -> dict[str, Tensor]:
    """Return the texts for naming neurons: the pool and every sentence of the world's facts.

    The directions are unit vectors minus the part common to all texts, as in sparse codes: centred effects
    distinguish images, and the common part does not.
    """
    facts = [sentence for values in FACTS.values() for sentences in values for sentence in sentences]
    texts = list(dict.fromkeys([*pool, *facts]))
    return dict(zip(texts, prepare_dictionary(model.encode_texts(texts).cpu()), strict=True))
