"""On a pretend accelerator everything is what it is on the CPU, and nothing meets a tensor of another device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pretend_driver import QUESTIONS

DRIVER = Path(__file__).with_name("pretend_driver.py")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the driver found, in a process of its own: a device cannot be unregistered."""
    command = [sys.executable, str(DRIVER), str(tmp_path_factory.mktemp("pretend") / "work")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_is_the_cpus(answers, question):
    assert answers[question] == ""
