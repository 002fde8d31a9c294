"""What bounds the numbers of the report card: what embeddings do not hold, and what only the texts miss.

A linear probe reads what embeddings hold along any direction, and so separates a model that does not see something from
texts that do not name it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clipviz.demo.model import evaluate
from clipviz.demo.model.evaluate import Encoder
from clipviz.demo.world.sampling import Theme, sample_scene
from clipviz.demo.world.scene import OBJECT, OWN_COLOUR, Scene
from clipviz.demo.world.scenes import compose
from clipviz.lens.intervals import Estimate, share, share_of
from clipviz.models.interventions import intervened_embeddings
from clipviz.reproduce.chapter3.layers import Study, mean_of
from clipviz.reproduce.evaluation import batches
from clipviz.reproduce.report import Report, Steps
from clipviz.reproduce.world import measures
from clipviz.reproduce.world.held_out import HeldOutSizes
from clipviz.reproduce.world.measures import HeadTable, NeuronLayer

SECTION = "What bounds these numbers"
HALF = 0.5
"""The share of a head's variance from which it counts as a head of one property."""
PROBED, JUDGED = 5_000_011, 1_000_003
"""Seeds of the scenes that probes are trained on and judged on; the model's training draws neither."""
BY_TEXTS = "by its texts"
STRENGTH = 0.1
"""Inverse strength of the probes' ridge penalty, for embeddings of unit variance."""


@dataclass(frozen=True)
class Bound:
    """One line: what was measured, on how many of what, and what it is compared with."""

    what: str
    found: Estimate
    unit: str
    beside: str
    that: Estimate


@dataclass(frozen=True, eq=False)
class Seen:
    """Embeddings of scenes, [scene, d_embed], and the value of each in the family that is asked for."""

    units: Float[np.ndarray, "scene d_embed"]
    truth: Int[np.ndarray, " scene"]


def copies(encoder: Encoder, n: int, seed: int) -> Seen:
    """Return untreated scenes of 2 to 6 copies of one thing, with their number."""
    return _seen(encoder, n, seed, Theme(layout="several"), "count", False)


def lone_objects(encoder: Encoder, n: int, seed: int, unseen: bool) -> Seen:
    """Return untreated scenes of one object in its own colours, with its class; unseen: in the style never trained."""
    return _seen(encoder, n, seed, Theme(kind=OBJECT, layout="single"), "object", unseen)


def _seen(encoder: Encoder, n: int, seed: int, theme: Theme, family: str, unseen: bool) -> Seen:
    rng = np.random.default_rng([seed, 7])
    drawn: list[Scene] = []
    while len(drawn) < n:
        scene = sample_scene(rng, theme, unseen_views=unseen)
        asked = scene.thing is not None and (family == "count" or scene.thing.colour == OWN_COLOUR)
        drawn += [scene] if asked and scene.treatment == 0 else []
    scenes = compose(drawn, seed, unseen_views=unseen, n_captions=0)
    return Seen(encoder.images(scenes.images).numpy(), np.array(evaluate.truths(family, scenes), int))


def probe(trained: Seen, judged: Seen) -> list[bool]:
    """Return for each judged scene whether a logistic regression, trained on other scenes, reads its value."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=500))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The number of unique classes"
        )  # few scenes of many objects are asked for
        fitted.fit(trained.units, trained.truth)
    right: list[bool] = (fitted.predict(judged.units) == judged.truth).tolist()
    return right


def probes(encoder: Encoder, sizes: HeldOutSizes, steps: Steps) -> dict[str, list[float]]:
    """Return by name the answers of texts and of probes, for each judged scene.

    "count": the number of copies minus the one that the texts name; "count, probe", "style", "style, probe of known
    styles", "style, probe": 1 where the answer is right.
    """

    def make() -> dict[str, Any]:
        n, n_trained = sizes.scenes, 3 * sizes.scenes
        counted = copies(encoder, n, JUDGED)
        unseen = lone_objects(encoder, n, JUDGED, True)
        named = {
            family: (seen.units @ encoder.directions[family][first:].numpy().T).argmax(1) + first
            for family, seen, first in (("count", counted, 1), ("object", unseen, 0))
        }
        return {
            "count": (counted.truth - named["count"]).tolist(),
            "count, probe": probe(copies(encoder, n_trained, PROBED), counted),
            "style": (named["object"] == unseen.truth).tolist(),
            "style, probe of known styles": probe(lone_objects(encoder, n_trained, PROBED, False), unseen),
            "style, probe": probe(lone_objects(encoder, n_trained, PROBED, True), unseen),
        }

    found: dict[str, list[float]] = steps.get("world-bounds-probes", make)
    return found


def recognition_bounds(answers: dict[str, list[float]]) -> list[Bound]:
    """Return what is known of the copies' number, and of objects in a drawing style that training never showed."""
    off = np.abs(answers["count"])
    exact, style = share_of(off == 0), share_of(np.array(answers["style"], bool))
    read = {name: share_of(np.array(right, bool)) for name, right in answers.items() if "probe" in name}
    return [
        Bound("count, 2 to 6, by its texts: right or one off", share_of(off <= 1), "scenes", "right", exact),
        Bound(
            "count, 2 to 6, by a linear probe of the embedding",
            read["count, probe"],
            "scenes",
            BY_TEXTS,
            exact,
        ),
        Bound(
            "lone object in a style never seen, by a linear probe trained on the known styles",
            read["style, probe of known styles"],
            "scenes",
            BY_TEXTS,
            style,
        ),
        Bound(
            "lone object in a style never seen, by a linear probe trained on this style",
            read["style, probe"],
            "scenes",
            BY_TEXTS,
            style,
        ),
    ]


