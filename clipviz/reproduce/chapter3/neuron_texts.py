"""Texts of neurons: Tables 3.2 and B.1, Figures 3.5, B.1, B.6 and B.7; sections of chapter 3's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from clipviz.analysis.cues.pairs import prompt
from clipviz.demo.world import vocabulary
from clipviz.figures import chapter3 as figures
from clipviz.lens import cues
from clipviz.lens.sparse import code_size, prepare_dictionary, sparse_code
from clipviz.reproduce.chapter3.layers import QUICK_ATOMS, Layer, Study
from clipviz.reproduce.evaluation import batches, in_demo_world, spaced
from clipviz.reproduce.pools import COMMON, GENERAL, encoded_pool
from clipviz.reproduce.report import Report
from clipviz.values import SparseCode

N_GALLERY, N_TOP_IMAGES, N_WORDS, N_SHEET = 5, 8, 4, 50
N_CONCEPTS, N_SHOWN_CONCEPTS = 10, 6


class Dictionary:
    """An encoded pool of texts, and the sparse codes of some directions over it."""

    def __init__(self, study: Study, pool: Sequence[str]) -> None:
        self.pool = list(pool)
        self.encoded = encoded_pool(study.model, self.pool)
        self.rows = prepare_dictionary(self.encoded)
        most = min(code_size(study.model.weights.d_embed), QUICK_ATOMS if study.quick else len(self.rows))
        self.n_atoms = min(most, *self.rows.shape)

    def codes(self, directions: Tensor) -> SparseCode:
        return sparse_code(directions.to(self.rows), self.rows, self.n_atoms)


def wide_pool(study: Study) -> list[str]:
    """Return the descriptions and the name of every class: everything that the demo world can draw."""
    names = [prompt(study.model, name) for name in study.evaluation.class_prompts]
    return list(dict.fromkeys([*study.evaluation.pools["descriptions"], *names]))


def gallery_section(report: Report, study: Study, known: Layer, pools: Mapping[str, Sequence[str]]) -> None:
    """Tables 3.2 and B.1, Figures 3.5, B.6 and B.7, for the neurons that move the embedding most.

    pools: pools by name: the descriptions, and the largest pool of words, which the tables compare with them.
    """
    dictionary = Dictionary(study, pools[GENERAL])
    shown = strongest_neurons(known, dictionary, 2 * N_GALLERY)
    words = next((name for name in reversed(list(pools)) if name.endswith(COMMON)), None)
    in_words = {} if words is None else texts_of(known, Dictionary(study, pools[words]), list(shown))
    report.section(
        "What neurons say (Tables 3.2, B.1, Figures 3.5, B.6, B.7)",
        f"The neurons of layer {known.stats.layer} with the largest effects on their own top images "
        f"are shown, one for each first text, with the {N_WORDS} largest of {dictionary.n_atoms} "
        "texts and their signs, and the images of largest second-order norm under the neuron's "
        "activation map.",
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


def strongest_neurons(known: Layer, dictionary: Dictionary, n: int) -> dict[int, list[tuple[str, float]]]:
    """Return the neurons with the largest effects on their own top images, one for each first text, and their texts."""
    strength = (known.line.share * known.line.variance).clamp_min(0).sqrt()
    found = texts_of(known, dictionary, strength.argsort(descending=True)[: 20 * n].tolist())
    chosen: dict[str, int] = {}
    for neuron, pairs in found.items():
        if pairs and len(chosen) < n:
            chosen.setdefault(pairs[0][0], neuron)
    return {neuron: found[neuron] for neuron in chosen.values()}


def texts_of(
    known: Layer, dictionary: Dictionary, neurons: Sequence[int]
) -> dict[int, list[tuple[str, float]]]:
    """Return neuron -> the N_WORDS largest texts of its code, with their weights."""
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
        scores = cues.image_contribution_scores(codes, norms, known.thresholds, n_texts)
        rows += some
        words += scores.topk(min(N_CONCEPTS, n_texts), dim=1).indices.tolist()
        n_active += (norms > known.thresholds).sum(1).tolist()
    found = [[dictionary.pool[j] for j in chosen] for chosen in words]
    usual = sorted(range(len(rows)), key=lambda i: -n_active[i])[: max(6, len(rows) // 2)]
    shown = [usual[i] for i in spaced(len(usual), 6)]
    report.section(
        "Concepts in an image (Figure B.1)",
        f"A neuron of layer {known.stats.layer} is active above the 98th percentile of its norms "
        "over the reference images. Texts are ranked by their weights in the active neurons' codes, "
        f"times the norms. On half of the images at most {np.median(n_active):.0f} of "
        f"{len(known.thresholds):,} neurons are active; the figure shows images with more.",
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
    report.text(
        f"The table shows how often one of an image's {N_CONCEPTS} texts names what the picture shows:"
    )
    report.table(
        ["what", "images", "by its own texts", "by another image's texts"],
        [[name, n_images, own, other] for name, (own, other, n_images) in hits.items()],
    )


def _spoken(study: Study) -> dict[str, Sequence[Sequence[str]]]:
    """Return task -> class -> the words that name it in a text."""
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
    """Return how often the texts found for an image name its class in a task; the same with another image's texts;
    and the number of labelled images.
    """
    labels = next(one.labels for one in study.evaluation.tasks if one.name == task)
    labelled = [place for place, image in enumerate(images) if 0 <= labels[image] < len(forms)]
    if not labelled:
        return 0.0, 0.0, 0

    def share(others: Sequence[int]) -> float:
        hits = [
            any(
                cues.is_fair(text, form, []) for form in forms[labels[images[place]]] for text in found[other]
            )
            for place, other in zip(labelled, others, strict=True)
        ]
        return sum(hits) / len(hits)

    half = len(labelled) // 2
    return share(labelled), share([*labelled[half:], *labelled[:half]]), len(labelled)
