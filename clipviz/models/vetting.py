"""Checks of a network before it is trusted: no wrapper, layers and encoders that compute what the weights say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from clipviz.models.forward_lock import turn
from clipviz.models.text_towers import encode_tokens, shortens
from clipviz.models.towers import Tower, unsupported
from clipviz.models.towers.anatomy import full, unmixed

_TEXTS = ["a photo of a dog", "red"]
_PARALLEL = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")
SAMPLED = 512  # numbers compared per tensor
_ADAPTED = ("base_layer", "lora_A", "lora_a", "lora_down")


def check_plain(network: nn.Module) -> None:
    """Raise ValueError if the network, or a part, is behind a wrapper that hides the modules of a pass."""
    for name, module in network.named_modules():
        where, kind = name or "the network", type(module).__name__
        dotted = f"network.{name}" if name else "network"
        if kind in _PARALLEL:
            raise ValueError(
                f"expected a plain network, got {where} inside {kind}; pass what it wraps: {dotted}.module"
            )
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            instead = (
                f"{dotted}._orig_mod" if hasattr(module, "_orig_mod") else "the network before .compile()"
            )
            raise ValueError(
                f"expected a network that runs module by module, got {where} compiled ({kind}), whose passes cannot "
                f"be read; pass what was compiled: {instead}"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"expected a network of plain modules, got {where} scripted ({kind}); pass the one before torch.jit"
            )


def adapted(network: nn.Module, n: int = 3) -> str:
    """Return names of modules that wrap another one, such as LoRA's, in words; "" if there are none."""
    names = [name for name, module in network.named_modules() if any(hasattr(module, a) for a in _ADAPTED)]
    if not names:
        return ""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    kind = type(network.get_submodule(names[0])).__name__
    return f"{', '.join(names[:n])}{more} ({kind})"


def check_matrices(tower: Tower, limit: float) -> None:
    """Raise ValueError if an MLP does not compute what its output matrix says: hidden(x) - hidden(0) = x W^T."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), turn(tower.visual):
        for layer, block in enumerate(tower.blocks):
            module: Any = block.hidden
            weight: Tensor = module.weight
            if weight.is_meta:
                return
            if not weight.is_floating_point():
                raise unsupported(
                    f"layer {layer} whose MLP ends in {type(module).__name__} with weights of {weight.dtype}",
                    "open the model in float32, float16 or bfloat16",
                )
            x = torch.randn(4, weight.shape[1], generator=generator).to(weight)
            with unmixed(weight.device):
                nothing = full(module(torch.zeros_like(x)))
                written = full(module(x)) - nothing
            said = full(x) @ full(weight).T
            rounding = 8 * torch.finfo(weight.dtype).eps * float(nothing.norm())  # of a large bias
            missed = (float((written - said).norm()) - rounding) / max(float(said.norm()), 1e-30)
            if not missed <= limit:
                raise unsupported(
                    f"layer {layer} whose MLP ends in {type(module).__name__}, whose output is not "
                    f"its input times .weight (relative difference {missed:.1e})",
                    "merge adapters into the weights first, as peft's merge_and_unload() does, and open the merged "
                    "network",
                )


def check_image_encoder(network: Any, pixels: Tensor, embedding: Tensor, limit: float, name: str) -> None:
    """Raise ValueError if the network's own encode_image gives another direction than its vision tower."""
    encode = getattr(network, "encode_image", None)
    if encode is None or _stock(network, "encode_image"):
        return
    with torch.no_grad():
        own = encode(pixels)
    own = full(own[0] if isinstance(own, tuple) else own)
    differ = _apart(own, embedding) if own.shape == embedding.shape else 1.0
    if not differ <= limit:
        raise unsupported(
            f"model {name!r}, whose {type(network).__name__}.encode_image gives another embedding than its vision "
            f"tower .visual (relative difference {differ:.2g}, shape {list(own.shape)})",
            "what is added outside the tower cannot be attributed to heads; move it into the tower, or wrap the plain "
            "network to study the tower alone",
        )


def whole_texts(network: nn.Module, tokenizer: Callable[[list[str]], Tensor] | None, limit: float) -> bool:
    """Return whether texts need the network's own method, because the short way gives a different result."""
    if tokenizer is None or not shortens(network):
        return True
    device = next(network.parameters()).device
    tokens = tokenizer(_TEXTS).to(device)
    try:
        with torch.no_grad():
            own, short = (full(encode_tokens(network, tokens, whole)) for whole in (True, False))
    except (
        RuntimeError,
        ValueError,
        IndexError,
    ):  # token ids of another text tower are reported when a text is encoded
        return False
    return not (own.shape == short.shape and _apart(own, short) <= limit)


def _stock(network: nn.Module, method: str) -> bool:
    """Return whether a method is open_clip's own, which only calls the tower."""
    if method in network.__dict__:
        return False
    return getattr(getattr(type(network), method), "__module__", "").startswith("open_clip.")


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest distance between rows as unit vectors."""
    one, other = (x / x.norm(dim=-1, keepdim=True).clamp_min(1e-30) for x in (one, other))
    return float((one - other).norm(dim=-1).max())


class Watch:
    """The weights of a network when it was opened, to check whether they have changed since.

    Every tensor's address and version are compared; the version increases with every in-place change. In addition
    SAMPLED numbers per tensor are compared, spread over rows and columns, which also reveals most changes that
    bypass torch's versions (tensor.data).
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.places = list(_places(network))
        self.note()

    def note(self) -> None:
        """Take the current weights as the reference."""
        self.state, self.modules = self._state(), self._modules()
        self.views = [view for _, holder, key in self.places if (view := _sampled(holder[key])) is not None]
        self.sample = self._sample()

    def same(self, whole: Callable[[], bool]) -> bool:
        """Return whether nothing has changed. whole: whether all numbers are the same, asked if something differs."""
        if self._modules() != self.modules:
            return False
        if self._state() == self.state and torch.equal(self._sample(), self.sample):
            return True
        if not whole():
            return False
        self.note()
        return True

    def changed(self) -> str:
        """Return the name of a tensor that has changed, or "" if it cannot be determined."""
        now = zip(self.places, self._state(), self.state, strict=True)
        return next((name for (name, _, _), one, before in now if one != before), "")

    def _state(self) -> list[tuple[int, int]]:
        tensors = [holder[key] for _, holder, key in self.places]
        return [(0, 0) if t is None else (t.data_ptr(), t._version) for t in tensors]

    def _modules(self) -> list[int]:
        return [id(module) for module in self.network.modules()]

    def _sample(self) -> Tensor:
        views = self.views
        if len({view.device for view in views}) > 1:
            views = [view.cpu() for view in views]
        return torch.nan_to_num(torch.cat(views)) if views else torch.empty(0)


def _sampled(tensor: Tensor | None) -> Tensor | None:
    """Return a view of some of a tensor's numbers, or None if it is empty or has no such view."""
    if tensor is None or not tensor.numel() or tensor.is_meta or not tensor.is_contiguous():
        return None
    flat = tensor.detach().view(-1)
    step = -(-flat.numel() // SAMPLED)
    step += 1 - step % 2 if step > 1 else 0  # odd, so that all columns of a matrix are sampled
    return flat[::step]


def _places(network: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield where each parameter and buffer of a state dict is stored: its name, the dictionary and the key in it."""
    for name, module in network.named_modules():
        for holder in (module._parameters, module._buffers):
            for key in holder:
                if key not in module._non_persistent_buffers_set:
                    yield f"{name}.{key}".lstrip("."), holder, key
