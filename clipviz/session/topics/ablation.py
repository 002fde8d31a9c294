"""The ablation of heads: tasks, accuracy before and after, one image's desk, and sets of heads worth removing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import normalize

from clipviz.analysis.collection import classifiers
from clipviz.analysis.collection.tasks import labelled_tasks, typed_task
from clipviz.analysis.heads import ablation as analysis
from clipviz.analysis.heads.ablation import Desk, Outcome, Part
from clipviz.data.texts import open_texts
from clipviz.lens import ablate, projection, textspan, zeroshot
from clipviz.lens.ablate import Means, Terms
from clipviz.lens.roles import NO_ROLE
from clipviz.lens.zeroshot import Accuracy
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.heads import HeadTopic
from clipviz.session.topics.labels import Labels
from clipviz.session.topics.removal import Removal
from clipviz.values import N_LATE, Ablation, Head, Task, late_layers
from clipviz.values.tables import Listing, Lookup, Table

N_TOWARDS = 5
Shortcut = tuple[tuple[str, tuple[str, ...]], ...]
"""A shortcut for the classes of a task: two names with their texts."""
UNREAD = "expected labelled images that have been read, got none; wait with session.wait()"


@dataclass(frozen=True, repr=False)
class Preset(Table):
    """A set of heads worth ablating: its origin (kind), its name, the heads."""

    kind: str
    name: str
    heads: tuple[Head, ...]


class Traced(NamedTuple):
    """Images traced again, with every MLP and optionally some tokens, and their means."""

    rows: list[int]
    terms: Terms
    means: Means


class AblationTopic:
    """Questions about removed heads. A task is one of `tasks()`, its name, or one made by `typed`."""

    def __init__(self, state: State, removal: Removal, heads: HeadTopic, labels: Labels) -> None:
        self._state, self._removal, self._heads, self._labels = state, removal, heads, labels

    def __repr__(self) -> str:
        return f"tasks of these images: {', '.join(self.tasks()) or 'none; session.ablation.typed makes one'}"

    # -- tasks -------------------------------------------------------------------------------------------------

    def tasks(self) -> Lookup[str, Task]:
        """Return the classification tasks of the images' own labels; none if their classes are unknown."""
        state, images = self._state, self._state.images

        def make() -> Lookup[str, Task]:
            bundle = state.model.bundle
            posed = bundle.tasks(images) if bundle and bundle.tasks else {}
            return Lookup(posed or labelled_tasks(images), "Tasks that the images pose", ("task",))

        return state.remember(("ablation tasks", len(images)), make)

    def typed(self, names: str) -> Task:
        """Return a task with at least two class names, typed with commas between them."""
        if not isinstance(names, str):
            raise ValueError(f"expected class names with commas between them, got {names!r}")
        key = ("ablation typed", len(self._state.images), names)
        return self._state.remember(key, lambda: typed_task(names.split(","), list(self.tasks().values())))

    def task(self, task: Task | str | None = None) -> Task:
        """Return a given task, the task of a name, or the first one. Raises ValueError if there is none."""
        if isinstance(task, Task):
            return task
        known = self.tasks()
        if task is None and known:
            return next(iter(known.values()))
        if not isinstance(task, str) or task not in known:
            names = ", ".join(known) or "none"
            raise ValueError(
                f"expected a task of these images ({names}), got {task!r}; name classes with "
                'session.ablation.typed("a swan, an owl")'
            )
        return known[task]

    def n_labelled(self, task: Task | str | None = None) -> int:
        """Return how many of a task's labelled images have been read."""
        chosen = self.task(task)
        return sum(chosen.label(row) >= 0 for row in self._state.collection.rows().tolist())

    def classifier(self, task: Task | str | None = None) -> Tensor | None:
        """Return a task's classifier, [class, d_embed] unit vectors; None while an example is still unread."""
        chosen = self.task(task)
        return self._learnt(chosen) if chosen.examples else self._of_prompts(chosen.prompts)

    def _of_prompts(self, prompts: tuple[tuple[str, ...], ...]) -> Tensor:
        key = ("ablation classes", prompts)
        return self._state.remember(key, lambda: classifiers.from_prompts(self._state.model, prompts))

    def _learnt(self, task: Task) -> Tensor | None:
        """Return the class means of the examples, without images that could not be read."""
        state, collection = self._state, self._state.collection

        def make() -> Tensor | None:
            wanted = [row for chosen in task.examples for row in chosen]
            ready = set(collection.rows().tolist())
            if not (collection.complete or ready.issuperset(wanted)):
                return None
            rows = [row for row in wanted if row in ready]
            means = classifiers.from_examples(task.examples, rows, collection.embedding[rows])
            return means.to(state.model.device)

        key = ("ablation examples", task.name, len(state.images), collection.version, collection.complete)
        return state.remember(key, make)

    # -- outcomes ----------------------------------------------------------------------------------------------

    def run(self, ablation: Ablation | None = None, task: Task | str | None = None) -> Outcome:
        """Return accuracy on the images read so far, before and after an ablation and under draws of as many
        heads.

        Single MLPs (1 + layer), tokens (0 = the class token, Table A.1) and layers that are not kept are
        measured on up to 1,024 labelled images, which are traced again, because the codes of the collection do
        not separate them.

        Args:
            ablation: What is removed; default the selection's.
            task: A task, or the name of one; default the first of `tasks()`.

        Returns:
            Accuracies with the paired change and its 95% interval, for all images and by group.

        Raises:
            ValueError: No labelled image has been read.
        """
        chosen = self._state.an_ablation(ablation)
        found = self._outcome(self.task(task), chosen)
        if found is None:
            raise ValueError(UNREAD)
        return found

    def _outcome(self, task: Task, ablation: Ablation) -> Outcome | None:
        """Return the outcome, or None if no labelled image, or not every example, has been read."""
        if self._removal.apart(ablation):
            classes = self.classifier(task)
            traced = None if classes is None else self._traced(task, ablation.tokens)
            if traced is None or classes is None:
                return None
            part = analysis.part_of(traced.terms, traced.means, traced.rows, task, classes)
            return None if part is None else self._measured(part, traced.means, ablation)
        read, part = self._removal.read(), self._part(task)
        if read is None or part is None:
            return None
        return self._measured(part, read.means, self._removal.in_codes(ablation))

    def _measured(self, part: Part, means: Means, ablation: Ablation) -> Outcome:
        """Return the outcome; the panel that waits for it shows the progress."""
        n_steps = 1 + analysis.N_DRAWS
        progress = self._state.progress("Measuring, here and with random heads removed", n_steps)
        return analysis.outcome(part, means, ablation, progress)

    def _part(self, task: Task) -> Part | None:
        """Return the task's labelled images among those read."""
        read, classes = self._removal.read(), self.classifier(task)
        if read is None or classes is None:
            return None
        key = (task.name, *task.classes)
        if key not in read.parts:
            found = analysis.part_of(read.terms, read.means, read.rows, task, classes)
            if found is None:
                return None
            if len(read.parts) > 4:
                read.parts.clear()
            read.parts[key] = found
        return read.parts[key]

    def _traced(self, task: Task, tokens: frozenset[int]) -> Traced | None:
        """Return the traced images of the task if codes do not suffice; the newest are cached."""
        state = self._state
        chosen = analysis.worth_tracing(task, len(state.images))
        newest: dict[Any, Traced] = state.keep("ablation traced", dict)
        key = tuple(chosen), tokens, state.images.fingerprint
        if key not in newest:
            progress = state.progress("Tracing images again, with their MLPs", len(chosen))
            found = analysis.traced_terms(state.model, state.images, chosen, sorted(tokens), progress)
            if found is None:
                return None
            newest.clear()
            newest[key] = Traced(*found, ablate.means_of(found[1]))
        return newest[key]

    def project_heads(
        self,
        m: int | Sequence[int] = (10, 20, 30, 40, 50, 60),
        task: Task | str | None = None,
        texts: Any = None,
    ) -> Lookup[int, Accuracy]:
        """Return accuracy with every late head projected on its first m texts and the rest mean-ablated
        (Figures 2.3 and A.1).

        The texts are chosen by Alg. 1 on the images read so far, whose labels count as well.

        Args:
            m: Texts per head, one number or several.
            task: A task, or the name of one; default the first of `tasks()`.
            texts: The pool; default the session's. A list, a file, "words:10000" (see
                clipviz.data.texts.open_texts), or vectors [text, d_embed], such as random ones for comparison.

        Returns:
            Accuracy for each m.

        Raises:
            ValueError: m exceeds the width of a head, the pool or the images, or no labelled image has been
                read.
        """
        sizes = sorted(set(checks.counts("m", m)))
        if not sizes:
            raise ValueError("expected numbers of texts per head, got none; pass for example m=(10, 60)")
        chosen, read = self.task(task), self._removal.read()
        classes = self.classifier(chosen)
        if read is None or classes is None or not any(chosen.label(row) >= 0 for row in read.rows):
            raise ValueError(UNREAD)
        layers = self._state.collection.layers[-N_LATE:]
        codes, basis = read.terms.codes.select(layers), read.terms.basis.select(layers)
        pool = self._unit_vectors(texts).to(codes.codes.device)
        d_embed = self._state.model.weights.d_embed
        most = min(codes.codes.shape[3], d_embed, len(read.rows) - 1, len(pool))
        if max(sizes) > most:
            raise ValueError(
                f"expected at most {most} texts per head (its width, the pool, images minus one), got {max(sizes)}; "
                "ask for fewer"
            )
        order = textspan.describe_heads(codes, basis, pool, max(sizes))
        self._state.checkpoint()
        labels = [chosen.label(row) for row in read.rows]
        found = projection.project_heads(codes, basis, order, sizes)
        scores = {size: zeroshot.accuracy(made, classes.to(made), labels) for size, made in found.items()}
        return Lookup(scores, "Accuracy with every late head projected on its first texts", ("texts",))

    def _unit_vectors(self, texts: Any) -> Tensor:
        """Return a pool as unit vectors: the session's, given vectors, or any source of texts."""
        if texts is None:
            return self._state.pool()
        if isinstance(texts, Tensor):
            return normalize(texts.float(), dim=1)
        return self._state.model.encode_texts(list(open_texts(texts)))

    # -- one image ---------------------------------------------------------------------------------------------

    def desk(
        self,
        task: Task | str | None = None,
        image: int | None = None,
        apart: bool = False,
        class_token: bool = False,
    ) -> Desk | None:
        """Return everything that toggling heads needs for one image.

        Args:
            task: A task, or the name of one; default the first of `tasks()`.
            image: Index of an image; default the selected one.
            apart: Separate every MLP, with means from up to 1,024 images, which are traced again.
            class_token: Remove what the class token writes by attending to itself (Table A.1), which also needs
                these images.

        Returns:
            Class scores and what every removal subtracts from them; None until the first images, and all
            examples, are read.
        """
        chosen, i = self.task(task), self._state.an_image(image)
        model, collection, label = self._state.model, self._state.collection, chosen.label(i)
        classes = self.classifier(chosen)
        if classes is None:
            return None
        if apart or class_token:
            tokens = frozenset({0} if class_token else ())
            traced = self._traced(chosen, tokens)
            if traced is None:
                return None
            return analysis.desk_apart(
                ablate.terms_of(self._state.trace(i), tokens=tokens),
                traced.means,
                classes,
                collection.layers,
                class_token,
                model.logit_scale,
                model.logit_bias,
                label,
            )
        read = self._removal.read()
        if read is None:
            return None
        codes = self._state.trace(i).to_codes(collection.layers)
        terms = analysis.terms_of_codes(codes, collection.basis)
        return analysis.desk(terms, read.means, classes, model.logit_scale, model.logit_bias, label)

    def on_desk(self, ablation: Ablation) -> Ablation:
        """Return the ablation in the desk's terms. Raises ValueError for what cannot be removed there."""
        return self._removal.in_codes(checks.ablation(self._state.model, ablation))

    def everything_else(self) -> Ablation:
        """Return the ablation of everything except the kept heads: MLPs, the input term, and other layers."""
        return self._removal.everything_else()

    # -- sets of heads -----------------------------------------------------------------------------------------

    def presets(
        self,
        text: str = "",
        image: int | None = None,
        task: Task | str | None = None,
        shortcut: tuple[str, str] = ("", ""),
    ) -> Listing[Preset]:
        """Return sets of heads worth ablating.

        There are also the heads of each role and property, and the early layers.

        Args:
            text: A text, for the heads that write most towards it on the image; "" for none.
            image: Index of the image for `text`; None for none.
            task: A task, for the heads that encode its shortcut; None for none.
            shortcut: Two texts that name a shortcut (see shortcut_heads), or ("", "").

        Returns:
            The sets, each with its kind, its name and its heads.
        """
        state, model = self._state, self._state.model
        chosen, sides = None if task is None else self.task(task), checks.texts("shortcut", shortcut)
        i = None if image is None else state.an_image(image)
        layers = state.collection.layers
        found = self._of_shortcuts(chosen, sides)
        by_role: dict[str, list[Head]] = {}
        for at, role in self._heads.roles().items():
            if at[0] in layers and at[1] < model.n_heads:
                by_role.setdefault(role, []).append(at)
        found += [Preset("role", role, tuple(heads)) for role, heads in sorted(by_role.items())]
        found += self._of_labels()
        if text and i is not None:
            effects = self._heads.effects(text, i, ablation=Ablation()).heads
            found.append(Preset("text", text, analysis.largest(effects, layers, N_TOWARDS)))
        early = [layer for layer in layers if layer not in late_layers(model.n_layers)]
        if early:
            everyone = tuple((layer, head) for layer in early for head in range(model.n_heads))
            found.append(Preset("early", f"all but the last {N_LATE} layers", everyone))
        return Listing(found, "Sets of heads worth removing", ("kind", "name", "heads"))

    def _of_shortcuts(self, task: Task | None, sides: tuple[str, str]) -> list[Preset]:
        """Return the heads of the task's shortcut, and of the typed one, once the collection has been read."""
        if task is None or not self._state.collection.complete:
            return []
        shortcuts = [task.shortcut, _typed_shortcut(*sides) if any(sides) else ()]
        return [one for one in (self._carriers(task, named) for named in shortcuts if named) if one]

    def _of_labels(self) -> list[Preset]:
        """Return the heads of each label, once all heads have been labelled."""
        collection = self._state.collection
        if not collection.complete or collection.n_ready < 2:
            return []
        self._labels.behind()
        by_label: dict[str, list[Head]] = {}
        for at, about in (self._heads.summaries() if self._labels.complete else {}).items():
            by_label.setdefault(about.label, []).append(at)
        return [
            Preset("property", label, tuple(heads))
            for label, heads in sorted(by_label.items())
            if label != NO_ROLE
        ]

    def shortcut_heads(self, text: str, text_b: str, task: Task | str | None = None) -> Preset:
        """Return the late heads that encode a shortcut, given by two texts such as "the sea" and "a forest"
        (thesis 2.4).

        They are a fifth of the heads of the last layers: those whose direct effects vary most along the
        difference of the two texts and least along the classes of the task (see lens.spurious.shortcut_heads).

        Args:
            text: One side of the shortcut: a text, or several with commas between them.
            text_b: The other side, likewise.
            task: A task, or the name of one; default the first of `tasks()`.

        Returns:
            The heads, as a preset.

        Raises:
            ValueError: The collection has not been read, or the two sides are the same.
        """
        shortcut, collection = (
            _typed_shortcut(*checks.texts("a shortcut", (text, text_b))),
            self._state.collection,
        )
        chosen = self.task(task)
        found = self._carriers(chosen, shortcut) if collection.complete else None
        if found is None:
            raise ValueError(
                f"expected a collection that has been read, got {collection.n_ready} of {len(self._state.images)} "
                "images; wait with session.wait(background=True)"
            )
        return found

    def _carriers(self, task: Task, shortcut: Shortcut) -> Preset | None:
        """Return a fifth of the late heads: those that vary most with a shortcut and least with the classes."""
        state, read, classes = self._state, self._removal.read(), self.classifier(task)
        if read is None or classes is None:
            return None
        layers = state.collection.layers[-N_LATE:]

        def make() -> Preset:
            sides = self._of_prompts(tuple(texts for _, texts in shortcut))
            heads = analysis.shortcut_heads(read.terms, sides, classes, layers)
            return Preset("shortcut", " from ".join(name for name, _ in shortcut), heads)

        key = ("ablation shortcut", task.name, task.classes, shortcut, read.version, len(state.images))
        return state.remember(key, make)


def _typed_shortcut(text: str, text_b: str) -> Shortcut:
    """Return a shortcut from two typed sides, each one text or several with commas between them.

    Raises ValueError if one is empty.
    """
    sides = [tuple(part.strip() for part in side.split(",") if part.strip()) for side in (text, text_b)]
    if not all(sides) or sides[0] == sides[1]:
        raise ValueError(
            f"expected two different texts for a shortcut, got {text!r} and {text_b!r}; type both, such as "
            '"the sea" and "a forest"'
        )
    return tuple((", ".join(side), side) for side in sides)
