"""What a wait says: its words by hand, pauses left out, and nothing in a flicker."""

from __future__ import annotations

import io

import pytest

from clipviz import waits
from clipviz.waits import Line, Work


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [100.0]
    monkeypatch.setattr(waits.time, "perf_counter", lambda: now[0])
    return now


def test_the_line_by_hand(clock):
    work = Work("Reading the images", 2400, n_done=400)
    assert work.line == "Reading the images: 400 of 2,400"  # nothing to judge by
    clock[0] += 10
    assert work.reached(900).line == "Reading the images: 900 of 2,400, about 30 s left"
    clock[0] += 1000  # a pause
    work.resume()
    clock[0] += 10
    assert work.reached(1400).line == "Reading the images: 1,400 of 2,400, about 20 s left"
    assert work.reached(2400).line == ""


def test_long_waits_are_told_in_minutes_and_short_ones_not_at_all(clock):
    work = Work("Encoding the texts", 100)
    clock[0] += 0.2
    assert not work.reached(1).worth_showing
    clock[0] += 9.8
    assert work.reached(2).worth_showing
    assert work.line == "Encoding the texts: 2 of 100, about 8 min left"
    assert not work.reached(100).worth_showing


def test_nothing_is_left_in_less_than_a_second(clock):
    work = Work("Searching", 40)
    clock[0] += 0.01
    assert work.reached(39).line == "Searching: 39 of 40, about 1 s left"


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def test_a_line_of_code_that_waits_long_says_so_on_one_line(clock, monkeypatch):
    screen, line, work = Screen(), Line(), Work("Reading the images", 40)
    monkeypatch.setattr(waits.sys, "stderr", screen)
    for n_read in range(1, 41):
        clock[0] += 0.25
        line.say(work.reached(n_read).line, work.seconds)
    *told, blank, rest = screen.getvalue().split("\r")
    assert told[0] == ""  # the first two seconds
    assert told[1] == "Reading the images: 9 of 40, about 8 s left"
    assert len(told) - 1 == 11  # every 0.75 s: half a second and what was running then
    assert told[-1] == "Reading the images: 39 of 40, about 1 s left"
    assert (blank, rest) == (" " * len(told[-1]), "")  # the line is empty again
    for quick in ("Encoding the texts: 1 of 2", ""):
        line.say(quick, 1.0)
    assert screen.getvalue().split("\r") == [*told, blank, rest]


def test_in_a_file_there_are_few_words_each_on_its_own_line(clock, monkeypatch, capsys):
    line = Line()
    for second in range(1, 71):
        clock[0] += 1
        line.say(f"at {second}", second)
    line.say("", 70)
    assert capsys.readouterr().err == "at 31\nat 62\n"
