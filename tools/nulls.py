"""Measure docs/nulls.md: what each number on screen is on networks that have learnt nothing.

    python tools/nulls.py              every row that docs/nulls.json has not of this model, then the page
    python tools/nulls.py cues mine    these rows again, then the page

The numbers are kept in docs/nulls.json; docs/nulls.md is written from them and from the words below, and
tests/test_nulls.py holds both to each other. A random network is the demo's architecture, image and text tower, with
each layer's own initial weights (clipviz.models.untrained). About half an hour on one thread, most of it for `heads`
and `mine`.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

import clipviz
from clipviz import demo
from clipviz.analysis.cues import attacks, words
from clipviz.analysis.heads import labels
from clipviz.data import dictionary
from clipviz.data.texts import open_texts
from clipviz.lens import intervals
from clipviz.lens.roles import Role
from clipviz.lens.rotations import random_rotations
from clipviz.lens.textspan import null_explained, textspan_from_covariance
from clipviz.models.clip import ClipModel
from clipviz.models.untrained import untrained_module
from clipviz.values import Ablation

DOCS = Path(__file__).parents[1] / "docs"
NUMBERS, PAGE = DOCS / "nulls.json", DOCS / "nulls.md"
N_IMAGES, N_NETWORKS, N_SEARCHES = 240, 6, 40
PAIRS = (("horse", "zebra"), ("bus", "car"), ("duck", "owl"), ("apple", "tomato"))
KEPT = Path(__file__).parents[1] / "build" / "demo" / "reports" / "steps"
"""Where the demo's report card keeps what it has measured of the same scenes (python -m tools.demo)."""

Numbers = dict[str, Any]


class Row(NamedTuple):
    """One number on screen: where it is, what could produce it without anything learnt, and how it is measured.

    said: its measured numbers in words, with {names} of what `measure` returns.
    """

    where: str
    could: str
    said: str
    measure: Callable[[], Numbers]


@functools.cache
def trained_model() -> ClipModel:
    return clipviz.load("demo", device="cpu")


@functools.cache
def random_model(seed: int) -> ClipModel:
    """Return the demo's architecture with random weights; what it is asked is encoded by its own text tower."""
    known = trained_model()
    network = untrained_module(known.network, seed)
    return ClipModel(network, known.tokenizer, known.preprocess, name=f"random {seed}")


@functools.lru_cache(maxsize=3)
def session_of(seed: int | None, n_images: int = N_IMAGES) -> clipviz.Session:
    """Return a session of the trained network (None) or a random one on the demo's first images."""
    model = trained_model() if seed is None else random_model(seed)
    return clipviz.Session(model, demo.images().subset(range(n_images)), list_of_texts(), background=False)


def list_of_texts() -> Any:
    return demo.texts()


def heads() -> Numbers:
    """Return heads of noise: the spectra of the demo's heads in their spans, turned at random, over samples of 600
    images.
    """
    session = clipviz.Session(trained_model(), background=False)
    covariance, span = session.heads.spans()
    pools = {
        "demo": (session.texts.pool(), session.texts.opened),
        "general": (session.model.encode_texts(list(open_texts("general"))), open_texts("general")),
    }
    found: Numbers = {"n": N_NOISE}
    for name, (pool, texts) in pools.items():
        roles = []
        for seed in range(N_NOISE):
            turned, axes = noise_head(covariance, span, seed)
            roles.append(labels.label_head(turned, axes, pool, texts))
        clear = intervals.share(sum(role.clear for role in roles), len(roles))
        test = stats.kstest([role.p_value for role in roles], "uniform")
        found |= {
            f"{name}_clear": percent(clear.value),
            f"{name}_low": percent(clear.low),
            f"{name}_high": percent(clear.high),
            f"{name}_ks": round(float(test.statistic), 3),
            f"{name}_ks_p": round(float(test.pvalue), 4),
        }
    session.close()
    for name, seeds in (("trained", [None]), ("random", range(3))):
        counts = [sum(label.clear for label in labels_of(seed).values()) for seed in seeds]
        found[f"{name}_labels"] = " / ".join(map(str, counts))
    return found


N_NOISE = 1600


