"""What a wait says: its words by hand, pauses left out, and nothing in a flicker."""

from __future__ import annotations

import pytest

from clipviz import waits
from clipviz.waits import Work


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
    assert not work.reached(1).worth_telling
    clock[0] += 9.8
    assert work.reached(2).worth_telling
    assert work.line == "Encoding the texts: 2 of 100, about 8 min left"
    assert not work.reached(100).worth_telling


def test_nothing_is_left_in_less_than_a_second(clock):
    work = Work("Searching", 40)
    clock[0] += 0.01
    assert work.reached(39).line == "Searching: 39 of 40, about 1 s left"
