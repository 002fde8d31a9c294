"""One pass through a network at a time: a hook hears every pass of its module, whichever thread runs it.

A panel reads images in the session's worker while a notebook traces others in its own thread. Whoever has hooks on a
network, or runs it, takes its turn; the same thread may take it again.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_TURNS: WeakKeyDictionary[nn.Module, AbstractContextManager[Any]] = WeakKeyDictionary()
_GUARD = threading.Lock()


def turn(network: nn.Module) -> AbstractContextManager[Any]:
    """The network's lock, to be held as `with turn(network):`; kept beside the network, not in it."""
    with _GUARD:
        return _TURNS.setdefault(network, threading.RLock())
