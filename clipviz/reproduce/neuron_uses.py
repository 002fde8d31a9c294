"""What neurons are used for in chapter 3: words and images, concepts, adversarial scenes, segmentation.

Tables 3.2-3.4, Figures 3.5-3.7 and B.1; sections of the report of chapter3.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from clipviz.analysis import cues
from clipviz.analysis.classifiers import from_prompts
from clipviz.data.texts import common_words
from clipviz.demo.world import vocabulary
from clipviz.figures import chapter2 as chapter2_figures
from clipviz.figures import chapter3 as figures
from clipviz.lens import cues as lens
from clipviz.lens import segment
from clipviz.lens.sparse import code_size, prepare_dictionary, sparse_code
from clipviz.reproduce import published
from clipviz.reproduce.attack_tasks import DEMO, pairs_of
from clipviz.reproduce.evaluation import batches, in_demo_world, spaced
from clipviz.reproduce.layers import N_INDIRECT, Layer, Study, indirect_directions
from clipviz.reproduce.pools import COMMON, GENERAL
from clipviz.reproduce.report import Report
from clipviz.reproduce.segmenting import MASKS_NEEDED, TOKENS, all_methods, fitted_mask
from clipviz.values import SparseCode

PAIRS = DEMO.pairs
METHODS = ("no words", "random neurons", "indirect effect", "similar words", "second order")
N_GALLERY, N_TOP_IMAGES, N_WORDS, N_SHEET = 5, 8, 4, 50
N_CONCEPTS, N_SHOWN_CONCEPTS = 10, 6
N_EXAMPLES, N_MORE = 3, 8  # pictures kept of each attack, and shown in Figure B.8
NEURONS, SIGNED = "neurons", "neurons, signed"


class Dictionary:
    """A pool of texts, encoded, and the sparse codes over it of some directions."""

    def __init__(self, study: Study, pool: Sequence[str]) -> None:
        self.pool = list(pool)
        self.encoded = study.model.encode_texts(self.pool)
        self.rows = prepare_dictionary(self.encoded)
        self.n_atoms = min(code_size(study.model.weights.d_embed), *self.rows.shape)

    def codes(self, directions: Tensor) -> SparseCode:
        return sparse_code(directions.to(self.rows), self.rows, self.n_atoms)


def wide_pool(study: Study) -> list[str]:
    """The descriptions, and every class by its name: all that the demo world can draw."""
    names = [cues.prompt(study.model, name) for name in study.evaluation.class_prompts]
    return list(dict.fromkeys([*study.evaluation.pools["descriptions"], *names]))


def gallery_section(report: Report, study: Study, known: Layer, pools: Mapping[str, Sequence[str]]) -> None:
    """Tables 3.2 and B.1, Figures 3.5, B.6 and B.7, for the neurons that move the embedding most.

    pools: by name; the descriptions, and the largest pool of words, which the tables set beside them.
    """
    dictionary = Dictionary(study, pools[GENERAL])
    shown = telling_neurons(known, dictionary, 2 * N_GALLERY)
    words = next((name for name in reversed(list(pools)) if name.endswith(COMMON)), None)
    in_words = {} if words is None else told(known, Dictionary(study, pools[words]), list(shown))
    report.section(
        "What neurons say (Tables 3.2, B.1, Figures 3.5, B.6, B.7)",
        f"The neurons of layer {known.stats.layer} with the largest effects on their own top images, one for each "
        f"first text: the {N_WORDS} largest of {dictionary.n_atoms} texts with their signs, and the images of largest "
        "second-order norm under the neuron's activation map.",
    )
    for number, figure, part in (
        ("3.2", "3.5", list(shown)[:N_GALLERY]),
        ("B.1", "B.7", list(shown)[N_GALLERY:]),
    ):
        if not part:
            continue
        report.text(f"Table {number}:")
        report.table(
            ["neuron", "texts", *([words] if words else []), "variance of PC 1"],
            [
                [
                    neuron,
                    *(
                        "; ".join(_signed(pair) for pair in texts[neuron])
                        for texts in (shown, in_words)
                        if texts
                    ),
                    float(known.line.share[neuron]),
                ]
                for neuron in part
            ],
        )
        rows = [_neuron_row(study, known, neuron, shown[neuron]) for neuron in part]
        report.figure(
            f"neurons-gallery{'' if number == '3.2' else '-more'}",
            figures.gallery(rows),
            f"Figure {figure}: texts and top images of neurons",
        )
    sheets = [
        (f"neuron {n}: {shown[n][0][0]}", _top_pictures(study, known, n, N_SHEET))
        for n in list(shown)[:N_GALLERY]
    ]
    report.figure(
        "neurons-sheets",
        figures.contact_sheets(sheets),
        f"Figure B.6: the same neurons on up to {N_SHEET} images of largest second-order norm",
    )


def telling_neurons(known: Layer, dictionary: Dictionary, n: int) -> dict[int, list[tuple[str, float]]]:
    """The neurons with the largest effects on their own top images, one for each first text, and their texts."""
    strength = (known.line.share * known.line.variance).clamp_min(0).sqrt()
    found = told(known, dictionary, strength.argsort(descending=True)[: 20 * n].tolist())
    chosen: dict[str, int] = {}
    for neuron, pairs in found.items():
        if pairs and len(chosen) < n:
            chosen.setdefault(pairs[0][0], neuron)
    return {neuron: found[neuron] for neuron in chosen.values()}


def told(known: Layer, dictionary: Dictionary, neurons: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
    """neuron -> the N_WORDS largest texts of its code, with their weights."""
    codes = dictionary.codes(known.line.directions[list(neurons)])
    found = {}
    for neuron, atoms, weights in zip(neurons, codes.atoms.tolist(), codes.weights.tolist(), strict=True):
        pairs = [(dictionary.pool[j], weight) for j, weight in zip(atoms, weights, strict=True) if j >= 0]
        found[neuron] = sorted(pairs, key=lambda pair: -abs(pair[1]))[:N_WORDS]
    return found


def _signed(pair: tuple[str, float]) -> str:
    return f"{'+' if pair[1] >= 0 else '−'} {pair[0]}"


def _neuron_row(
    study: Study, known: Layer, neuron: int, pairs: Sequence[tuple[str, float]]
) -> figures.NeuronRow:
    pictures = _top_pictures(study, known, neuron, N_TOP_IMAGES)
    maps = list(known.stats.top_maps[neuron, : len(pictures)].float().cpu().numpy())
    return figures.NeuronRow(f"neuron {neuron}", pairs, pictures, maps)


def _top_pictures(study: Study, known: Layer, neuron: int, n: int) -> list[np.ndarray]:
    images = [i for i in known.stats.top_images[neuron, :n].tolist() if i >= 0]
    return [np.asarray(study.reference.thumbnail(i, 112)) for i in images]


def concepts_section(report: Report, study: Study, known: Layer) -> None:
    """Figure B.1, with a count of how often the true class is among the words."""
    dictionary = Dictionary(study, wide_pool(study))
    codes, n_texts = dictionary.codes(known.line.directions), len(dictionary.pool)
    images = study.evaluation.images
    rows, words, n_active = [], [], []
    chosen_images = spaced(len(images), 300)
    few = images.subset(chosen_images)
    for some, pictures in batches(few, "concepts", study.quiet):
        norms = study.model.second_order(pictures, known.stats.layer).norms()
        scores = lens.image_contribution_scores(codes, norms, known.thresholds, n_texts)
        rows += some
        words += scores.topk(min(N_CONCEPTS, n_texts), dim=1).indices.tolist()
        n_active += (norms > known.thresholds).sum(1).tolist()
    found = [[dictionary.pool[j] for j in chosen] for chosen in words]
    usual = sorted(range(len(rows)), key=lambda i: -n_active[i])[: max(6, len(rows) // 2)]
    shown = [usual[i] for i in spaced(len(usual), 6)]
    report.section(
        "Concepts in an image (Figure B.1)",
        f"Neurons of layer {known.stats.layer} above the 98th percentile of their norms over the reference images; "
        "texts by their weights in those neurons' codes, times the norms. On half of the images at most "
        f"{np.median(n_active):.0f} of {len(known.thresholds):,} neurons are active; shown are images with more.",
    )
    report.figure(
        "neurons-concepts",
        figures.concepts(
            [np.asarray(few.thumbnail(rows[i], 160)) for i in shown],
            [found[i][:N_SHOWN_CONCEPTS] for i in shown],
        ),
        "Figure B.1: images and the texts that their activated neurons write",
    )
    images_of = [chosen_images[row] for row in rows]
    hits = {name: named(study, name, forms, images_of, found) for name, forms in _spoken(study).items()}
    report.text(f"How often one of an image's {N_CONCEPTS} texts names what the picture shows:")
    report.table(
        ["what", "images", "by its own texts", "by another image's texts"],
        [[name, n_images, own, other] for name, (own, other, n_images) in hits.items()],
    )


def _spoken(study: Study) -> dict[str, Sequence[Sequence[str]]]:
    """task -> class -> the words that name it in a text."""
    names = [(name,) for name in study.evaluation.class_prompts]
    if not in_demo_world(study.model):
        return {study.evaluation.tasks[0].name: names}
    colours = [(name,) for name in vocabulary.COLOURS]
    return {
        "objects": names,
        "colours": colours,
        "backgrounds": list(vocabulary.BACKGROUND_PHRASES.values()),
    }


def named(
    study: Study,
    task: str,
    forms: Sequence[Sequence[str]],
    images: Sequence[int],
    found: Sequence[Sequence[str]],
) -> tuple[float, float, int]:
    """How often the texts found for an image name its class of a task; the same with another image's texts;
    labelled images."""
    labels = next(one.labels for one in study.evaluation.tasks if one.name == task)
    labelled = [place for place, image in enumerate(images) if 0 <= labels[image] < len(forms)]
    if not labelled:
        return 0.0, 0.0, 0

    def share(others: Sequence[int]) -> float:
        hits = [
            any(
                lens.is_fair(text, form, []) for form in forms[labels[images[place]]] for text in found[other]
            )
            for place, other in zip(labelled, others, strict=True)
        ]
        return sum(hits) / len(hits)

    half = len(labelled) // 2
    return share(labelled), share([*labelled[half:], *labelled[:half]]), len(labelled)


def attack_section(report: Report, study: Study, repeats: int, quick: bool = False) -> None:
    """Table 3.3 and Figures 3.6 and B.8."""
    report.section("Adversarial scenes (Table 3.3, Figures 3.6, B.8)")
    own = study.studio
    if own is None and not in_demo_world(study.model):
        report.needs(
            "--describe, --draw",
            "a language model and a text-to-image model by their names, or callables as describe= and draw= "
            "(clipviz.models.captioners)",
        )
        _thesis_attacks(report, study)
        return
    pairs = PAIRS if own is None else pairs_of(study.pairs, list(study.evaluation.class_prompts))
    if not pairs:
        report.needs(
            "--pairs",
            "pairs of classes to draw and to be taken for: cifar10, traffic, or 'cat/dog, ship/truck'",
        )
        _thesis_attacks(report, study)
        return
    layers = study.late
    source = attack_source(study, 2 if quick else N_INDIRECT, cue_pool(study, quick))
    pairs = pairs[:2] if quick else pairs
    n_sentences, n_images = (3, 2) if quick else (10, 10)
    rates, words, examples = _attacks(study, source, pairs, repeats, (n_sentences, n_images))
    report.text(
        f"Pictures of one class that should be taken for another: the {cues.N_NEURONS} neurons of layers "
        f"{layers[0]}-{layers[-1]} with the largest |<v, r>| give {cues.N_WORDS} texts by contribution score (Eq. 3.4; "
        f"{len(source.pool)} texts, {source.codes.atoms.shape[1]} a neuron); texts that name the other class or mean "
        f"nearly the same are left out. {_who_draws(study, n_sentences, n_images)} Baselines: the class "
        "alone, random neurons, codes of indirect effects, the texts most along v."
    )
    summary = {
        name: {method: (float(np.mean(values)), float(np.std(values))) for method, values in row.items()}
        for name, row in rates.items()
    }
    report.table(
        ["task", *METHODS],
        [[name, *(_spread(row[method]) for method in METHODS)] for name, row in summary.items()],
    )
    report.text(verdict(summary, repeats, own is None))
    report.figure(
        "neurons-attacks", figures.attack_success(summary), "Table 3.3: pictures that fool the classifier"
    )
    report.table(["task", "first texts"], [[name, "; ".join(found[:8])] for name, found in words.items()])
    first, more = [own[0] for own in examples if own], [one for own in examples for one in own[1:]]
    for name, number, some, what in (
        ("", "3.6", first, "the picture of each task that fools the classifier most"),
        ("-more", "B.8", more[:N_MORE], "further pictures that fool it"),
    ):
        if some:
            report.figure(
                f"neurons-attack-examples{name}",
                figures.attack_examples(some),
                f"Figure {number}: {what}; orange: tokens that write towards the wrong class, blue: towards the "
                "class drawn",
            )
    _thesis_attacks(report, study)


def _attacks(
    study: Study,
    source: cues.Source,
    pairs: Sequence[tuple[str, str]],
    repeats: int,
    n_drawn: tuple[int, int],
) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[str]], list[list[figures.AttackExample]]]:
    """Every pair attacked `repeats` times: shares that fool by pair and method, first words, each one's best pictures.

    n_drawn: sentences of each attack, and pictures of each sentence.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    examples: list[list[figures.AttackExample]] = []
    words: dict[str, list[str]] = {}
    progress = tqdm(total=len(pairs) * repeats, desc="attacks", unit="attack", disable=study.quiet)
    for pair in pairs:
        name = f"{pair[0]} → {pair[1]}"
        for repeat in range(repeats):
            make = partial(_attack, study, source, pair, repeat, *n_drawn)
            step = f"neurons-attacks-{'-'.join(pair)}-{repeat}{_by(study, source, n_drawn)}".replace(" ", "-")
            found = study.steps.get(step, make)
            for method in METHODS:
                margins = found["margins"][method]
                share = sum(margin > 0 for margin in margins) / max(1, len(margins))
                rates.setdefault(name, {}).setdefault(method, []).append(share)
            if repeat == 0:
                words[name] = found["words"]["second order"]
                examples.append(_examples(study, pair, found))
            progress.update()
    progress.close()
    return rates, words, examples


