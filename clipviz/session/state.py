"""What every topic of a session rests on: model, images, texts, what was read of them, and what is remembered."""

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
    """What is on screen, as far as a state knows of it."""

    def update(self, stale: Stale) -> None:
        """Bring what is on screen to the newest selection."""

    def say(self, work: Work) -> None:
        """Say on screen what is waited for."""

    @property
    def doing(self) -> str:
        """What is said there."""

    def close(self) -> None:
        """Close what is on screen."""


class State:
    """A session without its topics: one model, its images and texts, and the memory that all topics share.

    n_given: how many of the images it was opened with; later ones were added. layers_given: the layers that were asked
    for, or None. selection: the newest one, whose image and removed heads a topic takes where it is given none. screen:
    the board, if there is one. drawn: images added by hand that are of the model's own world; painted: latents of the
    pictures that were put among the images, by their index. changed: what the worker found changed of the network.
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
        """The dictionaries that the model brings along; opened when they are first asked for."""
        bundle, own = self.model.bundle, ("", self.model.weights_fingerprint)
        opened = {} if bundle is None or bundle.features is None else bundle.features()
        return {name: dictionary for name, dictionary in opened.items() if dictionary.model in own}

    @property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """The dictionaries of directions in use, by name: the model's own, and those that were added."""
        return {**self.own_dictionaries, **self._used}

    def use(self, name: str, dictionary: Dictionary) -> None:
        """Add a dictionary under a name."""
        self._used = {**self._used, name: dictionary}  # another one, since the worker may be reading it

    # -- the worker and those who wait for it ------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask the worker to bring what is on screen to the newest selection."""
        screen = self.screen()
        if screen is not None:
            self.worker.request(screen.update)

    def tell(self, work: Work) -> None:
        """Have the panel that is computed say what it waits for, once that takes long enough to be read.

        Where a line of code waits instead, the line below it says so.
        """
        if self.worker.answering:
            screen = self.screen()
            if work.worth_showing and screen is not None:
                screen.say(work)
        elif threading.current_thread() is threading.main_thread():
            self.line.say(work.line, work.seconds)

    def progress(self, what: str, n_all: int) -> Progress:
        """The progress of work in n_all steps, shown by the panel that waits for it.

        Called with the number of steps done, it ends the work once a newer request has overtaken it.
        """
        work = Work(what, n_all)

        def reached(n_done: int) -> None:
            self.tell(work.reached(n_done))
            self.checkpoint()

        return reached

    def checkpoint(self) -> None:
        """Called by long computations between their stages: ends them in the worker once they have been overtaken."""
        if self.worker.overtaken():
            raise Overtaken

    @property
    def waiting(self) -> str:
        """What is done behind the panels, how far it is and how long it will take; "" where all has been done."""
        behind = (self.reading, self.encoder.work, self.labelling)
        return next((work.line for work in behind if work is not None and work.line), "")

    # -- memory ------------------------------------------------------------------------------------------------

    def remember(self, key: Any, make: Callable[[], Made]) -> Made:
        """A value made once, whatever autocast the caller is in, and kept while among the REMEMBERED used last.

        ValueError where the network has been changed since: what was kept, and what would be made of it, are old.
        """
        self._check_unchanged()
        with self.lock, unmixed(self.model.device):
            found: Made = self._memory.get(key, make)
            return found

    def keep(self, key: Any, make: Callable[[], Made]) -> Made:
        """As remember, for what takes long to make, such as the reading of a layer's neurons: answers to other
        questions, however many, do not push it out."""
        self._check_unchanged()
        with self.lock, unmixed(self.model.device):
            found: Made = self._works.get(key, make)
            return found

    def forget(self, which: Callable[[Any], bool]) -> None:
        """Drop what is kept under the keys that `which` names."""
        self._works.forget(which)

    def forget_all(self) -> None:
        """Drop everything that is remembered and kept."""
        self._memory: Recent[Any, Any] = Recent(REMEMBERED)
        self._works: Recent[Any, Any] = Recent(REMEMBERED)

    def _check_unchanged(self) -> None:
        """ValueError where the network has been changed; the worker has looked before it began with the panels."""
        if not self.worker.answering:
            self.model.check_unchanged()
        elif self.changed:
            raise ValueError(self.changed)

    # -- what most topics need ---------------------------------------------------------------------------------

    def trace(self, image: int) -> Trace:
        """The trace of one image, tokens kept."""
        return self.remember(("trace", image), lambda: self.model.trace(self.images[image]))

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

        def progress(work: Work) -> None:
            self.tell(work)
            self.checkpoint()

        return self.remember("pool", lambda: self.encoder.directions(progress))

    # -- arguments ---------------------------------------------------------------------------------------------

    def an_image(self, image: int | None) -> int:
        """An image's index, checked; that of the selected one when None."""
        i = self.selection.image if image is None else image
        if i is None:
            raise ValueError(
                f"expected an image within 0..{len(self.images) - 1}, got None; select one first"
            )
        return checks.within("an image", i, len(self.images), "select one first")

    def some_images(self, images: Iterable[int]) -> tuple[int, ...]:
        """The indices of several images, checked."""
        return checks.several("images", images, len(self.images))

    def a_head(self, layer: int, head: int) -> Head:
        """A head whose codes are kept, checked."""
        layer = checks.within("layer", layer, self.model.n_layers)
        self.collection.layer_index(layer)
        return layer, checks.within("head", head, self.model.n_heads)

    def an_ablation(self, ablation: Ablation | None) -> Ablation:
        """An ablation, checked; that of the selection when None."""
        return self.selection.ablation if ablation is None else checks.ablation(self.model, ablation)

    def means_version(self, ablation: Ablation) -> int:
        """What the means that stand for removed effects rest on; the same for every empty ablation."""
        return self.collection.version if ablation else 0
