"""The ablation desk: one image's class scores under any set of heads, and what the set does to a collection.

`desk(session, task, image)` is what the browser needs to toggle terms alone; `outcome(session, task, ablation)` is
accuracy before, after and under as many random heads, linear in the codes: the model never runs again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipviz.analysis import classifiers
from clipviz.analysis.tasks import Task, labelled_tasks, typed_task
from clipviz.lens import ablate, spurious, subsets, zeroshot
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.roles import NO_ROLE
from clipviz.lens.subsets import SubsetLogits
from clipviz.lens.zeroshot import Accuracy
from clipviz.values import N_LATE, Ablation, Head

if TYPE_CHECKING:
    from clipviz.session.core import Session

N_DRAWS = 5
N_TOWARDS = 5
MIN_GROUP = 8  # images below which a group's accuracy is chance
LARGE = 1 << 29  # bytes of unablated logits above which they are made anew for each ablation


class Preset(NamedTuple):
    """A set of heads worth ablating: where it comes from (kind), its name, the heads."""

    kind: str
    name: str
    heads: tuple[Head, ...]


@dataclass(frozen=True, eq=False)
class Desk:
    """One image and one task, ready for toggling (lens.subsets): mean and zero ablation of every kept head and of
    the rest. label: the image's class, -1 where it has none; n_images: how many images the means come from."""

    mean: SubsetLogits
    zero: SubsetLogits
    scale: float
    bias: float | None  # of a model trained with a sigmoid loss: one sigmoid a class in place of a softmax
    label: int
    n_images: int

    def probabilities(self, ablation: Ablation) -> np.ndarray:
        """Zero-shot class probabilities after an ablation, [class]."""
        side = self.mean if ablation.how == "mean" else self.zero
        logits, length = side.after(ablation)
        scaled = self.scale * logits / length
        found = torch.softmax(scaled, 0) if self.bias is None else torch.sigmoid(scaled + self.bias)
        return found.cpu().numpy()


class Row(NamedTuple):
    """Accuracy of one group of images (or of all): before, after, and in each random draw."""

    name: str
    n_images: int
    before: float
    after: float
    random: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A collection before and after an ablation, and under random draws of as many heads from `drawn_from` layers."""

    before: Accuracy
    after: Accuracy
    random: tuple[Accuracy, ...]
    n_heads: int
    drawn_from: tuple[int, ...]

    @property
    def everything(self) -> Row:
        draws = tuple(draw.top1 for draw in self.random)
        return Row("all images", self.before.n_images, self.before.top1, self.after.top1, draws)

    @property
    def groups(self) -> list[Row]:
        """Every group of at least MIN_GROUP images, the worst before first; all groups where none is so large."""
        counts = {name: n for name, (_, n) in self.before.groups.items()}
        names = [name for name, n in counts.items() if n >= MIN_GROUP] or list(counts)
        rows = [
            Row(
                name,
                counts[name],
                self.before.groups[name][0],
                self.after.groups[name][0],
                tuple(draw.groups[name][0] for draw in self.random),
            )
            for name in names
        ]
        return sorted(rows, key=lambda row: row.before)

    @property
    def worst(self) -> Row | None:
        """The worst group of each column, which need not be one group."""
        rows = self.groups
        if not rows:
            return None
        draws = tuple(min(values) for values in zip(*(row.random for row in rows), strict=True))
        before, after = (min(rows, key=lambda row: row[column]) for column in (2, 3))
        return Row(before.name, before.n_images, before.before, after.after, draws)


@dataclass(frozen=True, eq=False)
class Left:
    """What an ablation leaves of one image, unnormalised: its embedding [d_embed], and what stands for what is gone.

    heads: those taken out; instead: [head, d_embed], their means, or 0; rest: [d_embed] the same for everything
    that is not a kept head, None where that stays.
    """

    embedding: Tensor
    heads: list[Head]
    instead: Tensor
    rest: Tensor | None

    @property
    def norm(self) -> Tensor:
        return self.embedding.norm().clamp_min(1e-12)


@dataclass
class _Kept:
    """What is kept while the collection stays the same: its terms, its means, a task's part of it, and the
    embeddings after the newest ablation."""

    version: int
    terms: Terms
    means: Means
    parts: dict[tuple[str, ...], _Part] = field(default_factory=dict)
    after: tuple[Ablation, Tensor] | None = None


@dataclass(frozen=True, eq=False)
class _Part:
    """The images of one task: terms, labels, groups, class directions, unablated logits where they are small."""

    terms: Terms
    labels: Tensor
    groups: list[str]
    directions: Tensor
    logits: Tensor | None
    before: Accuracy


def tasks(session: Session) -> dict[str, Task]:
    """The tasks that the session's images pose by themselves; none where nothing is known of their classes."""

    def make() -> dict[str, Task]:
        bundle = session.model.bundle
        posed = bundle.tasks(session.images) if bundle and bundle.tasks else {}
        return posed or labelled_tasks(session.images)

    return session.remember(("ablation tasks", len(session.images)), make)


