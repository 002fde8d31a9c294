"""Guides on disk: which units of a generator other models share, so that it need not be found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipviz.analysis.generation.editing import Guides, each_once
from clipviz.lens.invert import UnitPairs
from clipviz.models.sealed_weights import digest_of, read_weights, write_weights

FIELDS = ("units_a", "units_b", "mean_a", "std_a", "mean_b", "std_b")


def fingerprint(module: nn.Module) -> str:
    """The first 16 digits of the SHA-256 of a network's tensors, names and shapes."""
    return digest_of(module.state_dict())[:16]


def identity(generator: Any, readers: Mapping[str, Any]) -> dict[str, str]:
    """What guides rest on: the weights of the generator ("") and of every reader."""
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
    """The guides in a file, None where there is none or it rests on other weights.

    Raises ValueError for a file that is damaged.
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