def noise_head(covariance: torch.Tensor, span: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a head without any relation to the texts: the covariance of 600 samples of a head's spectrum, turned."""
    generator = torch.Generator().manual_seed(seed)
    head = seed % len(covariance)
    kept = span[head].norm(dim=0) > 0.5
    variances = covariance[head].diagonal()[kept]
    samples = torch.randn(600, len(variances), generator=generator) * variances.sqrt()
    samples = (samples - samples.mean(0)) @ random_rotations(1, len(variances), generator)[0]
    return samples.T @ samples / 600, span[head][:, kept]


def labels_of(seed: int | None) -> dict[Any, Role]:
    session = session_of(seed)
    covariance, span = session.heads.spans()
    late = [place for place, (layer, _) in enumerate(session.heads.kept) if layer >= 2]
    return labels.label_heads(
        [session.heads.kept[place] for place in late],
        covariance[late],
        span[late],
        session.texts.pool(),
        session.texts.opened,
    )


def textspan() -> Numbers:
    """Return heads whose first text explains more of their variance than in 95% of the rotations."""
    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(3))):
        beyond = []
        for seed in seeds:
            session = session_of(seed)
            (covariance, span), pool = session.heads.spans(), session.texts.pool()
            first = textspan_from_covariance(covariance, span, pool, 1).explained[:, 0]
            null = null_explained(covariance, span, pool, 1, 40)[0][..., 0]
            beyond.append(int((first > null.quantile(0.95, dim=0)).sum()))
        found[name] = " / ".join(map(str, beyond))
    return found


def accuracy() -> Numbers:
    """Top-1 on the objects of the images, beside chance."""
    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(3))):
        values = []
        for seed in seeds:
            session = session_of(seed)
            task = session_of(None).ablation.tasks()["objects"]
            outcome = session.ablation.run(Ablation(), task)
            values.append(percent(outcome.before.top1))
            found["chance"] = percent(outcome.before.chance)
        found[name] = " / ".join(values)
    return found


def ablation() -> Numbers:
    """Measure the worst group without the background heads, beside other heads of the same layers and beside draws that
    may hold the removed heads."""
    from clipviz.reproduce.chapter2.chapter import late_terms
    from clipviz.reproduce.chapter2.pictures import name_of
    from clipviz.reproduce.chapter2.spurious import HOWS, draws_as_good, random_worst
    from clipviz.reproduce.evaluation import trace_terms
    from clipviz.reproduce.report import Steps
    from clipviz.reproduce.world import measures
    from clipviz.reproduce.world.held_out import HeldOutSizes, encoder_of, held_out

    model, sizes = trained_model(), HeldOutSizes.within(4000)
    steps = Steps(KEPT, {**model.identity(), **vars(sizes), "seeds": sizes.seeds})
    evaluation, scenes = held_out(model, encoder_of(model), sizes)
    terms, _, _ = trace_terms(model, evaluation.images, steps, "world-scenes", True)
    pool = evaluation.pools["descriptions"]
    table = measures.head_table(model, pool, late_terms(model, terms), scenes, sizes.n_seeds)
    found: Numbers = {"n": measures.N_DRAWS}
    for null, only_others in (("others", True), ("any", False)):
        measured = measures.background_ablation(
            model, evaluation, terms, table, steps, True, only_others=only_others
        )
        for way, cue in measured.items():
            if way.heads == HOWS[0]:
                drawn = random_worst(cue)
                found |= {
                    "heads": ", ".join(map(name_of, sorted(cue.ablation.heads))),
                    f"{way.classes}_before": share(cue.before.worst_accuracy),
                    f"{way.classes}_after": share(cue.after.worst_accuracy),
                    f"{way.classes}_{null}": f"{drawn.value:.2f} ({drawn.low:.2f} to {drawn.high:.2f})",
                    f"{way.classes}_{null}_p": round(draws_as_good(cue), 3),
                }
    return found


def neurons() -> Numbers:
    """Return words, groups and titles of the strongest neurons of layer 3."""
    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(3))):
        rows = []
        for seed in seeds:
            known = session_of(seed).neurons.layer(3)
            strongest = [neuron for neuron, _ in known.strongest(60)]
            codes = known.codes(strongest)
            beyond = np.mean([code.differs for code in codes])
            groupings = [known.groups(known.top(neuron)) for neuron in strongest]
            parted = np.mean([len(one.groups) > 1 for one in groupings])
            titled = np.mean([bool(group.texts) for one in groupings for group in one.groups])
            line = float(known.line.share[strongest].mean())
            rebuilt = np.mean([code.share for code in codes])
            rows.append((beyond, rebuilt, codes[0].by_chance, parted, titled, line))
        for column, key in enumerate(("beyond", "rebuilt", "by_chance", "parted", "titled", "line")):
            found[f"{name}_{key}"] = " / ".join(percent(float(row[column])) for row in rows)
    return found