def typed(session: Session, names: str) -> Task:
    """A task of class names typed with commas between them; at least two."""
    if not isinstance(names, str):
        raise ValueError(f"expected class names with commas between them, got {names!r}")
    key = ("ablation typed", len(session.images), names)
    return session.remember(key, lambda: typed_task(names.split(","), list(tasks(session).values())))


def task_of(session: Session, task: Task | str | None) -> Task:
    """A task as it is, by its name, or the first one. Raises ValueError where there is none."""
    if isinstance(task, Task):
        return task
    known = tasks(session)
    if task is None and known:
        return next(iter(known.values()))
    if task is None or task not in known:
        names = ", ".join(known) or "none"
        raise ValueError(
            f"expected a task of these images ({names}), got {task!r}; name classes with "
            'session.typed_task("a swan, an owl")'
        )
    return known[task]


def n_labelled(session: Session, task: Task) -> int:
    """How many of a task's labelled images have been read."""
    rows = session.collection.rows().tolist()
    return sum(row < len(task.labels) and task.labels[row] >= 0 for row in rows)


def directions(session: Session, task: Task) -> Tensor | None:
    """The task's classifier, [class, d_embed] unit vectors; None while images it is learnt from are still unread."""
    return _learnt(session, task) if task.examples else _said(session, task.prompts)


def _said(session: Session, prompts: tuple[tuple[str, ...], ...]) -> Tensor:
    key = ("ablation classes", prompts)
    return session.remember(key, lambda: classifiers.from_prompts(session.model, prompts))


def _learnt(session: Session, task: Task) -> Tensor | None:
    """The class means of the examples; images that could not be read are no examples."""
    collection = session.collection

    def make() -> Tensor | None:
        wanted = [row for chosen in task.examples for row in chosen]
        ready = set(collection.rows().tolist())
        if not (collection.complete or ready.issuperset(wanted)):
            return None
        rows = [row for row in wanted if row in ready]
        means = classifiers.from_examples(task.examples, rows, collection.embedding[rows])
        return means.to(session.model.device)

    key = ("ablation examples", task.name, len(session.images), collection.version, collection.complete)
    return session.remember(key, make)


def everything_else(session: Session) -> Ablation:
    """All that is not a kept head: every MLP, the input term, and whole layers that the collection does not keep."""
    n_layers = session.model.n_layers
    unkept = frozenset(range(n_layers)) - frozenset(session.collection.layers)
    return Ablation(mlps=frozenset(range(n_layers + 1)), layers=unkept)


def on_desk(session: Session, ablation: Ablation) -> Ablation:
    """The ablation in the desk's terms: its kept heads, and mlps={0} for everything else.

    ValueError where it names what cannot be taken out alone: single MLPs, tokens, layers that are not kept.
    """
    rest = everything_else(session)
    kept = set(session.collection.layers)
    whole = ablation.mlps == rest.mlps and ablation.layers >= rest.layers
    single = ablation.mlps and not whole
    if ablation.tokens or single or (not whole and ablation.layers - kept):
        raise ValueError(
            f"the desk takes out heads of layers {sorted(kept)} and all MLPs together, got {ablation.to_dict()}; "
            "for single MLPs and tokens use clipviz.lens.ablate on a trace"
        )
    unkept = sorted({layer for layer, _ in ablation.heads} - kept)
    if unkept:
        raise ValueError(
            f"layers {unkept} are not among the layers kept for this collection, {sorted(kept)}; open the session "
            "with layers=..."
        )
    layers = ablation.layers & kept
    return Ablation(
        heads=ablation.heads, layers=layers, mlps=frozenset({0}) if whole else frozenset(), how=ablation.how
    )


