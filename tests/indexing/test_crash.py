"""Real processes are killed while they build, append and run as ranks; the bytes must not notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("index_driver.py")


def drive(*arguments: object) -> dict:
    paths = os.pathsep.join([str(DRIVER.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, str(DRIVER), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """A folder in memory where there is one: a kill needs no disk, and its syncs are fast."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("disk")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def driven(memory):
    """Forty attempts, killed or two at once, and the runs on two ranks, in one process."""
    return drive(memory / "driven", 40, 1, "ranks")


def test_random_kills_resume_to_the_same_bytes(driven):
    assert driven["crash"]["killed"] == {"build": 16, "append": 8, "merge": 8}  # at least once each


def test_two_writers_of_one_index_end_with_the_same_bytes(driven):
    assert sum(driven["crash"]["twice"].values()) >= 3  # the others came one after the other


def test_two_ranks_equal_one_process(driven):
    assert driven["ranks"]["equal"]


def test_a_rank_says_that_another_one_is_gone(driven):
    assert driven["ranks"]["told"] == 3
    assert driven["ranks"]["said"].startswith("ConnectionError: another process of this run ended")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")
def test_a_killed_loader_is_said_and_the_build_goes_on(driven):
    assert driven["loaders"]["told"] == 3
    assert driven["loaders"]["said"].startswith("ChildProcessError: a process that decodes images was killed")
    assert driven["loaders"]["rows"] == 60


def test_a_lost_rank_is_picked_up_on_restart(driven):
    assert driven["ranks"]["unfinished"]
    assert driven["ranks"]["staged"] >= 1
    assert driven["ranks"]["resumed"]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="workers are forked and counted on Linux only"
)
def test_workers_end_with_the_build_that_started_them(driven):
    for signal, (seen, left) in driven["orphans"].items():
        assert seen == 2, signal
        assert left == 0, signal
