"""Real processes are killed while they build, append and run as ranks; the bytes must not notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("index_driver.py")


def drive(*arguments: object) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(DRIVER), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_killed_builds_resume_to_the_same_bytes(tmp_path):
    found = drive("crash", tmp_path, 6, 0)
    assert found["killed"]["build"] + found["killed"]["append"] >= 2


@pytest.mark.slow
def test_fifty_random_kills_resume_to_the_same_bytes(tmp_path):
    found = drive("crash", tmp_path, 50, 1)
    assert found["killed"]["build"] >= 15
    assert found["killed"]["append"] >= 5


def test_two_ranks_equal_one_process_and_a_lost_rank_is_picked_up(tmp_path):
    found = drive("ranks", tmp_path)
    assert found["equal"]
    assert found["unfinished"]
    assert found["staged"] >= 1
    assert found["resumed"]
