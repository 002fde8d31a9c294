"""The networks of a dictionary of shared units: those given, those of a model's bundle, and the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from clipviz.analysis.generation.guides import fingerprint
from clipviz.models.feature_maps import digest, featured_partner

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel
    from clipviz.models.dictionaries import Dictionary as Features
    from clipviz.models.zoo import Partner

CLIP = "clip"
"""The name of a session's CLIP in a dictionary."""


class SharedNetworks(Mapping[str, Any]):
    """Model name -> network to read, or None if it is not loaded. Networks are opened when one is asked for.

    models: the dictionary's models, the pivot first; about: what it says of them. given: networks by name, which
    come before those of the model's bundle. features: dictionaries of directions by name.
    """

    def __init__(
        self,
        model: ClipModel,
        models: Sequence[str],
        about: Mapping[str, Any],
        given: Mapping[str, Any],
        features: Mapping[str, Features],
    ) -> None:
        self._model, self._models, self._about = model, models, about
        self._given, self._features = given, features
        self._bundle = model.bundle
        self.clip = CLIP if CLIP in models else models[0]
        """The name of the session's model here: "clip", or else the pivot."""

    def __getitem__(self, name: str) -> Any:
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @cached_property
    def _opened(self) -> dict[str, Any]:
        generator, hashes = self._generator, self._about.get("partners", {})
        found: dict[str, Any] = {}
        for name in self._models:
            if name == self.clip:
                found[name] = self._own(name)
                continue
            if generator is not None and name == generator.name:
                found[name] = generator
                continue
            found[name] = self._given.get(name)
            bundled = self._bundle.partners.get(name) if self._bundle else None
            if found[name] is None and bundled is not None and bundled.digest == hashes.get(name):
                found[name] = bundled.load(self._model.device)
        return found

    def _own(self, name: str) -> Partner | None:
        """Return the session's model with the dictionaries of directions that units of it are features of; None if
        one of them is not in use.
        """
        asked, known = self.named_features, self._features
        if any(called not in known or digest(known[called]) != mark for called, mark in asked.items()):
            return None
        return featured_partner(self._model, name, {called: known[called] for called in asked})

    @property
    def named_features(self) -> Mapping[str, str]:
        """What dictionaries of directions are called whose features are units here, and the hashes of these."""
        found = self._about.get("features", {})
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def _generator(self) -> Any:
        """The given generator, or the bundle's if the dictionary is about one with its name and weights."""
        given = [one for one in self._given.values() if hasattr(one, "sample") and hasattr(one, "images")]
        if given:
            return given[0]
        known = {self.clip, *self._given, *(self._bundle.partners if self._bundle else ())}
        make = self._bundle.generator if self._bundle else None
        if make is None or known.issuperset(self._models):
            return None
        generator = make(self._model.device)
        weights = self._about.get("partners", {}).get(generator.name)
        fits = generator.name in self._models and weights in (None, fingerprint(generator.module))
        return generator if fits else None

    def reads(self, name: str) -> bool:
        """Return whether a model reads pictures; a generator only paints them."""
        return self._generator is None or name != self._generator.name
