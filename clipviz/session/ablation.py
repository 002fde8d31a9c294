"""What a session knows of its tasks and asks of analysis.heads.ablation: the desk, outcomes, sets worth ablating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.collection import classifiers
from clipviz.analysis.collection.tasks import labelled_tasks, typed_task
from clipviz.analysis.heads import ablation as analysis
from clipviz.analysis.heads.ablation import Desk, Left, Outcome, Part
from clipviz.data.texts import open_texts
from clipviz.lens import ablate, projection, textspan, zeroshot
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.roles import NO_ROLE
from clipviz.lens.zeroshot import Accuracy
from clipviz.values import N_LATE, Ablation, Head, Task, late_layers

if TYPE_CHECKING:
    from clipviz.session.core import Session

N_TOWARDS = 5
Cue = tuple[tuple[str, tuple[str, ...]], ...]
"""Two names with their texts."""


class Preset(NamedTuple):
    """A set of heads worth ablating: where it comes from (kind), its name, the heads."""

    kind: str
    name: str
    heads: tuple[Head, ...]


@dataclass
class _Kept:
    """What is kept while the collection stays the same: the images read, their terms and means, a task's part of them,
    and the embeddings after the newest ablation."""

    version: int
    rows: list[int]
    terms: Terms
    means: Means
    parts: dict[tuple[str, ...], Part] = field(default_factory=dict)
    after: tuple[Ablation, Tensor] | None = None


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
    if not isinstance(task, str) or task not in known:
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


def projected(
    session: Session, task: Task, sizes: Sequence[int], texts: Any, n_layers: int
) -> dict[int, Accuracy]:
    """Accuracy with the last kept heads projected on their first texts; see Session.project_heads."""
    kept, classes = _kept(session), directions(session, task)
    if kept is None or classes is None or not any(_labels(task, kept.rows)):
        raise ValueError("expected labelled images that have been read, got none; wait with session.wait()")
    layers = session.collection.layers[-n_layers:]
    codes, basis = kept.terms.codes.select(layers), kept.terms.basis.select(layers)
    pool = _unit_vectors(session, texts).to(codes.codes.device)
    most = min(codes.codes.shape[3], session.model.weights.d_embed, len(kept.rows) - 1, len(pool))
    if max(sizes) > most:
        raise ValueError(
            f"expected at most {most} texts per head (its width, the pool, images minus one), got {max(sizes)}; ask "
            "for fewer"
        )
    chosen = textspan.describe_heads(codes, basis, pool, max(sizes))
    session.checkpoint()
    labels = [task.labels[row] if row < len(task.labels) else -1 for row in kept.rows]
    found = projection.project_heads(codes, basis, chosen, sizes)
    return {size: zeroshot.accuracy(made, classes.to(made), labels) for size, made in found.items()}


def _labels(task: Task, rows: Sequence[int]) -> list[bool]:
    """Whether each image has a label of the task."""
    return [row < len(task.labels) and task.labels[row] >= 0 for row in rows]


def _unit_vectors(session: Session, texts: Any) -> Tensor:
    """A pool as unit vectors: the session's, vectors as they are, or anything that names texts."""
    if texts is None:
        return session.pool()
    if isinstance(texts, Tensor):
        return normalize(texts.float(), dim=1)
    return session.model.encode_texts(list(open_texts(texts)))


def everything_else(session: Session) -> Ablation:
    """All that is not a kept head: the input term, every MLP, and whole layers that the collection does not keep.

    The MLP after an attention pool is among them: what is left is what the kept heads write themselves.
    """
    n_layers = session.model.n_layers
    unkept = frozenset(range(n_layers)) - frozenset(session.collection.layers)
    return Ablation(mlps=frozenset(range(session.model.weights.n_mlp_terms)), layers=unkept)


