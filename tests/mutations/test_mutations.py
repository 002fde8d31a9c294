"""Every line of docs/thesis.md has its mutation, each can be applied, and a tenth of them is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from . import running
from .table import MUTATIONS, items, named_by, tenth


def test_every_line_has_a_mutation():
    assert {row for one in MUTATIONS for row in one.rows} == items()
    assert len({one[1:4] for one in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("one", MUTATIONS, ids=[f"{one.rows[0]}: {one.lie}" for one in MUTATIONS])
def test_what_is_replaced_occurs_once(one):
    source = (running.ROOT / one.file).read_text(encoding="utf-8")
    changed = running.replaced(source, one.old, one.new)
    assert changed != source
    compile(changed, one.file, "exec")
    assert named_by(one)


def test_a_text_that_is_not_there_once_is_refused():
    with pytest.raises(ValueError, match=r"exactly one 'a' to replace, got 2; quote more of the line"):
        running.replaced("aba", "a", "c")
    with pytest.raises(ValueError, match="exactly one 'z' to replace, got 0"):
        running.replaced("aba", "z", "c")


def test_ten_days_have_every_mutation():
    days = [tenth(day) for day in range(740_000, 740_010)]
    assert sorted(one for day in days for one in day) == sorted(MUTATIONS)
    assert max(map(len, days)) <= -(-len(MUTATIONS) // 10)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_todays_tenth_is_killed_by_the_tests_that_the_lines_name():
    day = int(time.time() // 86_400)
    command = [sys.executable, "-m", "tests.mutations", "--tenth", str(day)]
    environment = {**os.environ, "PYTHONPATH": str(running.ROOT)}
    done = subprocess.run(command, cwd=running.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command[1:])}:\n{done.stdout}{done.stderr[-2000:]}"
    assert f"{len(tenth(day))} mutations, {len(tenth(day))} killed, 0 not" in done.stdout
