"""Chapter 2's figures with images: retrieval by head (2.4, 2.5, A.5, A.6), heatmaps (A.2), texts' maps (2.6, A.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.data.segmentation import MaskedImages
from clipviz.figures import chapter2 as figures
from clipviz.lens import headset, joint, retrieve, textspan
from clipviz.lens.ablate import Terms
from clipviz.lens.roles import Role
from clipviz.models.clip import ClipModel
from clipviz.reproduce.evaluation import Evaluation, spaced
from clipviz.reproduce.pools import GENERAL, encoded_pool
from clipviz.reproduce.report import Report
from clipviz.values import Head

N_NEAR, N_QUERIES = 7, 120
N_HEADS, N_TEXTS, N_IMAGES = 3, 10, 3
"""Number of heads drawn at random for Figure A.5, of their first texts, and of images for each."""
N_SHOWN = 4  # number of pictures in Figures A.2a and A.2b

NEIGHBOURS = {"cosine": "cosine", "product": "inner product, as in the thesis"}
"""How images can be compared under a head."""

"""Maps (layer, head) to its role and its first texts."""


def check_neighbours(by: str) -> None:
    """Raise ValueError unless this way of comparing images exists."""
    if by not in NEIGHBOURS:
        raise ValueError(f"expected neighbours by {' or '.join(NEIGHBOURS)}, got {by!r}; choose one of them")


def retrieval_section(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    late: Terms,
    kept: Sequence[int],
    roles: Mapping[Head, Role],
    texts_of: Mapping[Head, Sequence[str]],
    neighbours: str = "cosine",
) -> None:
    """Figures 2.4, 2.5, A.5, A.6. texts_of: every head's texts in the order of Alg. 1; neighbours: see NEIGHBOURS."""
    shown, codes, basis = _varied(roles, 4), late.codes, late.basis
    general = evaluation.pools[GENERAL]
    rows = []
    for head in shown:
        text = general[roles[head].first[0]]
        rows.append((f"{name_of(head)}: {text}", _top(model, evaluation, late, kept, head, text, 4)))
    unit = torch.nn.functional.normalize(codes.embedding, dim=-1)
    unusual = (unit @ unit.mean(0)).argsort().tolist()
    report.section("Retrieval by head (Figures 2.4, 2.5, A.5, A.6)")
    report.figure(
        "top-images",
        figures.gallery(rows),
        "Figure 2.4: images on which a head writes most along its first text",
    )
    for name, number, query in (
        ("neighbours", "2.5", unusual[0]),
        ("neighbours-more", "A.6", unusual[len(unusual) // 2]),
    ):
        whole = retrieve.best(retrieve.whole_similarity(codes, [query]), 5).images[0, 1:].tolist()
        found = [("the whole model", [_pixels(evaluation, kept[i]) for i in whole])]
        for head in shown:
            near = retrieve.nearest(codes, basis, [query], [head], k=4, cosine=neighbours == "cosine")
            label = f"{name_of(head)}: {roles[head].label}"
            found.append((label, [_pixels(evaluation, kept[i]) for i in near.images[0].tolist()]))
        report.figure(
            name,
            figures.gallery(found, [_pixels(evaluation, kept[query])] * len(found)),
            f"Figure {number}: nearest neighbours of an image under the whole model (by cosine) and under single heads "
            f"(by {NEIGHBOURS[neighbours]})",
        )
    random = torch.randperm(len(roles), generator=torch.Generator().manual_seed(0))[:N_HEADS].tolist()
    for head in sorted(list(roles)[i] for i in random):
        texts = texts_of[head][:N_TEXTS]
        report.figure(
            f"top-images-L{head[0]}-H{head[1]}",
            figures.gallery(
                [(text, _top(model, evaluation, late, kept, head, text, N_IMAGES)) for text in texts]
            ),
            f"Figure A.5: images on which {name_of(head)}, one of {N_HEADS} heads drawn at random, writes most along "
            f"its first {len(texts)} texts",
        )
    report.text(
        f"The table shows how often the {N_NEAR} nearest images share the query's label, under the "
        "whole model and under the best head. Images are compared by the cosine of a head's "
        "effects. By inner product, as in the thesis, the few images on which a head writes most "
        "come first for every query."
    )
    report.table(
        ["task", "whole model", "head", "its cosine", "its inner product"],
        [
            [task, whole, name_of(head), cosine, inner]
            for task, whole, head, cosine, inner in neighbour_agreement(evaluation, late, kept)
        ],
    )


def _top(
    model: ClipModel, evaluation: Evaluation, late: Terms, kept: Sequence[int], head: Head, text: str, k: int
) -> list[np.ndarray]:
    """Return the k images on which a head writes most along a text."""
    direction = model.encode_texts([text]).cpu()
    rows = retrieve.top_images(late.codes, late.basis, direction, [head], k=k).images[0].tolist()
    return [_pixels(evaluation, kept[i]) for i in rows]


def maps_section(report: Report, model: ClipModel, evaluation: Evaluation) -> None:
    """Figures A.2a and A.2b: what writes towards an image's class, and towards it more than towards another class."""
    task, names = evaluation.tasks[0], evaluation.tasks[0].classes
    prompts = [own[0] for own in task.prompts]
    directions = model.encode_texts(prompts)
    labelled = [i for i, label in enumerate(task.labels) if label >= 0]
    rows, against = [], []
    for i in [labelled[place] for place in spaced(len(labelled), N_SHOWN)]:
        trace, own = model.trace([evaluation.images[i]]), task.labels[i]
        scores = (trace.embedding @ task.directions.to(trace.embedding).T)[0]
        scores[own] = -torch.inf
        other = int(scores.argmax())
        picture = model.shown(model.prepare([evaluation.images[i]]))[0]
        wanted = torch.stack([directions[own] - directions.mean(0), directions[own] - directions[other]])
        towards, rather = trace.heatmap(wanted)[:, 0].cpu().numpy()
        rows.append((picture, [(prompts[own], towards)]))
        against.append((picture, [(f"{names[own]} − {names[other]}", rather)]))
    pairs = evaluation.pairs
    if pairs is not None:
        against = _of_two(model, pairs, prompts, names, directions)
    report.section(
        "Heatmaps (Figures A.2a, A.2b)",
        "The maps show token effects of all heads along a text minus the mean of the task's classes "
        "(a), and along one text minus another (b): "
        + (
            "pictures of both."
            if pairs is not None
            else "the image's class and the other class that is nearest to it."
        )
        + " Orange writes towards the (first) text, blue against it.",
    )
    report.figure(
        "token-maps", figures.token_maps(rows), "Figure A.2a: the regions that write towards an image's class"
    )
    report.figure("token-maps-two", figures.token_maps(against), "Figure A.2b: one text minus another")


def _of_two(
    model: ClipModel, pairs: MaskedImages, prompts: Sequence[str], names: Sequence[str], directions: Tensor
) -> list[tuple[np.ndarray, list[tuple[str, np.ndarray]]]]:
    """Return pictures of two objects, and the regions that write towards one more than towards the other, both ways."""
    rows = []
    for place in spaced(len(pairs) // 2, N_SHOWN):
        picture, labels = pairs[2 * place][0], [str(pairs.labels[2 * place + side]) for side in (0, 1)]
        first, second = (directions[names.index(label)] for label in labels)
        maps = (
            model.trace([picture]).heatmap(torch.stack([first - second, second - first]))[:, 0].cpu().numpy()
        )
        texts = (f"{labels[0]} − {labels[1]}", f"{labels[1]} − {labels[0]}")
        rows.append((model.shown(model.prepare([picture]))[0], list(zip(texts, maps, strict=True))))
    return rows


def neighbour_agreement(
    evaluation: Evaluation, late: Terms, kept: Sequence[int]
) -> list[tuple[str, float, Head, float, float]]:
    """Return how often the N_NEAR nearest images share the query's label: task, whole model, the head that does best
    by the cosine of its effects, that share, and the same head's share by inner product (as in the thesis).
    """
    rows = []
    for task in evaluation.tasks:
        labels = torch.tensor([task.labels[i] for i in kept])
        known = torch.nonzero(labels >= 0)[:, 0].tolist()
        queries = [known[i] for i in spaced(len(known), N_QUERIES)]
        if len(known) <= N_NEAR:
            continue
        part, own = late.select(known), [known.index(query) for query in queries]

        def share(scores: Tensor, own: list[int] = own, labels: Tensor = labels[known]) -> float:
            scores[torch.arange(len(own)), torch.tensor(own)] = -torch.inf
            near = scores.topk(N_NEAR, dim=1).indices
            return float((labels[near] == labels[own][:, None]).float().mean())

        whole = share(retrieve.whole_similarity(part.codes, own))
        heads = headset.all_heads(part.codes)
        cosine = [
            share(retrieve.similarity(part.codes, part.basis, own, [head], cosine=True)) for head in heads
        ]
        best = int(np.argmax(cosine))
        inner = share(retrieve.similarity(part.codes, part.basis, own, [heads[best]]))
        rows.append((task.name, whole, heads[best], cosine[best], inner))
    return rows


def joint_section(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    late: Terms,
    kept: Sequence[int],
    roles: Mapping[Head, Role],
) -> None:
    """Figures 2.6 and A.3: for each head an image on which its texts differ most."""
    pool = evaluation.pools[GENERAL]
    n_texts = min(late.codes.codes.shape[3], len(late.embedding) - 1)
    chosen = textspan.describe_heads(late.codes, late.basis, encoded_pool(model, pool).cpu(), n_texts)
    heads = headset.all_heads(late.codes)
    background = encoded_pool(model, pool)
    examples: list[dict[str, Any]] = []
    shown: set[int] = set()
    for head in _varied(roles, 6):
        texts = [pool[i] for i in chosen.order[heads.index(head)].tolist()]
        directions = model.encode_texts(texts)
        row = _most_spread(late, head, (directions - background.mean(0)).cpu(), kept, shown)
        shown.add(row)
        trace = model.trace([evaluation.images[row]])
        found = joint.joint_maps(trace, 0, *head, directions, background)
        examples.append(
            {
                "head": f"{name_of(head)} ({roles[head].label})",
                "image": model.shown(model.prepare([evaluation.images[row]]))[0],
                "positive_text": texts[int(found.positive[0])],
                "positive_map": found.positive_maps[0].cpu().numpy(),
                "negative_text": texts[int(found.negative[0])],
                "negative_map": found.negative_maps[0].cpu().numpy(),
            }
        )
    report.section(
        "Joint decomposition (Figures 2.6, A.3)",
        "For a head and an image, the figure shows the TextSpan texts that agree most and least, and "
        "the tokens that write them (orange: towards the text, blue: against it).",
    )
    for name, number, some in (("joint", "2.6", examples[:3]), ("joint-more", "A.3", examples[3:])):
        if some:
            caption = f"Figure {number}: image regions behind a head's most and least similar texts"
            report.figure(name, figures.joint_examples(some), caption)


def _most_spread(
    late: Terms, head: Head, directions: Float[Tensor, "text d_embed"], kept: Sequence[int], shown: set[int]
) -> int:
    """Return the image, among those not shown yet, on which a head's most and least similar texts are furthest apart
    (cosine units).
    """
    scores = retrieve.direction_scores(late.codes, late.basis, directions, [head]) / late.embedding.norm(
        dim=1
    )
    spread = scores.max(0).values - scores.min(0).values
    order = spread.argsort(descending=True).tolist()
    found: int = next(kept[i] for i in order if kept[i] not in shown)
    return found


def _varied(roles: Mapping[Head, Role], n_heads: int) -> list[Head]:
    """Return the heads to show: clear roles first, and one per family as long as there are new families."""
    ranked = sorted(
        roles,
        key=lambda head: (
            not roles[head].clear,
            roles[head].p_value,
            -roles[head].n_texts,
            head,
        ),
    )
    chosen: list[Head] = []
    for fresh in (True, False):
        for head in ranked:
            families = {roles[other].family for other in chosen}
            if (
                head not in chosen
                and len(chosen) < n_heads
                and (not fresh or roles[head].family not in families)
            ):
                chosen.append(head)
    return chosen


def _pixels(evaluation: Evaluation, row: int) -> np.ndarray:
    return np.asarray(evaluation.images.thumbnail(row, 96))


def sizes_of(widest: int) -> list[int]:
    """Return six numbers of texts up to the head's width."""
    return sorted({max(1, round(widest * share)) for share in (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)})


def name_of(head: Head) -> str:
    return f"L{head[0]}.H{head[1]}"