def on_desk(session: Session, ablation: Ablation) -> Ablation:
    """The ablation in the desk's terms: its kept heads, and mlps={0} for everything else.

    ValueError where it names what the collection's codes do not tell apart: single MLPs, tokens, layers that are not
    kept.
    """
    kept = set(session.collection.layers)
    whole = _whole(session, ablation)
    if _alone(session, ablation):
        raise ValueError(
            f"expected heads of layers {sorted(kept)} or all MLPs together, got {ablation.to_dict()}; single MLPs and "
            "the class token are removed on the Ablation desk (its options mlps and class_token), and with other "
            "layers by session.ablate"
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


def _whole(session: Session, ablation: Ablation) -> bool:
    """Whether it removes everything that is not a kept head."""
    rest = everything_else(session)
    return ablation.mlps == rest.mlps and ablation.layers >= rest.layers


def _alone(session: Session, ablation: Ablation) -> bool:
    """Whether it names what the collection's codes do not tell apart: single MLPs, tokens, layers that are not kept."""
    if ablation.tokens or _whole(session, ablation):
        return bool(ablation.tokens)
    return bool(ablation.mlps or ablation.layers - set(session.collection.layers))


def desk_apart(session: Session, task: Task, image: int, tokens: frozenset[int]) -> Desk | None:
    """The desk with every MLP apart and without some tokens, its means from images traced again; None as for `desk`."""
    classes = directions(session, task)
    traced = None if classes is None else _traced(session, task, tokens)
    if traced is None or classes is None:
        return None
    terms = ablate.terms_of(session.trace(image), tokens=tokens)
    return analysis.desk_apart(
        terms,
        traced.means,
        classes,
        session.collection.layers,
        bool(tokens),
        session.model.logit_scale,
        session.model.logit_bias,
        _label(task, image),
    )


def _label(task: Task, image: int) -> int:
    return task.labels[image] if image < len(task.labels) else -1


def desk(session: Session, task: Task, image: int) -> Desk | None:
    """Everything that toggling needs for one image; None until the first images, and all examples, have been read."""
    kept, classes = _kept(session), directions(session, task)
    if kept is None or classes is None:
        return None
    terms = analysis.terms_of_codes(
        session.trace(image).to_codes(session.collection.layers), session.collection.basis
    )
    model = session.model
    return analysis.desk(terms, kept.means, classes, model.logit_scale, model.logit_bias, _label(task, image))


def left_of(session: Session, image: int, ablation: Ablation) -> Left:
    """One image after an ablation: the rep' of lens.ablate, and what its head effects become."""
    chosen, basis = on_desk(session, ablation), session.collection.basis
    means = _means(session, chosen)
    terms = analysis.terms_of_codes(session.trace(image).to_codes(session.collection.layers), basis)
    return analysis.left(terms, chosen, means)


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
        found = collection.embedding.clone()
        between = session.telling("Removing heads from the images", len(kept.rows))
        after = analysis.embeddings_after(kept.terms, chosen, means, between)
        found[torch.tensor(kept.rows, device=found.device)] = after.to(found)
        kept.after = chosen, found
    return kept.after[1]


def _means(session: Session, ablation: Ablation) -> Means | None:
    """The means that stand for what is removed; None for "zero". ValueError where nothing has been read yet."""
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
    """Accuracy on the images read so far; None where no labelled image, or not every example, has been read.

    What the codes do not tell apart is traced again, see analysis.heads.ablation.traced_terms.
    """
    if _alone(session, ablation):
        classes = directions(session, task)
        traced = None if classes is None else _traced(session, task, ablation.tokens)
        if traced is None or classes is None:
            return None
        part = analysis.part_of(traced.terms, traced.means, traced.rows, task, classes)
        return None if part is None else _measured(session, part, traced.means, ablation)
    kept, part = _kept(session), _part(session, task)
    if kept is None or part is None:
        return None
    return _measured(session, part, kept.means, on_desk(session, ablation))


def _measured(session: Session, part: Part, means: Means, ablation: Ablation) -> Outcome:
    """The outcome; the panel that waits for it says how far it is."""
    between = session.telling("Measuring, here and with random heads removed", 1 + analysis.N_DRAWS)
    return analysis.outcome(part, means, ablation, between)


class Traced(NamedTuple):
    """Images traced again, with every MLP and perhaps some tokens, and their means."""

    rows: list[int]
    terms: Terms
    means: Means


def _traced(session: Session, task: Task, tokens: frozenset[int]) -> Traced | None:
    """What the task is measured on where codes do not suffice; the newest is kept."""
    chosen = analysis.worth_tracing(task, len(session.images))
    newest: dict[Any, Traced] = session.keep("ablation traced", dict)
    key = tuple(chosen), tokens, session.images.fingerprint
    if key not in newest:
        between = session.telling("Tracing images again, with their MLPs", len(chosen))
        found = analysis.traced_terms(session.model, session.images, chosen, sorted(tokens), between)
        if found is None:
            return None
        newest.clear()
        newest[key] = Traced(*found, ablate.means_of(found[1]))
    return newest[key]


def presets(
    session: Session,
    text: str = "",
    image: int | None = None,
    task: Task | None = None,
    cue: tuple[str, str] = ("", ""),
) -> list[Preset]:
    """Sets worth ablating: the late heads that carry the task's cue, or a typed one, and the heads of each property
    (once the collection is read), those that a person gave a role, the heads that write most towards the text on the
    image, and the early layers."""
    layers, n_heads = session.collection.layers, session.model.n_heads
    found = []
    if task is not None and session.collection.complete:
        cues = [task.cue, typed_cue(*cue) if any(cue) else ()]
        found += [one for one in (_carriers(session, task, named) for named in cues if named) if one]
    by_role: dict[str, list[Head]] = {}
    for (layer, head), role in session.roles().items():
        if layer in layers and head < n_heads:
            by_role.setdefault(role, []).append((layer, head))
    found += [Preset("role", role, tuple(heads)) for role, heads in sorted(by_role.items())]
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
        scores = session.head_scores(text, image, ablation=Ablation()).heads
        found.append(Preset("text", text, analysis.largest(scores, layers, N_TOWARDS)))
    early = [layer for layer in layers if layer not in late_layers(session.model.n_layers)]
    if early:
        everyone = tuple((layer, head) for layer in early for head in range(n_heads))
        found.append(Preset("early", f"all but the last {N_LATE} layers", everyone))
    return found


def typed_cue(text: str, text_b: str) -> Cue:
    """A cue from two typed sides, each one text or several with commas between them. ValueError where one is empty."""
    sides = [tuple(part.strip() for part in side.split(",") if part.strip()) for side in (text, text_b)]
    if not all(sides) or sides[0] == sides[1]:
        raise ValueError(
            f"expected two different texts for a cue, got {text!r} and {text_b!r}; type both, such as "
            '"the sea" and "a forest"'
        )
    return tuple((", ".join(side), side) for side in sides)


def cue_heads(session: Session, cue: Cue, task: Task) -> Preset:
    """The heads that tell the two sides of a cue apart; ValueError until the whole collection has been read."""
    found = _carriers(session, task, cue) if session.collection.complete else None
    if found is None:
        raise ValueError(
            f"expected a collection that has been read, got {session.collection.n_ready} of {len(session.images)} "
            "images; wait with session.wait(background=True)"
        )
    return found


def _carriers(session: Session, task: Task, cue: Cue) -> Preset | None:
    """A fifth of the late heads: those that a text query finds to vary most with a cue, and not with the classes."""
    kept, classes = _kept(session), directions(session, task)
    if kept is None or classes is None:
        return None
    layers = session.collection.layers[-N_LATE:]

    def make() -> Preset:
        said = _said(session, tuple(texts for _, texts in cue))
        heads = analysis.cue_heads(kept.terms, said, classes, layers)
        return Preset("cue", " from ".join(name for name, _ in cue), heads)

    key = ("ablation cue", task.name, task.classes, cue, kept.version, len(session.images))
    return session.remember(key, make)


def _summaries(session: Session) -> dict[str, dict[str, Any]]:
    """What every head is about, once the heads have been labelled."""
    if not session.collection.complete or session.collection.n_ready < 2:
        return {}
    session.label_heads()
    return session.head_summaries() if session.labelled else {}


def _kept(session: Session) -> _Kept | None:
    """Terms and means of the images read so far; made again only when more have been read."""
    collection = session.collection
    newest: dict[str, _Kept] = session.keep("ablation terms", dict)  # one version at a time
    kept = newest.get("kept")
    if kept is not None and kept.version == collection.version:
        return kept
    with session.lock:
        version, rows = collection.version, collection.rows()
        if not len(rows):
            return None
        whole = len(rows) == len(collection)
        codes = collection.stored[slice(None) if whole else rows]
    terms = analysis.terms_of_codes(codes, collection.basis)
    kept = _Kept(version, rows.tolist(), terms, ablate.means_of(terms))
    newest["kept"] = kept
    return kept


def _part(session: Session, task: Task) -> Part | None:
    """The task's labelled images among those read."""
    kept, classes = _kept(session), directions(session, task)
    if kept is None or classes is None:
        return None
    key = (task.name, *task.classes)
    if key not in kept.parts:
        found = analysis.part_of(kept.terms, kept.means, kept.rows, task, classes)
        if found is None:
            return None
        if len(kept.parts) > 4:
            kept.parts.clear()
        kept.parts[key] = found
    return kept.parts[key]
