"""A generator, the models that read its pictures, and the shared units that guide searches of its latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from clipviz.analysis.collection import classifiers
from clipviz.analysis.generation import concepts as named
from clipviz.analysis.generation import editing, inversion
from clipviz.analysis.generation import guides as shared
from clipviz.analysis.generation.concepts import GeneratorConcept
from clipviz.data.texts import class_texts
from clipviz.loading import load_partner
from clipviz.models.threads import with_spare_core
from clipviz.models.zoo import clip_partner
from clipviz.session import checks
from clipviz.session.state import State
from clipviz.session.topics.images import ImageTopic
from clipviz.session.topics.rosetta import RosettaTopic

if TYPE_CHECKING:
    from clipviz.analysis.generation.guides import Guides
    from clipviz.analysis.generation.searching import Edited, SearchProgress
    from clipviz.lens.invert import SearchOptions, Step


class Guided:
    """What edits, inversions and the workbench share. generator and readers: those given, None for the default ones."""

    def __init__(self, state: State, images: ImageTopic, rosetta: RosettaTopic) -> None:
        self._state, self._images, self._rosetta = state, images, rosetta
        self._generator: Any = None
        self._readers: dict[str, Any] | None = None

    @property
    def generator(self) -> Any:
        """The generator in use: the given one, or that of the model's bundle. Raises ValueError if there is none."""
        model = self._state.model
        bundle = model.bundle
        if self._generator is None and bundle is not None and bundle.generator is not None:
            self._generator = bundle.generator(model.device)
        if self._generator is None:
            raise ValueError(
                f"model {model.name!r} brings no generator; set session.generator.model = clipviz.load_generator(...)"
            )
        return self._generator

    @generator.setter
    def generator(self, generator: Any) -> None:
        self._generator = generator

    @property
    def readers(self) -> dict[str, Any]:
        """The models that read pictures, with which the generator's units are matched."""
        if self._readers is not None:
            return self._readers
        model = self._state.model

        def make() -> dict[str, Any]:
            known = model.bundle.partners if model.bundle is not None else {}
            if not known:
                return {"clip": clip_partner(model, "clip")}
            return {name: partner.load(model.device) for name, partner in known.items()}

        return self._rosetta.partners or self._state.keep("readers", make)

    @readers.setter
    def readers(self, readers: Any) -> None:
        """Set the readers; names are loaded. Raises ValueError for anything that cannot read pictures."""
        if readers is None:
            self._readers = None
            return
        if isinstance(readers, str) or not isinstance(readers, Iterable):
            raise ValueError(
                "expected readers as a list of names or models, or by name in a dict, got "
                f'{readers!r}; for example session.generator.readers = ["cnn"]'
            )
        named = readers if isinstance(readers, Mapping) else {_name(one): one for one in readers}
        device = self._state.model.device
        found = {
            str(name): load_partner(one, device=device) if isinstance(one, str) else one
            for name, one in named.items()
        }
        blind = [name for name, one in found.items() if not callable(getattr(one, "maps", None))]
        if blind or not found:
            raise ValueError(
                f"expected models with .maps(images), got {', '.join(blind) or 'none'}; use "
                "clipviz.load_partner"
            )
        self._readers = found

    def _key(self, what: str) -> tuple[Any, ...]:
        """Return the key of what is remembered about a generator's units: the generator and its readers."""
        return what, id(self.generator), *((name, id(reader)) for name, reader in self.readers.items())

    @property
    def guides(self) -> Guides:
        """The generator's units that the readers share (Eq. 4.3): given, embedded, or found on N_SAMPLES of its own
        pictures.
        """
        state, generator = self._state, self.generator

        def make() -> Guides:
            bundle, readers = state.model.bundle, self.readers
            shipped = bundle.guides if bundle is not None else None
            progress = state.progress("Matching the generator's units with other models", len(readers))
            return shared.guides_between(generator, readers, shipped, state.model.device, progress)

        return state.keep(self._key("guides"), make)

    @guides.setter
    def guides(self, found: Guides) -> None:
        """Set the guides; concepts are named again. Raises ValueError for guides of other readers."""
        unknown = sorted(set(found.pairs) - set(self.readers))
        if unknown:
            raise ValueError(
                f"expected guides with {', '.join(self.readers)}, got pairs with {', '.join(unknown)}; set "
                "session.generator.readers to the models that they were found with"
            )
        keys = self._key("guides"), self._key("generator concepts")
        self._state.forget(lambda key: key in keys)
        self._state.keep(keys[0], lambda: found)

    def concepts(self) -> list[GeneratorConcept]:
        """Return the shared units grouped and named: embedded, or found on N_SAMPLES of the generator's pictures."""
        state, generator = self._state, self.generator

        def make() -> list[GeneratorConcept]:
            bundle = state.model.bundle
            shipped = bundle.generator_concepts if bundle is not None else None
            if shipped is not None and shared.known_by_weights(generator, self.readers):
                kept = named.open_concepts(shipped, self.weights())
                if kept is not None:
                    return kept
            latents = generator.sample(shared.N_SAMPLES, seed=shared.SEED)
            progress = state.progress("Naming the generator's concepts", len(latents))
            texts = list(state.texts)
            return named.generator_concepts(
                state.model, generator, self.guides, latents, texts, progress=progress
            )

        return state.keep(self._key("generator concepts"), make)

    def weights(self) -> dict[str, str]:
        """Return the weights on which concepts' names depend: those of the generator, its readers and the model."""
        known = shared.identity(self.generator, self.readers)
        return {**known, "model": self._state.model.fingerprint}

    def units_of(self, chosen: Sequence[int] | None) -> list[tuple[str, int]] | None:
        """Return (layer, unit) of all units of some concepts, None for None. Raises ValueError for unknown ones."""
        if chosen is None:
            return None
        known = self.concepts()
        return [unit for i in checks.several("concepts", chosen, len(known)) for unit in known[i].units]

    def edit_steps(
        self, latents: Any, change: str, chosen: Sequence[int] | None, **how: Any
    ) -> Iterator[Step]:
        """Run the search of GeneratorTopic.edit and yield its steps."""
        units = self.units_of(chosen)
        steps = editing.edit_steps(self.generator, latents, self.guides, change, units=units, **how)
        return with_spare_core(steps)

    def invert(
        self,
        image: int | None,
        label: str | int | None = None,
        pixels: bool = True,
        seed: int = 0,
        progress: SearchProgress | None = None,
        **how: Unpack[SearchOptions],
    ) -> Edited:
        """Invert an image; see GeneratorTopic.invert."""
        state, i = self._state, self._state.an_image(image)
        generator, readers, found = self.generator, self.readers, self.guides
        picture = torch.from_numpy(np.ascontiguousarray(self._images.picture(i))).to(state.model.device)
        picture = picture.permute(2, 0, 1)[None].float() / 255
        classes = getattr(generator, "classes", ())
        if label is not None and not classes:
            raise ValueError(f"expected no label for a generator without classes, got {label!r}; omit label")
        if label is None and classes:
            label = self.nearest_class(tuple(classes), i)
        labels = None if label is None else [label]
        choosing = state.progress("Choosing the start of the search", inversion.N_STARTS)
        n_tried = 1 if pixels else inversion.N_SEARCHED
        start = inversion.starts_for(generator, readers, found, picture, labels, seed, n_tried, choosing)
        size = generator.images(start).shape[2:]
        target = F.interpolate(picture, size, mode="bilinear", antialias=True) if pixels else None
        return inversion.invert(
            generator,
            start,
            images=picture,
            readers=readers,
            guides=found,
            target=target,
            progress=progress,
            **how,
        )

    def nearest_class(self, classes: tuple[str, ...], image: int) -> str:
        """Return the generator's class whose prompts are nearest to an image (Eq. 2.1)."""
        embedding = self._state.trace(image).embedding
        return classes[int((embedding @ self.class_directions(classes).T).argmax())]

    def class_directions(self, classes: tuple[str, ...]) -> Tensor:
        """Return unit directions of classes from their prompts, [class, d_embed]."""
        key, model = ("generator classes", classes), self._state.model
        return self._state.keep(key, lambda: classifiers.from_prompts(model, class_texts(list(classes))))


def _name(one: Any) -> str:
    return one if isinstance(one, str) else str(getattr(one, "name", type(one).__name__))