def cue_ticks() -> Numbers:
    """Return words beyond their ticks, of 25 for each of four pairs, on one layer's neurons."""
    found: Numbers = {"n_random": N_NETWORKS}
    for name, seeds in (("trained", [None]), ("random", range(N_NETWORKS))):
        beyond = n_words = 0
        by_network = []
        for seed in seeds:
            session = session_of(seed, 60)
            source = session.cues.source(3)
            found_here = [word for pair in PAIRS for word in words.cues(session.model, source, *pair)]
            by_network.append(sum(word.differs for word in found_here))
            beyond, n_words = beyond + by_network[-1], n_words + len(found_here)
        found |= {
            f"{name}_beyond": beyond,
            f"{name}_words": n_words,
            f"{name}_share": percent(beyond / n_words),
            f"{name}_by_network": ", ".join(map(str, by_network)),
        }
    return found


def search() -> Numbers:
    """Return how many of 48 heads a search by meaning finds, over texts of the pool at even steps."""
    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(3))):
        counts = []
        for seed in seeds:
            session = session_of(seed)
            texts = list(session.texts)[:: max(1, len(session.texts) // N_SEARCHES)][:N_SEARCHES]
            counts.append(np.mean([len(session.heads.find(text)) for text in texts]))
        found[name] = " / ".join(f"{count:.1f}" for count in counts)
    return found | {"n": N_SEARCHES}


def attack() -> Numbers:
    """Return shares of pictures of a horse that are taken for a zebra."""
    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(3))):
        by_network = []
        for seed in seeds:
            session = session_of(seed, 60)
            session.cues.studio = demo.bundle().studio
            made = session.cues.attack(PAIRS[0], layers=3, n_sentences=6, n_images=5)
            methods = (made[method][1].success for method in attacks.SHOWN)
            by_network.append(" / ".join(percent(value) for value in methods))
        found[name] = "; ".join(by_network)
    return found


def maps() -> Numbers:
    """How often the map of a name is higher on the object that it names than on the other of two."""
    from clipviz.reproduce.world import measures as world_measures
    from clipviz.reproduce.world.held_out import HeldOutSizes, encoder_of, held_out
    from clipviz.values import N_LATE

    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(2))):
        values = []
        for seed in seeds:
            model = trained_model() if seed is None else random_model(seed)
            evaluation, scenes = held_out(model, encoder_of(model), HeldOutSizes.within(1500))
            less = world_measures.backgrounds(model, evaluation)
            scores = world_measures.pair_scores(model, scenes, evaluation, less, N_LATE)
            values.append(percent(scores[world_measures.TOKENS]["pointing"].value))
        found[name] = " / ".join(values)
    return found


def mine() -> Numbers:
    """Return the rows of the shipped dictionaries, and those of an untrained copy of CLIP in its place.

    `python -m tools.demo.mine` counted both.
    """
    bundle, found = demo.bundle(), {}
    for name, folder in (("clip", bundle.dictionary), ("generator", bundle.generator_dictionary)):
        assert folder is not None
        opened = dictionary.open_folder(folder)
        assert opened.about["model"] == trained_model().fingerprint
        found |= {name: len(opened.concepts), f"{name}_untrained": opened.about["n_untrained"]}
    return {**found, "n_latents": opened.about["n_images"]}


def atlas() -> Numbers:
    """Return the share of the embeddings' variance that the plane shows."""
    found: Numbers = {}
    for name, seeds in (("trained", [None]), ("random", range(3))):
        found[name] = " / ".join(percent(session_of(seed).images.atlas().share) for seed in seeds)
    return found


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def share(value: float) -> str:
    return f"{value:.2f}"


