"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], object]
"""Called as work goes on, with how many of its steps are done; what it raises ends the work."""


def unwatched(n_done: int) -> None:
    """The progress of work that nobody watches."""


def counted(progress: Progress) -> Callable[[], None]:
    """Return a function to be called after each step, which tells `progress` how many that makes."""
    n_done = 0

    def step() -> None:
        nonlocal n_done
        n_done += 1
        progress(n_done)

    return step
