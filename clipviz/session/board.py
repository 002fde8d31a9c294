"""The board of a session: what only panels need, such as refreshes and progress messages."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from jaxtyping import Float
from torch import Tensor

from clipviz.analysis.collection import retrieval
from clipviz.analysis.cues import attacks
from clipviz.analysis.cues import words as cue_words
from clipviz.data.images import Images
from clipviz.session import beginning, checks, words
from clipviz.session.history import Showing
from clipviz.session.session import Session
from clipviz.session.topics.labels import Labels
from clipviz.session.topics.readings import Reading, reading_of
from clipviz.session.topics.spans import Spans
from clipviz.values import Progress, Selection
from clipviz.waits import Work
from clipviz.worker import Stale

if TYPE_CHECKING:
    from clipviz.analysis.collection.image_codes import ImageCodes
    from clipviz.analysis.cues.words import Source
    from clipviz.analysis.neurons.layer import LayerNeurons
    from clipviz.lens.cues import Attack
    from clipviz.models.bundle import TourStep

WITH_POOL = 8
"""The cost of a panel's remaining work while texts are encoded, which can take minutes: other panels come first."""
QUICK = 3
"""The cost up to which panels are refreshed before the others are asked to say what has been chosen."""
Rest = Callable[[], Any]
"""What a panel still has to do after others are shown; it returns further work, or None."""


class Watcher(Protocol):
    """The methods of a panel that a board uses."""

    cost: int

    def refresh(self, selection: Selection, stale: Stale) -> Rest | None: ...

    def wait_for(self, words: str) -> None: ...

    def say_choices(self) -> None: ...


