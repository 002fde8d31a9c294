"""A bounded least-recently-used cache for thumbnails, maps and effects."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The most recently used values, at most `limit` of them or of their total cost; thread-safe."""

    def __init__(self, limit: float, cost: Callable[[Value], float] = lambda value: 1) -> None:
        self._limit = limit
        self._cost = cost
        self._total = 0.0
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def forget(self, unwanted: Callable[[Key], bool]) -> None:
        """Drop the values whose keys `unwanted` selects."""
        with self._lock:
            for key in [key for key in self._values if unwanted(key)]:
                self._total -= self._cost(self._values.pop(key))

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value stored under a key, or call `make` and store its result; the newest is always kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        with self._lock:
            if key in self._values:  # another thread has stored it first
                return self._values[key]
            self._values[key] = made
            self._total += self._cost(made)
            while self._total > self._limit and len(self._values) > 1:
                self._total -= self._cost(self._values.popitem(last=False)[1])
        return made
