"""A lock that allows one pass through a network at a time, since a hook receives every pass of its module from any
thread.

A panel reads images in the session's worker while a notebook traces others in its own thread. Code that hooks or
runs a network takes the lock, which is re-entrant. While it is held the network is in eval mode, whatever mode a
notebook has left it in, and afterwards the mode is restored. Results are therefore never computed with dropout.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_TURNS: WeakKeyDictionary[nn.Module, AbstractContextManager[Any]] = WeakKeyDictionary()
_GUARD = threading.Lock()


def lock_of(network: nn.Module) -> AbstractContextManager[Any]:
    """Return the only lock of a network."""
    with _GUARD:
        return _TURNS.setdefault(network, threading.RLock())


def share_turn(network: nn.Module, other: nn.Module) -> None:
    """Give a network the lock of another one whose modules it runs."""
    lock = lock_of(other)
    with _GUARD:
        _TURNS[network] = lock


@contextmanager
def turn(network: nn.Module) -> Iterator[None]:
    """Hold the network's lock, as in `with turn(network):`. The lock is stored beside the network, not in it."""
    with lock_of(network):
        training = [module for module in network.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True
