"""Labels of heads, found one at a time, and in the background for all of them."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clipviz.analysis.heads import labels
from clipviz.data.texts import Texts
from clipviz.lens.roles import NO_ROLE
from clipviz.models.threads import spare_core, with_spare_core
from clipviz.session.state import State
from clipviz.session.topics.spans import Spans
from clipviz.values import Head
from clipviz.values.tables import Table
from clipviz.waits import Work


@dataclass(frozen=True, repr=False)
class Label(Table):
    """The label of a head (analysis.labels): its name, the evidence, and its p-value under the null.

    texts: the first texts of the label's search (centred pool, length-normalised), which Alg. 1 may order differently.
    """

    name: str
    why: str
    p_value: float
    texts: tuple[str, ...]


class Labels:
    """The labels of a session's heads, kept for the collection as it was read."""

    def __init__(self, state: State, spans: Spans) -> None:
        self._state, self._spans = state, spans

    @property
    def heads(self) -> list[Head]:
        """Every head kept for the collection, as (layer, head)."""
        model, layers = self._state.model, self._state.collection.layers
        return [(layer, head) for layer in layers for head in range(model.n_heads)]

    @property
    def version(self) -> int:
        """Changes when more of the collection is read, but not with images that a user added."""
        return self._state.collection.version - self._state.collection.n_added

    def known(self) -> dict[Head, Label]:
        """Return the labels found so far, for the collection as read."""
        return self._state.keep(("labels", self.version), dict)

    @property
    def complete(self) -> bool:
        """Whether every head has its label."""
        return len(self.known()) == len(self.heads)

    def of(self, at: Head, images: tuple[int, ...]) -> Label:
        """Return the label of one head, over some images or over the collection as read."""
        if images:
            key = ("label", self._state.collection.version, *at, images)
            return self._state.remember(key, lambda: self._made(at, images))
        known = self.known()
        if at not in known:
            known[at] = self._made(at, self._read_images())
        return known[at]

    @spare_core()
    def _made(self, at: Head, images: Sequence[int]) -> Label:
        known: dict[Head, Label] = {}
        for _ in self.into(known, at, images):
            self._state.checkpoint()
        return known[at]

    def into(self, known: dict[Head, Label], at: Head, images: Sequence[int]) -> Iterator[None]:
        """Yield steps after which a head's label is known; they keep no reference to the session."""
        covariance, span = self._spans.of(*at, images)
        return _labelled(known, at, covariance[0], span[0], self._state.pool(), self._state.texts)

    def missing(self, at: Head) -> Iterator[None]:
        """Yield the same for a head of the collection as read; no steps if its label is known."""
        known = self.known()
        return iter(()) if at in known else self.into(known, at, self._read_images())

    def _read_images(self) -> tuple[int, ...]:
        """Return the images of the collection as read; empty for all of them."""
        n_added = self._state.collection.n_added
        return tuple(range(len(self._state.collection) - n_added)) if n_added else ()

    def behind(self) -> None:
        """Label every head in the background; what is on screen is refreshed when this is done."""
        asked: dict[str, int] = self._state.keep("labels asked for", dict)
        if not self.complete and asked.get("version") != self.version:
            asked["version"] = self.version
            self._state.worker.background(_labelling(weakref.ref(self._state)))


def _labelled(
    known: dict[Head, Label], at: Head, covariance: Tensor, span: Tensor, pool: Tensor, texts: Texts
) -> Iterator[None]:
    try:
        found = yield from labels.label_in_steps(covariance, span, pool, texts, labels.N_DRAWS)
    except ValueError as error:  # a head that does not vary has no label
        known[at] = Label(NO_ROLE, str(error), 1.0, ())
    else:
        first = tuple(texts[i] for i in found.first)
        known[at] = Label(found.label, found.why, found.p_value, first)


def _labels(reference: weakref.ref[State]) -> Labels | None:
    state = reference()
    return None if state is None else Labels(state, Spans(state))


def _labelling(reference: weakref.ref[State]) -> Iterator[None]:
    """Label every head, then refresh; keeps no reference to the session while it waits."""
    state, found = reference(), _labels(reference)
    version = None if found is None else found.version
    heads = [] if found is None else found.heads
    encoding = iter(()) if state is None else state.encoder.steps()
    del state, found
    for _ in _refreshing(reference, encoding):
        yield
    work = Work("Labelling the heads", len(heads))
    for place, at in enumerate(_refreshing(reference, heads)):
        state, found = reference(), _labels(reference)
        if state is None or found is None or found.version != version:
            return
        state.labelling = work
        work.resume()
        steps = found.missing(at)
        del state, found
        for _ in with_spare_core(steps):  # finished steps for a head are kept while a click is answered
            work.reached(place)
            yield
            work.resume()
        work.reached(place + 1)
        yield
    state = reference()
    if state is not None:
        state.refresh()


def _refreshing(reference: weakref.ref[State], steps: Iterable[Any]) -> Iterator[Any]:
    """Yield the steps; about every second the panels are asked to show the progress."""
    last = time.monotonic()
    for step in steps:
        yield step
        state = reference()
        if state is not None and time.monotonic() - last > 1.0:
            last = time.monotonic()
            state.refresh()
        del state
