"""Processes that are killed, or two at once, while an index is built, appended to or merged: the same bytes in the end.

One attempt in the campaign is one index. The tests run their own few (tests/indexing/test_crash.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .tally import Tally

TESTS = Path(__file__).parents[1]
MOST = 200
AT_ONCE = 25


def kill_points(attempts: int, seed: int) -> Tally:
    """At most MOST indexes: whatever kills the process that writes one, a second run ends with the right bytes."""
    tally = Tally("kill points")
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    for start in range(0, min(attempts, MOST), AT_ONCE):
        points = min(AT_ONCE, min(attempts, MOST) - start)
        with tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        ) as folder:
            command = [sys.executable, str(TESTS / "indexing/index_driver.py"), f"{folder}/work"]
            command += [str(points), str(seed + start)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        tally.tried += points
        if done.returncode:
            tally.bad.append(f"points from {start}: {done.stderr.strip()[-300:]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])["crash"]
        tally.clean += found["points"]
        tally.notes.append(f"killed {found['killed']}, refused beside another {found['twice']}")
    return tally


CAMPAIGNS = {"kill points": kill_points}
