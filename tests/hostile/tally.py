"""How many attempts a campaign made, and which of them ended badly."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ALLOWED = (ValueError, TypeError, OSError, IndexError, KeyError)
SECONDS = 20.0


class Hang(BaseException):
    """An attempt took too long."""


@dataclass
class Tally:
    name: str
    tried: int = 0
    clean: int = 0
    bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(
        self, what: str, work: Callable[[], Any], allowed: tuple[type[Exception], ...] = (ValueError,)
    ) -> Any:
        """Run one attempt. It is clean when it returns, or raises an allowed error that says something.

        `work` raises AssertionError for a wrong answer. Returns what it returned, or None.
        """
        self.tried += 1
        try:
            with limited(SECONDS):
                answer = work()
        except allowed as error:
            if len(str(error)) < 10:
                self.bad.append(f"{what}: {type(error).__name__} says only {error!s}")
                return None
            answer = None
        except (Exception, Hang) as error:
            self.bad.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
            return None
        self.clean += 1
        return answer


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Hang in the main thread when the block takes longer."""

    def stop(*_: object) -> None:
        raise Hang(f"longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
