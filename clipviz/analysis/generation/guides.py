"""Guides: the units of a generator that other models share (thesis 4.3), computed and stored in a file.

guides = find_guides(generator, {"cnn": load_partner("cnn")}, generator.sample(256, seed=7))
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipviz.analysis.rosetta.matching import match, unit_pairs
from clipviz.analysis.rosetta.unit_maps import KeptMaps
from clipviz.lens.invert import UnitPairs
from clipviz.models.checksummed import digest_of, read_weights, write_weights
from clipviz.values import Progress, unwatched
from clipviz.values.tables import Columns, Table

N_SAMPLES = 96
"""Number of pictures on which a generator's units are matched."""
SEED = 7
FIELDS = ("units_a", "units_b", "mean_a", "std_a", "mean_b", "std_b")


class NoPairError(ValueError):
    """Raised when no unit of a generator is shared with a reader."""


@dataclass(frozen=True, eq=False, repr=False)
class Guides(Table):
    """Units of a generator that other models share (best buddies, Eq. 4.3), by reader.

    pairs: reader's name -> pairs; the reader's layers are called "reader/layer". own: each of the generator's
    units once, paired with itself, as edits compare them. felt: how these maps depend on the latent's numbers on
    the generator's pictures (starts.usual_sensitivity), None if not computed yet.
    """

    pairs: Mapping[str, tuple[UnitPairs, ...]]
    own: tuple[UnitPairs, ...]
    felt: Float[Tensor, "latent latent"] | None = None

    def _columns(self) -> Columns:
        found = [(reader, one) for reader, pairs in self.pairs.items() for one in pairs]
        return {
            "reader": [reader for reader, _ in found],
            "generator_layer": [one.layer_a for _, one in found],
            "reader_layer": [one.layer_b for _, one in found],
            "n_pairs": [len(one.units_a) for _, one in found],
        }

    def _title(self) -> str:
        return f"{self.n_units} units of the generator that other models share"

    @property
    def n_units(self) -> int:
        return sum(len(group.units_a) for group in self.own)

    def of(self, units: Sequence[tuple[str, int]]) -> tuple[UnitPairs, ...]:
        """Return the guides for some (layer, unit) of the generator. Raises ValueError for one that is no guide."""
        wanted, found = set(units), set()
        chosen = []
        for group in self.own:
            rows = [i for i, unit in enumerate(group.units_a.tolist()) if (group.layer_a, unit) in wanted]
            found |= {(group.layer_a, int(group.units_a[i])) for i in rows}
            if rows:
                chosen.append(group.rows(rows))
        missing = sorted(wanted - found)
        if missing or not chosen:
            raise ValueError(
                f"expected units that the generator shares with another model, got {missing or 'none'}; choose "
                "concepts that have a unit in the generator"
            )
        return tuple(chosen)

    def without(self, chosen: Sequence[UnitPairs]) -> tuple[UnitPairs, ...]:
        """Return the guides without these units."""
        gone = {(group.layer_a, unit) for group in chosen for unit in group.units_a.tolist()}
        rest = []
        for group in self.own:
            rows = [i for i, unit in enumerate(group.units_a.tolist()) if (group.layer_a, unit) not in gone]
            if rows:
                rest.append(group.rows(rows))
        return tuple(rest)


def find_guides(
    generator: Any,
    readers: Mapping[str, Any],
    latents: Any,
    *,
    k: int = 5,
    above: float = 0.4,
    most: int = 150,
    batch: int = 32,
    progress: Progress = unwatched,
) -> Guides:
    """Return the generator's best buddies in every reader over G(latents) (Eq. 4.3), at most `most` pairs for each.

    above: correlation that a pair must exceed; progress: called after each reader with the number done. Raises
    ValueError if there is no pair.
    """
    pairs: dict[str, tuple[UnitPairs, ...]] = {}
    kept = KeptMaps(latents)  # every reader and the moments of its pairs need the generator's maps again
    for name, reader in readers.items():
        progress(len(pairs))
        matches = match(generator, reader, latents, k=k, above=above, batch=batch, kept=kept)
        groups = unit_pairs(generator, reader, latents, matches, matches.pairs[:most], batch, kept)
        pairs[name] = tuple(replace(group, layer_b=f"{name}/{group.layer_b}") for group in groups)
    every = [group for groups in pairs.values() for group in groups]
    if not every:
        raise NoPairError(
            f"no unit of {generator.name!r} correlates above {above} with a unit of "
            f"{', '.join(readers) or 'no reader'}; lower above=..., or match with another model"
        )
    return Guides(pairs, tuple(each_once(every)))


