"""What a wait says, everywhere in the same words: what is done, how far it is, and how long it will still take."""

from __future__ import annotations

import re
import sys
import time

WORTH_SHOWING = 0.3  # seconds of work below which saying so would only flicker
QUIET = 2.0  # seconds that somebody who waits for a line of code waits without a word
EVERY, EVERY_LOGGED = 0.5, 30.0  # seconds between two words on a screen, and in a file


class Work:
    """Some work in steps, timed. what: in words, "Reading the images"; n_all: how many things, n_done of them already.

    Call `resume` where work begins again after a pause, which is not counted, and `reached` after each step.
    """

    def __init__(self, what: str, n_all: int, n_done: int = 0) -> None:
        self.what, self.n_all, self.n_done = what, n_all, n_done
        self.seconds = 0.0
        self._n_before = n_done
        self.resume()

    def resume(self) -> None:
        """Begin to count the time."""
        self._mark = time.perf_counter()

    def reached(self, n_done: int) -> Work:
        """Note that so many things are done, some of which may turn out not to count."""
        now = time.perf_counter()
        self.seconds, self._mark, self.n_done = self.seconds + now - self._mark, now, n_done
        return self

    @property
    def worth_showing(self) -> bool:
        return self.seconds > WORTH_SHOWING and self.n_done < self.n_all

    @property
    def line(self) -> str:
        """Where the work is, "" once it is done; without the time left until there is something to judge it by."""
        if self.n_done >= self.n_all:
            return ""
        said = f"{self.what}: {self.n_done:,} of {self.n_all:,}"
        done = self.n_done - self._n_before
        return f"{said}, {lasting(self.seconds / done * (self.n_all - self.n_done))}" if done > 0 else said


def is_line(text: str) -> bool:
    """Return whether a text says where some work is, as `Work.line` does."""
    return re.fullmatch(r".+: [\d,]+ of [\d,]+(, about \d+ (s|min) left)?", text) is not None


class Line:
    """A line of the terminal, or below the notebook's cell, on which each word of a wait replaces the one before.

    It is empty again when the wait is over. In a file, where nothing can be replaced, there are fewer words, each on
    its own line.
    """

    def __init__(self) -> None:
        self._said = 0.0
        self._width = 0

    def say(self, words: str, seconds: float) -> None:
        """Where a wait is that has lasted for some seconds; nothing for a short one. "": it is over."""
        notebook = type(sys.stdout).__module__.startswith("ipykernel")
        stream = sys.stdout if notebook else sys.stderr  # a notebook shows the other as an error
        live = notebook or stream.isatty()
        quiet, every = (QUIET, EVERY) if live else (EVERY_LOGGED, EVERY_LOGGED)
        if not words:
            if self._width and live:
                stream.write(f"\r{'':<{self._width}}\r")  # the line is free for what is printed next
            self._width = 0
        elif seconds > quiet and time.perf_counter() - self._said > every:
            stream.write(f"\r{words:<{self._width}}" if live else f"{words}\n")
            self._said, self._width = time.perf_counter(), len(words)
        stream.flush()


def lasting(seconds: float) -> str:
    """How long something will still take, no more exactly than it can be known."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"