def head_bound(table: HeadTable) -> Bound:
    """Return how many late heads have most of their variance between the values of one property."""
    n_heads = len(table.heads)
    pure = sum(table.supervised(row)[1] >= HALF for row in range(n_heads))
    labelled = share(sum(role.clear for role in table.roles.values()), n_heads)
    what = f"late heads with at least {HALF:.0%} of their variance between the values of one property"
    return Bound(what, share(pure, n_heads), "heads", "with a label", labelled)


def neuron_bounds(neurons: Sequence[NeuronLayer]) -> list[Bound]:
    """Return how many neurons could have a fitting text: those whose images have one that is special to them."""
    return [
        Bound(
            f"neurons of layer {layer.layer} with any text that fits and is true of at most {measures.RARE:.1%} of all "
            "scenes",
            share(layer.n_nameable, layer.n_judged),
            "neurons",
            "a fitting text among the nearest",
            share(layer.n_true, layer.n_judged),
        )
        for layer in neurons
    ]


def path_bounds(study: Study, kept: Mapping[int, np.ndarray]) -> list[Bound]:
    """Return how often objects are named with the whole MLP of a layer at its mean, by all paths to the output.

    kept: layer -> [image] whether the object is named without the second-order effects of that layer alone.
    """
    (task,) = study.evaluation.tasks
    directions, labels = task.directions.cpu(), torch.tensor(task.labels)

    def named(layer: int) -> dict[str, list[bool]]:
        mean = mean_of(study.model, study.sample, layer, study.steps, study.quiet)
        right: list[bool] = []
        for rows, images in batches(study.evaluation.images, f"without MLP {layer}", study.quiet):
            found = intervened_embeddings(study.model, images, layer, mean).cpu().float()
            right += (found @ directions.T).argmax(1).eq(labels[rows]).tolist()
        return {"right": right}

    left = {
        layer: study.steps.get(f"world-without-mlp-{layer}", partial(named, layer))["right"] for layer in kept
    }
    return [
        Bound(
            f"objects named with MLP {layer} at its mean, by all paths",
            share_of(np.array(left[layer], bool)),
            "scenes",
            "without its second-order effects alone",
            share_of(right),
        )
        for layer, right in kept.items()
    ]


def attack_bound(
    peak: int, at_peak: Mapping[str, Sequence[bool]], late: Mapping[str, Sequence[bool]]
) -> Bound:
    """Return how often words fool the model if they come from the layer whose second-order effects matter most.

    at_peak, late: by method, whether each picture fooled the model, with that layer's neurons and the late layers'.
    """
    return Bound(
        f"pictures that fool the model with words of the neurons of layer {peak}, whose effects matter most",
        share_of(np.array(at_peak["second order"], bool)),
        "pictures",
        "with words of the late layers' neurons",
        share_of(np.array(late["second order"], bool)),
    )


def bounds_section(report: Report, bounds: Sequence[Bound]) -> None:
    """Add the table and its explanation."""
    report.section(
        SECTION,
        "A probe is a logistic regression on the embeddings of other scenes: what it cannot read either is not in the "
        "embeddings along any one direction, and what it reads but the texts do not is there, in another direction "
        f"than theirs. A text fits a neuron if it is true of at least {measures.FITS:.0%} of the {measures.N_TOP} "
        "images where it acts most. An MLP at its mean acts neither directly nor through any later layer; its "
        "second-order effects are only what the values of later attention heads pass on.",
    )
    report.table(
        ["what was measured", "found", "95%", "n", "compared with", "that", "95%"],
        [
            [
                one.what,
                f"{one.found.value:.2f}",
                one.found.interval,
                f"{one.found.n:,} {one.unit}",
                one.beside,
                f"{one.that.value:.2f}",
                one.that.interval,
            ]
            for one in bounds
        ],
    )