ROWS = {
    "heads": Row(
        "A head's label and its p (Heads, TextSpan, reports)",
        "The largest of several families among five texts: some family has 3 of 5 in a fifth of random rotations.",
        "{n:,} heads of noise for each pool of texts: a label for {demo_clear} of them with the demo's texts (95%: "
        "{demo_low} to {demo_high}) and {general_clear} with the general ones ({general_low} to {general_high}); p "
        "compared with a uniform one, Kolmogorov-Smirnov D = {demo_ks} (p = {demo_ks_p}) and {general_ks} "
        "(p = {general_ks_p}). Labels of 32 late heads: trained {trained_labels}, random {random_labels}.",
        heads,
    ),
    "textspan": Row(
        "A text's bar beyond its tick (TextSpan)",
        "Any pool of texts explains some of any head's variance: the tick is the 95th percentile of rotations.",
        "Heads of 48 whose first text is beyond it: trained {trained}, random {random}.",
        textspan,
    ),
    "search": Row(
        "Heads that a search by meaning finds (Heads)",
        "Every head varies along one text in twenty more than along 95% of the pool: 2.4 of 48 heads for a text on "
        "average, whatever they do. Only which heads they are, and how much of their variance it is, says "
        "something.",
        "Heads of 48 found, mean of {n} texts of the pool: trained {trained}, random {random}.",
        search,
    ),
    "accuracy": Row(
        "Accuracy (Ablation, reports)",
        "Guessing, and a network whose texts are all alike, which names one class.",
        "Objects, chance {chance}: trained {trained}, random {random}.",
        accuracy,
    ),
    "maps": Row(
        "Heatmap of a text (Heatmap)",
        "A map that lights up whatever stands out, for any text.",
        "Share of two objects that is told by its name (chance 50.0%): trained {trained}, random {random}.",
        maps,
    ),
    "ablation": Row(
        "Worst group after heads are removed (Ablation, reports)",
        "Removing any heads of these layers; that the removed ones are chosen from the same pictures.",
        "The background heads {heads}, classes by name: {names_before} before, {names_after} after; other heads of "
        "the same layers {names_others}, p = {names_others_p}; draws that may hold the removed ones {names_any}, p "
        "= {names_any_p}. Classes by examples: {examples_before}, {examples_after}; {examples_others}, p = "
        "{examples_others_p}; {examples_any}, p = {examples_any_p}. {n} draws each.",
        ablation,
    ),
    "neurons": Row(
        "Words of a neuron, groups of its images and their titles (Neurons)",
        "As many texts rebuild much of any direction; images without groups can be divided, too; every direction "
        "has a nearest text.",
        "Of a direction the texts rebuild: trained {trained_rebuilt}, random {random_rebuilt}, random directions "
        "{trained_by_chance} and {random_by_chance}; neurons of which they rebuild more than of every random "
        "direction: trained {trained_beyond}, random {random_beyond}. Images in groups: {trained_parted} of the "
        "neurons, random {random_parted}; groups with a title: {trained_titled}, random {random_titled}. One "
        "direction explains {trained_line} of a neuron's variance, random {random_line}.",
        neurons,
    ),
    "cues": Row(
        "A word's score beyond its tick (Cues)",
        "A code follows its own direction, so texts near the class score high with any neurons along it.",
        "Words beyond it: trained {trained_beyond} of {trained_words} ({trained_share}), {n_random} random "
        "networks {random_beyond} of {random_words} ({random_share}; by network {random_by_network}).",
        cue_ticks,
    ),
    "attack": Row(
        "Pictures that fool the model (Cues)",
        "Pictures with more in them than the class; words that are near the other class without any neuron.",
        "Taken for a zebra, with the class alone / similar words / words of neurons: trained {trained}, random "
        "{random}.",
        attack,
    ),
    "mine": Row(
        "Rows of a dictionary of shared units (Rosetta)",
        "Local filters with random weights light up at edges and colours, as trained ones do.",
        "Rows of the CLIP's dictionary {clip}, with an untrained CLIP {clip_untrained}; of the generator's, mined "
        "on {n_latents} latents, {generator}, with an untrained CLIP among its partners {generator_untrained}.",
        mine,
    ),
    "atlas": Row(
        "Variance that the plane shows (Atlas)",
        "Any cloud of points has two widest axes.",
        "Of the embeddings: trained {trained}, random {random}.",
        atlas,
    ),
}

LEAD = """# What the numbers on screen are without anything learnt

A number is evidence of learning only if an untrained network gives a different one. This page lists each number that
panels show as evidence, what else could produce it, and its value on the demo model and on networks of the same
architecture with random weights in both towers. Values separated by a slash belong to several networks. The Generate
desk's verdicts on edits are judged by the true scene and are not listed here. This page is written by `python
tools/nulls.py` from docs/nulls.json.

| on screen | what could produce it | measured |
| --- | --- | --- |
"""


def page(numbers: dict[str, Numbers]) -> str:
    """docs/nulls.md from the numbers of every row."""
    lines = [
        f"| {row.where} | {row.could} | {row.said.format(**numbers[name])} |"
        for name, row in ROWS.items()
        if name in numbers
    ]
    by_model: dict[str, list[str]] = {}
    for name, row in ROWS.items():
        if name in numbers:
            by_model.setdefault(numbers[name]["model"], []).append(row.where)
    models = [f"- `{model}`: {'; '.join(rows)}" for model, rows in by_model.items()]
    return (
        LEAD
        + "\n".join([*lines, "", "The trained model of each row, by its fingerprint:", "", *models])
        + "\n"
    )


def main(names: list[str]) -> None:
    known = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.is_file() else {}
    model = trained_model().fingerprint
    for name in names or [name for name in ROWS if known.get(name, {}).get("model") != model]:
        known[name] = {**ROWS[name].measure(), "model": model}
        print(name, known[name], flush=True)
        ordered = {name: known[name] for name in ROWS if name in known}
        NUMBERS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(known), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
