"""A bundle: everything that comes with a model, as one value that sessions, panels and reports use.

model = clipviz.wrap(network, bundle=Bundle("my world", open_my_images, open_my_texts, examples=("a dog",)))
clipviz.Session(model)                               # opens the bundle's images and texts
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from clipviz.data.texts import with_article

if TYPE_CHECKING:
    import numpy as np
    import torch

    from clipviz.data.images import Images
    from clipviz.data.texts import Texts
    from clipviz.lens.cues import Describe, Draw
    from clipviz.models.captioners import Painter, Writer
    from clipviz.models.dictionaries import Dictionary
    from clipviz.models.zoo import Partner
    from clipviz.values import Task


@dataclass(frozen=True)
class FirstView:
    """What a new session shows first: a text, the text that determines the first head, and an image.

    text: selected first; quality: the head with the largest direct effect on this text is selected; image: images ->
    the index of the first one.
    """

    text: str
    quality: str
    image: Callable[[Images], int]


@dataclass(frozen=True)
class TourStep:
    """One step of a tour of the board: its text, and what is shown beside it.

    title, text: told in the panel named `panel`; a desk is opened. select: fields of the selection and their values.
    options: panel name -> options of that panel. image: images -> the index of the one selected. quality: the head
    with the largest direct effect on this text is selected. without_shortcut: a task, the heads of
    whose shortcut are removed.
    """

    title: str
    text: str
    panel: str
    select: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    image: Callable[[Images], int] | None = None
    quality: str = ""
    without_shortcut: str = ""


@dataclass(frozen=True)
class BundledPartner:
    """A Rosetta partner whose weights ship with a bundle.

    weights: its file; build: (weights, device) -> Partner.
    """

    weights: Path
    build: Callable[[Path, torch.device | str], Partner]

    def load(self, device: torch.device | str = "cpu", checkpoint: str | Path | None = None) -> Partner:
        """Return the partner in eval mode.

        Args:
            device: Where it runs.
            checkpoint: Another file of the same network.

        Returns:
            The network.
        """
        return self.build(self.weights if checkpoint is None else Path(checkpoint), device)

    @property
    def digest(self) -> str:
        """The first 16 digits of the SHA-256 of the weights, "" where the file is missing."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()[:16] if self.weights.is_file() else ""


@dataclass(frozen=True)
class Studio:
    """The writer and the drawer that test spurious cues: one writes sentences from given words, the other draws
    them.

    classes: names of what can be drawn, none where anything can; writer: (class to avoid, random generator,
    whether colours may change) -> describe(words, class name) -> sentences; drawer: seed -> draw(sentence) ->
    picture; can_draw: (word, names to avoid) -> whether a picture of a class can hold the word; prompt: class
    name -> the text that stands for it; pair: the class drawn and the class that the classifier should predict,
    as first shown. name: identifies the writer and the drawer, so that cached results can be found again.
    """

    classes: tuple[str, ...]
    writer: Callable[[str, np.random.Generator, bool], Describe]
    drawer: Callable[[int], Draw]
    can_draw: Callable[[str, set[str]], bool]
    prompt: Callable[[str], str]
    pair: tuple[str, str]
    name: str = ""

    @classmethod
    def of(cls, describe: Writer, draw: Painter, pair: tuple[str, str] = ("", "")) -> Studio:
        """Return a studio made of two callables, for sessions and reports; it can draw any class.

        Args:
            describe: describe(words, class_name, avoid) returns sentences; see clipviz.models.captioners for adapters.
            draw: draw(sentence, seed) returns a picture.
            pair: The classes shown first.

        Returns:
            The studio.

        Raises:
            ValueError: An argument is not callable.
        """
        if not callable(describe) or not callable(draw):
            raise ValueError(
                f"expected callables for describe and draw, got {type(describe).__name__} and "
                f"{type(draw).__name__}; clipviz.models.captioners has adapters for language models "
                "and text-to-image pipelines"
            )

        def writer(avoid: str, _rng: np.random.Generator, _recolour: bool) -> Describe:
            return lambda words, class_name: describe(words, class_name, avoid)

        def drawer(seed: int) -> Draw:
            seeds = itertools.count(seed)
            return lambda sentence: draw(sentence, next(seeds))

        name = f"{_called(describe)}; {_called(draw)}"
        return cls((), writer, drawer, lambda _word, _names: True, with_article, pair, name)

    def draws(self, name: str) -> bool:
        """Return whether pictures of a class can be drawn."""
        return not self.classes or name in self.classes


def _called(one: Any) -> str:
    return str(getattr(one, "name", "") or getattr(one, "__qualname__", "") or type(one).__qualname__)


@dataclass(frozen=True)
class Bundle:
    """The world that a model belongs to. Everything except the name is optional.

    name: also accepted by `texts=`, where it means this bundle's pool. images, texts: open the collection and
    the pool of descriptions. examples: texts worth trying first. first: what a new session shows. tour: steps
    of a tour of the board. tasks: images -> name -> classification task, empty for images of another kind.
    index: folder of the collection's index by this model. dictionary: folder of the units that the model shares
    with its partners. features: opens the model's dictionaries of directions, by name. partners: name ->
    networks of other kinds. studio: the writer and the drawer for spurious cues. generator: device -> a
    generator of the world's pictures; guides: file of the generator's units that the partners share;
    generator_concepts: file of these units' groups and names; generator_dictionary: folder of the units that
    the model and all partners share with it. locate: pictures [image, 3, rows, cols] -> count, centroid and
    area of the objects there, for generators whose true scenes are not known. truths: (texts, images, which
    image) -> for each text whether it is true of that image, or None if unknown; None for images of another
    kind.
    """

    name: str
    images: Callable[[], Images] | None = None
    texts: Callable[[], Texts] | None = None
    examples: tuple[str, ...] = ()
    first: FirstView | None = None
    tour: tuple[TourStep, ...] = ()
    tasks: Callable[[Images], dict[str, Task]] | None = None
    index: Path | None = None
    dictionary: Path | None = None
    features: Callable[[], Mapping[str, Dictionary]] | None = None
    partners: Mapping[str, BundledPartner] = field(default_factory=lambda: MappingProxyType({}))
    studio: Studio | None = None
    generator: Callable[[torch.device | str], Any] | None = None
    guides: Path | None = None
    generator_concepts: Path | None = None
    generator_dictionary: Path | None = None
    locate: Callable[[torch.Tensor], Any] | None = None
    truths: Callable[[Sequence[str], Images, int], list[bool | None] | None] | None = None
