"""Activation maps of chosen modules of any torch network, recorded by a context manager.

    with activation_maps(network, "layer*.*.relu") as maps:
        network(images)
    maps["layer3.2.relu"]        # [image, unit, rows, cols]

The network is left unchanged: hooks are removed when the block ends, even after an error, and mode, weights and
gradients are not touched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from clipviz.models.forward_lock import turn

Maps = dict[str, Tensor]


@contextmanager
def activation_maps(
    network: nn.Module,
    names: str | Sequence[str],
    *,
    activation: Callable[[Tensor], Tensor] | None = None,
    grid: tuple[int, int] | None = None,
    prefix_tokens: int | None = None,
    batch_first: bool = True,
    detach: bool = True,
) -> Iterator[Maps]:
    """Record the outputs of modules as maps while the block runs.

    Args:
        network: The network.
        names: Module names or patterns; `*` stands for any characters but a dot, `**` for any, `[1-4]` for a choice.
        activation: Applied to each output, for modules that are read before their non-linearity.
        grid: Rows and columns of a ViT's image tokens. None takes a square.
        prefix_tokens: Class and register tokens before the grid. None takes all that do not fit it.
        batch_first: False reads [token, image, unit].
        detach: False keeps the maps in the autograd graph, for inversion.

    Yields:
        Module name -> [image, unit, rows, cols], filled by each forward pass (later passes replace earlier ones). A
        module that runs several times per pass, such as a ReLU that a block shares, gives "name", "name#1" and so
        on. A pattern that names no module and an output that cannot be read as maps raise ValueError.
    """
    chosen = matching_modules(network, names)
    maps: Maps = {}
    calls: dict[str, int] = {}

    def restart(*_: Any) -> None:
        maps.clear()
        calls.clear()

    def record(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            output = output.detach() if detach else output
            output = activation(output) if activation is not None else output
            if not batch_first and output.ndim == 3:
                output = output.transpose(0, 1)
            call = calls[name] = calls.get(name, -1) + 1
            key = name if call == 0 else f"{name}#{call}"
            maps[key] = as_maps(output, grid, prefix_tokens, name)

        return hook

    with turn(network):
        handles = [network.register_forward_pre_hook(restart)]
        try:
            handles += [network.get_submodule(name).register_forward_hook(record(name)) for name in chosen]
            yield maps
        finally:
            for handle in handles:
                handle.remove()


def matching_modules(network: nn.Module, names: str | Sequence[str]) -> list[str]:
    """Return the module names that names or patterns match.

    Args:
        network: The network.
        names: As in `activation_maps`.

    Returns:
        Names in the network's own order, each once.

    Raises:
        ValueError: A pattern matches nothing; the message has a few of the existing names.
    """
    patterns = [names] if isinstance(names, str) else list(names)
    there = [name for name, _ in network.named_modules() if name]
    fitting: set[str] = set()
    for pattern in patterns:
        expression = re.compile(_as_expression(pattern))
        found = [name for name in there if expression.fullmatch(name)]
        if not found:
            raise ValueError(
                f"no module of {type(network).__name__} is called {pattern!r}; it has {_some(there)}; "
                "see network.named_modules()"
            )
        fitting.update(found)
    return [name for name in there if name in fitting]


def as_maps(
    output: Any, grid: tuple[int, int] | None = None, prefix_tokens: int | None = None, name: str = "module"
) -> Float[Tensor, "image unit rows cols"]:
    """Return a module's output as maps.

    Args:
        output: [image, unit, rows, cols], which is unchanged, or [image, token, unit], which is arranged on the grid.
        grid: As in `activation_maps`.
        prefix_tokens: As in `activation_maps`.
        name: What messages call the module.

    Returns:
        [image, unit, rows, cols].

    Raises:
        ValueError: The output is something else, or its tokens do not fill the grid.
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"expected {name} to give [image, unit, rows, cols] or [image, token, unit], got {got}; "
            "choose a convolutional or a token-wise module"
        )
    if output.ndim == 4:
        return output
    n_tokens = output.shape[1]
    rows, cols = grid or _square(n_tokens, prefix_tokens, name)
    prefix = n_tokens - rows * cols
    if prefix < 0 or (prefix_tokens is not None and prefix != prefix_tokens):
        raise ValueError(
            f"{name} gave {n_tokens} tokens, which are not {prefix_tokens or 0} and a grid of {rows} x {cols}; "
            "pass grid=(rows, cols) and prefix_tokens"
        )
    found: Tensor = output[:, prefix:].transpose(1, 2).unflatten(2, (rows, cols))
    return found


def _square(n_tokens: int, prefix_tokens: int | None, name: str) -> tuple[int, int]:
    """Return the square grid of a number of tokens, allowing for up to eight tokens that are not part of it."""
    for prefix in [prefix_tokens] if prefix_tokens is not None else (1, 0, *range(2, 9)):
        side = math.isqrt(max(n_tokens - prefix, 0))
        if side and side**2 == n_tokens - prefix:
            return side, side
    raise ValueError(f"{name} gave {n_tokens} tokens, which are no square grid; pass grid=(rows, cols)")


def _as_expression(pattern: str) -> str:
    """Return a glob over dotted names as a regular expression."""
    parts = re.split(r"(\*\*|\*|\[[^\]]*\])", pattern)
    special = {"**": ".*", "*": "[^.]*"}
    return "".join(
        special.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts if part
    )


def _some(names: Sequence[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (f" ... ({len(names)} in all)" if len(names) > n else "")
