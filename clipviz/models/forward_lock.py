"""One pass through a network at a time: a hook hears every pass of its module, whichever thread runs it.

A panel reads images in the session's worker while a notebook traces others in its own thread. Whoever has hooks on a
network, or runs it, takes its turn; the same thread may take it again. During a turn the network is in eval mode,
whatever mode a notebook has left it in, and goes back to that mode afterwards: no dropout in what is shown.
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
    """Return the one lock of a network."""
    with _GUARD:
        return _TURNS.setdefault(network, threading.RLock())


def share_turn(network: nn.Module, other: nn.Module) -> None:
    """Give a network the lock of another one, whose modules it runs."""
    lock = lock_of(other)
    with _GUARD:
        _TURNS[network] = lock


@contextmanager
def turn(network: nn.Module) -> Iterator[None]:
    """The network's turn, to be held as `with turn(network):`; its lock is kept beside the network, not in it."""
    with lock_of(network):
        training = [module for module in network.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True
