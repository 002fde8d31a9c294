"""Each finding of the thesis on the demo world: whether it appears, the sample size, and the level of chance.

This is a section of the report card. A finding appears if its interval lies above that of the value it is
compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipviz.analysis.cues.attacks import attack_pair
from clipviz.analysis.cues.words import Source
from clipviz.analysis.heads.labels import AT_LEAST, LEVEL, N_FIRST
from clipviz.analysis.neurons.replacement import CONDITIONS
from clipviz.lens import segment
from clipviz.lens.baselines import METHODS
from clipviz.lens.intervals import Estimate, mean, paired, share, share_of, spread
from clipviz.lens.spurious import ShortcutRemoval
from clipviz.models.clip import ClipModel
from clipviz.reproduce.chapter2 import spurious
from clipviz.reproduce.chapter2.segmenting import TOKENS_POOL, TRACED, all_methods
from clipviz.reproduce.chapter2.spurious import Way
from clipviz.reproduce.chapter3.attack_tasks import DEMO
from clipviz.reproduce.chapter3.layers import Study, layer_embeddings
from clipviz.reproduce.chapter3.neuron_texts import Dictionary, wide_pool
from clipviz.reproduce.evaluation import Evaluation, spaced
from clipviz.reproduce.pools import encoded_pool
from clipviz.reproduce.report import Report, Steps
from clipviz.reproduce.world import measures
from clipviz.reproduce.world.held_out import BATCH, HeldOutSizes
from clipviz.reproduce.world.measures import HeadTable, NeuronLayer

MEET = "higher, but the intervals meet"
SECTION = "The thesis's findings on this world"
WITHOUT, LARGE_ALONE, ONE_DIRECTION = CONDITIONS[0], CONDITIONS[1], CONDITIONS[3]
PAIRS, N_REPEATS, N_SENTENCES = DEMO.pairs, 2, 6
"""Number of adversarial pairs, repeats of each, and sentences per repeat."""


@dataclass(frozen=True)
class Finding:
    """One finding: a description, its place in the thesis, its value, the value it is compared with, and what that
    is.

    unit: the sample of both. said: the table's entry if there is nothing to compare.
    """

    what: str
    thesis: str
    found: Estimate
    unit: str
    against: Estimate | None = None
    what_against: str = ""
    said: str = ""

    @property
    def appears(self) -> str:
        """ "yes", "no", or MEET if the value is larger but the intervals overlap."""
        if self.against is None:
            return self.said
        if self.found.low > self.against.high:
            return "yes"
        return MEET if self.found.value > self.against.value else "no"


def stage_section(report: Report, findings: Sequence[Finding]) -> None:
    """Add the table and an explanation of it."""
    report.section(
        SECTION,
        "A finding appears where its 95% interval lies above that of what it is compared with, on the same held-out "
        "scenes. Those of chapter 4 are measured by `clipviz reproduce chapter4`.",
    )
    report.table(
        ["finding", "thesis", "measured", "95%", "n", "compared with", "that", "95%", "appears"],
        [
            [
                one.what,
                one.thesis,
                f"{one.found.value:.0e}" if 0 < one.found.value < 1e-3 else f"{one.found.value:.2f}",
                one.found.interval if one.found.low < one.found.high else None,
                f"{one.found.n:,} {one.unit}",
                one.what_against or None,
                None if one.against is None else f"{one.against.value:.2f}",
                None if one.against is None or one.against.low == one.against.high else one.against.interval,
                one.appears,
            ]
            for one in findings
        ],
    )


def sum_finding(model: ClipModel, evaluation: Evaluation, sizes: HeldOutSizes) -> Finding:
    """Return whether all effects sum to the model's own output."""
    rows = spaced(len(evaluation.images), sizes.large)
    parts = [[evaluation.images[row] for row in rows[at : at + BATCH]] for at in range(0, len(rows), BATCH)]
    worst = max(model.trace(part).sum_check() for part in parts)
    return Finding(
        "the effects of all heads, MLPs and the input add up to the output",
        "Eq. 2.3",
        Estimate(worst, worst, worst, len(rows)),
        "scenes",
        said=f"yes, within {worst:.0e}",
    )


