"""Progress messages in one format: the task, its progress, and the time remaining."""

from __future__ import annotations

import re
import sys
import time

WORTH_SHOWING = 0.3  # seconds; a message about shorter work would only flicker
QUIET = 2.0  # seconds before a message appears in a terminal or notebook
EVERY, EVERY_LOGGED = 0.5, 30.0  # seconds between two messages on a screen, and in a file


class Work:
    """The progress of a task in steps, timed. what: its name, as "Reading the images"; n_all: number of steps,
    n_done of them done.

    Call `resume` when work continues after a pause, which is not counted, and `reached` after each step.
    """

    def __init__(self, what: str, n_all: int, n_done: int = 0) -> None:
        self.what, self.n_all, self.n_done = what, n_all, n_done
        self.seconds = 0.0
        self._n_before = n_done
        self.resume()

    def resume(self) -> None:
        """Start to measure time."""
        self._mark = time.perf_counter()

    def reached(self, n_done: int) -> Work:
        """Record the number of steps done so far; some of these may turn out not to count."""
        now = time.perf_counter()
        self.seconds, self._mark, self.n_done = self.seconds + now - self._mark, now, n_done
        return self

    @property
    def worth_showing(self) -> bool:
        return self.seconds > WORTH_SHOWING and self.n_done < self.n_all

    @property
    def line(self) -> str:
        """The progress message, "" when the task is done. It states the time left once that can be estimated."""
        if self.n_done >= self.n_all:
            return ""
        said = f"{self.what}: {self.n_done:,} of {self.n_all:,}"
        done = self.n_done - self._n_before
        return f"{said}, {lasting(self.seconds / done * (self.n_all - self.n_done))}" if done > 0 else said


def is_line(text: str) -> bool:
    """Return whether a text is a progress message, as written by `Work.line`."""
    return re.fullmatch(r".+: [\d,]+ of [\d,]+(, about \d+ (s|min) left)?", text) is not None


class Line:
    """A line of the terminal, or of the notebook's output, on which each progress message replaces the previous one.

    The line is cleared at the end. In a file, where nothing can be replaced, messages are fewer and each has its
    own line.
    """

    def __init__(self) -> None:
        self._said = 0.0
        self._width = 0

    def say(self, words: str, seconds: float) -> None:
        """Show the progress of work that has taken some seconds; short work shows nothing. "" ends it."""
        notebook = type(sys.stdout).__module__.startswith("ipykernel")
        stream = sys.stdout if notebook else sys.stderr  # a notebook shows stderr as an error
        live = notebook or stream.isatty()
        quiet, every = (QUIET, EVERY) if live else (EVERY_LOGGED, EVERY_LOGGED)
        if not words:
            if self._width and live:
                stream.write(f"\r{'':<{self._width}}\r")  # clear the line for whatever is printed next
            self._width = 0
        elif seconds > quiet and time.perf_counter() - self._said > every:
            stream.write(f"\r{words:<{self._width}}" if live else f"{words}\n")
            self._said, self._width = time.perf_counter(), len(words)
        stream.flush()


def lasting(seconds: float) -> str:
    """Return a duration in words, rounded to a sensible precision."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"
