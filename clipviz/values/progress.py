"""How long computations report their progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int], object]
"""A progress callback: it is called with the number of steps done so far. An exception that it raises ends the work."""


def unwatched(n_done: int) -> None:
    """A progress callback that does nothing."""


def counted(progress: Progress) -> Callable[[], None]:
    """Return a function to be called after each step; it reports the number of steps so far to `progress`."""
    n_done = 0

    def step() -> None:
        nonlocal n_done
        n_done += 1
        progress(n_done)

    return step