def each_once(groups: Sequence[UnitPairs]) -> list[UnitPairs]:
    """Return each of the generator's units once, with itself, one layer at a time."""
    found: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    for group in groups:
        known = found.setdefault(group.layer_a, {})
        for i, unit in enumerate(group.units_a.tolist()):
            known.setdefault(unit, (group.mean_a[i], group.std_a[i]))
    made = []
    for layer, units in sorted(found.items()):
        index = torch.tensor(list(units))
        mean, std = (torch.stack([numbers[i] for numbers in units.values()]) for i in (0, 1))
        made.append(
            UnitPairs(layer, layer, index.to(mean.device), index.to(mean.device), mean, std, mean, std)
        )
    return made


def pairs_with(readers: Mapping[str, Any], guides: Guides) -> list[UnitPairs]:
    """Return the guides' pairs with some readers."""
    return [group for name in readers for group in guides.pairs.get(name, ())]


def fingerprint(module: nn.Module) -> str:
    """Return the first 16 digits of the SHA-256 of a network's tensors, names and shapes."""
    return digest_of(module.state_dict())[:16]


def identity(generator: Any, readers: Mapping[str, Any]) -> dict[str, str]:
    """Return what guides depend on: the weights of the generator ("") and of every reader."""
    return {
        "": fingerprint(generator.module),
        **{name: fingerprint(reader.module) for name, reader in readers.items()},
    }


def save(path: str | Path, guides: Guides, about: Mapping[str, str]) -> None:
    """Write guides as one safetensors file; about: from `identity`."""
    tensors: dict[str, Tensor] = {}
    layers = []
    for name, groups in guides.pairs.items():
        for group in groups:
            layers.append([name, group.layer_a, group.layer_b])
            tensors |= {f"{len(layers) - 1}.{field}": getattr(group, field) for field in FIELDS}
    if guides.felt is not None:
        tensors["felt"] = guides.felt
    metadata = {"layers": json.dumps(layers), "about": json.dumps(dict(about))}
    write_weights(path, tensors, metadata)


def open_guides(
    path: str | Path, about: Mapping[str, str], device: torch.device | str = "cpu"
) -> Guides | None:
    """Return the guides in a file, or None if there is none or it belongs to other weights.

    Raises ValueError for a damaged file.
    """
    path = Path(path)
    if not path.is_file():
        return None
    numbers, metadata = read_weights(path, "guides", "delete it")
    try:
        if json.loads(metadata.get("about", "{}")) != dict(about):
            return None
        pairs: dict[str, list[UnitPairs]] = {}
        for i, (name, layer_a, layer_b) in enumerate(json.loads(metadata["layers"])):
            own = [numbers[f"{i}.{field}"].to(device) for field in FIELDS]
            pairs.setdefault(name, []).append(UnitPairs(layer_a, layer_b, *own))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected guides at {path}, got a damaged file ({error}); delete it") from error
    every = [group for groups in pairs.values() for group in groups]
    felt = numbers["felt"].to(device) if "felt" in numbers else None
    return Guides({name: tuple(groups) for name, groups in pairs.items()}, tuple(each_once(every)), felt)


def guides_between(
    generator: Any,
    readers: dict[str, Any],
    shipped: Path | None,
    device: torch.device | str = "cpu",
    progress: Progress = unwatched,
) -> Guides:
    """Return the units that a generator shares with readers: those in the file `shipped` if it belongs to the same
    weights, else computed now. progress: as in find_guides. Raises ValueError if no unit is shared.
    """
    if shipped is not None and known_by_weights(generator, readers):
        kept = open_guides(shipped, identity(generator, readers), device)
        if kept is not None:
            return kept
    samples = generator.sample(N_SAMPLES, seed=SEED)
    try:
        return find_guides(generator, readers, samples, progress=progress)
    except NoPairError as error:
        raise NoPairError(
            f"{error}; in a session, session.generator.readers = [...] sets the models, and session.generator.guides = "
            "clipviz.analysis.generation.guides.find_guides(generator, readers, latents, above=0.2) sets the units"
        ) from error


def known_by_weights(generator: Any, readers: Mapping[str, Any]) -> bool:
    """Return whether results stored for a generator and its readers can be found by their weights."""
    return all(hasattr(one, "module") for one in (generator, *readers.values()))
