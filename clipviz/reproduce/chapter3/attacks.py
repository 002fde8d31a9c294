"""Adversarial scenes from neurons' words: Table 3.3 and Figures 3.6 and B.8, a section of chapter 3's report."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from clipviz.analysis.cues.attacks import attack_pair, pair_map
from clipviz.analysis.cues.words import N_NEURONS, N_WORDS, Source
from clipviz.data.texts import common_words
from clipviz.figures import chapter3 as figures
from clipviz.reproduce import published
from clipviz.reproduce.chapter3.attack_tasks import DEMO, pairs_of
from clipviz.reproduce.chapter3.layers import N_INDIRECT, Study, indirect_directions
from clipviz.reproduce.chapter3.neuron_texts import Dictionary, wide_pool
from clipviz.reproduce.evaluation import in_demo_world
from clipviz.reproduce.report import Report

PAIRS = DEMO.pairs
METHODS = ("no words", "random neurons", "indirect effect", "similar words", "second order")
QUICK_NEURONS = 256  # neurons per layer whose indirect effects are measured in the quick version
N_EXAMPLES, N_MORE = 3, 8  # pictures stored per attack, and shown in Figure B.8


def attack_section(report: Report, study: Study, repeats: int, quick: bool = False) -> None:
    """Table 3.3 and Figures 3.6 and B.8."""
    report.section("Adversarial scenes (Table 3.3, Figures 3.6, B.8)")
    own = study.studio
    if own is None and not in_demo_world(study.model):
        report.needs(
            "--describe, --draw",
            "names of a language model and a text-to-image model, or callables as describe= and "
            "draw= (clipviz.models.captioners)",
        )
        _thesis_attacks(report, study)
        return
    pairs = PAIRS if own is None else pairs_of(study.pairs, list(study.evaluation.class_prompts))
    if not pairs:
        report.needs(
            "--pairs",
            "pairs of a class to draw and a wrong class: cifar10, traffic, or 'cat/dog, ship/truck'",
        )
        _thesis_attacks(report, study)
        return
    layers = study.late
    source = attack_source(
        study, 2 if quick else N_INDIRECT, cue_pool(study, quick), QUICK_NEURONS if quick else None
    )
    n_indirect = len(source.indirect_directions) if source.indirect_directions is not None else 0
    only = f" (of {n_indirect:,} neurons)" if n_indirect < len(source.directions) else ""
    pairs = pairs[:2] if quick else pairs
    n_sentences, n_images = (3, 2) if quick else (10, 10)
    rates, words, examples, left_out = _attacks(study, source, pairs, repeats, (n_sentences, n_images))
    report.text(
        f"These pictures show one class and are meant to be classified as another. The {N_NEURONS} "
        f"neurons of layers {layers[0]}-{layers[-1]} with the largest |<v, r>| provide {N_WORDS} "
        f"texts by contribution score (Eq. 3.4; {len(source.pool)} texts, "
        f"{source.codes.atoms.shape[1]} per neuron); texts that name the other class or mean nearly "
        f"the same are excluded. {_who_draws(study, n_sentences, n_images)} Baselines: the class "
        f"alone, random neurons, codes of indirect effects{only}, the texts most along v."
    )
    summary = {
        name: {method: (float(np.mean(values)), float(np.std(values))) for method, values in row.items()}
        for name, row in rates.items()
    }
    report.table(
        ["task", *METHODS],
        [[name, *(_spread(row.get(method)) for method in METHODS)] for name, row in summary.items()],
    )
    for (name, method), reason in left_out.items():
        report.text(f"**{name}, {method}**: no sentence to draw ({reason}).")
    whole = {name: row for name, row in summary.items() if len(row) == len(METHODS)}
    if whole:
        report.text(verdict(whole, repeats, own is None))
    if any(summary.values()):
        report.figure(
            "neurons-attacks", figures.attack_success(summary), "Table 3.3: pictures that fool the classifier"
        )
    report.table(["task", "first texts"], [[name, "; ".join(found[:8])] for name, found in words.items()])
    first, more = [own[0] for own in examples if own], [one for own in examples for one in own[1:]]
    for name, number, some, what in (
        ("", "3.6", first, "for each task, the picture that misleads the classifier most"),
        ("-more", "B.8", more[:N_MORE], "further pictures that mislead it"),
    ):
        if some:
            report.figure(
                f"neurons-attack-examples{name}",
                figures.attack_examples(some),
                f"Figure {number}: {what}; orange: tokens that write towards the wrong class, blue: towards the "
                "class drawn",
            )
        else:
            report.text(
                f"Figure {number}: there is no picture for it, since none "
                f"{'more ' if first else ''}fools the classifier."
            )
    _thesis_attacks(report, study)


def _attacks(
    study: Study,
    source: Source,
    pairs: Sequence[tuple[str, str]],
    repeats: int,
    n_drawn: tuple[int, int],
) -> tuple[
    dict[str, dict[str, list[float]]],
    dict[str, list[str]],
    list[list[figures.AttackExample]],
    dict[tuple[str, str], str],
]:
    """Attack every pair `repeats` times; return the shares that fool the classifier by pair and method, the first
    words, each method's best pictures, and the reason for pairs and methods without any.

    n_drawn: sentences of each attack, and pictures of each sentence.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    examples: list[list[figures.AttackExample]] = []
    words: dict[str, list[str]] = {}
    left_out: dict[tuple[str, str], str] = {}
    progress = tqdm(total=len(pairs) * repeats, desc="attacks", unit="attack", disable=study.quiet)
    for pair in pairs:
        name = f"{pair[0]} → {pair[1]}"
        rates[name] = {}
        for repeat in range(repeats):
            make = partial(_attack, study, source, pair, repeat, *n_drawn)
            step = f"neurons-attacks-{'-'.join(pair)}-{repeat}{_by(study, source, n_drawn)}".replace(" ", "-")
            found = study.steps.get(step, make)
            left_out |= {(name, method): reason for method, reason in found.get("left out", {}).items()}
            for method, margins in found["margins"].items():
                share = sum(margin > 0 for margin in margins) / max(1, len(margins))
                rates[name].setdefault(method, []).append(share)
            if repeat == 0:
                words[name] = found["words"].get("second order", [])
                examples.append(_examples(study, pair, found))
            progress.update()
    progress.close()
    return rates, words, examples, left_out