def head_findings(table: HeadTable, birds: Mapping[Way, ShortcutRemoval]) -> list[Finding]:
    """Return what late heads are about, and the effect of removing those of the background."""
    n_heads = len(table.heads)
    labelled = share(sum(role.clear for role in table.roles.values()), n_heads)
    rows = [
        Finding(
            f"late heads have one property (in {AT_LEAST} of their first {N_FIRST} texts)",
            "Table 2.2",
            share(table.n_heads(), n_heads),
            "heads",
            spread([count / n_heads for count in table.null_heads().tolist()]),
            "random rotations of the heads",
        ),
        Finding(
            "late heads have a label of their own",
            "Table 2.2",
            labelled,
            "heads",
            Estimate(LEVEL, LEVEL, LEVEL, n_heads),
            "heads of noise, by the rule at most",
        ),
    ]
    for classes, way in spurious.best_of(birds).items():
        rows.append(
            Finding(
                f"without its background heads the model is right on the worst group (classes by {classes})",
                "Table 2.3",
                spurious.worst_of(way.after),
                "birds",
                spurious.random_worst(way),
                f"as many other heads of the same layers; unchanged {spurious.worst_of(way.before).value:.2f}",
            )
        )
    return rows


def map_findings(
    model: ClipModel,
    evaluation: Evaluation,
    pairs: Mapping[str, Mapping[str, Estimate]],
    steps: Steps,
    quiet: bool,
) -> list[Finding]:
    """Return where the token maps point, beside rollout and raw attention."""
    assert evaluation.masks is not None
    pool = encoded_pool(model, evaluation.pools["descriptions"])
    maps, masks, *_ = all_methods(model, evaluation, evaluation.masks, quiet, pool, steps=steps)
    scores = {name: _outlined(maps[name], masks) for name in (TOKENS_POOL, TRACED, *METHODS)}
    rows = [
        Finding(
            "the named one of two objects is pointed at",
            "Figure A.2",
            pairs[measures.TOKENS]["pointing"],
            "scenes",
            pairs[measures.RAW]["pointing"],
            "raw attention",
        )
    ]
    for measure in ("mIoU", "AP"):
        best = max(METHODS, key=lambda name: scores[name][measure].value)
        rows.append(
            Finding(
                f"token maps outline things better than other methods ({measure})",
                "Table 2.4",
                scores[TOKENS_POOL][measure],
                "scenes",
                scores[best][measure],
                f"{best}, the best of {len(METHODS)} others",
            )
        )
    rows.append(
        Finding(
            "effects outline things better at the tokens whose contents were read (AP)",
            "Figure A.4",
            scores[TRACED]["AP"],
            "scenes",
            scores[TOKENS_POOL]["AP"],
            "the same effects at the tokens of the late layers",
        )
    )
    return rows