def desk(session: Session, task: Task, image: int) -> Desk | None:
    """Everything that toggling needs for one image; None until the first images, and all examples, have been read."""
    kept, classes = _kept(session), directions(session, task)
    if kept is None or classes is None:
        return None
    trace = session.trace(image)
    terms = ablate.with_rest(Terms(trace.to_codes(session.collection.layers), session.collection.basis))
    sides = [
        subsets.subset_logits(terms, 0, classes, mlps=(0,), means=kept.means, how=how)
        for how in ("mean", "zero")
    ]
    label = task.labels[image] if image < len(task.labels) else -1
    model = session.model
    return Desk(sides[0], sides[1], model.logit_scale, model.logit_bias, label, kept.means.n_images)


def left_of(session: Session, image: int, ablation: Ablation) -> Left:
    """One image after an ablation: the rep' of lens.ablate, and what its head effects become."""
    chosen, basis = on_desk(session, ablation), session.collection.basis
    means = _means(session, chosen)
    terms = ablate.with_rest(Terms(session.trace(image).to_codes(session.collection.layers), basis))
    embedding = ablate.embedding_after(terms, chosen, means)[0]
    heads = ablate.heads_of(terms.codes, chosen)
    instead = embedding.new_zeros(len(heads), len(embedding))
    rest = torch.zeros_like(embedding) if chosen.mlps else None
    if means is not None:
        if heads:
            instead = ablate.mean_effects(means, basis, heads).to(embedding)
        if rest is not None and means.mlp_effects is not None:
            rest = means.mlp_effects[0].to(embedding)
    return Left(embedding, heads, instead, rest)


def embeddings_after(session: Session, ablation: Ablation) -> Tensor:
    """Embeddings [image, d_embed] of the collection after an ablation; those not read yet are as they are."""
    collection = session.collection
    if not ablation:
        return collection.embedding
    chosen, kept = on_desk(session, ablation), _kept(session)
    means = _means(session, chosen)
    if kept is None:
        return collection.embedding
    if kept.after is None or kept.after[0] != chosen:
        parts = []
        for start in range(0, len(kept.terms.embedding), ablate.IMAGES_AT_ONCE):
            session.checkpoint()
            part = kept.terms.select(slice(start, start + ablate.IMAGES_AT_ONCE))
            parts.append(ablate.embedding_after(part, chosen, means))
        found = collection.embedding.clone()
        found[collection.rows().to(found.device)[: len(kept.terms.embedding)]] = torch.cat(parts).to(found)
        kept.after = chosen, found
    return kept.after[1]


def _means(session: Session, ablation: Ablation) -> Means | None:
    """The means that stand for what is taken out; None for "zero". ValueError where nothing has been read yet."""
    if ablation.how == "zero":
        return None
    kept = _kept(session)
    if kept is None:
        raise ValueError(
            "a head is replaced by its mean over the images, and none has been read yet; wait with session.wait(), "
            'or use how="zero"'
        )
    return kept.means


def outcome(session: Session, task: Task, ablation: Ablation) -> Outcome | None:
    """Accuracy on the images read so far, before and after an ablation and under N_DRAWS draws of as many heads.

    The draws come from the earliest ablated layer and those after it, so that they are no weaker by their place.
    None where no labelled image, or not every example, has been read.
    """
    kept, part = _kept(session), _part(session, task)
    if kept is None or part is None:
        return None
    chosen = on_desk(session, ablation)
    heads = ablate.heads_of(part.terms.codes, chosen)
    layers = tuple(layer for layer in session.collection.layers if heads and layer >= heads[0][0])
    pool = [(layer, head) for layer in layers for head in range(session.model.n_heads)]
    draws = (
        spurious.random_draws(part.terms, chosen, N_DRAWS, draw_from=pool) if len(heads) < len(pool) else []
    )
    found = []
    for step in (chosen, *draws):
        session.checkpoint()
        predicted = ablate.predict_after(part.terms, step, part.directions, kept.means, part.logits)
        found.append(zeroshot.accuracy_of(predicted, part.labels, len(part.directions), part.groups))
    return Outcome(part.before, found[0], tuple(found[1:]), len(heads), layers)