def _who_draws(study: Study, n_sentences: int, n_images: int) -> str:
    if study.studio is None:
        return (
            f"The demo world writes {n_sentences} sentences from them (a second thing and a "
            f"background beside the class; no recolouring) and draws {n_images} pictures of each. "
            "Every picture shows the class by construction, so none has to be removed by hand."
        )
    return (
        f"From the sentences written with them ({study.studio.name[:120]}) {n_sentences} are chosen "
        f"that name the class and not the other one, and {n_images} pictures are drawn of each. No "
        "picture is removed by hand. The thesis removes pictures that show the other class or do "
        "not show the requested one."
    )


def _by(study: Study, source: Source, n_drawn: tuple[int, int]) -> str:
    """Return what else the pictures depend on, for the name of a step; "" for the demo world's own."""
    if study.studio is None:
        return ""
    text = repr((study.studio.name, len(source.pool), source.pool[-1], n_drawn))
    return f"-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def cue_pool(study: Study, quick: bool = False) -> list[str]:
    """Return the texts from which cues are chosen: the 30,000 most common words, as in the thesis, if they are
    available.

    For the demo world these are the texts that it can draw. Without the words (clipviz[words]), and in a quick
    version, they are chosen likewise.
    """
    if quick or in_demo_world(study.model) or importlib.util.find_spec("wordfreq") is None:
        return wide_pool(study)
    return list(common_words(30_000))


