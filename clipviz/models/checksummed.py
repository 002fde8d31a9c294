"""Safetensors files of weights with a checksum of their whole content, so that a single changed bit is detected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from clipviz.data.paths import path_of
from clipviz.files import write_whole
from clipviz.models.numbers import check_default_device, check_weights

CHECKSUM = "checksum"
STEP = "|step"
"""Suffix of the name under which the step of each row of an 8-bit array is stored."""

FEW = 4096
"""Arrays with at most this many numbers are not narrowed to eight bits."""

Network = TypeVar("Network", bound=nn.Module)


def write_weights(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace a file atomically with these tensors and texts, and store their checksum among the texts."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(whole, {**metadata, CHECKSUM: _checksum(whole, metadata)}))


def read_weights(path: str | Path, what: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and texts of a file, with or without a checksum.

    what: names the file's content in errors; remedy: what to do about a file that is missing or damaged. Raises
    ValueError for a missing file, one that is not a safetensors file, or one that differs from its checksum.
    """
    from safetensors import SafetensorError, safe_open

    path = path_of(path, what)
    if not path.is_file():
        raise ValueError(f"expected {what} at {path}, which does not exist; {remedy}")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"expected {what} at {path}, got a file that cannot be read ({reason}); {remedy}"
        ) from error
    stated = metadata.pop(CHECKSUM, None)
    if stated is not None and stated != _checksum(tensors, metadata):
        raise ValueError(
            f"expected {what} at {path}, got a damaged file: its checksum does not match; {remedy}"
        )
    return widened(tensors), metadata


def narrowed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in half precision, and large arrays in eight bits: whole numbers from -127 to 127 times a step
    per row.

    The step is the row's largest magnitude over 127, so that the error is at most half a step. Arrays with at
    most one axis or few numbers are kept in half precision. `read_weights` restores the full arrays.
    """
    found = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.ndim < 2 or tensor.numel() <= FEW:
            found[name] = tensor.half() if tensor.is_floating_point() else tensor
            continue
        wide = tensor.detach().float()
        largest = wide.flatten(1).abs().amax(1).view(-1, *[1] * (wide.ndim - 1))
        step = (largest / 127).half()
        step = torch.where(
            step.float() * 127 < largest, torch.nextafter(step, step.new_tensor(torch.inf)), step
        )
        found[name] = (wide / step.float().masked_fill(step == 0, 1)).round().to(torch.int8)
        found[name + STEP] = step
    return found


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of narrowed arrays in float32, and other arrays unchanged."""
    steps = {name: step.float() for name, step in tensors.items() if name.endswith(STEP)}
    return {
        name: tensor.float() * steps[name + STEP] if name + STEP in steps else tensor
        for name, tensor in tensors.items()
        if name not in steps
    }


def open_network(make: Callable[..., Network], path: str | Path, what: str, remedy: str) -> Network:
    """Return the network that a file's "config" describes to `make`, with the file's weights in float32, frozen, in
    eval mode.

    Raises ValueError as `read_weights` does, and for weights of another network.
    """
    check_default_device()
    tensors, metadata = read_weights(path, what, remedy)
    try:
        network = make(**json.loads(metadata.get("config", "{}")))
        network.load_state_dict({k: w.float() if w.is_floating_point() else w for k, w in tensors.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"expected {what} at {path}, got weights of another network ({reason}); {remedy}"
        ) from error
    check_weights(network, what)
    return network.eval().requires_grad_(False)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and numbers, which is the same in every float precision that can hold
    these numbers.

    Numbers are hashed as float32. What float64 holds beyond that is hashed too, if it is not zero.
    """
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        flat = tensor.detach().flatten()
        single = flat.float()
        total.update(f"{name}{list(tensor.shape)}".encode())
        total.update(single.cpu().numpy().data)
        if flat.dtype == torch.float64 and bool((rest := flat - single.double()).any()):
            total.update(rest.cpu().numpy().data)
    return total.hexdigest()


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    total = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return total.hexdigest()[:32]
