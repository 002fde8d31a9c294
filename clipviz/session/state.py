"""What a session holds: model, collection, selection with its history, memory, panels and worker."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np
import traitlets
from torch import Tensor

from clipviz import waits
from clipviz.analysis.collection.text_pool import TextPool
from clipviz.data.images import open_images
from clipviz.data.recent import Recent
from clipviz.data.roles import Roles
from clipviz.data.texts import Texts
from clipviz.lens.trace import Trace
from clipviz.models.numbers import check_default_device
from clipviz.models.towers.anatomy import unmixed
from clipviz.session import cells, checks, opening, words
from clipviz.session.history import History
from clipviz.values import Ablation, Selection, View, check_characters
from clipviz.waits import Work
from clipviz.worker import Overtaken, Stale, Worker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clipviz.models.clip import ClipModel
    from clipviz.session.core import Session
    from clipviz.session.mining import Mined
    from clipviz.values import Head, SelectionFields

Made = TypeVar("Made")
REMEMBERED = 256  # answers kept
LOOK = 0.5  # seconds between two looks at what is waited for


Rest = Callable[[], Any]
"""What a panel has left to do once others are shown; returns what is left then, or None."""


class Watcher(Protocol):
    """What a panel is to a session."""

    cost: int

    def refresh(self, selection: Selection, stale: Stale) -> Rest | None: ...

    def wait_for(self, words: str) -> None: ...


class Showing(Protocol):
    """Something on screen with options of its own, such as a panel."""

    name: str

    def take(self, options: Mapping[str, Any]) -> None: ...


class SessionState(traitlets.HasTraits):
    """The state that Session's questions are asked of: see Session for its arguments."""

    selection = traitlets.Instance(Selection)
    progress = traitlets.Tuple(traitlets.Int(), traitlets.Int(), help="images read, images in all")

    def __init__(
        self,
        model: ClipModel,
        images: Any = None,
        texts: Any = None,
        index: Any = None,
        layers: Sequence[int] | None = None,
        background: bool = True,
    ) -> None:
        check_default_device()
        self.model = model
        self.images_source = images
        self.texts_source = texts
        self.index = opening.open_index(index)
        self.images = opening.images_of(model, images, self.index)
        self.texts: Texts = opening.text_pool(model, texts)
        self._pool = TextPool(model, self.texts)
        self._roles = Roles.of(model.name, model.fingerprint)
        kept = None if layers is None else checks.layers(model, layers)
        self.collection = opening.codes_of(model, self.images, self.index, kept)
        self.reading = Work("Reading the images", len(self.images), self.collection.n_ready)
        self.labelling: Work | None = None
        self.lock = threading.RLock()
        self._memory: Recent[Any, Any] = Recent(REMEMBERED)
        self._works: Recent[Any, Any] = Recent(REMEMBERED)
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._joining = (
            threading.RLock()
        )  # a forgotten panel is collected, and closes, wherever Python has a moment
        self._serving: Watcher | None = None
        self._showing: weakref.WeakSet[Any] = weakref.WeakSet()
        self._options: dict[str, dict[str, Any]] = {}
        self.drawn: set[int] = set()  # images added by hand that are of the model's own world
        self._seconds = 0.0
        self._changed = ""  # what the worker found changed of the network
        self._line = waits.Line()
        self._labels_asked = -1  # the collection's version that labels were last asked for
        self._history = History()
        self._generator: Any = None
        self._readers: dict[str, Any] | None = None
        self._studio: Any = None
        self._workbench: Any = None
        self._mined: Mined | None = None
        super().__init__(
            selection=opening.first_selection(self._session),
            progress=(self.collection.n_ready, len(self.images)),
        )
        self.worker = Worker()
        weakref.finalize(self, self.worker.close)
        cells.replace_earlier(self)
        steps = opening.reading(weakref.ref(self))
        if background:
            self.worker.background(steps)
        else:
            for _ in steps:
                self.tell(self.reading)
            self.tell(self.reading)

    # -- selection and history ---------------------------------------------------------------------------------

    @traitlets.validate("selection")
    def _validate_selection(self, proposal: dict[str, Any]) -> Selection:
        return self.check(proposal["value"])

    @traitlets.observe("selection")
    def _selection_changed(self, change: dict[str, Any]) -> None:
        self._history.note(change["new"])
        if hasattr(self, "worker"):
            self.refresh()

    def check(self, selection: Selection) -> Selection:
        """The selection, if everything that it names is there; ValueError says what is not."""
        return checks.selection(self, selection)

    def select(self, **changes: Unpack[SelectionFields]) -> Selection:
        """Change some fields of the selection: session.select(layer=5, head=3)."""
        if "images" in changes:
            changes["images"] = self._images(changes["images"])  # before all of a long range is read
        self.selection = self.selection.replace(**changes)
        return self.selection

    @property
    def history(self) -> tuple[Selection, ...]:
        """Every selection made, oldest first; undo and redo move within it."""
        return tuple(self._history.made)

    @property
    def can_undo(self) -> bool:
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        return self._history.can_redo

    def undo(self) -> Selection:
        """Return to the selection before this one, if there is one."""
        return self._go(-1)

    def redo(self) -> Selection:
        """Return to the selection that was undone last, if there is one."""
        return self._go(1)

    def _go(self, step: int) -> Selection:
        found = self._history.move(step)
        if found is not None:
            self.selection = found
        return self.selection

    # -- the view ----------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The selection and what the panels have been set to; setting it brings panels to it, and later ones too."""
        with self.lock:
            return View(self.selection, self._options)

    @view.setter
    def view(self, view: View) -> None:
        if not isinstance(view, View):
            raise ValueError(
                f"expected a clipviz.View, got {type(view).__name__}; clipviz.View.from_token reads a token"
            )
        self._show(self.check(view.selection), view.panels)

    def _show(self, selection: Selection, panels: Mapping[str, Mapping[str, Any]]) -> None:
        """Show a selection with these options of the panels; where one does not fit, everything stays as it was."""
        before = dict(self._options)
        try:
            self._set(panels)
        except ValueError:
            self._set(before)
            raise
        self.selection = selection

    def _set(self, panels: Mapping[str, Mapping[str, Any]]) -> None:
        """Bring what is on screen to these options, and remember them for what is not; ValueError where one does not
        fit."""
        with self.lock:
            self._options = {name: dict(options) for name, options in panels.items()}
        for shown in list(self._showing):
            shown.take(panels.get(shown.name, {}))

    def join(self, shown: Showing) -> dict[str, Any]:
        """Have something on screen follow `view`; the options that are remembered for it."""
        self._showing.add(shown)
        return dict(self._options.get(shown.name, {}))

    def leave(self, shown: Showing) -> None:
        """Have it follow no longer; what it was set to is remembered."""
        self._showing.discard(shown)

    def note(self, name: str, options: Mapping[str, Any]) -> None:
        """Remember a panel's options, those that are not at their defaults."""
        with self.lock:
            if self._options.get(name, {}) == options:
                return
            self._options[name] = dict(options)
        self.refresh()

    def open(
        self, head: Head | None = None, neuron: tuple[int, int] | None = None, desk: str = ""
    ) -> Selection:
        """Go to a head's page (the board) or a neuron's (the Neurons desk), given as (layer, head or neuron).

        desk: a desk to open, such as "ablate". Without a dashboard, the next one opens there. Raises ValueError, and
        changes nothing, for what is not there.
        """
        chosen = self.selection
        if head is not None:
            layer, number = checks.pair("head", head)
            chosen = self.check(chosen.replace(layer=layer, head=number))
        if neuron is not None:
            layer, number = checks.pair("neuron", neuron)
            chosen = self.check(chosen.replace(layer=layer, neuron=number))
            desk = desk or "neurons"
        if desk:
            self._show(chosen, {**self._options, "desks": {"shown": desk}})
        else:
            self.selection = chosen
        return self.selection

    def to_code(self) -> str:
        """Python that reopens this view."""
        return words.code(self)

    # -- panels ------------------------------------------------------------------------------------------------

    def watch(self, panel: Watcher) -> None:
        """Refresh `panel` whenever the selection changes, until it is unwatched or forgotten."""
        with self._joining:  # another set, since the worker may be walking through this one
            self._watchers = weakref.WeakSet([*self._watchers, panel])

    def unwatch(self, panel: Watcher) -> None:
        """No longer refresh `panel`."""
        with self._joining:
            self._watchers = weakref.WeakSet(one for one in self._watchers if one is not panel)

    def refresh(self) -> None:
        """Ask the worker to bring every panel to the newest selection."""
        self.worker.request(self._refresh)

    def _refresh(self, stale: Stale) -> None:
        self._changed = ""
        try:
            self.model.check_unchanged()
        except ValueError as error:  # each panel says it, as soon as it asks for something
            self._changed = str(error)
        selection, started, turn = self.selection, time.perf_counter(), itertools.count()
        waiting = [
            (panel.cost, next(turn), panel, partial(panel.refresh, selection, stale))
            for panel in self._watchers
        ]
        heapq.heapify(waiting)
        while waiting:
            if stale():
                return
            cost, _, self._serving, work = heapq.heappop(waiting)
            rest = work() if self._serving in self._watchers else None
            if rest is not None:  # it comes after the panels of the next cost
                heapq.heappush(waiting, (cost + 1, next(turn), self._serving, rest))
        self._serving = None
        self._seconds = time.perf_counter() - started

    def tell(self, work: Work) -> None:
        """Have the panel that is computed say what it waits for, once that takes long enough to be read.

        Where a line of code waits instead, the line below it says so.
        """
        if self.worker.answering:
            if work.worth_telling and self._serving is not None:
                self._serving.wait_for(work.line)
        elif threading.current_thread() is threading.main_thread():
            self._line.say(work.line, work.seconds)

    def telling(self, what: str, n_all: int) -> Callable[[int], None]:
        """For work in steps, called with how many are done: has the panel that waits say so, and ends the work once it
        has been overtaken."""
        work = Work(what, n_all)

        def between(n_done: int) -> None:
            self.tell(work.reached(n_done))
            self.checkpoint()

        return between

    @property
    def waiting(self) -> str:
        """What is done behind the panels, how far it is and how long it will take; "" where all has been done."""
        behind = (self.reading, self._pool.work, self.labelling)
        return next((work.line for work in behind if work is not None and work.line), "")

    def cancelled(self) -> bool:
        """Whether what runs now in the worker has been overtaken by a newer request; never true in other threads."""
        return self.worker.overtaken()

    def checkpoint(self) -> None:
        """Called by long computations between their stages: ends them in the worker once they have been overtaken."""
        if self.cancelled():
            raise Overtaken

    def wait(self, timeout: float | None = 60, background: bool = False) -> None:
        """Block until the panels show the newest selection (and all that is done behind them, if asked).

        A long wait says what for. Raises TimeoutError after `timeout` seconds.
        """
        began = time.perf_counter()
        while True:
            waited = time.perf_counter() - began
            left = LOOK if timeout is None else min(LOOK, timeout - waited)
            try:
                self.worker.wait(max(0.0, left), background)
                break
            except TimeoutError:
                if timeout is not None and time.perf_counter() - began >= timeout:
                    raise TimeoutError(f"the panels were still busy after {timeout} s") from None
                self._line.say(self._waited_for(background), waited)
        self._line.say("", waited)

    def _waited_for(self, background: bool) -> str:
        """What is done now, for the panels or behind them."""
        words = [getattr(panel, "doing", "") for panel in list(self._watchers)]
        words.append(self.waiting if background else "")
        return next(filter(None, words), "Waiting for the panels")

    def close(self) -> None:
        """Close every panel, stop the worker, drop what was remembered. Safe at any time, and more than once."""
        for panel in list(self._watchers):
            close = getattr(panel, "close", None)
            if close is not None:
                close()
        self._watchers.clear()
        self._showing.clear()
        self.worker.close()
        self._memory, self._works = Recent(REMEMBERED), Recent(REMEMBERED)

    # -- texts and images --------------------------------------------------------------------------------------

    def direction(self, text: str) -> Tensor:
        """The text's unit direction, [d_embed]."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a text, got {text!r}; type a few words")
        check_characters("text", text)
        return self.remember(("text", text), lambda: self.model.encode_texts(text)[0])

    def contrast(self, text: str, text_b: str = "") -> Tensor:
        """The text's direction, or that minus text_b's, [d_embed]: its product with a unit embedding is A minus B."""
        return self.direction(text) - self.direction(text_b) if text_b else self.direction(text)

    def pool(self) -> Tensor:
        """Unit directions of every text of the pool, [text, d_embed]."""
        return self.remember("pool", lambda: self._pool.directions(self._encoding))

    @property
    def pool_ready(self) -> bool:
        """Whether every text of the pool has been encoded, so that pool() costs nothing."""
        return self._pool.n_ready == len(self.texts)

    def encoding(self) -> Iterator[int]:
        """Encode the pool one batch per step, as background work."""
        return self._pool.steps()

    def _encoding(self, work: Work) -> None:
        """Between two batches of the pool: the panels say how far it is, and a newer request goes first."""
        self.tell(work)
        self.checkpoint()

    def pixels(self, image: int | None = None) -> np.ndarray:
        """What the model sees of an image: uint8 [rows, cols, 3] after resize and crop."""
        i = self._image(image)
        return self.remember(("pixels", i), lambda: self.model.shown(self.model.prepare(self.images[i]))[0])

    def picture(self, image: int | None = None) -> np.ndarray:
        """The same view of an image at twice the model's resolution where the file has it, uint8 [rows, cols, 3]."""
        i = self._image(image)
        return self.remember(("picture", i), lambda: self.model.shown_sharp(self.images[i]))

    def trace(self, image: int | None = None) -> Trace:
        """The trace of one image, tokens kept; the selected image when None."""
        i = self._image(image)
        return self.remember(("trace", i), lambda: self.model.trace(self.images[i]))

    def add_image(self, source: Any, name: str = "upload", drawn: bool = False) -> int:
        """Add one image (path, bytes, PIL, array) to the session; returns its index.

        drawn: whether it was drawn by what the model's bundle brings, so that it is of the model's world.
        """
        if (
            isinstance(source, Sequence)
            and not isinstance(source, str | bytes | bytearray)
            and len(source) != 1
        ):
            raise ValueError(f"expected one image, got {len(source):,} of them; add one after the other")
        try:
            opened = open_images(source)
        except ValueError as error:
            if not isinstance(source, bytes):
                raise
            reason = str(error).rpartition("upload: ")[2]
            raise ValueError(f"“{name}” is not an image that can be read: {reason}") from error
        if len(opened) != 1:
            raise ValueError(
                f"expected one image, got {len(opened)}; open a folder as Session(model, images=folder)"
            )
        name = checks.text("name", name)
        with unmixed(self.model.device):
            trace = self.model.trace(opened[0])
        with self.lock:
            self.images = self.images.with_image(opened[0], name)
            self.collection.append(trace.to_codes(self.collection.layers))
            if drawn:
                self.drawn.add(len(self.images) - 1)
        self.progress = (self.collection.n_ready, len(self.images))
        return len(self.images) - 1

    # -- the session itself ------------------------------------------------------------------------------------

    def example_texts(self) -> tuple[str, ...]:
        """A few texts worth trying first."""
        return opening.example_texts(self._session)

    def begin(self) -> None:
        """Give a view without a text, where nothing has been selected yet, the text that is nearest to its image."""
        opening.begin(self._session)

    def receipts(self) -> dict[str, Any]:
        """What this view rests on: the sum check, fingerprints, device and the time of the last refresh.

        stand_ins: (n, m), of m files looked for n are gone and their thumbnails shown instead; notes: what did not go
        as planned.
        """
        return {**words.receipts(self), "milliseconds": self._seconds * 1000}

    def provenance(self) -> str:
        """What a figure of this session rests on, in one line."""
        return words.provenance(self)

    def remember(self, key: Any, make: Callable[[], Made]) -> Made:
        """A value made once, whatever autocast the caller is in, and kept while among the REMEMBERED used last.

        ValueError where the network has been changed since: what was kept, and what would be made of it, are old.
        """
        self._check_unchanged()
        with self.lock, unmixed(self.model.device):
            return self._memory.get(key, make)

    def keep(self, key: Any, make: Callable[[], Made]) -> Made:
        """As remember, for what takes long to make, such as the reading of a layer's neurons: answers to other
        questions, however many, do not push it out."""
        self._check_unchanged()
        with self.lock, unmixed(self.model.device):
            return self._works.get(key, make)

    def _check_unchanged(self) -> None:
        """ValueError where the network has been changed; the worker has looked before it began with the panels."""
        if not (hasattr(self, "worker") and self.worker.answering):
            self.model.check_unchanged()
        elif self._changed:
            raise ValueError(self._changed)

    @property
    def _session(self) -> Session:
        """This session with the questions of every topic, for a class that holds those of one."""
        return cast("Session", self)

    def _image(self, image: int | None) -> int:
        i = self.selection.image if image is None else image
        if i is None:
            raise ValueError(
                f"expected an image within 0..{len(self.images) - 1}, got None; select one first"
            )
        return checks.within("an image", i, len(self.images), "select one first")

    def _ablation(self, ablation: Ablation | None) -> Ablation:
        return self.selection.ablation if ablation is None else checks.ablation(self.model, ablation)

    def _means_version(self, ablation: Ablation) -> int:
        """What the means that stand for removed effects rest on; the same for every empty ablation."""
        return self.collection.version if ablation else 0

    def _images(self, images: Iterable[int]) -> tuple[int, ...]:
        return checks.several("images", images, len(self.images))

    def _head(self, layer: int, head: int) -> tuple[int, int]:
        """A head whose codes are kept."""
        layer = checks.within("layer", layer, self.model.n_layers)
        self.collection.layer_index(layer)
        return layer, checks.within("head", head, self.model.n_heads)