def attack_source(
    study: Study, n_indirect: int, pool: Sequence[str] | None = None, n_compared: int | None = None
) -> Source:
    """Return the data from which methods choose words: the neurons of the late layers together, with both kinds of
    directions.

    n_indirect: images for each neuron's indirect effects; n_compared: neurons of each layer that have them, None for
    all.
    """
    dictionary = Dictionary(study, wide_pool(study) if pool is None else pool)
    second = torch.cat([study.layer(layer).line.directions for layer in study.late])
    indirect = torch.cat(
        [
            indirect_directions(
                study.model,
                study.reference,
                study.layer(layer),
                study.steps,
                n_indirect,
                study.quiet,
                study.sample,
                n_compared,
            )
            for layer in study.late
        ]
    ).to(second)
    return Source(
        dictionary.pool,
        dictionary.encoded,
        dictionary.codes(second),
        second,
        tuple((layer, study.model.neuron_basis(layer).n_neurons) for layer in study.late),
        dictionary.codes(indirect),
        indirect,
    )


def verdict(summary: dict[str, dict[str, tuple[float, float]]], repeats: int, in_world: bool = True) -> str:
    """Return a paragraph that states on which tasks the second order beats every baseline, and by how much on
    average.

    in_world: whether the demo world wrote and drew.
    """
    baselines = [method for method in METHODS if method != "second order"]
    best = {name: max(row[baseline][0] for baseline in baselines) for name, row in summary.items()}
    won = [name for name, row in summary.items() if row["second order"][0] > best[name]]
    means = {method: float(np.mean([row[method][0] for row in summary.values()])) for method in METHODS}
    text = (
        f"Means and deviations over {repeats} repeats. Second-order words beat every baseline on {len(won)} of "
        f"{len(summary)} tasks"
        + (f" ({', '.join(won)})" if won else "")
        + ". Mean over the tasks: "
        + ", ".join(f"{method} {value:.1%}" for method, value in means.items())
        + "."
    )
    close = [name for name in won if summary[name]["second order"][0] - best[name] < max(
        spread for _, spread in summary[name].values()
    )]  # fmt: skip
    if close:
        text += f" The lead is within the deviations on {', '.join(close)}."
    if means["similar words"] >= means["second order"]:
        text += " Here the words closest to v do better on average"
        text += (
            ": the world's texts state exactly what can be drawn, and its classifier is small, so "
            "the direct way works well. This does not hold for a large model and common words."
            if in_world
            else "."
        )
    return text


def _attack(
    study: Study, source: Source, pair: tuple[str, str], seed: int, n_sentences: int, n_images: int
) -> dict[str, Any]:
    left_out: dict[str, str] = {}
    found = attack_pair(
        study.model,
        source,
        pair,
        seed,
        n_sentences=n_sentences,
        n_images=n_images,
        studio=study.studio,
        left_out=left_out,
    )
    made = {
        "margins": {name: list(attack.margins) for name, (_, attack) in found.items()},
        "words": {name: words for name, (words, _) in found.items()},
        "left out": left_out,
    }
    if "second order" not in found:
        return {
            **made,
            "best sentences": [],
            "best margins": [],
            "best pictures": np.zeros((0, 1, 1, 3), np.uint8),
        }
    ours = found["second order"][1]
    best = np.argsort(ours.margins)[::-1][:N_EXAMPLES].tolist()
    size = ours.images[best[0]].size
    return {
        **made,
        "best sentences": [ours.sentences[i] for i in best],
        "best margins": [ours.margins[i] for i in best],
        "best pictures": np.stack([np.asarray(ours.images[i].convert("RGB").resize(size)) for i in best]),
    }


def _examples(study: Study, pair: tuple[str, str], found: dict[str, Any]) -> list[figures.AttackExample]:
    """Return the pictures that fool the classifier most, with the tokens that write towards either class."""
    rows = zip(found["best sentences"], found["best margins"], found["best pictures"], strict=True)
    return [
        figures.AttackExample(
            pair, sentence, margin, picture, pair_map(study.model, Image.fromarray(picture), pair)
        )
        for sentence, margin, picture in rows
        if margin > 0
    ]


def _spread(value: tuple[float, float] | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value[0]:.1f}% (±{100 * value[1]:.1f})"


def _thesis_attacks(report: Report, study: Study) -> None:
    if published.chapter_3_model(study.model.name, study.model.pretrained):
        report.table(
            ["thesis, CIFAR-10", *(m for m in METHODS if m != "no words")],
            [[task, *row] for task, row in published.TABLE_3_3.items()],
        )