def _who_draws(study: Study, n_sentences: int, n_images: int) -> str:
    if study.studio is None:
        return (
            f"The demo world writes {n_sentences} sentences from them (a second thing and a background beside the "
            f"class; no recolouring) and draws {n_images} pictures of each. Every picture shows the class by "
            "construction, so none is removed by hand."
        )
    return (
        f"From what is written with them ({study.studio.name[:120]}) {n_sentences} sentences are chosen that name the "
        f"class and not the other one, and {n_images} pictures are drawn of each. No picture is removed by hand; the "
        "thesis removes those that show the other class, or not the one asked for."
    )


def _by(study: Study, source: cues.Source, n_drawn: tuple[int, int]) -> str:
    """What else the pictures rest on, for the name of a step; "" for the demo world's own."""
    if study.studio is None:
        return ""
    text = repr((study.studio.name, len(source.pool), source.pool[-1], n_drawn))
    return f"-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def cue_pool(study: Study, quick: bool = False) -> list[str]:
    """The texts that cues are chosen from: the 30,000 most common words, as in the thesis, where they can be had.

    The demo world's is what it can draw; without the words (clipviz[words]), and in a quick version, it is alike.
    """
    if quick or in_demo_world(study.model) or importlib.util.find_spec("wordfreq") is None:
        return wide_pool(study)
    return list(common_words(30_000))


