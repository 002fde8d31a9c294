"""A pretend accelerator: tensors of a device "pretend" compute on the CPU but meet no CPU tensor and no numpy.

`install()` once a process (it cannot be undone), then `.to("pretend")`. Where code mixes devices it fails here as on a
GPU, on a machine that has none. As on CUDA, indices may lie on the CPU and numbers in 0-dim CPU tensors mix.
`memory(limit)` refuses, while it is open, any single tensor of more than `limit` bytes, as a full device does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils._mode_utils import no_dispatch

NAME = "pretend"
aten = torch.ops.aten
MIXING = {  # operations that CUDA, too, lets meet tensors of both devices
    aten.copy_.default,
    aten._to_copy.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
_libraries: list[torch.library.Library] = []
_limit: int | None = None
refused: list[int] = []  # sizes of the tensors that did not fit


class Pretended(torch.Tensor):
    """A tensor that says it lies on the pretend device; `.host` holds its numbers."""

    host: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> Pretended:
        size = host.numel() * host.element_size()
        if _limit is not None and size > _limit and host._base is None:
            refused.append(size)
            raise torch.OutOfMemoryError(f"{NAME} out of memory: tried to allocate {size} bytes of {_limit}")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )
        made.host = host
        return made

    def __repr__(self) -> str:
        return f"Pretended({self.host!r})"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy; use Tensor.cpu() first")

    numpy = __array__

    def tolist(self) -> Any:
        return self.detach().host.tolist()

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(_as_tensors(place))

    def __setitem__(self, place: Any, value: Any) -> None:
        if isinstance(value, bool | int | float):
            value = torch.tensor(value, dtype=self.dtype)
        super().__setitem__(_as_tensors(place), value)

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype).to(NAME)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def _as_tensors(place: Any) -> Any:
    """An index whose lists and arrays are tensors: torch would read them on the index's own device."""
    if isinstance(place, tuple):
        return tuple(map(_as_tensors, place))
    if not isinstance(place, list | np.ndarray):
        return place
    return torch.as_tensor(place) if len(place) else torch.zeros(0, dtype=torch.long)


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: refused where devices meet, done on the host, wrapped again."""
    tensors = [*tensors_in(args), *tensors_in(kwargs)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    strangers = [t for t in tensors if not isinstance(t, Pretended) and t.dim() > 0]
    if ours and strangers and func not in MIXING:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME}:0 and {strangers[0].device}! ({func})"
        )
    if func is aten._fused_sdp_choice.default:
        return 0  # the plain attention
    if func is aten.copy_.default:
        target, source = args[:2]
        _host(target).copy_(_host(source))
        return target
    wanted = kwargs.get("device")
    here = bool(ours) if wanted is None else torch.device(wanted).type == NAME
    on_host = mapped(_host, args), mapped(_host, kwargs)
    if here and wanted is not None:
        on_host[1]["device"] = torch.device("cpu")
    out = func(*on_host[0], **on_host[1])
    if torch.Tag.inplace_view in func.tags:  # the wrapper's own shape changes as well
        with no_dispatch():
            func(*args, **kwargs)
        return args[0]
    same = {
        id(tensor.host): tensor for tensor in ours
    }  # an operation in place returns the tensor it was given
    return mapped(lambda tensor: _wrapped(tensor, same, here), out)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in arguments, which are nested in nothing but lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def mapped(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The arguments or the answer with every tensor changed. torch's own walk takes most of the time of a test."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(change, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [mapped(change, part) for part in value]
        if isinstance(value, list):
            return parts
        return type(value)(parts) if not hasattr(value, "_fields") else type(value)(*parts)
    return value


def _wrapped(tensor: torch.Tensor, same: dict[int, Pretended], here: bool) -> torch.Tensor:
    known = same.get(id(tensor))
    if known is not None:
        return known
    return Pretended(tensor) if here else tensor


def _host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.host if isinstance(tensor, Pretended) else tensor


def _built_on_the_host(make: Any) -> Any:
    """torch.tensor and its like cannot fill a device written in Python: they fill a CPU tensor, which is moved."""

    def build(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if device is None:
            return make(*args, **kwargs)
        if torch.device(device).type != NAME:
            return make(*args, device=device, **kwargs)
        return make(*args, device="cpu", **kwargs).to(NAME)

    return build


def install() -> None:
    """Register the device in this process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")

    def empty(size: Any, *, dtype: Any = None, **_: Any) -> Pretended:
        return Pretended(torch.empty(size, dtype=dtype, device="cpu"))

    def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Pretended:
        return Pretended(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))

    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
    _libraries.extend((library, others))
    for name in ("tensor", "as_tensor", "asarray"):
        setattr(torch, name, _built_on_the_host(getattr(torch, name)))


@contextmanager
def memory(limit: int) -> Iterator[list[int]]:
    """While open, a tensor of more than `limit` bytes is refused; yields the list of the sizes refused."""
    global _limit
    _limit = limit
    refused.clear()
    try:
        yield refused
    finally:
        _limit = None