def presets(
    session: Session, text: str = "", image: int | None = None, task: Task | None = None
) -> list[Preset]:
    """Sets worth ablating: the late heads that carry the task's cue and the heads of each property (once the
    collection is read), the heads that write most towards the text on the image, and the early layers."""
    layers, n_heads = session.collection.layers, session.model.n_heads
    found = _carriers(session, task)
    by_label: dict[str, list[Head]] = {}
    for key, about in _summaries(session).items():
        layer, head = map(int, key.split(","))
        by_label.setdefault(about["label"], []).append((layer, head))
    found += [
        Preset("property", label, tuple(heads))
        for label, heads in sorted(by_label.items())
        if label != NO_ROLE
    ]
    if text and image is not None:
        scores = session.head_scores(text, image, ablation=Ablation()).heads[list(layers)]
        best = np.argsort(-scores, axis=None)[:N_TOWARDS]
        heads = [(layers[i // n_heads], int(i % n_heads)) for i in best.tolist()]
        found.append(Preset("text", text, tuple(sorted(heads))))
    early = [layer for layer in layers if layer < session.model.n_layers - N_LATE]
    if early:
        everyone = tuple((layer, head) for layer in early for head in range(n_heads))
        found.append(Preset("early", f"all but the last {N_LATE} layers", everyone))
    return found


def _carriers(session: Session, task: Task | None) -> list[Preset]:
    """A fifth of the late heads: those that a text query finds to vary most with the task's cue."""
    if task is None or not task.cue or not session.collection.complete:
        return []
    kept, classes = _kept(session), directions(session, task)
    if kept is None or classes is None:
        return []
    layers = session.collection.layers[-N_LATE:]

    def make() -> Preset:
        cue = _said(session, tuple(texts for _, texts in task.cue)).to(kept.terms.embedding)
        n_heads = max(1, len(layers) * session.model.n_heads // 5)
        heads = spurious.cue_heads(kept.terms, cue, classes.to(cue), n_heads, layers)
        return Preset("cue", " from ".join(name for name, _ in task.cue), tuple(sorted(heads)))

    return [session.remember(("ablation cue", task.name, kept.version, len(session.images)), make)]


def _summaries(session: Session) -> dict[str, dict[str, Any]]:
    """What every head is about, once the heads have been labelled."""
    if not session.collection.complete or session.collection.n_ready < 2:
        return {}
    session.label_heads()
    return session.head_summaries() if session.labelled else {}


def _kept(session: Session) -> _Kept | None:
    """Terms and means of the images read so far; made anew only when more have been read."""
    collection = session.collection
    newest: dict[str, _Kept] = session.remember("ablation terms", dict)  # one version at a time
    kept = newest.get("kept")
    if kept is not None and kept.version == collection.version:
        return kept
    with session.lock:
        version, rows = collection.version, collection.rows()
        if not len(rows):
            return None
        whole = len(rows) == len(collection)
        codes = collection.stored[slice(None) if whole else rows]
    basis = collection.basis.to(codes.embedding.device, codes.embedding.dtype)  # codes may stay in a file
    terms = ablate.with_rest(Terms(codes, basis))
    kept = _Kept(version, terms, ablate.means_of(terms))
    newest["kept"] = kept
    return kept


def _part(session: Session, task: Task) -> _Part | None:
    """The task's labelled images among those read."""
    kept = _kept(session)
    if kept is None:
        return None
    key = (task.name, *task.classes)
    if key not in kept.parts:
        rows = session.collection.rows().tolist()
        classes = directions(session, task)
        place = [i for i, row in enumerate(rows) if row < len(task.labels) and task.labels[row] >= 0]
        if not place or classes is None:
            return None
        if len(kept.parts) > 4:
            kept.parts.clear()
        terms = kept.terms if len(place) == len(rows) else kept.terms.select(place)
        classes = classes.to(terms.embedding)
        labels = torch.tensor([task.labels[rows[i]] for i in place], device=classes.device)
        groups = [task.groups[rows[i]] for i in place]
        small = 4 * len(place) * len(classes) <= LARGE
        logits = terms.embedding @ classes.T if small else None
        predicted = ablate.predict_after(terms, Ablation(), classes, kept.means, logits)
        before = zeroshot.accuracy_of(predicted, labels, len(classes), groups)
        kept.parts[key] = _Part(terms, labels, groups, classes, logits, before)
    return kept.parts[key]