class Board:
    """What the panels of one session share; `Board.of(session)` returns the existing board, or a new one.

    It lives as long as one of its panels. The session keeps the options of panels, for later ones.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._state, self._options, self._history = session._state, session._options, session._history
        self._labels = Labels(self._state, Spans(self._state))
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        # a dropped panel may be garbage-collected, and closed, at any moment
        self._joining = threading.RLock()
        self._serving: Watcher | None = None
        self._seconds = 0.0
        self._state.screen = weakref.ref(self)

    @classmethod
    def of(cls, session: Session) -> Board:
        """Return the board of a session, created on first use."""
        known = session._state.screen()
        return known if isinstance(known, cls) else cls(session)

    # -- what panels show --------------------------------------------------------------------------------------

    @property
    def images(self) -> Images:
        """The images as opened, with thumbnails, names and captions."""
        return self._state.images

    @property
    def collection(self) -> ImageCodes:
        """The data read from the images."""
        return self._state.collection

    @property
    def reading(self) -> Work:
        """How many images have been read, and how many there are."""
        return self._state.reading

    @property
    def pool_ready(self) -> bool:
        """Whether every text of the pool has been encoded, so that directions are available at once."""
        return self._state.encoder.n_ready == len(self._state.texts)

    @property
    def waiting(self) -> str:
        """The progress message of background work, or "" if everything is done."""
        return self._state.waiting

    @property
    def can_undo(self) -> bool:
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        return self._history.can_redo

    def receipts(self) -> dict[str, Any]:
        """Return Session.receipts, with the time of the last refresh."""
        return {**self.session.receipts(), "milliseconds": self._seconds * 1000}

    def readout(self, image: int | None) -> str:
        """Return a description of how the embedding is computed from an image's tokens."""
        return words.readout(self._state, image)

    def best_images(
        self, directions: Float[Tensor, "text d_embed"], layer: int, head: int, k: int
    ) -> list[list[int]]:
        """Return, for each direction, what session.images.top returns for it, without the scores."""
        layer, head = self._state.a_head(layer, head)
        scores = self.collection.each_head_scores(directions, layer, head)
        return [[image for image, _ in retrieval.best(self.collection, row, k)] for row in scores]

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return a value that is computed once and kept while it is among the most recently used."""
        return self._state.remember(key, make)

    # -- where it begins ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Select the text nearest to the image, in a view without a text, if nothing has been selected yet."""
        session = self.session
        if session.selection.text or self.can_undo or session.selection.image is None:
            return
        found = beginning.first_text(self._state, session.texts, session.heads)
        if found is not None:
            session.selection = found

    @property
    def tour(self) -> tuple[TourStep, ...]:
        """The tour's steps that the model's bundle provides for images of its kind; empty for other images."""
        bundle = self._state.model.bundle
        return bundle.tour if bundle is not None and self._state.images.captions else ()

    def tour_selection(self, step: TourStep) -> Selection:
        """Return a tour step's selection. Raises ValueError while the collection that it needs is being read."""
        return beginning.step_selection(self._state, self.session.heads, self.session.ablation, step)

    # -- work between clicks -----------------------------------------------------------------------------------

    def label_heads(self) -> None:
        """Label every head in the background; panels are refreshed when this is done."""
        self._labels.behind()

    def neuron_reading(self, layer: int | str) -> Reading:
        """Return one layer's neurons, or the features of a named dictionary, as they are read step by step.

        session.neurons.layer reads all of them at once.
        """
        return reading_of(self._state, layer)

    def cue_steps(self, known: Sequence[LayerNeurons], m: int | None = None) -> Iterator[Source | None]:
        """Yield None in short steps, and finally the source of cues."""
        return cue_words.coding(known, self._state.pool(), checks.code_size(m))

    def attack_steps(
        self,
        source: Source,
        pair: tuple[str, str],
        seed: int,
        n_sentences: int,
        n_images: int,
        left_out: dict[str, str],
    ) -> Iterator[tuple[str, list[str], Attack]]:
        """Yield (method, its words, its pictures), one after the other; left_out receives the methods for whose
        words no sentence that can be drawn was written, with the reason.
        """
        model, studio = self._state.model, self.session.cues.studio
        return attacks.attempts(model, source, pair, seed, n_sentences, n_images, studio, left_out)

    def background(self, steps: Iterator[object]) -> None:
        """Run steps in the background."""
        self._state.worker.background(steps)

    def progress(self, what: str, n_all: int) -> Progress:
        """Return a callback for work in steps, called with the number done; the panel that waits shows the progress."""
        return self._state.progress(what, n_all)

    # -- refreshing --------------------------------------------------------------------------------------------

    def watch(self, panel: Watcher) -> None:
        """Refresh `panel` whenever the selection changes, until it is unwatched or dropped."""
        with self._joining:  # a new set, since the worker may be iterating over this one
            self._watchers = weakref.WeakSet([*self._watchers, panel])

    def unwatch(self, panel: Watcher) -> None:
        """Stop refreshing `panel`."""
        with self._joining:
            self._watchers = weakref.WeakSet(one for one in self._watchers if one is not panel)

    @property
    def here(self) -> bool:
        """Whether this is the worker's own thread."""
        return self._state.worker.here

    def note_error(self, error: BaseException) -> None:
        """Make session.wait raise an error."""
        self._state.worker.note(error)

    def refresh(self) -> None:
        """Ask the worker to update every panel to the newest selection."""
        self._state.refresh()

    def update(self, stale: Stale) -> None:
        """Update every panel to the newest selection, the cheapest first; called in the worker."""
        self._state.changed = ""
        try:
            self._state.model.check_unchanged()
        except ValueError as error:  # each panel reports it when it asks for something
            self._state.changed = str(error)
        selection, started, turn = self.session.selection, time.perf_counter(), itertools.count()
        waiting = [
            (panel.cost, next(turn), panel, partial(panel.refresh, selection, stale))
            for panel in self._watchers
        ]
        heapq.heapify(waiting)
        silent = True
        while waiting:
            if stale():
                return
            if silent and waiting[0][0] > QUICK:  # links of fields do not wait for slow panels
                silent = False
                for panel in list(self._watchers):
                    panel.say_choices()
            cost, _, self._serving, work = heapq.heappop(waiting)
            rest = work() if self._serving in self._watchers else None
            if rest is not None:  # it runs after the panels of the next cost, or after all that need no pool
                later = cost + 1 if self.pool_ready else max(cost + 1, WITH_POOL)
                heapq.heappush(waiting, (later, next(turn), self._serving, rest))
        self._serving = None
        self._seconds = time.perf_counter() - started

    def say(self, work: Work) -> None:
        """Show in the panel that is being computed what it waits for."""
        if self._serving is not None:
            self._serving.wait_for(work.line)

    @property
    def doing(self) -> str:
        """What one of the panels waits for, or "" if none does."""
        words = (getattr(panel, "doing", "") for panel in list(self._watchers))
        return next(filter(None, words), "")

    # -- options -----------------------------------------------------------------------------------------------

    def join(self, shown: Showing) -> dict[str, Any]:
        """Let a panel or desk follow `view`, and return the options remembered for it."""
        self._options.showing.add(shown)
        return dict(self._options.known.get(shown.name, {}))

    def leave(self, shown: Showing) -> None:
        """Stop this, and remember the options."""
        self._options.showing.discard(shown)

    def note(self, name: str, options: Mapping[str, Any]) -> None:
        """Remember those of a panel's options that are not at their defaults."""
        if self._options.note(name, options):
            self.refresh()

    def close(self) -> None:
        """Close every panel."""
        for panel in list(self._watchers):
            close = getattr(panel, "close", None)
            if close is not None:
                close()
        self._watchers.clear()
