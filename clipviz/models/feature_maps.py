"""A CLIP's MLP units for Rosetta, with the features of dictionaries beside them, as maps from the same pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipviz.models.checksummed import digest_of
from clipviz.models.dictionaries.dictionary import Dictionary
from clipviz.models.dictionaries.fitting import check_fits
from clipviz.models.dictionaries.points import hook
from clipviz.models.forward_lock import turn
from clipviz.models.towers import read_tower
from clipviz.models.towers.anatomy import Tower, full
from clipviz.models.zoo import Partner, clip_partner

if TYPE_CHECKING:
    from clipviz.models.clip import ClipModel


@dataclass(frozen=True, eq=False)
class FeaturedPartner(Partner):
    """A CLIP's MLP units as a partner, with the features of dictionaries as additional layers.

    dictionaries: name of such a layer -> the dictionary.
    """

    dictionaries: Mapping[str, Dictionary] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def _tower(self) -> Tower:
        return read_tower(self.module)

    @torch.no_grad()
    def maps(self, images: Any, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return activation maps like Partner.maps, with those of the dictionaries last."""
        wanted = [*self.layers, *self.dictionaries] if layers is None else list(layers)
        modules = [name for name in wanted if name not in self.dictionaries]
        streams: dict[str, Tensor] = {}
        with turn(self.module), ExitStack() as hooks:
            for name in wanted:
                if name in self.dictionaries:
                    chosen = self.dictionaries[name]
                    keep = partial(_keep, streams, name)
                    handle = hook(self._tower, chosen.layer, chosen.point, keep)
                    hooks.callback(handle.remove)
            if modules:
                found = super().maps(images, modules)
            else:
                parameter = next(self.module.parameters())
                self.module(self.preprocess(images).to(parameter.device, parameter.dtype))
                found = {}
        prefix, grid = self._tower.weights.prefix, self._tower.weights.grid
        for name, stream in streams.items():
            dictionary = self.dictionaries[name].to(stream.device, stream.dtype)
            tokens = dictionary.on_tokens(stream).activations[:, prefix:]
            found[name] = tokens.transpose(1, 2).unflatten(-1, grid)
        return found

    def layer_names(self) -> list[str]:
        """Return the modules that `layers` match, then the dictionaries."""
        return [*super().layer_names(), *self.dictionaries]


def _keep(streams: dict[str, Tensor], name: str, stream: Tensor) -> None:
    streams[name] = full(stream)


def featured_partner(
    model: ClipModel, name: str, dictionaries: Mapping[str, Dictionary] = MappingProxyType({})
) -> Partner:
    """Return a CLIP's MLP units as a partner, with the features of any given dictionaries beside them.

    Raises ValueError for a dictionary of another model, and for one with the name of a layer.
    """
    plain = clip_partner(model, name)
    if not dictionaries:
        return plain
    for called, dictionary in dictionaries.items():
        check_fits(model, dictionary)
        if called in plain.layer_names():
            raise ValueError(
                f"expected a name that differs from every layer's, got {called!r}; choose another name"
            )
    own = {one.name: getattr(plain, one.name) for one in fields(plain)}
    moved = {called: dictionary.to(model.device) for called, dictionary in dictionaries.items()}
    return FeaturedPartner(**own, dictionaries=moved)


def digest(dictionary: Dictionary) -> str:
    """Return a short hash of a dictionary's directions, by which files that depend on them are checked."""
    parts = {name: getattr(dictionary, name).cpu().float() for name in ("encoder", "decoder", "bias")}
    return digest_of(parts)[:16]
