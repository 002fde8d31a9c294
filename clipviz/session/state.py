"""What every topic of a session rests on: model, images, texts, the data read from them, and the memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import Tensor

from clipviz import waits
from clipviz.analysis.collection.text_pool import TextPool, open_pool
from clipviz.data.recent import Recent
from clipviz.data.roles import Roles
from clipviz.data.texts import Texts
from clipviz.lens.trace import Trace
from clipviz.models.numbers import check_default_device
from clipviz.models.towers.anatomy import unmixed
from clipviz.session import checks, opening
from clipviz.values import Ablation, Head, Progress, Selection, check_characters
from clipviz.waits import Work
from clipviz.worker import Overtaken, Stale, Worker

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.models.dictionaries import Dictionary

Made = TypeVar("Made")
REMEMBERED = 256  # answers kept


class Screen(Protocol):
    """The methods of the screen that a state uses."""

    def update(self, stale: Stale) -> None:
        """Update what is on screen to the newest selection."""

    def say(self, work: Work) -> None:
        """Show on screen what is being waited for."""

    @property
    def doing(self) -> str:
        """The message shown there."""

    def close(self) -> None:
        """Close what is on screen."""


class State:
    """A session without its topics: one model, its images and texts, and the memory shared by all topics.

    n_given: the number of images with which it was opened; later ones were added. layers_given: the requested
    layers, or None. selection: the newest one, which provides the default image and ablation of topics. screen:
    the board, if there is one. drawn: added images that belong to the model's own world; painted: latents of the
    pictures added to the images, by their index. changed: changes of the network that the worker has detected.
    """

    def __init__(
        self, model: ClipModel, images: Any, texts: Any, index: Any, layers: Sequence[int] | None
    ) -> None:
        check_default_device()
        self.model = model
        self.images_source, self.texts_source = images, texts
        self.index = opening.open_index(index)
        self.images = opening.images_of(model, images, self.index)
        self.n_given = len(self.images)
        self.texts: Texts = open_pool(model, texts)
        self.encoder = TextPool(model, self.texts)
        self.roles = Roles.of(model.name, model.fingerprint)
        kept = None if layers is None else checks.layers(model, layers)
        self.layers_given = None if kept is None else list(kept)
        self.collection = opening.codes_of(model, self.images, self.index, kept)
        self.reading = Work("Reading the images", len(self.images), self.collection.n_ready)
        self.labelling: Work | None = None
        self.selection = Selection()
        self.worker = Worker()
        self.lock = threading.RLock()
        self.screen: Callable[[], Screen | None] = lambda: None
        self.line = waits.Line()
        self.drawn: set[int] = set()
        self.painted: dict[int, Any] = {}
        self.changed = ""
        self._used: dict[str, Dictionary] = {}
        self.forget_all()

    @cached_property
    def own_dictionaries(self) -> Mapping[str, Dictionary]:
        """The dictionaries that come with the model, opened on first use."""
        bundle, own = self.model.bundle, ("", self.model.weights_fingerprint)
        opened = {} if bundle is None or bundle.features is None else bundle.features()
        return {name: dictionary for name, dictionary in opened.items() if dictionary.model in own}

    @property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """The dictionaries of directions in use, by name: the model's own, and those that were added."""
        return {**self.own_dictionaries, **self._used}

    def use(self, name: str, dictionary: Dictionary) -> None:
        """Add a dictionary under a name."""
        # a new dict, since the worker may be reading the old one
        self._used = {**self._used, name: dictionary}

    # -- the worker and those who wait for it ------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask the worker to update what is on screen to the newest selection."""
        screen = self.screen()
        if screen is not None:
            self.worker.request(screen.update)

    def tell(self, work: Work) -> None:
        """Show in the panel that is being computed what it waits for, once this takes long enough to be read.

        If a line of code waits instead, the message appears below it.
        """
        if self.worker.answering:
            screen = self.screen()
            if work.worth_showing and screen is not None:
                screen.say(work)
        elif threading.current_thread() is threading.main_thread():
            self.line.say(work.line, work.seconds)

    def progress(self, what: str, n_all: int) -> Progress:
        """Return the progress callback of work in n_all steps, shown by the panel that waits for it.

        It is called with the number of steps done, and ends the work if a newer request has come.
        """
        work = Work(what, n_all)

        def reached(n_done: int) -> None:
            self.tell(work.reached(n_done))
            self.checkpoint()

        return reached

    def checkpoint(self) -> None:
        """Check between stages of a long computation whether a newer request has come, which ends it in the worker."""
        if self.worker.overtaken():
            raise Overtaken

    @property
    def waiting(self) -> str:
        """The progress message of background work, or "" if everything is done."""
        behind = (self.reading, self.encoder.work, self.labelling)
        return next((work.line for work in behind if work is not None and work.line), "")

    # -- memory ------------------------------------------------------------------------------------------------

    def remember(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return a value that is computed once, independent of the caller's autocast, and kept while among the
        REMEMBERED used last.

        Raises ValueError if the network has changed since, because stored and new results would then be outdated.
        """
        self._check_unchanged()
        with self.lock, unmixed(self.model.device):
            found: Made = self._memory.get(key, make)
            return found

    def keep(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return a value like `remember`, for results that take long to compute, such as the reading of a layer's
        neurons: answers to other questions never displace them.
        """
        self._check_unchanged()
        with self.lock, unmixed(self.model.device):
            found: Made = self._works.get(key, make)
            return found

    def forget(self, which: Callable[[Any], bool]) -> None:
        """Drop the values whose keys `which` selects."""
        self._works.forget(which)

    def forget_all(self) -> None:
        """Drop all remembered and kept values."""
        self._memory: Recent[Any, Any] = Recent(REMEMBERED)
        self._works: Recent[Any, Any] = Recent(REMEMBERED)

    def _check_unchanged(self) -> None:
        """Raise ValueError if the network has changed; the worker has checked it before it started with the panels."""
        if not self.worker.answering:
            self.model.check_unchanged()
        elif self.changed:
            raise ValueError(self.changed)

    # -- what most topics need ---------------------------------------------------------------------------------

    def trace(self, image: int) -> Trace:
        """Return the trace of one image, with its tokens."""
        return self.remember(("trace", image), lambda: self.model.trace(self.images[image]))

    def direction(self, text: str) -> Tensor:
        """Return the text's unit direction, [d_embed]."""
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a text, got {text!r}; type a few words")
        check_characters("text", text)
        return self.remember(("text", text), lambda: self.model.encode_texts(text)[0])

    def contrast(self, text: str, text_b: str = "") -> Tensor:
        """Return a text's direction, or that minus text_b's, [d_embed]; with a unit embedding it gives A minus B."""
        return self.direction(text) - self.direction(text_b) if text_b else self.direction(text)

    def pool(self) -> Tensor:
        """Return unit directions of every text of the pool, [text, d_embed]."""

        def progress(work: Work) -> None:
            self.tell(work)
            self.checkpoint()

        return self.remember("pool", lambda: self.encoder.directions(progress))

    # -- arguments ---------------------------------------------------------------------------------------------

    def an_image(self, image: int | None) -> int:
        """Return an image's index after checking it; that of the selected image if None."""
        i = self.selection.image if image is None else image
        if i is None:
            raise ValueError(
                f"expected an image within 0..{len(self.images) - 1}, got None; select one first"
            )
        return checks.within("an image", i, len(self.images), "select one first")

    def some_images(self, images: Iterable[int]) -> tuple[int, ...]:
        """Return the indices of several images, checked."""
        return checks.several("images", images, len(self.images))

    def a_head(self, layer: int, head: int) -> Head:
        """Return a head after checking that its codes are kept."""
        layer = checks.within("layer", layer, self.model.n_layers)
        self.collection.layer_index(layer)
        return layer, checks.within("head", head, self.model.n_heads)

    def an_ablation(self, ablation: Ablation | None) -> Ablation:
        """Return an ablation after checking it; that of the selection if None."""
        return self.selection.ablation if ablation is None else checks.ablation(self.model, ablation)

    def means_version(self, ablation: Ablation) -> int:
        """Return what the means of removed effects depend on; the same for every empty ablation."""
        return self.collection.version if ablation else 0
