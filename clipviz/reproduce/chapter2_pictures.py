"""Figures of chapter 2 that show images: retrieval by head (2.4, 2.5, A.5, A.6), joint decomposition (2.6, A.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clipviz.figures import chapter2 as figures
from clipviz.lens import headset, joint, retrieve, textspan
from clipviz.lens.ablate import Terms
from clipviz.lens.roles import Role
from clipviz.models.clip import ClipModel
from clipviz.reproduce.evaluation import Evaluation, spaced
from clipviz.reproduce.report import Report
from clipviz.values import Head

N_NEAR, N_QUERIES = 7, 120

Roles = dict[Head, tuple[Role, list[str]]]
"""(layer, head) -> its role and its first texts."""


def retrieval_section(
    report: Report,
    model: ClipModel,
    evaluation: Evaluation,
    late: Terms,
    kept: Sequence[int],
    found_roles: Roles,
) -> None:
    """Figures 2.4, 2.5, A.5, A.6."""
    shown, codes, basis = _varied(found_roles, 4), late.codes, late.basis
    rows, neighbours, queries = [], [], []
    unit = torch.nn.functional.normalize(codes.embedding, dim=-1)
    query = int((unit @ unit.mean(0)).argmin())
    for head in shown:
        role, texts = found_roles[head]
        directions = model.encode_texts(texts[:1]).cpu()
        top = retrieve.top_images(codes, basis, directions, [head], k=4).images[0].tolist()
        rows.append((f"{name_of(head)}: {texts[0]}", [_pixels(evaluation, kept[i]) for i in top]))
        near = retrieve.nearest(codes, basis, [query], [head], k=4, cosine=True).images[0].tolist()
        neighbours.append((f"{name_of(head)}: {role.label}", [_pixels(evaluation, kept[i]) for i in near]))
        queries.append(_pixels(evaluation, kept[query]))
    whole = retrieve.whole_similarity(codes, [query])
    near = retrieve.best(whole, 5).images[0, 1:].tolist()
    neighbours.insert(0, ("the whole model", [_pixels(evaluation, kept[i]) for i in near]))
    queries.append(queries[0])
    report.section("Retrieval by head (Figures 2.4, 2.5, A.5, A.6)")
    report.figure(
        "top-images",
        figures.gallery(rows),
        "Figure 2.4: images on which a head writes most along its first text",
    )
    report.figure(
        "neighbours",
        figures.gallery(neighbours, queries),
        "Figure 2.5: nearest neighbours of one image under the whole model and under single heads (by cosine)",
    )
    report.text(
        f"How often the {N_NEAR} nearest images share the query's label: under the whole model, and under the head "
        "that does best. Images are compared by the cosine of a head's effects; by inner product, the thesis's, the "
        "few images on which a head writes most come first for every query."
    )
    report.table(
        ["task", "whole model", "head", "its cosine", "its inner product"],
        [
            [task, whole, name_of(head), cosine, inner]
            for task, whole, head, cosine, inner in neighbour_agreement(evaluation, late, kept)
        ],
    )


def neighbour_agreement(
    evaluation: Evaluation, late: Terms, kept: Sequence[int]
) -> list[tuple[str, float, Head, float, float]]:
    """How often the N_NEAR nearest images share the query's label: task, whole model, the head that does best by the
    cosine of its effects, that share, and the same head's by inner product (the thesis's)."""
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
    found_roles: Roles,
) -> None:
    """Figures 2.6 and A.3: for each head an image that it tells most about."""
    pool = evaluation.pools["descriptions"]
    n_texts = min(late.codes.codes.shape[3], len(late.embedding) - 1)
    chosen = textspan.describe_heads(late.codes, late.basis, model.encode_texts(list(pool)).cpu(), n_texts)
    heads = headset.all_heads(late.codes)
    background = model.encode_texts(list(pool))
    examples: list[dict[str, Any]] = []
    shown: set[int] = set()
    for head in _varied(found_roles, 3):
        texts = [pool[i] for i in chosen.order[heads.index(head)].tolist()]
        directions = model.encode_texts(texts)
        row = _telling(late, head, (directions - background.mean(0)).cpu(), kept, shown)
        shown.add(row)
        trace = model.trace([evaluation.images[row]])
        found = joint.joint_maps(trace, 0, *head, directions, background)
        examples.append(
            {
                "head": f"{name_of(head)} ({found_roles[head][0].label})",
                "image": model.shown(model.prepare([evaluation.images[row]]))[0],
                "positive_text": texts[int(found.positive[0])],
                "positive_map": found.positive_maps[0].cpu().numpy(),
                "negative_text": texts[int(found.negative[0])],
                "negative_map": found.negative_maps[0].cpu().numpy(),
            }
        )
    report.section(
        "Joint decomposition (Figures 2.6, A.3)",
        "For a head and an image: the TextSpan text it agrees with most and least, and the tokens that write it "
        "(orange: towards the text, blue: against it).",
    )
    report.figure(
        "joint",
        figures.joint_examples(examples),
        "Figure 2.6: where a head's most and least similar texts come from",
    )


def _telling(
    late: Terms, head: Head, directions: Float[Tensor, "text d_embed"], kept: Sequence[int], shown: set[int]
) -> int:
    """The image, not shown yet, on which a head's most and least similar texts are furthest apart (cosine units)."""
    scores = retrieve.direction_scores(late.codes, late.basis, directions, [head]) / late.embedding.norm(
        dim=1
    )
    spread = scores.max(0).values - scores.min(0).values
    order = spread.argsort(descending=True).tolist()
    return next(kept[i] for i in order if kept[i] not in shown)


def _varied(found_roles: Roles, n_heads: int) -> list[Head]:
    """Heads to show: clear roles first, one a family while there are new ones."""
    ranked = sorted(
        found_roles,
        key=lambda head: (
            not found_roles[head][0].clear,
            found_roles[head][0].p_value,
            -found_roles[head][0].n_texts,
            head,
        ),
    )
    chosen: list[Head] = []
    for fresh in (True, False):
        for head in ranked:
            families = {found_roles[other][0].family for other in chosen}
            if (
                head not in chosen
                and len(chosen) < n_heads
                and (not fresh or found_roles[head][0].family not in families)
            ):
                chosen.append(head)
    return chosen


def _pixels(evaluation: Evaluation, row: int) -> np.ndarray:
    return np.asarray(evaluation.images.thumbnail(row, 96))


def sizes_of(widest: int) -> list[int]:
    """Six numbers of texts up to the head's width."""
    return sorted({max(1, round(widest * share)) for share in (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)})


def name_of(head: Head) -> str:
    return f"L{head[0]}.H{head[1]}"
