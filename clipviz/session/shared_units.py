"""The dictionary of units that several models share through a pivot (CLIP or another), on the images of a session.

`open_shared(source)` opens the dictionary in the bundle of a model, and `open_shared(source, folder)` one that
was mined and saved. It is shown on the images of a session, or of any object with a model and images. It sorts
and filters concepts, finds the concept of a neuron, shows every unit on any image, and stores the names that
people give.
"""

from __future__ import annotations

import io
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from clipviz.analysis.rosetta import order
from clipviz.analysis.rosetta.networks import CLIP, SharedNetworks
from clipviz.analysis.rosetta.on_image import OnImage, on_image
from clipviz.analysis.rosetta.text_labels import LEAST
from clipviz.data import dictionary as saved
from clipviz.data.images import Images
from clipviz.data.recent import Recent
from clipviz.values.tables import Columns, Table

if TYPE_CHECKING:
    from clipviz.data.dictionary import Dictionary
    from clipviz.models.bundle import Bundle
    from clipviz.models.clip import ClipModel
    from clipviz.models.dictionaries import Dictionary as Features
    from clipviz.values import Concepts

PIVOTS = (CLIP, "generator")
KEPT = 8  # images whose maps are cached
_BLOCK = re.compile(r"resblocks\.(\d+)\.")


class Source(Protocol):
    """What a dictionary is shown on: a session, or any object with its model and images."""

    @property
    def model(self) -> ClipModel: ...

    @property
    def images(self) -> Images: ...


class Cell(NamedTuple):
    """One model's unit of a concept: its layer, its index there, and its correlation with the pivot, also on
    held-out images.
    """

    layer: str
    unit: int
    correlation: float
    heldout: float


class Here(NamedTuple):
    """One concept on one image through one model: its name, the map (0..255), and the peak as a share of its usual."""

    concept: int
    title: str
    map: np.ndarray
    strength: float


class Entry(NamedTuple):
    """One concept for a page of the dictionary: pictures [example], uint8 maps [model, example, rows, cols], a
    title, one note, and one note per model ("" if it has no unit, or none that is active here). The models are
    `SharedUnits.lookers`.
    """

    title: str
    note: str
    pictures: list[np.ndarray]
    maps: np.ndarray
    units: list[str]


class Column(NamedTuple):
    """One model of a dictionary: how it was trained, its pairs with the pivot against chance, whether it is loaded,
    and whether it only paints its own pictures, so that it has no maps on those that the pivot reads.
    """

    name: str
    loss: str
    n_units: int
    n_rows: int
    n_pairs: int
    n_chance: int
    threshold: float
    heldout: float
    at_hand: bool
    paints: bool