def attack_source(study: Study, n_indirect: int, pool: Sequence[str] | None = None) -> cues.Source:
    """What the methods choose words from: the late layers' neurons together, both kinds of directions."""
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
            )
            for layer in study.late
        ]
    ).to(second)
    return cues.Source(
        dictionary.pool,
        dictionary.encoded,
        dictionary.codes(second),
        second,
        tuple((layer, study.model.neuron_basis(layer).n_neurons) for layer in study.late),
        dictionary.codes(indirect),
        indirect,
    )


def verdict(summary: dict[str, dict[str, tuple[float, float]]], repeats: int, in_world: bool = True) -> str:
    """One plain paragraph: on which tasks the second order beats every baseline, and by how much on average.

    in_world: the demo world wrote and drew.
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
        text += " Here the words most along v do better on average"
        text += (
            ": the world's texts say exactly what can be drawn, and its classifier is small, so the direct way is "
            "short. A large model's common words do not have that."
            if in_world
            else "."
        )
    return text


def _attack(
    study: Study, source: cues.Source, pair: tuple[str, str], seed: int, n_sentences: int, n_images: int
) -> dict[str, Any]:
    found = cues.attack_pair(
        study.model, source, pair, seed, n_sentences=n_sentences, n_images=n_images, studio=study.studio
    )
    ours = found["second order"][1]
    best = np.argsort(ours.margins)[::-1][:N_EXAMPLES].tolist()
    return {
        "margins": {name: list(attack.margins) for name, (_, attack) in found.items()},
        "words": {name: words for name, (words, _) in found.items()},
        "best sentences": [ours.sentences[i] for i in best],
        "best margins": [ours.margins[i] for i in best],
        "best pictures": np.stack([np.asarray(ours.images[i]) for i in best]),
    }


def _examples(study: Study, pair: tuple[str, str], found: dict[str, Any]) -> list[figures.AttackExample]:
    """The pictures that fool most, those that do, with the tokens that write towards either class."""
    rows = zip(found["best sentences"], found["best margins"], found["best pictures"], strict=True)
    return [
        figures.AttackExample(
            pair, sentence, margin, picture, cues.pair_map(study.model, Image.fromarray(picture), pair)
        )
        for sentence, margin, picture in rows
        if margin > 0
    ]


def _spread(value: tuple[float, float]) -> str:
    return f"{100 * value[0]:.1f}% (±{100 * value[1]:.1f})"


def _thesis_attacks(report: Report, study: Study) -> None:
    if published.chapter_3_model(study.model.name, study.model.pretrained):
        report.table(
            ["thesis, CIFAR-10", *(m for m in METHODS if m != "no words")],
            [[task, *row] for task, row in published.TABLE_3_3.items()],
        )


def segmentation_section(report: Report, study: Study, summed: str = "late") -> None:
    """Table 3.4 and Figure 3.7. summed: layers of the token decomposition, see segmenting.layers_of."""
    report.section("Segmentation by neurons (Table 3.4, Figure 3.7)")
    if study.evaluation.masks is None:
        report.needs(*MASKS_NEEDED)
        return
    maps, masks, pictures, texts = all_methods(
        study.model, study.evaluation, study.evaluation.masks, study.quiet, summed=summed
    )
    own, own_masks = neuron_maps(study)
    scores = {name: segment.score(found, masks) for name, found in maps.items()}
    scores |= {name: segment.score(found, own_masks, lens.SEGMENT_THRESHOLD) for name, found in own.items()}
    layers = study.late
    report.text(
        f"{len(masks)} images. Neurons: activation maps of the {lens.N_SEGMENT_NEURONS} neurons of layers {layers[0]}-"
        f"{layers[-1]} with the largest |<r, M(c)>|, averaged, stretched to 0..1, threshold {lens.SEGMENT_THRESHOLD}. "
        "Signed: those that write most towards M(c) minus the mean of all classes. The others as in "
        "Table 2.4: threshold at the map's mean."
    )
    known = published.TABLE_3_4 if published.chapter_3_model(study.model.name, study.model.pretrained) else {}
    said = published.heading(published.SEGMENTATION, published.SEGMENTATION in study.evaluation.published)
    head = [
        "method",
        "pixel accuracy",
        "mIoU",
        "mAP",
        *([f"{said}: accuracy", "mIoU", "mAP"] if known else []),
    ]
    report.table(
        head,
        [[name, s.pixel_accuracy, s.miou, s.map, *known.get(name, ())] for name, s in scores.items()],
    )
    rows = {
        name: {"pixel accuracy": s.pixel_accuracy, "mIoU": s.miou, "mAP": s.map} for name, s in scores.items()
    }
    report.figure(
        "neurons-segmentation",
        chapter2_figures.segmentation_scores(rows, ours=NEURONS),
        "Table 3.4: segmentation by every method",
    )
    few = spaced(len(masks), min(5, len(masks)))
    everything = {**own, TOKENS: maps[TOKENS], "raw attention": maps["raw attention"]}
    shown = {name: np.stack([found[i].numpy() for i in few]) for name, found in everything.items()}
    figure = chapter2_figures.segmentation_examples(
        [pictures[i] for i in few], [texts[i] for i in few], shown, [masks[i].numpy() for i in few]
    )
    report.figure("neurons-segmentation-examples", figure, "Figure 3.7: maps before thresholding")


def neuron_maps(study: Study, batch: int = 8) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """Heatmaps of every masked image for its class, by both choices of neurons, and the masks, in the data's order."""
    data, model = study.evaluation.masks, study.model
    assert data is not None
    names = list(study.evaluation.class_prompts)
    classes = from_prompts(model, list(study.evaluation.class_prompts.values()))
    directions = torch.cat([study.layer(layer).line.directions for layer in study.late])
    usable = [i for i in range(len(data)) if data.labels[i] in study.evaluation.class_prompts]
    found: dict[str, list[Tensor]] = {NEURONS: [], SIGNED: []}
    masks = []
    for start in tqdm(range(0, len(usable), batch), desc="neuron maps", unit="batch", disable=study.quiet):
        pairs = [data[i] for i in usable[start : start + batch]]
        seconds = model.second_orders([picture for picture, _ in pairs], study.late)
        for row, i in enumerate(usable[start : start + batch]):
            one = normalize(classes[names.index(str(data.labels[i]))], dim=0)
            for name, target in ((NEURONS, one), (SIGNED, one - classes.mean(0))):
                maps = lens.map_towards(seconds, directions, target, signed=name == SIGNED)
                found[name].append(maps[row].cpu())
        masks += [fitted_mask(mask, model.image_size) for _, mask in pairs]
    return found, masks