def _outlined(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> dict[str, Estimate]:
    """Return the mean over images of the mIoU of each map cut at its mean, and of its average precision."""
    ious = [segment.score([heatmap], [mask]).miou for heatmap, mask in zip(maps, masks, strict=True)]
    return {"mIoU": mean(ious, 0.0, 1.0), "AP": measures.map_scores(maps, masks).foreground_ap}


def text_findings(nearest: Mapping[str, Estimate]) -> list[Finding]:
    """Return whether the texts nearest to a picture are true of it."""
    another = "the same texts, of another picture"
    return [
        Finding(
            "the nearest text of the pool is true",
            "Eq. 2.1",
            nearest["first"],
            "scenes",
            nearest["first, of another picture"],
            another,
        ),
        Finding(
            "of the five nearest texts, those that are true",
            "Eq. 2.1",
            nearest["five"],
            "scenes",
            nearest["five, of another picture"],
            another,
        ),
    ]


def study_of(
    model: ClipModel, evaluation: Evaluation, sizes: HeldOutSizes, steps: Steps, quiet: bool
) -> Study:
    """Return the held-out scenes of one kind of object, untreated, and as many as reference (thesis 3.3's D)."""
    task = next(one for one in evaluation.tasks if one.name == "object")
    n = sizes.neurons * sizes.n_seeds
    judged = [i for i, label in enumerate(task.labels) if label >= 0]
    rows = [judged[i] for i in spaced(len(judged), n)]
    rest = sorted(set(range(len(evaluation.images))) - set(rows))
    reference = evaluation.images.subset([rest[i] for i in spaced(len(rest), n)])
    chosen = replace(
        evaluation, images=evaluation.images.subset(rows), tasks=[task.of(rows)], masks=None, pairs=None
    )
    return Study(model, chosen, reference, steps, quiet)


def neuron_findings(
    right: Mapping[int, Mapping[str, np.ndarray]], neurons: Sequence[NeuronLayer]
) -> list[Finding]:
    """Return second-order effects: where they matter, how sparse and straight they are, whether texts fit.

    right: of each layer, what `named_right` returns.
    """
    lost = {
        layer: paired(int((~one[WITHOUT] & one["baseline"]).sum()), int((one[WITHOUT] & ~one["baseline"]).sum()),
                      len(one["baseline"]))
        for layer, one in right.items()
    }  # fmt: skip
    peak = peak_of(right)
    rows = [
        Finding(
            f"objects are named worse without the second-order effects of layer {layer}"
            + (", which matters most" if layer == peak else ""),
            "Figure 3.3",
            Estimate(-lost[layer].value, -lost[layer].high, -lost[layer].low, lost[layer].n),
            "scenes",
            Estimate(0.0, 0.0, 0.0, lost[layer].n),
            f"no change from {float(right[layer]['baseline'].mean()):.2f}",
        )
        for layer in right
    ]
    at = right[peak]
    for what, condition in (
        ("a neuron's few images of largest norm carry its effect", LARGE_ALONE),
        ("one direction for each neuron carries its effect", ONE_DIRECTION),
    ):
        rows.append(
            Finding(
                f"{what} (layer {peak}: objects named by them alone)",
                "Figure 3.3",
                share_of(at[condition]),
                "scenes",
                share_of(at[WITHOUT]),
                f"without the layer's effects; all of them {float(at['baseline'].mean()):.2f}",
            )
        )
    best = max(neurons, key=lambda layer: layer.n_true)
    rows.append(
        Finding(
            f"neurons have texts that fit their images (layer {best.layer}, the best)",
            "Table 3.2",
            share(best.n_true, best.n_judged),
            "neurons",
            share(best.n_true_shuffled, best.n_judged),
            "the texts of another neuron",
        )
    )
    return rows


def peak_of(right: Mapping[int, Mapping[str, np.ndarray]]) -> int:
    """Return the layer without whose second-order effects the fewest objects are named; see `neuron_findings`."""
    return min(right, key=lambda layer: int(right[layer][WITHOUT].sum()))


def named_right(study: Study, layer: int) -> dict[str, np.ndarray]:
    """Return by condition whether the object of each image is named right after it, [image] bool."""
    (found,) = layer_embeddings(
        study.model, study.evaluation.images, [study.layer(layer)], study.steps, study.quiet
    )
    (task,) = study.evaluation.tasks
    labels = torch.tensor([task.labels[row] for row in found["rows"]])
    directions = task.directions.cpu()
    return {
        name: (torch.from_numpy(found[name]) @ directions.T).argmax(1).eq(labels).numpy()
        for name in ("baseline", WITHOUT, LARGE_ALONE, ONE_DIRECTION)
    }


def attacks(study: Study, layers: Sequence[int], n_pictures: int) -> dict[str, list[bool]]:
    """Return for every method of choosing words whether each picture made the model take one class for another.

    layers: those whose neurons words are chosen from. n_pictures: of each method, pair and repeat.
    """
    n_drawn = min(N_SENTENCES, n_pictures), max(1, n_pictures // N_SENTENCES)
    source = _source(study, layers)
    which = "" if list(layers) == list(study.late) else f"-of-{'-'.join(map(str, layers))}"
    fooled: dict[str, list[bool]] = {}
    for pair in PAIRS:
        for repeat in range(N_REPEATS):
            make = partial(_margins, study.model, source, pair, repeat, n_drawn)
            found = study.steps.get(f"world-attack-{'-'.join(pair)}-{repeat}{which}", make)
            for method, margins in found["margins"].items():
                fooled.setdefault(method, []).extend(margin > 0 for margin in margins)
    return fooled


def attack_findings(fooled: Mapping[str, Sequence[bool]]) -> list[Finding]:
    """Return whether words of second-order effects fool the model more than words like the class they should
    suggest.

    fooled: what `attacks` returns for the late layers.
    """
    shares = {name: share_of(np.array(found, bool)) for name, found in fooled.items()}
    ours = shares.pop("second order")
    best = max(shares, key=lambda name: shares[name].value)
    return [
        Finding(
            "words of second-order effects make the model take one class for another",
            "Table 3.3",
            ours,
            "pictures",
            shares[best],
            f"{best}, the best of {', '.join(shares)}",
        )
    ]


def _source(study: Study, layers: Sequence[int]) -> Source:
    """Return what words are chosen from: the layers' neurons, without their indirect effects, which take long."""
    dictionary = Dictionary(study, wide_pool(study))
    second = torch.cat([study.layer(layer).line.directions for layer in layers])
    sizes = tuple((layer, study.model.neuron_basis(layer).n_neurons) for layer in layers)
    return Source(dictionary.pool, dictionary.encoded, dictionary.codes(second), second, sizes)


def _margins(
    model: ClipModel, source: Source, pair: tuple[str, str], seed: int, n_drawn: tuple[int, int]
) -> dict[str, Any]:
    found = attack_pair(model, source, pair, seed, n_sentences=n_drawn[0], n_images=n_drawn[1], left_out={})
    return {"margins": {name: list(attack.margins) for name, (_, attack) in found.items()}}
