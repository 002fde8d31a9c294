"""Guides on disk: which units of a generator other models share, so that it need not be found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipviz.analysis.generation import Guides, each_once
from clipviz.data.files import write_whole
from clipviz.lens.invert import UnitPairs

FIELDS = ("units_a", "units_b", "mean_a", "std_a", "mean_b", "std_b")


def fingerprint(module: nn.Module) -> str:
    """The first 16 digits of the SHA-256 of a network's tensors, names and shapes."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def identity(generator: Any, readers: Mapping[str, Any]) -> dict[str, str]:
    """What guides rest on: the weights of the generator ("") and of every reader."""
    return {
        "": fingerprint(generator.module),
        **{name: fingerprint(reader.module) for name, reader in readers.items()},
    }


def save(path: str | Path, guides: Guides, about: Mapping[str, str]) -> None:
    """Write guides as one safetensors file; about: from `identity`."""
    from safetensors.torch import save as packed

    tensors: dict[str, Tensor] = {}
    layers = []
    for name, groups in guides.pairs.items():
        for group in groups:
            layers.append([name, group.layer_a, group.layer_b])
            tensors |= {
                f"{len(layers) - 1}.{field}": getattr(group, field).cpu().contiguous() for field in FIELDS
            }
    metadata = {"layers": json.dumps(layers), "about": json.dumps(dict(about))}
    write_whole(Path(path), packed(tensors, metadata))


def open_guides(
    path: str | Path, about: Mapping[str, str], device: torch.device | str = "cpu"
) -> Guides | None:
    """The guides in a file, None where there is none or it rests on other weights.

    Raises ValueError for a file that is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            if json.loads(metadata.get("about", "{}")) != dict(about):
                return None
            pairs: dict[str, list[UnitPairs]] = {}
            for i, (name, layer_a, layer_b) in enumerate(json.loads(metadata["layers"])):
                numbers = [file.get_tensor(f"{i}.{field}").to(device) for field in FIELDS]
                pairs.setdefault(name, []).append(UnitPairs(layer_a, layer_b, *numbers))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"expected guides in {str(path)!r}, got a damaged file ({error}); delete it"
        ) from error
    every = [group for groups in pairs.values() for group in groups]
    return Guides({name: tuple(groups) for name, groups in pairs.items()}, tuple(each_once(every)))