class SharedUnits(Table):
    """One opened dictionary in one session; created by `open_shared`.

    source: provides the model and images; it is not kept alive. partners: model name -> an object with
    .maps(images), for models that are not embedded. Units of a model without one are shown on the dictionary's
    own images only. painted: latents of an image that the generator among the models painted, None for others.
    They are the only way to its maps, since a generator does not read pictures.
    """

    def __init__(
        self,
        source: Source,
        opened: Dictionary,
        partners: Mapping[str, Any] | None = None,
        painted: Callable[[int], Any] | None = None,
        features: Mapping[str, Features] = MappingProxyType({}),
    ) -> None:
        self._features = features
        self._shown_on = weakref.ref(source)
        self._painted = painted
        self._given = dict(partners or {})
        self._lock = threading.RLock()
        self._seen: Recent[tuple[str, int], OnImage] = Recent(KEPT)
        self.opened = opened
        self.version = 0

    @property
    def concepts(self) -> Concepts:
        return self.opened.concepts

    def _columns(self) -> Columns:
        concepts = self.concepts
        columns: dict[str, Any] = {"concept": [concepts.name(row) for row in range(len(concepts))]}
        for i, name in enumerate(concepts.models):
            columns[name] = np.asarray(concepts.units)[:, i]
            columns |= {f"{name}, held out": np.asarray(concepts.heldout)[:, i]} if i else {}
        return columns

    def _title(self) -> str:
        return f"Units that these models share: {', '.join(self.concepts.models)}"

    @property
    def source(self) -> Source:
        source = self._shown_on()
        if source is None:
            raise ValueError("the session of this dictionary no longer exists; open a new one")
        return source

    # -- what there is -----------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The models, the pivot first."""
        concepts, losses = self.concepts, self.opened.about.get("losses", {})
        units, heldout = np.asarray(concepts.units), np.asarray(concepts.heldout)
        found = []
        for i, name in enumerate(concepts.models):
            there = units[:, i] >= 0
            found.append(
                Column(
                    name,
                    str(losses.get(name, "")),
                    sum(n for _, n in concepts.layers[i]),
                    int(there.sum()),
                    int(concepts.n_pairs[i]),
                    int(concepts.n_chance[i]),
                    float(concepts.threshold[i]),
                    float(heldout[there, i].mean()) if there.any() else 0.0,
                    self.networks.get(name) is not None,
                    not self.networks.reads(name) and i > 0,
                )
            )
        return tuple(found)

    @property
    def n_untrained(self) -> int | None:
        """The number of rows found with an untrained copy of the CLIP in its place, or None if it was not measured."""
        found = self.opened.about.get("n_untrained")
        return found if isinstance(found, int) else None

    @property
    def lookers(self) -> list[str]:
        """The models that have maps of the example images: all except those that only paint their own pictures."""
        return [column.name for column in self.columns if not column.paints]

    @property
    def _bundle(self) -> Bundle | None:
        return self.source.model.bundle

    @cached_property
    def networks(self) -> SharedNetworks:
        """The models by name, and which of them is the session's own."""
        about = self.opened.about
        return SharedNetworks(self.source.model, self.concepts.models, about, self._given, self._features)

    @cached_property
    def sizes(self) -> np.ndarray:
        """[concept], how many pivot units share the concept of this row."""
        return order.sizes(self.concepts)

    def cells(self, concept: int) -> list[Cell | None]:
        """Return one cell per model, None if it has no unit for this concept."""
        found: list[Cell | None] = []
        for i in range(len(self.concepts.models)):
            place = self.concepts.where(concept, i)
            correlation, heldout = self.concepts.correlation[concept, i], self.concepts.heldout[concept, i]
            found.append(None if place is None else Cell(*place, float(correlation), float(heldout)))
        return found

    # -- sorting and finding -----------------------------------------------------------------------------------

    def listed(
        self, sort: str = "heldout", models: Sequence[str] = (), words: str = "", every_unit: bool = False
    ) -> list[int]:
        """Return concepts in order, one row per cluster (its best) unless `every_unit`.

        sort: "named" (those that have a name or a hint first), "heldout" or "correlation" (mean over the
        partners), "size" (units of the pivot that share it) or "layer" (from the pivot's first to its last).
        models: only concepts that these models have. words: only concepts whose name or hint holds all of them.
        Raises ValueError for an unknown sort or model.
        """
        concepts, n_concepts = self.concepts, len(self.concepts)
        unknown = [name for name in models if name not in concepts.models]
        if unknown:
            raise ValueError(
                f"expected models among {', '.join(concepts.models)}, got {unknown[0]!r}; choose one of them"
            )
        about = [self.about(concept) for concept in range(n_concepts)]
        kept = np.ones(n_concepts, bool)
        for name in models:
            kept &= np.asarray(concepts.units)[:, concepts.models.index(name)] >= 0
        for word in words.casefold().split():
            kept &= [word in text.casefold() for text in about]
        every = order.ordered(concepts, sort, [bool(text.strip()) for text in about])
        rows = [row for row in every if kept[row]]
        return rows if every_unit else order.one_a_cluster(concepts, rows)

    def about(self, concept: int) -> str:
        """Return a person's name and the text that fits it, for searching."""
        return f"{self.label(concept)} {self.hint(concept)[0]}"

    def label(self, concept: int) -> str:
        """Return a person's name for a concept, or "" if there is none."""
        return self.concepts.labels[concept] if self.concepts.labels else ""

    def hint(self, concept: int) -> tuple[str, float]:
        """Return the text that fits the pivot's strongest images, including images on which it was not chosen, and
        the share of those that it fits; ("", 0) if there is none.
        """
        text, value = self.concepts.hints[concept] if self.concepts.hints else ("", 0.0)
        return (text, float(value)) if text and value >= LEAST else ("", 0.0)

    def title(self, concept: int) -> str:
        """Return the title of a concept: a person's name, else its hint, else the pivot's unit."""
        place = self.neuron(concept)
        own = self.concepts.where(concept, 0)
        pivots = f"{own[0]} · {own[1]}" if own and self.networks.clip != self.concepts.models[0] else ""
        neuron = unit_name(place) if place else f"unit {int(self.concepts.units[concept][0])}"
        return self.label(concept) or self.hint(concept)[0] or pivots or neuron

    def neuron(self, concept: int) -> tuple[int | str, int] | None:
        """Return (layer, neuron) of the session's CLIP for a concept; None if its layers are not its MLPs."""
        place = self.concepts.where(concept, self.concepts.models.index(self.networks.clip))
        if place is not None and place[0] in self.networks.named_features:
            return place
        block = _BLOCK.search(place[0]) if place else None
        return None if place is None or block is None else (int(block[1]), place[1])

    def concept_of(self, layer: int | str | None, neuron: int | None) -> int | None:
        """Return the concept of one of CLIP's neurons, or None."""
        return None if layer is None or neuron is None else self._by_neuron.get((layer, neuron))

    @cached_property
    def _by_neuron(self) -> dict[tuple[int | str, int], int]:
        found = {self.neuron(concept): concept for concept in reversed(range(len(self.concepts)))}
        return {place: concept for place, concept in found.items() if place is not None}

    # -- names -------------------------------------------------------------------------------------------------

    def name(self, concept: int, label: str) -> None:
        """Name a concept (or remove the name with ""); it is saved at once if the dictionary is in a user's folder.

        Raises ValueError for an unknown concept.
        """
        with self._lock:
            named = self.opened.named(concept, label)
            if named.folder is not None and not self._shipped(named.folder):
                named = named.save(named.folder)
            self.opened = named
            self.version += 1

    def _shipped(self, folder: Path) -> bool:
        own = self._bundle.dictionary if self._bundle else None
        return own is not None and own.resolve() == folder.resolve()

    def save(self, folder: str | Path) -> Path:
        """Save the dictionary with its names and example pictures to a folder, where later names are saved too."""
        with self._lock:
            opened = self.opened
            if not opened.picture_ids:
                ids = sorted({int(i) for i in np.unique(np.asarray(self.concepts.examples))})
                pictures = {i: self.picture(i, saved.SIDE) for i in ids}
                saved.save(opened.concepts, folder, dict(opened.about), pictures)
                self.opened = saved.open_folder(folder)
            else:
                self.opened = opened.save(folder)
        return Path(folder)

    # -- pictures ----------------------------------------------------------------------------------------------

    @cached_property
    def linked(self) -> bool:
        """Whether the example images are the session's own, so that one can be selected."""
        return self.opened.about.get("images") == self.source.images.fingerprint

    @cached_property
    def _examples(self) -> Images | None:
        if self.linked:
            return self.source.images
        if self._bundle is None or self._bundle.images is None:
            return None
        known = self._bundle.images()
        return known if self.opened.about.get("images") == known.fingerprint else None

    def picture(self, image: int, size: int) -> Image.Image:
        """Return an example image of the dictionary as a square, or a grey one if it is unknown."""
        if self._examples is not None and image < len(self._examples):
            return self._examples.thumbnail(image, size)
        return self.opened.picture(image, size)

    def caption(self, image: int) -> str:
        """Return the caption of an example image."""
        source = self._examples
        if source is None:
            return f"image {image}" if self.networks.reads(self.concepts.models[0]) else f"sample {image}"
        return (source.captions or source.names)[image]

    def sprite(self, images: Sequence[int], size: int, columns: int = 8) -> tuple[bytes, int]:
        """Return a JPEG of example images, row by row, and its number of columns."""
        if not len(images):
            return b"", 0
        columns = min(columns, len(images))
        sheet = Image.new("RGB", (columns * size, -(-len(images) // columns) * size), "white")
        for place, image in enumerate(images):
            sheet.paste(self.picture(image, size), (place % columns * size, place // columns * size))
        stream = io.BytesIO()
        sheet.save(stream, "JPEG", quality=86)
        return stream.getvalue(), columns

    def on_image(self, image: int) -> OnImage:
        """Return every unit on an image of the session, each model with its own preprocessing."""
        if not 0 <= image < len(self.source.images):
            raise ValueError(f"expected an image within 0..{len(self.source.images) - 1}, got {image}")
        key = (self.source.images.names[image], image)
        latents = None if self._painted is None else self._painted(image)
        return self._seen.get(
            key, lambda: on_image(self.concepts, self.networks, self.source.images[image], latents)
        )

    def strongest(self, image: int, concepts: Sequence[int], model: str) -> list[Here]:
        """Return those of some concepts whose unit of a model exceeds its mean on an image, the strongest first."""
        seen, place = self.on_image(image), self.concepts.models.index(model)
        strength = seen.strength[:, place]
        rows = sorted((row for row in concepts if strength[row] > 0), key=lambda row: -strength[row])
        return [Here(row, self.title(row), seen.maps[row, place], float(strength[row])) for row in rows]

    def entries(self, concepts: Sequence[int], n_examples: int = 3, size: int = 96) -> list[Entry]:
        """Return concepts as a page of the dictionary shows them (Figure 4.2), on their first example images."""
        found, places = [], [self.concepts.models.index(name) for name in self.lookers]
        for concept in concepts:
            examples = np.asarray(self.concepts.examples)[concept][:n_examples].tolist()
            thumbnails = self.concepts.thumbnails
            shape = (len(places), len(examples), 1, 1)
            maps = (
                np.zeros(shape, np.uint8)
                if thumbnails is None
                else np.asarray(thumbnails.maps[concept])[places, :n_examples]
            )
            cells, neuron = self.cells(concept), self.neuron(concept)
            partners = [cell.heldout for cell in cells[1:] if cell is not None]
            at = f"{unit_name(neuron, '.')}, " if neuron else ""
            found.append(
                Entry(
                    self.title(concept),
                    f"{at}held out {np.mean(partners):.2f}" if partners else at,
                    [np.asarray(self.picture(image, size)) for image in examples],
                    maps,
                    [
                        "" if cell is None or not np.any(dark) else f"{cell.heldout:.2f}"
                        for cell, dark in zip((cells[place] for place in places), maps, strict=True)
                    ],
                )
            )
        return found


def unit_name(place: tuple[int | str, int], between: str = " · ") -> str:
    """Return a unit's name: "L3 · 288" for a neuron, "L3 features · 17" for a feature of a dictionary."""
    whose, number = place
    return f"{whose if isinstance(whose, str) else f'L{whose}'}{between}{number}"


def open_shared(
    source: Source,
    folder: str | Path | None = None,
    partners: Mapping[str, Any] | None = None,
    pivot: str = CLIP,
    painted: Callable[[int], Any] | None = None,
    features: Mapping[str, Features] = MappingProxyType({}),
) -> SharedUnits:
    """Open the dictionary of a model: one in its bundle, or one in a folder. Raises ValueError if there is none for
    it.

    pivot: selects among the bundle's dictionaries the one whose rows are units of "clip" or of the "generator".
    """
    if pivot not in PIVOTS:
        raise ValueError(f"expected a pivot among {', '.join(PIVOTS)}, got {pivot!r}")
    bundle = source.model.bundle
    shipped = {CLIP: bundle.dictionary, "generator": bundle.generator_dictionary} if bundle else {}
    path = Path(folder).expanduser() if folder else shipped.get(pivot)
    if path is None:
        raise ValueError(
            f"model {source.model.name!r} has no dictionary of shared units; "
            "session.rosetta.mine(folder) finds units that it shares with other networks on the "
            "session's images"
        )
    return SharedUnits(source, saved.open_folder(path, source.model.fingerprint), partners, painted, features)
